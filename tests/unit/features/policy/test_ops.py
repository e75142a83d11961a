"""Writing the policy maps: order, half-written changes, what has to wait, what an earlier life left behind."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Iterable

import numpy as np
import pytest
from pyroaring import BitMap, FrozenBitMap

from cilium.datapath.errors import KernelError
from cilium.datapath.fakes import FakeMap
from cilium.datapath.generated import ENDPOINT, ENDPOINT_KEY
from cilium.features.policy.encode import class_rows, entry_rows, groups_of
from cilium.features.policy.ops import PolicyMapOps
from cilium.features.policy.rows import PolicyClass, PolicyMembers, Verdict
from cilium.tables.types import ClassId, PolicyId


class Epoch:
    def __init__(self) -> None:
        self.value = 0

    def advance(self) -> None:
        self.value += 1


class Kernel:
    """The maps, and the operations under test."""

    def __init__(self, *, entries: int | None = None, verdicts: int | None = None) -> None:
        self.entries = FakeMap("cilium_policy", capacity=entries)
        self.classes = FakeMap("cilium_policy_class", capacity=verdicts)
        self.endpoints = FakeMap("cilium_lxc")
        self.epoch = Epoch()
        self.wanted: set[int] = set()
        self.maps = self.started()

    def started(self) -> PolicyMapOps:
        return PolicyMapOps(
            entries=self.entries,
            classes=self.classes,
            endpoints=self.endpoints,
            epoch=self.epoch,
            wanted=lambda: self.wanted,
        )

    def endpoint(self, ingress: int) -> None:
        value = np.zeros(1, dtype=ENDPOINT)
        value["ingress_policy"] = ingress
        self.endpoints.update(np.zeros(1, dtype=ENDPOINT_KEY), value)

    def rows(self) -> dict[tuple[int, int], int]:
        keys, values = self.entries.dump()
        return {(int(key["policy"]), int(key["identity"])): int(value) for key, value in zip(keys, values, strict=True)}

    def class_ids(self) -> set[int]:
        return set(self.classes.dump()[0]["class"].tolist())


def entry(policy: int, identity: int, class_id: int) -> PolicyMembers:
    return group(policy, class_id, [identity])


def group(policy: int, class_id: int, identities: Iterable[int]) -> PolicyMembers:
    return PolicyMembers(PolicyId(policy), ClassId(class_id), FrozenBitMap(identities))


def ports(class_id: int, *numbers: int, deny: bool = False) -> PolicyClass:
    return PolicyClass(ClassId(class_id), tuple(Verdict(24, 6, port, 300, deny, 2) for port in numbers))


def test_elements_look_as_the_datapath_reads_them() -> None:
    keys, values = class_rows(
        [PolicyClass(ClassId(7), (Verdict(0, 0, 0, 300, False, 4), Verdict(22, 6, 0x1F90, 301, True, 2)))]
    )
    assert [key.tobytes().hex() for key in keys] == ["200000000700000000000000", "3600000007000000061f9000"]
    assert [value.tobytes().hex() for value in values] == ["2c0100000000000400000000", "2d0100000000010200000000"]


def test_entries_are_policy_and_identity_and_come_back_as_groups() -> None:
    keys, values = entry_rows([(0xFFFF_FFFE, 7, BitMap([0x0100_0001, 0])), (1, 8, BitMap([300]))])
    assert keys.tolist() == [(0xFFFF_FFFE, 0), (0xFFFF_FFFE, 0x0100_0001), (1, 300)]
    assert groups_of(keys, values) == {0xFFFF_FFFE: {7: BitMap([0, 0x0100_0001])}, 1: {8: BitMap([300])}}
    assert groups_of(*entry_rows([])) == {}


def test_an_update_writes_classes_and_entries_and_has_connections_judged_anew() -> None:
    kernel = Kernel()
    assert not kernel.maps.update([entry(1, 0, 7), entry(1, 300, 8), ports(7, 80), ports(8, 80, 443)])
    assert kernel.rows() == {(1, 0): 7, (1, 300): 8}
    assert kernel.class_ids() == {7, 8}
    assert kernel.epoch.value == 1


def test_an_entry_waits_for_a_class_that_did_not_fit() -> None:
    kernel = Kernel(verdicts=2)
    errors = kernel.maps.update([ports(8, 80, 443, 8080), entry(1, 300, 8)])
    assert set(errors) == {8, entry(1, 300, 8).key}
    assert kernel.rows() == {}
    kernel.classes.capacity = 10
    assert "not complete" in str(kernel.maps.update([entry(1, 300, 8)])[entry(1, 300, 8).key])
    assert not kernel.maps.update([ports(8, 80, 443, 8080), entry(1, 300, 8)])
    assert kernel.rows() == {(1, 300): 8}


def test_everyone_else_is_not_let_in_while_an_entry_that_may_deny_is_missing() -> None:
    kernel = Kernel()
    rows = [ports(7, 80), ports(8, 80, deny=True), entry(1, 0, 7), entry(1, 300, 8)]
    kernel.maps.update(rows[:2])
    kernel.entries.fail_next(1)
    assert set(kernel.maps.update(rows)) == {rows[2].key, rows[3].key}
    assert kernel.rows() == {}
    kernel.entries.fail_next(1)
    assert set(kernel.maps.update([rows[2]])) == {rows[2].key}, "its time came first, its turn did not"
    assert kernel.rows() == {}
    assert not kernel.maps.update([rows[2]])
    assert kernel.rows() == {(1, 0): 7, (1, 300): 8}


def test_a_full_map_keeps_the_old_verdicts_and_their_classes() -> None:
    kernel = Kernel()
    kernel.maps.update([ports(7, 80), entry(1, 300, 7)])
    kernel.entries.fail_next(1)
    assert kernel.maps.update([ports(8, 443), entry(1, 300, 8)])
    kernel.maps.delete([ports(7, 80)])
    kernel.maps.sweep_once()
    assert kernel.rows() == {(1, 300): 7}
    assert 7 in kernel.class_ids()
    assert not kernel.maps.update([entry(1, 300, 8)])
    kernel.maps.sweep_once()
    assert kernel.class_ids() == {8}


def test_classes_go_after_the_entries_that_name_them() -> None:
    kernel = Kernel()
    kernel.maps.update([ports(7, 80), ports(8, 443), entry(1, 300, 7)])
    kernel.maps.update([entry(1, 300, 8)])
    kernel.maps.delete([ports(7, 80)])
    assert kernel.class_ids() == {7, 8}, "a packet may be between its two lookups"
    kernel.maps.sweep_once()
    assert kernel.class_ids() == {8}


def test_a_policy_goes_when_no_endpoint_has_it_any_more() -> None:
    kernel = Kernel()
    kernel.endpoint(ingress=1)
    kernel.maps.update([ports(7, 80), entry(1, 0, 7)])
    assert not kernel.maps.delete([ports(7, 80), entry(1, 0, 7)])
    kernel.maps.sweep_once()
    assert (kernel.rows(), kernel.class_ids()) == ({(1, 0): 7}, {7})
    kernel.endpoint(ingress=0)
    kernel.maps.sweep_once()
    assert (kernel.rows(), kernel.class_ids()) == ({}, set())


def test_an_entry_of_a_policy_in_use_goes_at_once() -> None:
    kernel = Kernel()
    kernel.endpoint(ingress=1)
    kernel.wanted = {1}
    kernel.maps.update([ports(7, 80), entry(1, 300, 7)])
    epoch = kernel.epoch.value
    kernel.maps.delete([entry(1, 300, 7)])
    assert kernel.rows() == {}
    assert kernel.epoch.value == epoch + 1


def test_what_comes_back_is_not_deleted() -> None:
    kernel = Kernel()
    kernel.endpoint(ingress=1)
    rows = [ports(7, 80), entry(1, 0, 7)]
    kernel.maps.update(rows)
    kernel.maps.delete(rows)
    kernel.maps.update(rows)
    kernel.endpoint(ingress=0)
    kernel.maps.sweep_once()
    assert (kernel.rows(), kernel.class_ids()) == ({(1, 0): 7}, {7})


def test_a_number_that_means_another_class_now_keeps_nothing_of_the_old_one() -> None:
    kernel = Kernel()
    kernel.maps.update([ports(7, 80, 443)])
    kernel.maps.delete([ports(7, 80, 443)])
    kernel.maps.update([ports(7, 443, 8080)])
    kernel.maps.sweep_once()
    port = kernel.classes.dump()[0]["port"]
    assert sorted((port[:, 0].astype(int) << 8 | port[:, 1]).tolist()) == [443, 8080]


@pytest.mark.parametrize("count", [3, 3000])
def test_a_restart_with_the_same_rows_changes_nothing(count: int) -> None:
    kernel = Kernel()
    rows = [ports(7, 80), group(1, 7, range(256, 256 + count))]
    kernel.maps.update(rows)
    kernel.maps = kernel.started()
    kernel.maps.update(rows)
    kernel.maps.prune(rows)
    assert len(kernel.rows()) == count
    assert kernel.epoch.value == 1, "nobody is judged anew when nothing has changed"
    assert kernel.entries.writes == count


def test_prune_removes_what_an_earlier_life_left_but_not_under_an_endpoint() -> None:
    kernel = Kernel()
    kernel.endpoint(ingress=2)
    kernel.maps.update([ports(7, 80), ports(8, 80), ports(9, 80), entry(1, 0, 7), entry(2, 0, 8), entry(3, 0, 9)])
    kernel.classes.update(*class_rows([ports(7, 9999)]))
    kernel.maps = kernel.started()
    kernel.wanted = {1}
    kernel.maps.prune([ports(7, 80), entry(1, 0, 7)])
    assert kernel.rows() == {(1, 0): 7, (2, 0): 8}
    kernel.maps.sweep_once()
    assert kernel.class_ids() == {7, 8}
    kernel.endpoint(ingress=1)
    kernel.maps.sweep_once()
    assert (kernel.rows(), kernel.class_ids()) == ({(1, 0): 7}, {7})
    assert len(kernel.classes) == 1


async def test_a_sweep_that_fails_is_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    """Maps that cannot be read for a moment end neither the task nor the agent."""
    kernel, rounds = Kernel(), 0
    again = asyncio.Event()

    def broken() -> bool:
        nonlocal rounds
        rounds += 1
        if rounds == 1:
            raise KernelError("read map cilium_lxc", errno.EBUSY)
        again.set()
        return True

    monkeypatch.setattr(kernel.maps, "sweep_once", broken)
    monkeypatch.setattr("cilium.features.policy.ops.SWEEP_INTERVAL", 0.0)
    kernel.maps.delete([])
    task = asyncio.create_task(kernel.maps.sweep())
    async with asyncio.timeout(5):
        await again.wait()
    assert not task.done()
    task.cancel()
