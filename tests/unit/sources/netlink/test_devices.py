"""Which devices connect a node to others, and what their rows say."""

from __future__ import annotations

from ipaddress import ip_address, ip_interface, ip_network

import pytest

from cilium.datapath.netlink.links import UP, Link
from cilium.datapath.netlink.rows import Address, Route
from cilium.sources.netlink.devices import device_rows, selected

LINKS = [
    Link(1, "lo", "", "00:00:00:00:00:00", 65536, UP),
    Link(2, "eth0", "", "02:00:00:00:00:02", 1500, UP),
    Link(3, "eth1", "veth", "02:00:00:00:00:03", 9000, 0),
    Link(4, "cilium_host", "veth", "02:00:00:00:00:04", 1450, UP),
    Link(5, "lxc5f3a", "veth", "02:00:00:00:00:05", 1450, UP),
]
ADDRESSES = [
    Address(2, ip_interface("192.0.2.10/24"), flags=0x80),
    Address(2, ip_interface("2001:db8::aaaa/64"), flags=0x81),
    Address(2, ip_interface("2001:db8::10/64"), flags=0x80),
    Address(2, ip_interface("2001:db8::dead/64"), flags=0x40),
    Address(3, ip_interface("198.51.100.7/24"), flags=0x80),
    Address(4, ip_interface("10.0.0.1/32"), flags=0x80),
]
DEFAULT = Route(ip_network("0.0.0.0/0"), 2, ip_address("192.0.2.1"))


def names(**options: object) -> list[str]:
    arguments = {"links": LINKS, "addresses": ADDRESSES, "routes": [DEFAULT], **options}
    return [row.name for row in device_rows(**arguments) if row.selected]


def test_a_row_says_what_the_device_is() -> None:
    rows = {row.name: row for row in device_rows(links=LINKS, addresses=ADDRESSES, routes=[DEFAULT])}
    assert set(rows) == {"lo", "eth0", "eth1", "cilium_host"}, "pods' interfaces belong to their endpoints"
    eth0 = rows["eth0"]
    assert (eth0.ifindex, eth0.mac, eth0.mtu, eth0.up) == (2, "02:00:00:00:00:02", 1500, True)
    assert rows["eth1"].kind == "veth"
    assert not rows["eth1"].up


def test_addresses_that_cannot_be_used_are_left_out_and_temporary_ones_come_last() -> None:
    eth0 = next(r for r in device_rows(links=LINKS, addresses=ADDRESSES, routes=[]) if r.name == "eth0")
    assert [str(a) for a in eth0.addresses] == ["192.0.2.10/24", "2001:db8::10/64", "2001:db8::aaaa/64"]


def test_the_default_route_selects() -> None:
    assert names() == ["eth0"]
    assert names(routes=[]) == []
    assert names(routes=[Route(ip_network("::/0"), 3)]) == ["eth1"]


@pytest.mark.parametrize(
    "route", [Route(ip_network("0.0.0.0/0"), 3, table=100), Route(ip_network("0.0.0.0/0"), 3, kind=7)]
)
def test_default_routes_of_other_tables_and_unreachable_ones_do_not(route: Route) -> None:
    assert names(routes=[route]) == []


def test_the_nodes_address_selects() -> None:
    assert names(node_addresses={ip_address("198.51.100.7")}) == ["eth0", "eth1"]
    assert names(routes=[], node_addresses={ip_address("2001:db8::10")}) == ["eth0"]


def test_named_devices_alone_are_selected() -> None:
    assert names(names=("eth1",)) == ["eth1"]
    assert names(names=("eth+",)) == ["eth0", "eth1"]
    assert names(names=("bond0",)) == []


@pytest.mark.parametrize("name", ["lo", "lxc12", "cilium_host", "cilium_vxlan"])
def test_what_is_ours_is_never_selected(name: str) -> None:
    assert not selected(name, (), connects=True)
    assert not selected(name, (name, "+"), connects=True)
    assert selected("loud0", (), connects=True)
