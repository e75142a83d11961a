"""Tars of images: what is taken, under which names; what is refused, with which words."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from scenario.cri.images import as_docker_save

from kubelab.cri import layout
from kubelab.cri.archive import ArchiveError, digest, drop, full_name, normalize, repository_of

Change = Callable[[dict[str, bytes]], None]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    archive = tmp_path / "image.tar"
    layout.write(layout.Contents(files={"bin/hello": b"hello"}, command=["/bin/hello"]), "shop:2", archive)
    return archive


def members(archive: Path) -> dict[str, bytes]:
    with tarfile.open(archive) as tar:
        streams = {member.name: tar.extractfile(member) for member in tar}
        return {name: stream.read() for name, stream in streams.items() if stream is not None}


def rewrite(archive: Path, change: Change, mode: str = "w") -> None:
    content = members(archive)
    change(content)
    with tarfile.open(archive, mode) as tar:
        for name, data in content.items():
            member = tarfile.TarInfo(f"./{name}")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))


def index(content: dict[str, bytes], change: Callable[[Any], None]) -> None:
    raw = json.loads(content["index.json"])
    change(raw)
    content["index.json"] = json.dumps(raw).encode()


@pytest.mark.parametrize(
    ("short", "full"),
    [
        ("shop", "docker.io/library/shop:latest"),
        ("shop:2", "docker.io/library/shop:2"),
        ("team/shop", "docker.io/team/shop:latest"),
        ("localhost/shop:1", "localhost/shop:1"),
        ("registry.test:5000/shop", "registry.test:5000/shop:latest"),
        ("registry.test/a/b/shop:v1.2", "registry.test/a/b/shop:v1.2"),
    ],
)
def test_names_are_completed_as_runtimes_do(short: str, full: str) -> None:
    assert full_name(short) == full


@pytest.mark.parametrize("name", ["", "Shop:1", "a b", "shop:"])
def test_what_is_no_name(name: str) -> None:
    with pytest.raises(ValueError, match="no name of an image"):
        full_name(name)


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz"])
def test_a_layout_is_taken_whatever_compresses_it(source: Path, tmp_path: Path, mode: str) -> None:
    rewrite(source, lambda _: None, mode)
    target = tmp_path / "target.tar"
    assert normalize(source, target) == ["docker.io/library/shop:2"]
    entry, exact = json.loads(members(target)["index.json"])["manifests"]
    assert entry["annotations"] == {layout.NAME_ANNOTATION: "docker.io/library/shop:2"}
    assert exact["annotations"] == {layout.NAME_ANNOTATION: f"docker.io/library/shop@{entry['digest']}"}
    assert tarfile.is_tarfile(target)
    assert target.read_bytes()[:2] != b"\x1f\x8b"


def test_what_docker_save_writes_is_taken(source: Path, tmp_path: Path) -> None:
    as_docker_save(source, tmp_path / "saved.tar.gz", "team/shop:3")
    assert normalize(tmp_path / "saved.tar.gz", tmp_path / "target.tar") == ["docker.io/team/shop:3"]
    tags = json.loads(members(tmp_path / "target.tar")["manifest.json"])[0]["RepoTags"]
    assert tags == ["docker.io/team/shop:3"]


def test_a_tag_names_what_has_no_name(source: Path, tmp_path: Path) -> None:
    def only_a_tag(raw: Any) -> None:
        raw["manifests"][0]["annotations"] = {layout.REF_ANNOTATION: "latest"}

    rewrite(source, lambda content: index(content, only_a_tag))
    with pytest.raises(ArchiveError, match=r"no name but a tag, latest: name it with --tag"):
        normalize(source, tmp_path / "target.tar")
    assert normalize(source, tmp_path / "target.tar", "shop:9") == ["docker.io/library/shop:9"]


def _foreign(content: dict[str, bytes]) -> None:
    for name, data in content.items():
        if b'"architecture"' in data:
            machine = layout.architecture().encode()
            content[name] = data.replace(machine, b"s390x")


def _cut(content: dict[str, bytes]) -> None:
    largest = max((name for name in content if name.startswith("blobs/")), key=lambda name: len(content[name]))
    del content[largest]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_foreign, r"for linux/s390x; this machine needs linux/\w+: build it for that"),
        (_cut, "is missing in it: the file is cut off"),
        (lambda content: content.pop("index.json"), r"neither index.json nor manifest.json in it"),
        (lambda content: content.update({"index.json": b"{"}), "index.json: not JSON"),
        (lambda content: index(content, lambda raw: raw.update(manifests=[])), "no image in it"),
    ],
)
def test_what_is_refused(source: Path, tmp_path: Path, change: Change, words: str) -> None:
    rewrite(source, change)
    with pytest.raises(ArchiveError, match=words) as caught:
        normalize(source, tmp_path / "target.tar")
    assert str(source) in str(caught.value)


def test_what_is_no_tar(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_text("no tar")
    with pytest.raises(ArchiveError, match=r"not a tar.*docker save"):
        normalize(path, tmp_path / "target.tar")
    with pytest.raises(ArchiveError, match="No such file"):
        normalize(tmp_path / "absent", tmp_path / "target.tar")


def test_a_file_name_does_not_depend_on_order() -> None:
    assert digest(["a:1", "b:1"]) == digest(["b:1", "a:1"]) != digest(["a:1"])


@pytest.mark.parametrize("name", ["registry.test:5000/a/b:1", "registry.test:5000/a/b@sha256:" + "0" * 64])
def test_the_repository_of_a_name(name: str) -> None:
    assert repository_of(name) == "registry.test:5000/a/b"


@pytest.mark.parametrize("saved", [False, True])
def test_a_name_is_taken_out_of_what_is_kept(source: Path, tmp_path: Path, saved: bool) -> None:
    if saved:
        as_docker_save(source, tmp_path / "saved.tar.gz", "shop:2")
    archive, names = tmp_path / "kept.tar", ["docker.io/library/shop:2", "docker.io/library/shop:3"]
    if not saved:
        rewrite(source, lambda content: index(content, lambda raw: raw["manifests"].append(
            {**raw["manifests"][0], "annotations": {layout.NAME_ANNOTATION: "shop:3"}})))  # fmt: skip
    normalize(tmp_path / "saved.tar.gz" if saved else source, archive)
    assert not drop(archive, "docker.io/library/other:1")
    assert drop(archive, names[0])
    if not saved:  # the second name is there, and the one by its digest
        entries = json.loads(members(archive)["index.json"])["manifests"]
        left = [entry["annotations"][layout.NAME_ANNOTATION] for entry in entries]
        assert left == [names[1], f"docker.io/library/shop@{entries[0]['digest']}"]
        assert drop(archive, names[1])
    assert not archive.exists()
