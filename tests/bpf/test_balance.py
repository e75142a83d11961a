"""Services in packets: clients outside and pods whose sockets nobody translated, backends on every kind of node;
with and without XDP in front of tc, which makes no difference."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from bpf.balanced import ANY, LOOPBACK, VIP, Answer, Cluster, address, end, router
from bpf.harness import encoded
from bpf.nodes import Node

from cilium.datapath.generated.enums import DropReason, EventType, RoutingMode, ServiceFlags, ServiceScope, SkipBit

CLUSTER, EXTERNAL = ServiceScope.CLUSTER, ServiceScope.EXTERNAL
both = pytest.mark.parametrize("version", [4, 6])
protocols = pytest.mark.parametrize("protocol", ["tcp", "udp"])


@pytest.fixture(
    scope="module",
    params=[(mode, xdp) for mode in RoutingMode for xdp in (False, True)],
    ids=lambda given: given[0].name.lower() + ("-xdp" if given[1] else ""),
)
def cluster(request: pytest.FixtureRequest, objects: None) -> Iterator[Cluster]:
    mode, xdp = request.param
    made = Cluster(mode)
    try:
        if mode == RoutingMode.NATIVE:
            made.route_natively()
        if xdp:
            made.accelerate(made.one)
        made.mode = mode
        yield made
    finally:
        made.close()


@pytest.fixture(autouse=True)
def fresh(cluster: Cluster) -> None:
    for node in (cluster.one, cluster.two):
        for name in ("cilium_lb_services", "cilium_snat", "cilium_ct", "cilium_lb_affinity"):
            node.datapath.drop_rows(name)
        list(node.datapath.events())


@both
@protocols
def test_a_client_outside_reaches_a_pod_of_the_node_it_asked(cluster: Cluster, version: int, protocol: str) -> None:
    cluster.services[1].put(ANY[version], 30080, end(cluster.one, 2, version), protocol=protocol, scope=EXTERNAL)
    answer = cluster.ask(cluster.outside, protocol, address(cluster.one, version), 30080, source=40001)
    assert (answer.server, answer.client, answer.port) == ("near", address_of_outside(cluster, version), 40001)


@both
@protocols
def test_a_client_outside_reaches_a_pod_of_another_node(cluster: Cluster, version: int, protocol: str) -> None:
    cluster.services[1].put(ANY[version], 30080, end(cluster.two, 3, version), protocol=protocol, scope=EXTERNAL)
    answer = cluster.ask(cluster.outside, protocol, address(cluster.one, version), 30080)
    seen = router if cluster.mode == RoutingMode.TUNNEL else address
    assert (answer.server, answer.client) == ("far", seen(cluster.one, version)), answer


@both
def test_an_address_of_a_load_balancer_need_not_be_the_nodes(cluster: Cluster, version: int) -> None:
    vip = {4: "198.51.100.7", 6: "2001:db8:7::7"}[version]
    cluster.services[1].put(vip, 80, end(cluster.one, 2, version), end(cluster.two, 3, version), scope=EXTERNAL)
    answers = cluster.ask_often(cluster.outside, "tcp", vip, 80, 30)
    assert {answer.server for answer in answers} == {"near", "far"}


@both
@protocols
def test_a_pod_of_another_node_reaches_a_host_port(cluster: Cluster, version: int, protocol: str) -> None:
    """In native mode it comes with its own address, and its own node knows nothing of the port."""
    row = {"protocol": protocol, "scope": EXTERNAL, "flags": ServiceFlags.HOST_PORT}
    cluster.services[1].put(ANY[version], 18080, end(cluster.one, 2, version), **row)
    answers = cluster.ask_often(cluster.far, protocol, address(cluster.one, version), 18080, 3)
    assert [answer.server for answer in answers] == ["near"] * 3, answers
    seen = end(cluster.two, 3, version)[0] if cluster.mode == RoutingMode.NATIVE else address(cluster.two, version)
    assert {answer.client for answer in answers} == {seen}


@both
def test_a_local_redirects_own_backend_is_not_redirected(cluster: Cluster, version: int) -> None:
    """Nor lost: it gets what the service has otherwise, if there is a service."""
    node, services = cluster.one, cluster.services[1]
    vip, redirect = VIP[version], {"flags": ServiceFlags.REDIRECT}
    services.put(vip, 80, end(node, 2, version), **redirect)
    assert cluster.ask(cluster.client, "tcp", vip, 80).server == "near"
    skip = {
        "netns_cookie": 1 << SkipBit.ENDPOINT | endpoint_id(node, end(node, 1, version)[0]),
        "address": encoded(vip),
        "port": 80,
        "protocol": 6,
    }
    node.datapath.put("cilium_lb_skip", skip, 1)
    services.put(vip, 80, end(cluster.two, 3, version), scope=ServiceScope.ORIGINAL, number=2)
    assert cluster.ask(cluster.client, "tcp", vip, 80).server == "far"
    node.datapath.drop_rows("cilium_lb_skip")
    assert cluster.ask(cluster.client, "tcp", vip, 80).server == "near"


@both
@protocols
@pytest.mark.parametrize("where", ["near", "far"])
def test_a_pod_asks_in_packets(cluster: Cluster, version: int, protocol: str, where: str) -> None:
    backend = end(cluster.one, 2, version) if where == "near" else end(cluster.two, 3, version)
    cluster.services[1].put(VIP[version], 80, backend, protocol=protocol)
    answer = cluster.ask(cluster.client, protocol, VIP[version], 80, source=40002)
    assert answer == Answer(where, end(cluster.one, 1, version)[0], 40002, 10)


@both
@protocols
def test_a_pod_reaches_itself_through_its_service(cluster: Cluster, version: int, protocol: str) -> None:
    cluster.services[1].put(VIP[version], 80, end(cluster.one, 2, version), protocol=protocol)
    answer = cluster.ask(cluster.near, protocol, VIP[version], 80)
    assert (answer.server, answer.client) == ("near", LOOPBACK[version])


@both
@protocols
def test_a_node_port_answers_pods_on_every_node(cluster: Cluster, version: int, protocol: str) -> None:
    cluster.services[1].put(ANY[version], 30081, end(cluster.two, 3, version), protocol=protocol)
    for node in (cluster.one, cluster.two):
        assert cluster.ask(cluster.client, protocol, address(node, version), 30081).server == "far"


@both
@protocols
def test_a_server_on_the_node_itself(cluster: Cluster, version: int, protocol: str) -> None:
    port, at = 8000 + version + (10 if protocol == "udp" else 0), address(cluster.one, version)
    cluster.serve(cluster.one.namespace, "host", port, at)
    backend = (at, port)
    for scope in (CLUSTER, EXTERNAL):
        cluster.services[1].put(ANY[version], 30082, backend, protocol=protocol, scope=scope)
    for client in (cluster.client, cluster.outside):
        assert cluster.ask(client, protocol, at, 30082).server == "host"


@both
def test_a_server_on_another_node_itself(cluster: Cluster, version: int) -> None:
    cluster.serve(cluster.two.namespace, "host2", port := 8100 + version)
    for scope in (CLUSTER, EXTERNAL):
        cluster.services[1].put(ANY[version], 30083, (address(cluster.two, version), port), scope=scope)
    answer = cluster.ask(cluster.outside, "tcp", address(cluster.one, version), 30083)
    assert (answer.server, answer.client) == ("host2", address(cluster.one, version))
    assert cluster.ask(cluster.client, "tcp", address(cluster.one, version), 30083).server == "host2"


@both
@protocols
@pytest.mark.parametrize("who", ["pod", "outside"])
def test_who_asks_where_nobody_is_hears_so_at_once(cluster: Cluster, version: int, protocol: str, who: str) -> None:
    client, scope = (cluster.client, CLUSTER) if who == "pod" else (cluster.outside, EXTERNAL)
    cluster.services[1].put(ANY[version], 30084, protocol=protocol, scope=scope)
    assert cluster.ask(client, protocol, address(cluster.one, version), 30084).error == "ECONNREFUSED"
    assert DropReason.SERVICE_BACKEND_NOT_FOUND in cluster.drops(cluster.one)


@both
def test_a_local_policy_without_backends_here_is_silent(cluster: Cluster, version: int) -> None:
    cluster.services[1].put(ANY[version], 30085, scope=EXTERNAL, flags=ServiceFlags.LOCAL)
    assert cluster.ask(cluster.outside, "udp", address(cluster.one, version), 30085).error == "ECONNREFUSED"  # no row
    assert cluster.is_silent(cluster.outside, "tcp", address(cluster.one, version), 30085)
    assert set(cluster.drops(cluster.one)) == {DropReason.SERVICE_BACKEND_NOT_FOUND}


@both
def test_a_cluster_ip_is_for_the_cluster(cluster: Cluster, version: int) -> None:
    cluster.services[1].put(VIP[version], 80, end(cluster.one, 2, version))
    assert cluster.is_silent(cluster.outside, "tcp", VIP[version], 80)
    assert set(cluster.drops(cluster.one)) == {DropReason.IS_A_CLUSTERIP}


@both
@pytest.mark.parametrize("deny", [False, True])
@pytest.mark.parametrize("listed", [False, True])
def test_source_ranges(cluster: Cluster, version: int, deny: bool, listed: bool) -> None:
    flags = ServiceFlags.SOURCE_CHECK | (ServiceFlags.SOURCE_DENY if deny else 0)
    number = 10 + 2 * version + deny + 100 * listed
    cluster.services[1].put(
        ANY[version], 30086, end(cluster.one, 2, version), scope=EXTERNAL, number=number, flags=flags
    )
    prefix = address_of_outside(cluster, version) if listed else {4: "192.0.2.200", 6: "2001:db8::200"}[version]
    key = {"prefixlen": 32 + 128, "service": number, "address": encoded(prefix)}
    cluster.one.datapath.put("cilium_lb_source_ranges", key, 1)
    if listed == deny:
        assert cluster.is_silent(cluster.outside, "tcp", address(cluster.one, version), 30086)
        assert set(cluster.drops(cluster.one)) == {DropReason.DENIED_BY_LB_SRC_RANGE_CHECK}
    else:
        assert cluster.ask(cluster.outside, "tcp", address(cluster.one, version), 30086).server == "near"


@both
def test_affinity_of_an_address(cluster: Cluster, version: int) -> None:
    ends = [end(cluster.one, 2, version), end(cluster.two, 3, version)]
    cluster.services[1].put(ANY[version], 30087, *ends, scope=EXTERNAL, number=7, affinity_timeout=60)
    for backend in ends:
        number = cluster.services[1].backend(*backend)
        cluster.one.datapath.put("cilium_lb_affinity_match", {"service": 7, "backend": number}, 1)
    answers = cluster.ask_often(cluster.outside, "tcp", address(cluster.one, version), 30087, 12)
    (kept,) = {answer.server for answer in answers}
    leaves = ends[0] if kept == "near" else ends[1]
    key = {"service": 7, "backend": cluster.services[1].backend(*leaves)}
    pinned = cluster.one.datapath.map("cilium_lb_affinity_match")
    keys, _ = pinned.dump()
    pinned.delete(keys[keys["backend"] == key["backend"]])
    cluster.services[1].put(
        ANY[version], 30087, *[e for e in ends if e != leaves], scope=EXTERNAL, number=7, affinity_timeout=60
    )
    answers = cluster.ask_often(cluster.outside, "tcp", address(cluster.one, version), 30087, 4)
    assert {answer.server for answer in answers} == {"near", "far"} - {kept}


@both
def test_a_flow_of_datagrams_whose_backend_went_gets_another(cluster: Cluster, version: int) -> None:
    services, (near, far) = cluster.services[1], (end(cluster.one, 2, version), end(cluster.two, 3, version))
    services.put(ANY[version], 30088, near, protocol="udp", scope=EXTERNAL)
    node = address(cluster.one, version)
    assert cluster.ask(cluster.outside, "udp", node, 30088, source=40005).server == "near"
    services.put(ANY[version], 30088, far, protocol="udp", scope=EXTERNAL)
    assert cluster.ask(cluster.outside, "udp", node, 30088, source=40005).server == "near"  # it is still there
    services.backend(*near, protocol="udp", gone=True)
    assert cluster.ask(cluster.outside, "udp", node, 30088, source=40005).server == "far"


@both
def test_a_port_of_the_client_used_again_is_a_new_connection(cluster: Cluster, version: int) -> None:
    ends = [end(cluster.one, 2, version), end(cluster.two, 3, version)]
    cluster.services[1].put(ANY[version], 30089, *ends, scope=EXTERNAL)
    node = address(cluster.one, version)
    servers = {cluster.ask(cluster.outside, "tcp", node, 30089, source=40100 + n).server for n in range(12)}
    assert servers == {"near", "far"}


@both
@pytest.mark.parametrize("where", ["near", "far"])
def test_errors_about_translated_packets_find_back(cluster: Cluster, version: int, where: str) -> None:
    closed = end(cluster.one, 2, version, 9) if where == "near" else end(cluster.two, 3, version, 9)
    for scope in (CLUSTER, EXTERNAL):
        cluster.services[1].put(ANY[version], 30090, closed, protocol="udp", scope=scope)
    for client in (cluster.outside, cluster.client):
        assert cluster.ask(client, "udp", address(cluster.one, version), 30090).error == "ECONNREFUSED"


@both
@protocols
@pytest.mark.parametrize("where", ["near", "far"])
def test_large_messages(cluster: Cluster, version: int, protocol: str, where: str) -> None:
    """Segments that the kernel has joined, and fragments."""
    backend = end(cluster.one, 2, version) if where == "near" else end(cluster.two, 3, version)
    size = 300_000 if protocol == "tcp" else 4_000
    for scope in (CLUSTER, EXTERNAL):
        cluster.services[1].put(ANY[version], 30091, backend, protocol=protocol, scope=scope)
    for client in (cluster.outside, cluster.client):
        answer = cluster.ask(client, protocol, address(cluster.one, version), 30091, size=size)
        assert (answer.server, answer.size) == (where, size), answer


@both
@pytest.mark.parametrize("where", ["near", "far"])
def test_policy_sees_the_client_and_the_backend(cluster: Cluster, version: int, where: str) -> None:
    """Also behind an address of the node that was asked: its identity is then still the world's."""
    world = 9 if version == 4 else 10
    node, number, identity = (cluster.one, 2, 2000) if where == "near" else (cluster.two, 3, 3000)
    cluster.services[1].put(ANY[version], 30092, end(node, number, version), scope=EXTERNAL)
    node.describe(number, identity, ingress_policy=7)
    try:
        if where == "far" and cluster.mode == RoutingMode.NATIVE:
            return  # without a tunnel nothing tells the identity of who asked
        assert cluster.is_silent(cluster.outside, "tcp", address(cluster.one, version), 30092)
        assert DropReason.POLICY_DENIED in cluster.drops(node)
        node.datapath.rule(7, world, 1, protocol=6, port=8080)
        assert cluster.ask(cluster.outside, "tcp", address(cluster.one, version), 30092).server == where
    finally:
        node.describe(number, identity)


@both
def test_a_new_connection_is_told_with_service_and_backend(cluster: Cluster, version: int) -> None:
    backend = end(cluster.two, 3, version)
    cluster.services[1].put(ANY[version], 30093, backend, scope=EXTERNAL)
    cluster.ask(cluster.outside, "tcp", address(cluster.one, version), 30093)
    told = [event for event in cluster.one.datapath.events() if event["type"] == EventType.TRACE]
    first = next(event for event in told if event["translated_port"])
    assert list(first["destination"]) == encoded(address(cluster.one, version))
    assert list(first["translated"]) == encoded(backend[0])
    assert (first["destination_port"], first["translated_port"]) == (30093, 8080)


def address_of_outside(cluster: Cluster, version: int) -> str:
    """Whom nodes see: the bridge's address, which is nearest."""
    return {4: "172.18.0.1", 6: "fd12::1"}[version]


def endpoint_id(node: Node, ip: str) -> int:
    keys, values = node.datapath.map("cilium_lxc").dump()
    return next(int(row["id"]) for key, row in zip(keys, values, strict=True) if list(key["address"]) == encoded(ip))
