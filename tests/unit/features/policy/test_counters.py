"""Rows of counters follow the references; what they have counted outlives agents and rules that come back."""

from __future__ import annotations

import numpy as np

from cilium.datapath.fakes import FakeMap
from cilium.datapath.generated import POLICY_COUNTER, POLICY_COUNTER_KEY, PolicyCounterWriter
from cilium.features.policy.counters import CounterOps, totals
from cilium.tables.rules import RuleReference


def reference(cookie: int) -> RuleReference:
    return RuleReference(cookie, "CiliumNetworkPolicy", "shop", "p", "ingress", cookie)


def packets_seen(port: FakeMap, cookie: int, writer: int, count: int) -> None:
    key, value = np.zeros(1, POLICY_COUNTER_KEY), np.zeros((1, 2), POLICY_COUNTER)
    key["cookie"], key["writer"] = cookie, writer
    value["packets"][0, 1], value["bytes"][0, 1] = count, count * 100
    port.update(key, value)


def test_counts_stay_across_updates_and_agents_and_go_with_their_cookie() -> None:
    port = FakeMap("cilium_policy_counters")
    first = CounterOps(port, cpus=2)
    assert not first.update([reference(1), reference(2)])
    packets_seen(port, 1, PolicyCounterWriter.DATAPATH, 5)
    packets_seen(port, 1, PolicyCounterWriter.AGENT, 2)
    assert not first.update([reference(1)])
    second = CounterOps(port, cpus=2)
    assert not second.update([reference(1), reference(3)])
    assert totals(port) == {1: (7, 700), 2: (0, 0), 3: (0, 0)}
    second.prune([reference(1), reference(3)])
    assert totals(port).keys() == {1, 3}
    second.delete([reference(1)])
    assert totals(port).keys() == {3}
    assert not second.update([reference(1)])
    assert totals(port)[1] == (0, 0)


def test_a_rule_without_room_is_an_error_and_tried_again() -> None:
    port = FakeMap("cilium_policy_counters", capacity=1)
    ops = CounterOps(port, cpus=2)
    assert set(ops.update([reference(1), reference(2)])) == {2}
    ops.delete([reference(1)])
    assert not ops.update([reference(2)])
    assert totals(port).keys() == {2}
