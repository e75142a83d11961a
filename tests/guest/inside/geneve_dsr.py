"""Direct server return through Geneve: the backend sees the client and answers it itself. Runs in the guest."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from bpf.balanced import ANY, Cluster, address, end
from guest.inside.overlays import MAKERS, node_of

from cilium.datapath.generated.enums import DsrDispatch, NatDirection, NatFlags, RoutingMode, ServiceFlags, ServiceScope


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    made = Cluster(RoutingMode.TUNNEL, node=node_of("geneve"), dsr=DsrDispatch.GENEVE, tunnel_port=MAKERS["geneve"][1])
    try:
        yield made
    finally:
        made.close()


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
@pytest.mark.parametrize("version", [4, 6])
def test_dsr_through_geneve(monkeypatch: pytest.MonkeyPatch, cluster: Cluster, version: int, protocol: str) -> None:
    monkeypatch.setenv("ECHO_PATIENCE", "20")
    for node in (cluster.one, cluster.two):
        node.datapath.drop_rows("cilium_snat")
    for services in cluster.services.values():
        services.put(
            ANY[version], 30080, end(cluster.two, 3, version),
            protocol=protocol, scope=ServiceScope.EXTERNAL, flags=ServiceFlags.DSR,
        )  # fmt: skip
    answer = cluster.ask(cluster.outside, protocol, address(cluster.one, version), 30080, size=500, source=40300)
    client = {4: "172.18.0.1", 6: "fd12::1"}[version]
    assert (answer.server, answer.client, answer.port, answer.size) == ("far", client, 40300, 500), answer
    keys, values = cluster.one.datapath.map("cilium_snat").dump()
    assert keys["direction"].tolist() == [NatDirection.FORWARD]
    assert values["flags"][0] & NatFlags.DSR
    assert cluster.two.datapath.map("cilium_snat").dump()[0]["direction"].tolist() == [NatDirection.REVERSE]
