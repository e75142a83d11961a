"""Maps of every kind on the real kernel: batches in and out, partial failure, per-CPU values."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from cilium.datapath.errors import MapFull, MapSpecMismatch, ObjectError
from cilium.datapath.fakes import FakeMap
from cilium.datapath.loader import load
from cilium.datapath.maps import Map, MapWriteError, PinnedMap, possible_cpus
from cilium.datapath.mapspec import MapSpec

pytestmark = pytest.mark.kernel
COUNT = 10_000


@pytest.fixture(params=["kernel", "fake"])
def maps(
    request: pytest.FixtureRequest, tiny: Path, bpf_dir: Path, specs: dict[str, MapSpec]
) -> Iterator[dict[str, Map | FakeMap]]:
    """The same questions to the kernel and to the fake."""
    if request.param == "fake":
        yield {name: FakeMap(spec, cpus=possible_cpus()) for name, spec in specs.items()}
        return
    load(tiny, pin_dir=bpf_dir).close()
    opened = {name: PinnedMap(name, bpf_dir, spec) for name, spec in specs.items()}
    yield opened
    for each in opened.values():
        each.close()


def rows(spec: MapSpec, count: int) -> np.ndarray:
    values = np.zeros(count, spec.value)
    values["a"], values["b"], values["c"] = np.arange(count), np.arange(count) % 65536, 9
    return values


def keys_of(spec: MapSpec, count: int) -> np.ndarray:
    if spec.key.names is None:
        return np.arange(count, dtype=spec.key)
    keys = np.zeros(count, spec.key)
    keys["prefixlen"] = 32
    keys["bytes"] = np.arange(count, dtype=">u4").view("u1").reshape(-1, 4)
    return keys


@pytest.mark.parametrize("name", ["tiny_hash", "tiny_lru", "tiny_lpm"])
def test_elements_go_in_and_come_out_in_batches(maps: dict[str, Map | FakeMap], name: str) -> None:
    each = maps[name]
    keys, values = keys_of(each.spec, COUNT), rows(each.spec, COUNT)
    each.update(keys, values)
    found_keys, found_values = each.dump()
    # An LRU may have evicted when its free list ran dry; it never returns what was not written.
    assert len(found_keys) == COUNT or name == "tiny_lru"
    order = np.argsort(found_values["a"])
    assert (keys[found_values["a"][order]] == found_keys[order]).all()
    assert len(np.unique(found_values["a"])) == len(found_keys)
    each.delete(keys[: COUNT // 2])
    left, _ = each.dump()
    assert len(left) <= COUNT // 2
    assert not {key.tobytes() for key in left} & {key.tobytes() for key in keys[: COUNT // 2]}


def test_an_empty_map_dumps_empty_arrays(maps: dict[str, Map | FakeMap]) -> None:
    for name in ("tiny_hash", "tiny_lru", "tiny_lpm", "tiny_percpu"):
        keys, values = maps[name].dump()
        assert len(keys) == len(values) == 0
        assert keys.dtype == maps[name].spec.key


def test_nothing_to_write_is_no_error(maps: dict[str, Map | FakeMap]) -> None:
    each = maps["tiny_hash"]
    each.update(keys_of(each.spec, 0), rows(each.spec, 0))
    each.delete(keys_of(each.spec, 0))


def test_an_array_is_written_and_dumped_but_not_deleted(maps: dict[str, Map | FakeMap]) -> None:
    each = maps["tiny_array"]
    each.update(keys_of(each.spec, 64), rows(each.spec, 64))
    keys, values = each.dump()
    assert keys.tolist() == list(range(64))
    assert (values == rows(each.spec, 64)).all()
    with pytest.raises(ObjectError, match="cannot be deleted"):
        each.delete(keys)


@pytest.mark.parametrize("name", ["tiny_percpu", "tiny_percpu_array"])
def test_per_cpu_values_have_a_second_axis(maps: dict[str, Map | FakeMap], name: str) -> None:
    each, cpus = maps[name], possible_cpus()
    keys = keys_of(each.spec, 16)
    values = np.zeros((16, cpus), each.spec.value)
    numbers = np.arange(16 * cpus).reshape(16, cpus)
    if each.spec.value.names:
        values["a"] = numbers
    else:
        values[:] = numbers
    each.update(keys, values)
    found_keys, found = each.dump()
    assert found.shape == (16, cpus)
    assert (found[np.argsort(found_keys)] == values).all()
    looked_up, present = each.lookup(keys[::-1])
    assert present.all()
    assert (looked_up == values[::-1]).all()
    with pytest.raises(ValueError, match="shape"):
        each.update(keys, values[:, 0])


def test_deleting_what_is_absent_is_no_error(maps: dict[str, Map | FakeMap]) -> None:
    for name in ("tiny_hash", "tiny_lpm", "tiny_lru"):
        each = maps[name]
        keys = keys_of(each.spec, 10)
        each.update(keys[::2], rows(each.spec, 5))
        each.delete(keys)
        assert len(each.dump()[0]) == 0


def test_the_longest_prefix_wins(maps: dict[str, Map | FakeMap]) -> None:
    each = maps["tiny_lpm"]
    keys = np.array([(8, [10, 0, 0, 0]), (24, [10, 1, 2, 0])], each.spec.key)
    each.update(keys, rows(each.spec, 2))
    asked = np.array([(32, [10, 1, 2, 3]), (32, [10, 9, 9, 9]), (32, [11, 0, 0, 1])], each.spec.key)
    values, found = each.lookup(asked)
    assert found.tolist() == [True, True, False]
    assert values["a"].tolist() == [1, 0, 0]


def test_one_bad_element_leaves_the_others_undisturbed(maps: dict[str, Map | FakeMap]) -> None:
    each = maps["tiny_lpm"]
    keys = keys_of(each.spec, 100)
    keys["prefixlen"][[0, 50, 99]] = 33  # longer than the key
    with pytest.raises(MapWriteError) as caught:
        each.update(keys, rows(each.spec, 100))
    assert sorted(caught.value.failures) == [0, 50, 99]
    assert "map tiny_lpm: 3 of 100 elements failed" in str(caught.value)
    assert len(each.dump()[0]) == 97


def test_a_full_map_says_which_elements_did_not_fit(maps: dict[str, Map | FakeMap]) -> None:
    each = maps["tiny_percpu"]
    keys = np.arange(1010, dtype=each.spec.key)
    with pytest.raises(MapWriteError) as caught:
        each.update(keys, np.zeros((1010, possible_cpus()), each.spec.value))
    assert len(caught.value.failures) == 10
    assert all(isinstance(error, MapFull) for error in caught.value.failures.values())
    assert len(each.dump()[0]) == 1000


def test_draining_takes_everything_out(maps: dict[str, Map | FakeMap]) -> None:
    each = maps["tiny_hash"]
    each.update(keys_of(each.spec, COUNT), rows(each.spec, COUNT))
    keys, values = each.drain()
    assert len(keys) == COUNT
    assert (values["a"] == keys).all()
    assert len(each.dump()[0]) == 0


def test_columns_of_another_type_are_refused(maps: dict[str, Map | FakeMap]) -> None:
    each = maps["tiny_hash"]
    with pytest.raises(ValueError, match="map tiny_hash: keys are int64, not uint32"):
        each.update(np.arange(3), rows(each.spec, 3))
    with pytest.raises(ValueError, match="2 keys but 3 values"):
        each.update(keys_of(each.spec, 2), rows(each.spec, 3))


def test_opening_a_map_that_is_not_there_or_has_another_shape(
    tiny: Path, bpf_dir: Path, specs: dict[str, MapSpec]
) -> None:
    load(tiny, pin_dir=bpf_dir).close()
    with pytest.raises(ObjectError, match="not loaded the datapath yet"):
        PinnedMap("cilium_lxc", bpf_dir)
    with pytest.raises(ObjectError, match="no map of the datapath"):
        PinnedMap("cilium_frob", bpf_dir)
    with pytest.raises(MapSpecMismatch, match="LPM_TRIE"):
        PinnedMap("tiny_hash", bpf_dir, specs["tiny_lpm"])


@pytest.mark.parametrize("name", ["tiny_hash", "tiny_lpm"])
def test_what_was_dumped_can_be_written_and_deleted_again(maps: dict[str, Map | FakeMap], name: str) -> None:
    each = maps[name]
    each.update(keys_of(each.spec, COUNT), rows(each.spec, COUNT))
    keys, values = each.dump()
    assert (keys.dtype, values.dtype) == (each.spec.key, each.spec.value)
    each.update(keys, values)
    each.delete(keys)
    assert len(each.dump()[0]) == 0
