"""Which addresses a service has, for whom, and how it is served there: policies, annotations, ranges, settings."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import Any

import msgspec
import pytest
from unit.features.services.world import (
    HTTP,
    LB6,
    WITH_NODE_PORT,
    World,
    balanced,
    device,
    end,
    node,
    piece,
    service,
    serving,
)

from cilium.settings import LoadBalancerAlgorithm, LoadBalancerMode
from cilium.tables.problems import Reason
from cilium.tables.services import Algorithm, Flaw, Forwarding, LabelTerm, Scope, ServicePort, SlicePort

replace = msgspec.structs.replace
HERE_AND_THERE = piece("a", end("10.0.0.1"), end("10.0.1.1", node="n2"))
THERE = piece("a", end("10.0.1.1", node="n2"))
BOTH = ("10.96.0.10", "fd00::10")
SIP = ServicePort("sip", 5060, "SCTP", 30500)


@pytest.fixture
async def world() -> World:
    return World()


def kinds(world: World, scope: Scope) -> set[str]:
    return {row.kind for row in world.out.snapshot() if row.scope is scope}


# ------------------------------------------------------------------------------------ traffic policies


def test_external_traffic_policy_local_is_for_those_outside(world: World) -> None:
    world.put(balanced(external_local=True), HERE_AND_THERE)
    for address, port in (("192.0.2.9", 80), ("192.0.2.1", 80), ("0.0.0.0", 30080)):
        row = world.outside(address, port)
        assert (serving(row), row.local) == (["10.0.0.1:8080"], True)
        assert serving(world.inside(address, port)) == ["10.0.0.1:8080", "10.0.1.1:8080"]
        assert not world.inside(address, port).local
    world.put(balanced())
    assert serving(world.outside("192.0.2.9")) == ["10.0.0.1:8080", "10.0.1.1:8080"]
    assert not world.outside("192.0.2.9").local


def test_local_and_nobody_here(world: World) -> None:
    """Silence where another node has somebody; where nobody has, clients are told."""
    world.put(balanced(external_local=True), THERE)
    assert (world.outside("192.0.2.9").backends, world.outside("192.0.2.9").local) == ((), True)
    world.put(piece("a"))
    assert (world.outside("192.0.2.9").backends, world.outside("192.0.2.9").local) == ((), False)


def test_local_and_only_leaving_ones_here(world: World) -> None:
    leaving = end("10.0.0.1", ready=False, serving=True, terminating=True)
    world.put(balanced(external_local=True), piece("a", leaving, end("10.0.1.1", node="n2")))
    assert serving(world.outside("192.0.2.9")) == ["10.0.0.1:8080"]
    assert serving(world.inside("192.0.2.9")) == ["10.0.1.1:8080"]


def test_internal_traffic_policy_local_is_for_cluster_ips(world: World) -> None:
    world.put(balanced(internal_local=True), HERE_AND_THERE)
    assert (world.ends("10.96.0.10"), world.inside("10.96.0.10").local) == (["10.0.0.1:8080"], True)
    assert world.ends("192.0.2.9") == ["10.0.0.1:8080", "10.0.1.1:8080"]
    world.put(THERE)
    assert (world.ends("10.96.0.10"), world.inside("10.96.0.10").local) == ([], True)


# -------------------------------------------------------------------------- what is asked from outside


def test_cluster_ips_are_for_the_cluster_unless_the_setting_says_otherwise() -> None:
    world = World()
    world.put(service(internal_local=True), HERE_AND_THERE)
    assert kinds(world, Scope.EXTERNAL) == set()
    world = World(external_cluster_ip=True)
    world.put(service(internal_local=True), HERE_AND_THERE)
    assert serving(world.outside("10.96.0.10")) == ["10.0.0.1:8080"]


@pytest.mark.parametrize(
    ("exposed", "expected"),
    [
        ("", {"ClusterIP", "NodePort", "LoadBalancer", "ExternalIP"}),
        ("ClusterIP", {"ClusterIP", "ExternalIP"}),
        ("NodePort", {"NodePort", "ExternalIP"}),
        ("LoadBalancer", {"LoadBalancer", "ExternalIP"}),
    ],
)
def test_a_service_may_show_one_type_only(exposed: str, expected: set[str]) -> None:
    world = World()
    world.put(balanced(exposed=exposed))
    assert kinds(world, Scope.CLUSTER) == expected


def test_no_node_port_no_row(world: World) -> None:
    """allocateLoadBalancerNodePorts: false; and a port that a former type has left."""
    world.put(balanced(ports=(HTTP,)), service("left", "10.96.0.11", ports=(WITH_NODE_PORT,)))
    assert "NodePort" not in kinds(world, Scope.CLUSTER)


def test_nodes_may_be_chosen(world: World) -> None:
    world.put(balanced(nodes=(LabelTerm("zone", "in", ("a",)),)), HERE_AND_THERE)
    assert len(world.out) == 0
    world.put(node({"zone": "a"}))
    assert len(world.out) > 0
    world.put(node({"zone": "a"}, name="n2"), node({"zone": "b"}))
    assert len(world.out) == 0
    world.put(balanced())
    assert len(world.out) > 0


def test_a_change_of_this_nodes_labels_touches_those_that_look(world: World) -> None:
    world.put(node({"x": "1"}), service("plain", "10.96.0.11"), balanced(nodes=(LabelTerm("x", "exists"),)))
    world.put(node({"x": "2"}))
    assert {row.service for row in world.computed} == {"shop/web"}


# --------------------------------------------------------------------------------- node port addresses


async def test_node_ports_may_answer_at_some_addresses_only() -> None:
    world = World(
        node_port_addresses=(ip_network("192.168.1.0/24"), ip_network("fd01::/64"), ip_network("127.0.0.0/8"))
    )
    world.put(
        balanced(*BOTH),
        device(1, "lo", "127.0.0.1/8"),
        device(2, "eth0", "192.168.1.5/24", "fd01::5/64", "10.9.9.9/8"),
        device(3, "cilium_host", "192.168.1.77/32"),
    )
    for scope in (Scope.CLUSTER, Scope.EXTERNAL):
        rows = [row for row in world.out.snapshot() if row.kind == "NodePort" and row.scope is scope]
        assert {(str(row.address), row.port) for row in rows} == {("192.168.1.5", 30080), ("fd01::5", 30080)}
    world.put(service("plain", "10.96.0.11"), device(2, "eth0", "192.168.1.6/24"))
    assert world.row("192.168.1.5", 30080) is None
    assert world.row("192.168.1.6", 30080) is not None
    world.put(device(4, "eth1", "10.1.1.1/8"))
    assert world.computed == []


# ---------------------------------------------------------------------------- algorithm and forwarding


async def test_maglev_is_for_those_outside() -> None:
    world = World(algorithm=LoadBalancerAlgorithm.MAGLEV)
    world.put(balanced(algorithm=Algorithm.RANDOM))
    assert world.outside("192.0.2.9").algorithm is Algorithm.MAGLEV, "annotations are off"
    assert world.inside("192.0.2.9").algorithm is Algorithm.RANDOM
    world = World(algorithm_annotation=True)
    world.put(balanced(algorithm=Algorithm.MAGLEV), service("other", external_ips=(ip_address("192.0.2.2"),)))
    assert world.outside("192.0.2.9").algorithm is Algorithm.MAGLEV
    assert world.outside("192.0.2.2").algorithm is Algorithm.RANDOM


@pytest.mark.parametrize(
    ("mode", "annotation", "tcp", "udp"),
    [
        (LoadBalancerMode.SNAT, None, Forwarding.SNAT, Forwarding.SNAT),
        (LoadBalancerMode.DSR, None, Forwarding.DSR, Forwarding.DSR),
        (LoadBalancerMode.HYBRID, None, Forwarding.DSR, Forwarding.SNAT),
        (LoadBalancerMode.SNAT, Forwarding.DSR, Forwarding.DSR, Forwarding.DSR),
        (LoadBalancerMode.HYBRID, Forwarding.SNAT, Forwarding.SNAT, Forwarding.SNAT),
        (LoadBalancerMode.HYBRID, Forwarding.DSR, Forwarding.DSR, Forwarding.DSR),
    ],
)
def test_forwarding(mode: LoadBalancerMode, annotation: Forwarding | None, tcp: Forwarding, udp: Forwarding) -> None:
    world = World(mode=mode, mode_annotation=True)
    world.put(balanced(ports=(HTTP, ServicePort("dns", 53, "UDP")), forwarding=annotation))
    assert world.outside("192.0.2.9").forwarding is tcp
    assert world.outside("192.0.2.9", 53, "UDP").forwarding is udp
    assert world.inside("192.0.2.9").forwarding is Forwarding.SNAT


async def test_an_annotation_counts_where_the_setting_lets_it() -> None:
    world = World(mode=LoadBalancerMode.DSR)
    world.put(balanced(forwarding=Forwarding.SNAT))
    assert world.outside("192.0.2.9").forwarding is Forwarding.DSR


def test_affinity_is_for_everybody(world: World) -> None:
    world.put(balanced(affinity_timeout=600))
    assert {row.affinity_timeout for row in world.out.snapshot()} == {600}
    world.put(balanced())
    assert {row.affinity_timeout for row in world.out.snapshot()} == {0}


# --------------------------------------------------------------------------------------- source ranges

TWO_LBS = (ip_address("192.0.2.9"), LB6)
V4, V6 = ip_network("198.51.100.0/24"), ip_network("2001:db8:1::/48")
NOBODY4, NOBODY6 = ip_network("0.0.0.0/32"), ip_network("::/128")


def test_source_ranges_are_for_those_who_come_through_a_load_balancer(world: World) -> None:
    world.put(balanced(*BOTH, source_ranges=(V4, V6), load_balancer_ips=TWO_LBS))
    assert world.outside("192.0.2.9").source_ranges == (V4,)
    assert world.outside("2001:db8::9").source_ranges == (V6,)
    assert world.outside("192.0.2.1").source_ranges == (V4,), "an external IP of it is another door"
    assert world.outside("0.0.0.0", 30080).source_ranges == ()
    assert {row.source_ranges for row in world.out.snapshot() if row.scope is Scope.CLUSTER} == {()}


async def test_source_ranges_may_be_for_every_type() -> None:
    world = World(source_range_all_types=True, external_cluster_ip=True)
    world.put(balanced(source_ranges=(V4,)))
    rows = [row for row in world.out.snapshot() if row.scope is Scope.EXTERNAL]
    assert len(rows) == 4
    assert {row.source_ranges for row in rows} == {(V4,)}


def test_ranges_of_one_family_leave_the_other_nobody(world: World) -> None:
    world.put(balanced(*BOTH, source_ranges=(V4,), load_balancer_ips=TWO_LBS))
    assert world.outside("2001:db8::9").source_ranges == (NOBODY6,)


def test_ranges_that_deny(world: World) -> None:
    world.put(balanced(*BOTH, source_ranges=(V4,), source_deny=True, load_balancer_ips=TWO_LBS))
    row, other = world.outside("192.0.2.9"), world.outside("2001:db8::9")
    assert (row.source_ranges, row.source_deny) == ((V4,), True)
    assert (other.source_ranges, other.source_deny) == ((NOBODY6,), True), "nobody is denied"
    assert not world.inside("192.0.2.9").source_deny


@pytest.mark.parametrize(("deny", "ranges"), [(False, (NOBODY4,)), (True, (ip_network("0.0.0.0/0"),))])
def test_ranges_none_of_which_can_be_read_open_nothing(world: World, deny: bool, ranges: Any) -> None:
    world.put(balanced(source_closed=True, source_deny=deny))
    row = world.outside("192.0.2.9")
    assert (row.source_ranges, row.source_deny) == (ranges, deny)


async def test_source_ranges_may_be_off() -> None:
    world = World(source_range_check=False)
    flaw = Flaw(Reason.SOURCE_RANGE, "spec.loadBalancerSourceRanges[0]", "'x' is no CIDR")
    world.put(balanced(source_closed=True, source_deny=True, flaws=(flaw,)))
    row = world.outside("192.0.2.9")
    assert (row.source_ranges, row.source_deny) == ((), False)
    assert world.problems() == {}


# ------------------------------------------------------------------------------------------------ SCTP


async def test_sctp_needs_the_same_port_on_both_sides() -> None:
    world = World(sctp=True)
    ports = (SlicePort("sip", 5060, "SCTP"),)
    world.put(service(ports=(SIP,), kind="LoadBalancer"), piece("a", end("10.0.0.1"), ports=ports))
    assert world.ends("10.96.0.10", 5060, "SCTP") == ["10.0.0.1:5060"]
    assert world.row("0.0.0.0", 30500, "SCTP") is None, "the node port is another one, and nobody asked for it"
    assert world.problems() == {}


async def test_sctp_on_another_port_is_named() -> None:
    world = World(sctp=True)
    ports = (SlicePort("sip", 6000, "SCTP"),)
    world.put(service(ports=(HTTP, SIP), kind="NodePort"), piece("a", end("10.0.0.1"), ports=ports))
    assert world.ends("10.96.0.10", 5060, "SCTP") == []
    found = world.problems()
    assert set(found) == {"shop/web spec.ports[1]", "shop/web spec.ports[1].nodePort"}
    assert "backends on port 6000: an SCTP checksum covers the ports" in found["shop/web spec.ports[1]"]
    same = replace(SIP, port=30500)
    world.put(
        service(ports=(same,), kind="NodePort"), piece("a", end("10.0.0.1"), ports=(SlicePort("sip", 30500, "SCTP"),))
    )
    assert world.ends("0.0.0.0", 30500, "SCTP") == ["10.0.0.1:30500"]
    assert world.problems() == {}


# ----------------------------------------------------------------------------------------------- flaws


def test_flaws_are_named_as_long_as_they_are_there(world: World) -> None:
    bad = Flaw(Reason.ANNOTATION, "metadata.annotations[service.cilium.io/type]", "'x' is not valid")
    weight = Flaw(Reason.ANNOTATION, "metadata.annotations[service.cilium.io/weight]", "'x' is no weight")
    world.put(service(flaws=(bad,)), piece("a", flaws=(weight,)))
    assert world.problems() == {
        f"shop/web {bad.field}": "'x' is not valid",
        f"shop/web EndpointSlice a {weight.field}": "'x' is no weight",
    }
    world.put(service(flaws=(bad,)), piece("a"))
    assert set(world.problems()) == {f"shop/web {bad.field}"}
    world.drop("services", "shop/web")
    assert world.problems() == {}


@pytest.mark.parametrize(
    ("name", "setting"), [("lb-algorithm", "algorithm_annotation"), ("forwarding-mode", "mode_annotation")]
)
def test_what_is_not_read_is_not_wrong(name: str, setting: str) -> None:
    bad = Flaw(Reason.ANNOTATION, f"metadata.annotations[service.cilium.io/{name}]", "'x' is not valid")
    world = World()
    world.put(service(flaws=(bad,)))
    assert world.problems() == {}
    world = World(**{setting: True})
    world.put(service(flaws=(bad,)))
    assert len(world.problems()) == 1


def test_flaws_of_what_is_served_by_others_are_theirs(world: World) -> None:
    bad = Flaw(Reason.ANNOTATION, "metadata.annotations[service.cilium.io/type]", "'x' is not valid")
    world.put(service(flaws=(bad,), proxy_name="mesh"))
    assert world.problems() == {}
