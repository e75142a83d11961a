"""Which service an address and port stand for, for flows and for filters."""

from ipaddress import ip_address

import numpy as np
import pytest
from unit.hubble.world import ECHO, NODE, NODE2, WEB, WEB6, WORLD, Cluster, frontend

from cilium.hubble.addresses import packed
from cilium.hubble.names import Names
from cilium.hubble.services import ServiceName
from cilium.tables.services import REDIRECT_SUFFIX, Scope

TCP, UDP, SCTP, ICMP = 6, 17, 132, 1
WEB_NAME = ("default", "web")


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


@pytest.fixture
def names(cluster: Cluster) -> Names:
    return Names(cluster.tables)


def at(names: Names, address: str, port: int, protocol: int = TCP) -> ServiceName | None:
    return names.services.at(packed(ip_address(address)), port, protocol)


@pytest.mark.parametrize("address", [WEB, WEB6])
def test_an_address_of_its_own(names: Names, address: str) -> None:
    assert at(names, address, 80) == WEB_NAME
    assert at(names, address, 81) is None
    assert at(names, address, 80, UDP) is None
    assert at(names, address, 80, ICMP) is None


@pytest.mark.parametrize("node", [NODE, NODE2, "127.0.0.1", "::1"])
def test_a_node_port_is_a_port_of_nodes(names: Names, node: str) -> None:
    assert at(names, node, 30080) == WEB_NAME
    assert at(names, node, 30080, UDP) is None


@pytest.mark.parametrize("other", [ECHO, WORLD, "fd00::99"])
def test_the_same_port_of_anybody_else_is_none(names: Names, other: str) -> None:
    assert at(names, other, 30080) is None


def test_a_host_port_is_one_of_this_node(names: Names) -> None:
    assert at(names, NODE, 8053, UDP) == ("prod", "dns")
    assert at(names, NODE2, 8053, UDP) is None


def test_an_address_that_is_reached_from_outside_only(cluster: Cluster, names: Names) -> None:
    cluster.frontends.upsert(frontend("198.51.100.7", 443, "prod/shop", "SCTP", scope=Scope.EXTERNAL))
    names.refresh()
    assert at(names, "198.51.100.7", 443, SCTP) == ("prod", "shop")


def test_a_redirected_address_bears_the_name_of_its_policy(cluster: Cluster, names: Names) -> None:
    cluster.frontends.upsert(frontend("169.254.169.254", 80, "default/metadata" + REDIRECT_SUFFIX))
    names.refresh()
    assert at(names, "169.254.169.254", 80) == ("default", "metadata")


def test_a_service_that_is_gone_keeps_its_name_until_another_has_its_address(cluster: Cluster, names: Names) -> None:
    before = names.services.generation
    gone = [frontend(WEB, 80, scope=scope).key for scope in Scope]
    cluster.frontends.commit(deletes=gone)
    names.refresh()
    assert at(names, WEB, 80) == WEB_NAME
    assert names.services.generation > before

    cluster.frontends.upsert(frontend(WEB, 80, "prod/heir"))
    names.refresh()
    assert at(names, WEB, 80) == ("prod", "heir")


def test_what_is_long_gone_is_forgotten(cluster: Cluster, names: Names, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cilium.hubble.services.REMEMBERED", 2)
    short_lived = [frontend("10.96.1.1", port, f"default/s{port}") for port in (1001, 1002, 1003)]
    for row in short_lived:
        cluster.frontends.upsert(row)
        names.refresh()
        cluster.frontends.delete(row.key)
        names.refresh()
    assert [at(names, "10.96.1.1", row.port) for row in short_lived] == [
        None,
        ("default", "s1002"),
        ("default", "s1003"),
    ]

    cluster.frontends.upsert(short_lived[1])
    names.refresh()
    cluster.frontends.delete(short_lived[1].key)
    names.refresh()
    assert at(names, "10.96.1.1", 1002) == ("default", "s1002")


def test_places_of_services_for_filters(cluster: Cluster, names: Names) -> None:
    cluster.frontends.delete(frontend(WEB6, 80).key)
    names.refresh()
    places = names.services.places(lambda namespace, name: (namespace, name) == WEB_NAME)
    asked = [(WEB, 80, TCP), (WEB6, 80, TCP), (WEB, 81, TCP), (WEB, 80, UDP), (NODE, 30080, TCP), (NODE, 8053, UDP)]
    address = np.frombuffer(b"".join(packed(ip_address(one)) for one, _, _ in asked), "V16")
    port = np.array([port for _, port, _ in asked], ">u2")
    protocol = np.array([protocol for _, _, protocol in asked], np.uint8)
    assert places.match(address, port, protocol).tolist() == [True, True, False, False, True, False]
    nobody = names.services.places(lambda *_: False)
    assert not nobody.match(address, port, protocol).any()
