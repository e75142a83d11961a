"""Volumes from the API change in one step, by the link that programs watch."""

from __future__ import annotations

import os
from pathlib import Path

from kubelab.kubelet.projections import DATA, File, write


def shown(directory: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file() and not str(path.relative_to(directory)).startswith("..")
    } | {name: (directory / name).read_bytes() for name in ("deep/key",) if (directory / name).exists()}


def test_files_are_links_through_one_that_moves(tmp_path: Path) -> None:
    directory = tmp_path / "volume"
    write(directory, {"a": File(b"1", 0o644), "b": File(b"2", 0o600), "deep/key": File(b"3", 0o400)}, None)
    assert shown(directory) == {"a": b"1", "b": b"2", "deep/key": b"3"}
    assert [os.readlink(directory / name) for name in ("a", "deep")] == ["..data/a", "..data/deep"]
    assert (directory / "b").stat().st_mode & 0o777 == 0o600
    before, held = os.readlink(directory / DATA), (directory / "a").open("rb")
    write(directory, {"a": File(b"1", 0o644), "b": File(b"2", 0o600), "deep/key": File(b"3", 0o400)}, None)
    assert os.readlink(directory / DATA) == before, "nothing changed, nothing moves"
    write(directory, {"a": File(b"new", 0o644), "c": File(b"4", 0o644)}, os.getgid())
    assert shown(directory) == {"a": b"new", "c": b"4"}
    assert os.readlink(directory / DATA) != before
    assert not (directory / before).exists()
    assert sorted(path.name for path in directory.iterdir() if not path.name.startswith("..2")) == ["..data", "a", "c"]
    with held:
        assert held.read() == b"1", "a mounted file stays what it was"


def test_an_empty_volume_is_one_too(tmp_path: Path) -> None:
    write(tmp_path / "volume", {}, None)
    assert [path.name for path in (tmp_path / "volume").iterdir() if path.is_symlink()] == [DATA]
