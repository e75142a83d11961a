"""Whom an agent asks, and how often."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import pytest

from cilium.features.health.compute import HealthTargets, delay, interval, summaries
from cilium.features.health.rows import HealthTarget, NodeHealth
from cilium.state import Derivation, Table
from cilium.tables.kubernetes import CiliumNode


def node(name: str, number: int, *, health: bool = True) -> CiliumNode:
    return CiliumNode(
        name,
        {},
        internal_ips=(ip_address(f"192.0.2.{number}"), ip_address(f"2001:db8::{number}")),
        health_ips=(ip_address(f"10.0.{number}.2"), ip_address(f"fd00::{number}:2")) if health else (),
    )


class World:
    def __init__(self, *, endpoints: bool = True, families: tuple[int, ...] = (4, 6)) -> None:
        self.nodes: Table[str, CiliumNode] = Table("cilium-nodes", key=lambda row: row.name)
        self.writer = self.nodes.writer("test")
        self.targets: Table[Any, HealthTarget] = Table("health-targets", key=lambda row: row.key)
        self.derivation = Derivation(
            "health-targets", inputs={"cilium-nodes": self.nodes},
            outputs={"health-targets": self.targets.writer("test")},
            compute=HealthTargets(endpoints=endpoints, families=families).compute,
        )  # fmt: skip

    def after(self) -> set[tuple[str, str, str]]:
        self.derivation.step()
        return {(row.node, str(row.address), row.kind) for row in self.targets.snapshot()}


async def test_a_node_is_asked_on_every_address_until_it_goes() -> None:
    world = World()
    world.writer.upsert(node("a", 1))
    assert world.after() == {
        ("a", "192.0.2.1", "host"), ("a", "2001:db8::1", "host"),
        ("a", "10.0.1.2", "endpoint"), ("a", "fd00::1:2", "endpoint"),
    }  # fmt: skip
    world.writer.upsert(node("a", 1, health=False))
    assert {kind for _, _, kind in world.after()} == {"host"}
    world.writer.delete("a")
    assert world.after() == set()


async def test_settings_narrow_who_is_asked() -> None:
    world = World(endpoints=False, families=(6,))
    world.writer.upsert(node("a", 1))
    assert world.after() == {("a", "2001:db8::1", "host")}


def test_the_interval_grows_slower_than_the_cluster() -> None:
    assert interval(0) == pytest.approx(interval(1)) == pytest.approx(41.6, abs=0.1)
    assert interval(3) == pytest.approx(83.2, abs=0.1)
    assert interval(1000) < 7 * 60


def test_who_does_not_answer_is_asked_again_soon() -> None:
    assert [delay(3, failures=failures, settled=False) for failures in (1, 2, 3)] == [1.0, 2.0, 4.0]
    assert delay(3, failures=50, settled=False) == interval(3)
    assert delay(3, failures=0, settled=False) == 5.0, "the first answer is that of a node that starts"
    assert delay(3, failures=0, settled=True) == interval(3)


def test_a_node_is_reachable_when_all_its_addresses_are() -> None:
    def row(name: str, address: str, kind: Any, ok: bool) -> NodeHealth:
        return NodeHealth(name, ip_address(address), kind, ok, 0.001, "" if ok else "refused", "2026-01-01T00:00:00Z")

    found = summaries([row("b", "fd00::2", "endpoint", False), row("b", "192.0.2.2", "host", True),
                       row("a", "192.0.2.1", "host", True)])  # fmt: skip
    assert [(node.name, node.reachable) for node in found] == [("a", True), ("b", False)]
