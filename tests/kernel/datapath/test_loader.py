"""Objects on the real kernel: constants, pins that are shared, shapes that differ, programs that are refused."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import numpy as np
import pytest
from kernel.datapath.conftest import HERE, compile_object

from cilium.datapath.errors import LoadError, MapSpecMismatch, ObjectError
from cilium.datapath.loader import load
from cilium.datapath.maps import PinnedMap, shape_of
from cilium.datapath.ringbuf import RingBuffer
from cilium.datapath.testrun import SkBuff, run_program

pytestmark = pytest.mark.kernel
PACKET = bytes(12) + b"\x08\x00" + bytes(50)


def test_constants_keep_their_compiled_values(tiny: Path, bpf_dir: Path) -> None:
    with load(tiny, pin_dir=bpf_dir) as loaded:
        result = run_program(loaded.programs["constants"].fd, PACKET)
    assert result.retval == 8
    assert result.data[:16] == bytes(16)


@pytest.mark.parametrize("address", [IPv4Address("10.1.2.3"), IPv6Address("fd00::7")])
def test_constants_are_set_by_name(tiny: Path, bpf_dir: Path, address: IPv4Address | IPv6Address) -> None:
    constants = {"config_number": 1000, "config_small": 200, "config_address": address}
    with load(tiny, constants=constants, pin_dir=bpf_dir) as loaded:
        result = run_program(loaded.programs["constants"].fd, PACKET, context=SkBuff(mark=41))
    assert result.retval == 1200
    mapped = address if address.version == 6 else IPv6Address(f"::ffff:{address}")
    assert result.data[:16] == mapped.packed
    assert result.context is not None
    assert result.context.mark == 42


@pytest.mark.parametrize(
    ("constants", "message"),
    [
        ({"config_nmber": 1}, "no constant config_nmber in it; it has: config_address, config_number, config_small"),
        ({"config_small": 256}, "config_small: 256 does not fit into 1 bytes"),
        ({"config_number": IPv4Address("10.0.0.1")}, "the value has 16 bytes, the variable 4"),
    ],
)
def test_a_wrong_constant_is_refused(tiny: Path, bpf_dir: Path, constants: dict[str, int], message: str) -> None:
    with pytest.raises(ObjectError, match=message):
        load(tiny, constants=constants, pin_dir=bpf_dir)
    assert not bpf_dir.exists()


def test_only_the_named_programs_are_loaded(tiny: Path, bpf_dir: Path) -> None:
    with load(tiny, pin_dir=bpf_dir, programs={"drop"}) as loaded:
        assert set(loaded.programs) == {"drop"}
    with pytest.raises(ObjectError, match="no program frob in it; it has constants, emit, count, nested, drop"):
        load(tiny, pin_dir=bpf_dir, programs={"frob"})


def test_a_pinned_map_keeps_its_content_over_a_restart(tiny: Path, bpf_dir: Path, specs: dict) -> None:
    spec = specs["tiny_hash"]
    with load(tiny, pin_dir=bpf_dir), PinnedMap("tiny_hash", bpf_dir, spec) as pinned:
        pinned.update(np.array([5], spec.key), np.array([(1, 2, 3)], spec.value))
    with load(tiny, pin_dir=bpf_dir), PinnedMap("tiny_hash", bpf_dir, spec) as pinned:
        values, found = pinned.lookup(np.array([5, 6], spec.key))
    assert found.tolist() == [True, False]
    assert values[0].tolist() == (1, 2, 3)


@pytest.mark.parametrize("name", ["tiny_hash", "tiny_lru", "tiny_lpm"])
def test_a_map_of_another_size_keeps_its_content(tiny: Path, bpf_dir: Path, specs: dict, name: str) -> None:
    spec, sizes = specs[name], {name: 50_000, "not_here": 5}
    keys = np.zeros(100, spec.key)
    if spec.key.names:
        keys["prefixlen"], keys["bytes"][:, 3] = 32, np.arange(100)
    else:
        keys[:] = np.arange(100)
    values = np.zeros(100, spec.value)
    values["a"] = np.arange(100)
    with load(tiny, pin_dir=bpf_dir), PinnedMap(name, bpf_dir, spec) as pinned:
        pinned.update(keys, values)
    with load(tiny, pin_dir=bpf_dir, max_entries=sizes), PinnedMap(name, bpf_dir, spec) as pinned:
        assert shape_of(pinned.fd).max_entries == 50_000
        assert pinned.spec.max_entries == 50_000, "what is told of its capacity"
        found, present = pinned.lookup(keys)
        assert present.all()
        assert (found == values).all()
    with load(tiny, pin_dir=bpf_dir, max_entries=sizes), PinnedMap(name, bpf_dir, spec) as pinned:
        assert len(pinned.dump()[0]) == 100


def test_a_map_that_becomes_too_small_keeps_what_fits(tiny: Path, bpf_dir: Path, specs: dict) -> None:
    spec = specs["tiny_hash"]
    with load(tiny, pin_dir=bpf_dir), PinnedMap("tiny_hash", bpf_dir, spec) as pinned:
        pinned.update(np.arange(100, dtype=spec.key), np.zeros(100, spec.value))
    with load(tiny, pin_dir=bpf_dir, max_entries={"tiny_hash": 10, "tiny_ring": 4096, "tiny_array": 32}):
        with PinnedMap("tiny_hash", bpf_dir, spec) as pinned:
            assert len(pinned.dump()[0]) == 10
        with RingBuffer("tiny_ring", bpf_dir) as ring:
            assert ring.size == 4096


def test_a_failed_load_leaves_the_old_maps_pinned(bpf_dir: Path, tiny: Path, tmp_path: Path, specs: dict) -> None:
    text = (HERE / "tiny.bpf.c").read_text()
    broken = text.replace("return TC_ACT_SHOT;", "return *(char *)(long)skb->data_end;")
    assert broken != text
    (tmp_path / "broken.bpf.c").write_text(broken)
    changed = compile_object(tmp_path / "broken.bpf.c", tmp_path / "broken.bpf.o")
    spec = specs["tiny_hash"]
    with load(tiny, pin_dir=bpf_dir), PinnedMap("tiny_hash", bpf_dir, spec) as pinned:
        pinned.update(np.array([5], spec.key), np.array([(1, 2, 3)], spec.value))
    with pytest.raises(LoadError):
        load(changed, pin_dir=bpf_dir, max_entries={"tiny_hash": 50_000})
    with PinnedMap("tiny_hash", bpf_dir, spec) as pinned:
        assert pinned.lookup(np.array([5], spec.key))[1].all()
        assert shape_of(pinned.fd).max_entries == 20_000


def test_a_pinned_map_of_another_layout_is_refused(tiny: Path, bpf_dir: Path, tmp_path: Path) -> None:
    wider = tmp_path / "wider.bpf.c"
    wider.write_text((HERE / "tiny.bpf.c").read_text().replace("__u32 a;", "__u64 a;"))
    changed = compile_object(wider, tmp_path / "wider.bpf.o")
    load(tiny, pin_dir=bpf_dir).close()
    with pytest.raises(MapSpecMismatch, match=r"value 8 bytes.*need.*value 16 bytes"):
        load(changed, pin_dir=bpf_dir)


def test_the_verifier_is_quoted(bpf_dir: Path, tmp_path: Path) -> None:
    bad = compile_object(HERE / "bad.bpf.c", tmp_path / "bad.bpf.o")
    with pytest.raises(LoadError) as caught:
        load(bad, pin_dir=bpf_dir)
    assert "R1 invalid mem access 'pkt_end'" in caught.value.log


def test_files_that_are_no_objects(tmp_path: Path) -> None:
    with pytest.raises(ObjectError, match="no such object file"):
        load(tmp_path / "absent.bpf.o")
    (tmp_path / "text.bpf.o").write_text("hello")
    with pytest.raises(ObjectError, match="no BPF object"):
        load(tmp_path / "text.bpf.o")


def test_the_ring_is_read_through_its_mapping(tiny: Path, bpf_dir: Path) -> None:
    with load(tiny, pin_dir=bpf_dir) as loaded, RingBuffer("tiny_ring", bpf_dir) as ring:
        assert (ring.size, ring.producer_position, ring.consumer_position) == (65536, 0, 0)
        for _ in range(3):  # the ring goes round more than once: every record is read and given back
            run_program(loaded.programs["emit"].fd, PACKET, repeat=4000)
            start, end = ring.consumer_position, ring.producer_position
            assert end - start == 16 * 4000
            records = ring.data[start & ring.mask : (start & ring.mask) + end - start].view("<u8").reshape(-1, 2)
            assert set(records[:, 0] & 0xFFFFFFFF) == {8}
            assert set(records[:, 1]) == {len(PACKET)}
            del records
            ring.consumer_position = end
        run_program(loaded.programs["emit"].fd, PACKET, repeat=5000)
        assert ring.producer_position - ring.consumer_position <= ring.size


def test_only_rings_are_mapped_as_rings(tiny: Path, bpf_dir: Path) -> None:
    with load(tiny, pin_dir=bpf_dir), pytest.raises(ObjectError, match="no ring buffer"):
        RingBuffer("tiny_hash", bpf_dir)
