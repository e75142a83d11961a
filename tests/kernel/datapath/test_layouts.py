"""Pinned maps of another version on the real kernel: seen by their BTF, replaced, and put back when loading fails."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import structlog
from kernel.datapath.conftest import HERE, compile_object

from cilium.datapath.errors import ObjectError
from cilium.datapath.generated.maps import MAPS
from cilium.datapath.layouts import WRITTEN, changed_layouts_aside, loss, refilled, refilling
from cilium.datapath.libbpf import syscall
from cilium.datapath.loader import load
from cilium.datapath.maps import PinnedMap, possible_cpus
from cilium.datapath.mapspec import MapSpec, MapType
from cilium.datapath.paths import OBJECT_DIRECTORY
from cilium.datapath.testrun import run_program

pytestmark = pytest.mark.kernel
PACKET = bytes(12) + b"\x08\x00" + bytes(50)


def changed(tmp_path: Path, old: str, new: str) -> Path:
    text = (HERE / "tiny.bpf.c").read_text()
    assert old in text
    (tmp_path / "changed.bpf.c").write_text(text.replace(old, new))
    return compile_object(tmp_path / "changed.bpf.c", tmp_path / "changed.bpf.o")


def with_value(specs: dict[str, MapSpec], *fields: tuple[str, str]) -> dict[str, MapSpec]:
    """The specifications after struct row changed."""
    row, old = np.dtype(list(fields)), specs["tiny_hash"].value
    return {
        name: MapSpec(name, spec.type, spec.key, row if spec.value == old else spec.value, spec.max_entries, spec.flags)
        for name, spec in specs.items()
    }


@contextmanager
def filled(tiny: Path, bpf_dir: Path, specs: dict[str, MapSpec]) -> Iterator[None]:
    """An older version runs: its maps are pinned and have content, its program counts."""
    spec = specs["tiny_hash"]
    with load(tiny, pin_dir=bpf_dir) as loaded, PinnedMap("tiny_hash", bpf_dir, spec) as pinned:
        pinned.update(np.array([5], spec.key), np.array([(1, 2, 3)], spec.value))
        with PinnedMap("tiny_percpu", bpf_dir, specs["tiny_percpu"]) as other:
            other.update(np.array([1], "<u4"), np.ones((1, possible_cpus()), "<u4"))
        run_program(loaded.programs["count"].fd, PACKET)
        yield
        run_program(loaded.programs["count"].fd, PACKET)  # it goes on with the maps that it knows


@pytest.mark.parametrize(
    ("old", "new", "fields"),
    [
        ("__u32 a;", "__u64 a;", (("a", "<u8"), ("b", ">u2"), ("c", "<u2"), ("pad", "<u4"))),
        ("__be16 b;\n\t__u16 c;", "__u16 c;\n\t__be16 b;", (("a", "<u4"), ("c", "<u2"), ("b", ">u2"))),
        ("__be16 b;", "__u16 b;", (("a", "<u4"), ("b", "<u2"), ("c", "<u2"))),
        ("__u16 c;", "__u16 meaning;", (("a", "<u4"), ("b", ">u2"), ("meaning", "<u2"))),
    ],
    ids=["size", "order", "byte order", "name"],
)
def test_a_changed_struct_gets_new_maps(
    tiny: Path,
    bpf_dir: Path,
    tmp_path: Path,
    specs: dict[str, MapSpec],
    old: str,
    new: str,
    fields: tuple[tuple[str, str], ...],
) -> None:
    if "pad" in dict(fields):
        source = changed(
            tmp_path, "__u32 a;\n\t__be16 b;\n\t__u16 c;", "__u64 a;\n\t__be16 b;\n\t__u16 c;\n\t__u32 pad;"
        )
    else:
        source = changed(tmp_path, old, new)
    wanted = with_value(specs, *fields)
    rows = {"tiny_hash", "tiny_lru", "tiny_lpm", "tiny_array", "tiny_percpu_array"}
    with filled(tiny, bpf_dir, specs):
        with structlog.testing.capture_logs() as logs, changed_layouts_aside(bpf_dir, wanted) as emptied:
            load(source, pin_dir=bpf_dir).close()
        assert emptied == rows, "and no other"
        assert {each["map"] for each in logs if each["event"] == "map made anew, empty"} == rows
        with PinnedMap("tiny_hash", bpf_dir, wanted["tiny_hash"]) as pinned:
            assert len(pinned.dump()[0]) == 0
        with PinnedMap("tiny_percpu", bpf_dir, specs["tiny_percpu"]) as other:
            assert len(other.dump()[0]) == 1
        with changed_layouts_aside(bpf_dir, wanted) as emptied:
            assert not emptied, "once is enough"


def test_another_kind_and_other_flags_are_another_layout(tiny: Path, bpf_dir: Path, specs: dict[str, MapSpec]) -> None:
    old = specs["tiny_hash"]
    with filled(tiny, bpf_dir, specs):
        for kind, flags in ((MapType.LRU_HASH, 0), (MapType.HASH, 1)):
            wanted = {"tiny_hash": MapSpec("tiny_hash", kind, old.key, old.value, old.max_entries, flags)}
            with changed_layouts_aside(bpf_dir, wanted) as emptied:
                assert emptied == {"tiny_hash"}
                load(tiny, pin_dir=bpf_dir).close()


def test_another_size_is_left_to_resize(tiny: Path, bpf_dir: Path, specs: dict[str, MapSpec]) -> None:
    old = specs["tiny_hash"]
    wanted = {"tiny_hash": MapSpec("tiny_hash", old.type, old.key, old.value, 77)}
    with filled(tiny, bpf_dir, specs), changed_layouts_aside(bpf_dir, wanted) as emptied:
        assert not emptied


def load_two(source: Path, bpf_dir: Path, wanted: dict[str, MapSpec]) -> None:
    """The second of which is not there."""
    with changed_layouts_aside(bpf_dir, wanted):
        load(source, pin_dir=bpf_dir).close()
        load(source.with_name("absent.bpf.o"), pin_dir=bpf_dir)


def test_a_load_that_fails_brings_the_old_maps_back(
    tiny: Path, bpf_dir: Path, tmp_path: Path, specs: dict[str, MapSpec]
) -> None:
    source = changed(tmp_path, "__u16 c;", "__u16 meaning;")
    wanted = with_value(specs, ("a", "<u4"), ("b", ">u2"), ("meaning", "<u2"))
    with filled(tiny, bpf_dir, specs):
        with pytest.raises(ObjectError, match="no such object file"):
            load_two(source, bpf_dir, wanted)
        with changed_layouts_aside(bpf_dir, specs) as emptied:
            assert not emptied
        with PinnedMap("tiny_hash", bpf_dir, specs["tiny_hash"]) as pinned:
            assert len(pinned.dump()[0]) == 1


def test_nothing_is_pinned_on_a_new_node(bpf_dir: Path) -> None:
    with changed_layouts_aside(bpf_dir) as emptied:
        assert not emptied


def load_all(bpf_dir: Path) -> None:
    for path in sorted(OBJECT_DIRECTORY.glob("*.bpf.o")):
        load(path, pin_dir=bpf_dir).close()


def test_the_datapath_is_what_python_expects_of_it(bpf_dir: Path) -> None:
    load_all(bpf_dir)
    assert {path.name for path in bpf_dir.iterdir()} == MAPS.keys()
    with changed_layouts_aside(bpf_dir) as emptied:
        assert not emptied
    assert all(loss(name) != "what was in it" for name in MAPS), "every map says what is lost with it"


def test_maps_that_name_each_other_by_numbers_go_together(bpf_dir: Path) -> None:
    load_all(bpf_dir)
    for name in ("cilium_lb_slots", "cilium_runtime", "cilium_policy"):
        (bpf_dir / name).unlink()
        fd = syscall.map_create(name, MAPS[name].shape._replace(value_size=24, max_entries=1, flags=0))
        syscall.pin(fd, str(bpf_dir / name))
        os.close(fd)
    with pytest.raises(ObjectError, match="no such object file"):
        load_two(OBJECT_DIRECTORY / "lxc.bpf.o", bpf_dir, MAPS)
    assert not refilling(bpf_dir), "as it was"
    with changed_layouts_aside(bpf_dir) as emptied:
        load_all(bpf_dir)
    assert emptied == WRITTEN | {"cilium_lb_affinity", "cilium_runtime", "cilium_ct"}
    with changed_layouts_aside(bpf_dir) as emptied:
        load_all(bpf_dir)
    assert not emptied
    assert refilling(bpf_dir), "an agent that died before it filled them left the mark to the next one"
    refilled(bpf_dir)
    assert not refilling(bpf_dir)
    refilled(bpf_dir)


def test_what_the_datapath_learns_needs_no_filling(bpf_dir: Path) -> None:
    load_all(bpf_dir)
    (bpf_dir / "cilium_frags").unlink()
    fd = syscall.map_create("cilium_frags", MAPS["cilium_frags"].shape._replace(value_size=24))
    syscall.pin(fd, str(bpf_dir / "cilium_frags"))
    os.close(fd)
    with changed_layouts_aside(bpf_dir) as emptied:
        load_all(bpf_dir)
    assert emptied == {"cilium_frags"}
    assert not refilling(bpf_dir)
