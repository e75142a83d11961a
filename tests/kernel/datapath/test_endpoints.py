"""A pod's interface in two namespaces of the test's own: made, usable, taken down, and refused with a reason."""

from __future__ import annotations

import os
import socket
from dataclasses import replace
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path

import pytest
from kernel.datapath.namespaces import Namespace

from cilium.datapath.netlink.endpoints import (
    EndpointDevices,
    EndpointError,
    EndpointPlan,
    inspect_endpoint,
    set_up_endpoint,
    tear_down_endpoint,
)
from cilium.datapath.netlink.links import LinkName
from cilium.datapath.netlink.netns import NamespaceError, is_netns, netns_cookie, open_netns, run_in_netns
from cilium.datapath.netlink.port import Netlink
from cilium.datapath.netlink.rows import SCOPE_LINK, Address, Route

pytestmark = pytest.mark.kernel
PLAN = EndpointPlan(
    host_name="lxc12ab",
    container_name="eth0",
    addresses=(ip_address("10.3.0.7"), ip_address("fd03::7")),
    gateways=(ip_address("10.3.0.1"), ip_address("fd03::1")),
    mtu=1450,
    route_mtu=1400,
)


def set_up(node: Namespace, pod: Namespace, plan: EndpointPlan = PLAN) -> EndpointDevices:
    return run_in_netns(node.fd, lambda: set_up_endpoint(pod.fd, plan))


def test_what_is_made(left: Namespace, right: Namespace) -> None:
    made = set_up(left, right)
    host = Netlink(left.fd).link("lxc12ab")
    assert host is not None
    assert (host.ifindex, host.mac, host.mtu, host.up) == (made.ifindex, made.host_mac, 1450, True)
    assert not [a for a in Netlink(left.fd).addresses() if a.ifindex == host.ifindex], "no address on the host side"
    inside = inspect_endpoint(right.fd, "eth0")
    assert inside is not None
    assert (inside.ifindex, inside.mac, inside.mtu, inside.up) == (made.container_ifindex, made.mac, 1450, True)
    assert inside.peer_ifindex == made.ifindex
    assert {a for a in inside.addresses if not a.ip.is_link_local} == {
        ip_interface("10.3.0.7/32"),
        ip_interface("fd03::7/128"),
    }
    assert set(inside.default_gateways) == {ip_address("10.3.0.1"), ip_address("fd03::1")}
    assert {r.mtu for r in Netlink(right.fd).routes() if r.default} == {1400}
    assert made.netns_cookie == run_in_netns(right.fd, netns_cookie) != netns_cookie()
    assert (run_in_netns(left.fd, lambda: Path("/proc/sys/net/ipv4/conf/lxc12ab/rp_filter").read_text())) == "0\n"


@pytest.mark.parametrize("version", [4, 6])
def test_the_pod_reaches_its_router(left: Namespace, right: Namespace, version: int) -> None:
    """With the router's address on the host side the kernel itself answers."""
    made = set_up(left, right)
    router = next(g for g in PLAN.gateways if g.version == version)
    pod = next(a for a in PLAN.addresses if a.version == version)
    scope = SCOPE_LINK if version == 4 else 0
    Netlink(left.fd).put(Address(made.ifindex, ip_interface(router)), Route(ip_network(pod), made.ifindex, scope=scope))
    family = socket.AF_INET if version == 4 else socket.AF_INET6

    def bound(netns: int) -> socket.socket:
        return run_in_netns(netns, lambda: socket.socket(family, socket.SOCK_DGRAM))

    with bound(left.fd) as server, bound(right.fd) as client:
        server.bind((str(router), 0))
        server.settimeout(5)
        client.bind((str(pod), 0))
        client.sendto(b"hello", (str(router), server.getsockname()[1]))
        data, sender = server.recvfrom(16)
    assert (data, sender[0]) == (b"hello", str(pod))


@pytest.mark.parametrize("version", [4, 6])
def test_one_family_alone(left: Namespace, right: Namespace, version: int) -> None:
    plan = replace(PLAN, addresses=tuple(a for a in PLAN.addresses if a.version == version))
    set_up(left, right, plan)
    inside = inspect_endpoint(right.fd, "eth0")
    assert inside is not None
    assert [g.version for g in inside.default_gateways] == [version]


def test_ipv6_is_switched_on_where_a_runtime_switched_it_off(left: Namespace, right: Namespace) -> None:
    run_in_netns(right.fd, lambda: Path("/proc/sys/net/ipv6/conf/all/disable_ipv6").write_text("1"))
    set_up(left, right)
    inside = inspect_endpoint(right.fd, "eth0")
    assert inside is not None
    assert ip_interface("fd03::7/128") in inside.addresses


def test_taking_it_down(left: Namespace, right: Namespace) -> None:
    set_up(left, right)
    for _ in range(2):  # absent: no error
        run_in_netns(left.fd, lambda: tear_down_endpoint("lxc12ab"))
    assert Netlink(left.fd).link("lxc12ab") is None
    assert inspect_endpoint(right.fd, "eth0") is None


def test_a_leftover_host_side_is_replaced(left: Namespace, right: Namespace) -> None:
    left.ip("link", "add", "lxc12ab", "type", "veth", "peer", "name", "leftover")
    set_up(left, right)
    assert inspect_endpoint(right.fd, "eth0") is not None
    assert Netlink(left.fd).link("leftover") is None


def test_an_interface_inside_is_no_leftover_of_ours(left: Namespace, right: Namespace) -> None:
    right.ip("link", "add", "eth0", "type", "veth", "peer", "name", "other")
    with pytest.raises(EndpointError, match="interface eth0 exists in the pod's network namespace already"):
        set_up(left, right)
    assert Netlink(left.fd).link("lxc12ab") is None
    assert Netlink(right.fd).link("other") is not None


def test_a_half_made_interface_is_taken_down(left: Namespace, right: Namespace) -> None:
    refused = replace(PLAN, addresses=(ip_address("ff02::1"),))  # no host can own it
    with pytest.raises(EndpointError, match=r"set up interface lxc12ab: create or change address ff02::1/128"):
        set_up(left, right, refused)
    assert Netlink(left.fd).link("lxc12ab") is None
    assert Netlink(right.fd).link("eth0") is None


@pytest.mark.parametrize("path", ["/dev/null", "/proc/self/ns/mnt", ""])
def test_a_descriptor_that_is_no_namespace(left: Namespace, path: str) -> None:
    fd = os.open(path, os.O_RDONLY) if path else 9999
    try:
        with pytest.raises(EndpointError, match="the pod's network namespace is none, or has gone"):
            run_in_netns(left.fd, lambda: set_up_endpoint(fd, PLAN))
    finally:
        if path:
            os.close(fd)
    assert Netlink(left.fd).link("lxc12ab") is None


def test_paths_that_are_no_namespaces(tmp_path: Path, left: Namespace) -> None:
    with pytest.raises(NamespaceError, match=r"/nowhere: No such file"):
        open_netns("/nowhere")
    (tmp_path / "file").write_text("")
    with pytest.raises(NamespaceError, match="is no network namespace"):
        open_netns(tmp_path / "file")
    with pytest.raises(NamespaceError, match="is no network namespace"):
        open_netns("/proc/self/ns/mnt")
    with pytest.raises(NamespaceError, match="enter network namespace"):
        run_in_netns(9999, lambda: None)
    assert is_netns(left.fd)


def test_no_thread_stays_in_a_foreign_namespace(left: Namespace) -> None:
    def here() -> int:
        return os.stat("/proc/thread-self/ns/net").st_ino

    before = here()
    assert run_in_netns(left.fd, here) == os.fstat(left.fd).st_ino
    with pytest.raises(ZeroDivisionError):
        run_in_netns(left.fd, lambda: 1 // 0)
    assert here() == before
    Netlink(left.fd).remove(LinkName("nothing"))
    assert here() == before
