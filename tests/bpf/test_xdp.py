"""XDP between namespaces: connections that it forwards, there and back, and the proof that it was it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from bpf.balanced import ANY, Cluster, address, end, router
from bpf.packets import FAMILIES

from cilium.datapath.generated.enums import FlowDirection, RoutingMode, ServiceScope

EXTERNAL = ServiceScope.EXTERNAL
ASKED = 12
both = pytest.mark.parametrize("version", FAMILIES)
protocols = pytest.mark.parametrize("protocol", ["tcp", "udp"])


@pytest.fixture(
    scope="module",
    params=[(mode, native) for mode in RoutingMode for native in (True, False)],
    ids=lambda given: f"{given[0].name.lower()}-{'driver' if given[1] else 'stack'}",
)
def cluster(request: pytest.FixtureRequest, objects: None) -> Iterator[Cluster]:
    mode, native = request.param
    made = Cluster(mode)
    try:
        if mode == RoutingMode.NATIVE:
            made.route_natively()
        made.accelerate(made.one, native=native)
        made.mode = mode
        yield made
    finally:
        made.close()


def turned_back(cluster: Cluster) -> int:
    """Packets that XDP sent on; tc counts none on this way."""
    return cluster.one.datapath.count(0, FlowDirection.INGRESS)


@both
@protocols
def test_both_directions_turn_back(cluster: Cluster, version: int, protocol: str) -> None:
    cluster.services[1].put(ANY[version], 30080, end(cluster.two, 3, version), protocol=protocol, scope=EXTERNAL)
    before = turned_back(cluster)
    answers = cluster.ask_often(cluster.outside, protocol, address(cluster.one, version), 30080, ASKED)
    seen = router if cluster.mode == RoutingMode.TUNNEL else address
    assert {(answer.server, answer.client) for answer in answers} == {("far", seen(cluster.one, version))}
    # Replies come back through the tunnel encapsulated, and are tc's. Of each direction, few packets go to the kernel.
    directions = 1 if cluster.mode == RoutingMode.TUNNEL else 2
    packets = {"udp": 1, "tcp": 4}[protocol] * directions
    assert turned_back(cluster) - before >= packets * (ASKED - 3)


@both
def test_a_server_on_another_node_itself(cluster: Cluster, version: int) -> None:
    """Reached without a tunnel in every mode."""
    cluster.serve(cluster.two.namespace, "host2", port := 8100 + version, at=address(cluster.two, version))
    before = turned_back(cluster)
    cluster.services[1].put(ANY[version], 30083, (address(cluster.two, version), port), protocol="udp", scope=EXTERNAL)
    answers = cluster.ask_often(cluster.outside, "udp", address(cluster.one, version), 30083, ASKED)
    assert {(answer.server, answer.client) for answer in answers} == {("host2", address(cluster.one, version))}
    assert turned_back(cluster) - before >= 2 * (ASKED - 3)


@both
def test_a_long_message(cluster: Cluster, version: int) -> None:
    cluster.services[1].put(ANY[version], 30084, end(cluster.two, 3, version), scope=EXTERNAL)
    before = turned_back(cluster)
    answer = cluster.ask(cluster.outside, "tcp", address(cluster.one, version), 30084, size=1_000_000)
    assert (answer.server, answer.size) == ("far", 1_000_000)
    assert turned_back(cluster) - before > 100
