"""Maps of arrays on the real kernel: what programs find under a key, what is shared, what another size leaves."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from cilium.datapath.errors import KernelError, MapFull, NoSuchEntry, ObjectError
from cilium.datapath.fakes import FakeNestedMap
from cilium.datapath.libbpf import syscall
from cilium.datapath.loader import load
from cilium.datapath.maps import MapWriteError, PinnedMap
from cilium.datapath.mapspec import MapSpec
from cilium.datapath.nested import Nested
from cilium.datapath.testrun import run_program

pytestmark = pytest.mark.kernel
PACKET = bytes(12) + b"\x08\x00" + bytes(50)


def open_nested(bpf_dir: Path, specs: dict[str, MapSpec]) -> Nested:
    return Nested(PinnedMap("tiny_nested", bpf_dir, specs["tiny_nested"]))


@pytest.fixture(params=["kernel", "fake"])
def nested(
    request: pytest.FixtureRequest, tiny: Path, bpf_dir: Path, specs: dict[str, MapSpec]
) -> Iterator[Nested | FakeNestedMap]:
    """The same questions to the kernel and to the fake."""
    if request.param == "fake":
        yield FakeNestedMap(specs["tiny_nested"])
        return
    load(tiny, pin_dir=bpf_dir).close()
    with open_nested(bpf_dir, specs) as opened:
        yield opened


def keys(*numbers: int) -> np.ndarray:
    return np.array(numbers, "<u4")


def array(*numbers: int) -> np.ndarray:
    return np.array(numbers, "<u4")


def found(nested: Nested | FakeNestedMap) -> dict[int, list[int]]:
    there, numbers = nested.dump()
    return {int(key): nested.content(int(number)).tolist() for key, number in zip(there, numbers, strict=True)}


def test_arrays_of_any_length_under_keys_that_share_them(nested: Nested | FakeNestedMap) -> None:
    nested.update(keys(1, 2, 3), [array(7, 8), array(*range(100))], [0, 1, 1])
    assert found(nested) == {1: [7, 8], 2: list(range(100)), 3: list(range(100))}
    numbers = dict(zip(*(part.tolist() for part in nested.dump()), strict=True))
    assert numbers[2] == numbers[3] != numbers[1]
    nested.update(keys(3), [array(5)], [0])
    assert found(nested) == {1: [7, 8], 2: list(range(100)), 3: [5]}


def test_what_nobody_names_is_gone(nested: Nested | FakeNestedMap) -> None:
    nested.update(keys(1, 2), [array(7)], [0, 0])
    number = int(nested.dump()[1][0])
    nested.delete(keys(1, 9))
    assert nested.content(number).tolist() == [7], "the other key still has it"
    nested.delete(keys(2))
    assert found(nested) == {}
    if isinstance(nested, FakeNestedMap):  # the kernel frees it a moment later
        with pytest.raises(NoSuchEntry):
            nested.content(number)


def test_a_full_map_says_which_keys_did_not_fit(nested: Nested | FakeNestedMap) -> None:
    wanted = np.arange(103, dtype="<u4")
    with pytest.raises(MapWriteError) as caught:
        nested.update(wanted, [array(1)], [0] * 103)
    assert len(caught.value.failures) == 3
    assert all(isinstance(error, MapFull) for error in caught.value.failures.values())
    assert len(found(nested)) == 100


def test_an_array_that_cannot_be_made_is_the_error_of_its_keys(
    tiny: Path, bpf_dir: Path, specs: dict[str, MapSpec]
) -> None:
    load(tiny, pin_dir=bpf_dir).close()
    with open_nested(bpf_dir, specs) as opened:
        with pytest.raises(MapWriteError) as caught:
            opened.update(keys(1, 2, 3), [array(), array(4)], [0, 1, 0])
        assert {at: type(error) for at, error in caught.value.failures.items()} == {0: KernelError, 2: KernelError}
        assert caught.value.failures[0].errno == errno.EINVAL
        assert found(opened) == {2: [4]}


def test_memory_that_cannot_be_had_is_the_error_of_its_keys(
    tiny: Path, bpf_dir: Path, specs: dict[str, MapSpec], monkeypatch: pytest.MonkeyPatch
) -> None:
    load(tiny, pin_dir=bpf_dir).close()

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.ENOMEM, "no memory")

    with open_nested(bpf_dir, specs) as opened:
        opened.update(keys(1), [array(7)], [0])
        number = int(opened.dump()[1][0])
        with monkeypatch.context() as patch:
            patch.setattr("mmap.mmap", refuse)
            with pytest.raises(MapWriteError) as caught:
                opened.update(keys(1, 2), [array(8)], [0, 0])
            with pytest.raises(KernelError):
                opened.content(number)
        assert {error.errno for error in caught.value.failures.values()} == {errno.ENOMEM}
        assert found(opened) == {1: [7]}


def test_a_number_that_is_no_map() -> None:
    with pytest.raises(NoSuchEntry, match="open the map with id 4000000000"):
        syscall.map_by_number(4_000_000_000)


def test_only_maps_of_arrays(tiny: Path, bpf_dir: Path, specs: dict[str, MapSpec]) -> None:
    load(tiny, pin_dir=bpf_dir).close()
    with PinnedMap("tiny_hash", bpf_dir, specs["tiny_hash"]) as flat, pytest.raises(ObjectError, match="no map of"):
        Nested(flat)


def ask(fd: int) -> int:
    return run_program(fd, PACKET).retval


def test_programs_look_up_in_them_and_see_changes_at_once(tiny: Path, bpf_dir: Path, specs: dict[str, MapSpec]) -> None:
    with load(tiny, pin_dir=bpf_dir) as loaded, open_nested(bpf_dir, specs) as opened:
        program = loaded.programs["nested"].fd
        assert ask(program) == 7777
        opened.update(keys(7), [array(*range(1000, 1065))], [0])
        assert ask(program) == 1000 + len(PACKET)
        opened.update(keys(7), [array(*range(2000, 2065))], [0])
        assert ask(program) == 2000 + len(PACKET)
        opened.update(keys(7), [array(1, 2)], [0])
        assert ask(program) == 7777, "shorter than the program asks"
        opened.delete(keys(7))
        assert ask(program) == 7777


@pytest.mark.parametrize(("size", "kept"), [(1000, 60), (50, 50)])
def test_another_size_keeps_the_arrays(
    tiny: Path, bpf_dir: Path, specs: dict[str, MapSpec], size: int, kept: int
) -> None:
    with load(tiny, pin_dir=bpf_dir), open_nested(bpf_dir, specs) as opened:
        opened.update(np.arange(60, dtype="<u4"), [array(4, 5)], [0] * 60)
    with load(tiny, pin_dir=bpf_dir, max_entries={"tiny_nested": size}), open_nested(bpf_dir, specs) as opened:
        assert opened.spec.max_entries == size
        assert list(found(opened).values()) == [[4, 5]] * kept
    with load(tiny, pin_dir=bpf_dir, max_entries={"tiny_nested": size}), open_nested(bpf_dir, specs) as opened:
        assert len(found(opened)) == kept, "and the next start finds them"
