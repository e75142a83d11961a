"""Services computed change by change are those computed at once, whatever the order of changes."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from unit.features.services.world import HTTP, WITH_NODE_PORT, World, end, node

from cilium.settings import LoadBalancerAlgorithm
from cilium.tables.problems import Reason
from cilium.tables.services import (
    Algorithm,
    Backend,
    EndpointSlice,
    Flaw,
    Forwarding,
    Frontend,
    LabelTerm,
    Scope,
    Service,
    ServicePort,
    SlicePort,
)

OPTIONS: dict[str, Any] = {
    "algorithm": LoadBalancerAlgorithm.MAGLEV,
    "algorithm_annotation": True,
    "mode_annotation": True,
    "topology": True,
    "sctp": True,
    "external_cluster_ip": True,
}
ZONE = "topology.kubernetes.io/zone"
NAMES = st.sampled_from(["a", "b", "c"])
SHARED = [ip_address(text) for text in ("192.0.2.1", "192.0.2.2", "10.96.0.1", "2001:db8::1")]
ADDRESSES = st.lists(st.sampled_from(SHARED), max_size=2, unique=True).map(tuple)
FLAW = Flaw(Reason.ANNOTATION, "metadata.annotations[service.cilium.io/type]", "wrong")
SCTP = ServicePort("sip", 5060, "SCTP", 30500)

services = st.builds(
    Service,
    namespace=st.just("shop"),
    name=NAMES,
    kind=st.sampled_from(["ClusterIP", "NodePort", "LoadBalancer"]),
    created=st.sampled_from(["2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"]),
    cluster_ips=st.sampled_from([(), (ip_address("10.96.0.1"),), (ip_address("10.96.0.2"), ip_address("fd00::2"))]),
    external_ips=ADDRESSES,
    load_balancer_ips=ADDRESSES,
    ports=st.sampled_from([(), (HTTP,), (WITH_NODE_PORT,), (WITH_NODE_PORT, SCTP)]),
    internal_local=st.booleans(),
    external_local=st.booleans(),
    affinity_timeout=st.sampled_from([0, 60]),
    proxy_name=st.sampled_from(["", "", "mesh"]),
    topology=st.booleans(),
    algorithm=st.sampled_from([None, Algorithm.RANDOM]),
    forwarding=st.sampled_from([None, Forwarding.DSR]),
    exposed=st.sampled_from(["", "NodePort"]),
    nodes=st.sampled_from([(), (LabelTerm(ZONE, "in", ("a",)),)]),
    flaws=st.sampled_from([(), (FLAW,)]),
)
endpoints = st.builds(
    end,
    st.sampled_from(["10.0.0.1", "10.0.0.2", "10.0.1.1", "fd00::1"]),
    ready=st.booleans(),
    serving=st.booleans(),
    terminating=st.booleans(),
    node=st.sampled_from(["n1", "n2"]),
    zones=st.sampled_from([(), ("a",), ("b",)]),
)
slices = st.builds(
    EndpointSlice,
    namespace=st.just("shop"),
    name=NAMES,
    service=st.sampled_from(["", "a", "b", "c"]),
    endpoints=st.lists(endpoints, max_size=4).map(tuple),
    ports=st.sampled_from(
        [(), (SlicePort("http", 8080, "TCP"),), (SlicePort("http", 9090, "TCP"), SlicePort("sip", 5060, "SCTP"))]
    ),
    weight=st.sampled_from([0, 50, 100]),
    flaws=st.sampled_from([(), (FLAW,)]),
)
wanted = st.builds(
    Frontend,
    address=st.sampled_from([*SHARED, ip_address("0.0.0.0")]),
    port=st.sampled_from([80, 30080]),
    protocol=st.just("TCP"),
    service=st.sampled_from(["shop/a", "shop/b", "shop/pod", "shop/policy:local-redirect"]),
    port_name=st.just(""),
    kind=st.sampled_from(["HostPort", "LocalRedirect"]),
    backends=st.just((Backend(ip_address("10.0.0.9"), 1),)),
    scope=st.sampled_from(list(Scope)[:2]),
    skip_netns=st.sampled_from([(), (1,)]),
)
nodes = st.sampled_from([{}, {ZONE: "a"}, {ZONE: "b"}]).map(node)
TABLES = ["services", "endpoint-slices", "others", "kube-nodes"]
steps = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.lists(st.one_of(services, slices, wanted, nodes), min_size=1, max_size=3)),
        st.tuples(st.just("drop"), st.tuples(st.sampled_from(TABLES[:3]), st.integers(0, 5))),
    ),
    max_size=12,
)


def content(world: World) -> tuple[dict[Any, Any], dict[Any, Any]]:
    return {row.key: row for row in world.out.snapshot()}, {row.key: row for row in world.found.snapshot()}


@settings(max_examples=200, deadline=None)
@given(steps)
def test_the_way_does_not_matter(steps: list[tuple[str, Any]]) -> None:
    world = World(**OPTIONS)
    for verb, what in steps:
        if verb == "put":
            world.put(*what)
        else:
            table, number = what
            keys = sorted((row.key for row in world.tables[table].snapshot()), key=str)
            if keys:
                world.drop(table, keys[number % len(keys)])
    at_once = World(**OPTIONS)
    at_once.put(*(row for table in TABLES for row in world.tables[table].snapshot()))
    assert content(world) == content(at_once)
