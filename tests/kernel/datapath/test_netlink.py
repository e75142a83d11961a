"""rtnetlink: the same questions to the kernel, in a namespace of the test's own, and to the fake."""

from __future__ import annotations

import errno
from ipaddress import ip_address, ip_interface, ip_network

import pytest
from kernel.datapath.namespaces import Namespace

from cilium.datapath.errors import MissingFeature
from cilium.datapath.fakes import FakeNetlink, FakeSysctls
from cilium.datapath.netlink.devices import DeviceError, ensure_addresses, ensure_geneve, ensure_host_pair, ensure_vxlan
from cilium.datapath.netlink.links import Geneve, Link, LinkChange, LinkName, Veth, Vxlan
from cilium.datapath.netlink.netns import run_in_netns
from cilium.datapath.netlink.port import Netlink, NetlinkBatchError, NetlinkPort
from cilium.datapath.netlink.rows import SCOPE_LINK, Address, Route
from cilium.datapath.netlink.sysctl import SysctlError, Sysctls

pytestmark = pytest.mark.kernel


@pytest.fixture(params=["kernel", "fake"])
def netlink(request: pytest.FixtureRequest, left: Namespace) -> NetlinkPort:
    return Netlink(left.fd) if request.param == "kernel" else FakeNetlink()


class NamespaceSysctls:
    """The kernel's parameters of one namespace."""

    def __init__(self, netns: int) -> None:
        self._netns = netns

    def read(self, path: str) -> str:
        return run_in_netns(self._netns, lambda: Sysctls().read(path))

    def write(self, path: str, value: int | str) -> bool:
        return run_in_netns(self._netns, lambda: Sysctls().write(path, value))


@pytest.fixture
def sysctls(netlink: NetlinkPort, left: Namespace) -> NamespaceSysctls | FakeSysctls:
    return NamespaceSysctls(left.fd) if isinstance(netlink, Netlink) else FakeSysctls()


@pytest.fixture
def device(netlink: NetlinkPort) -> Link:
    netlink.put(Veth("one", "two", mtu=1400), LinkChange(name="one", up=True), LinkChange(name="two", up=True))
    found = netlink.link("one")
    assert found is not None
    return found


def test_a_pair_of_devices(netlink: NetlinkPort) -> None:
    netlink.put(Veth("one", "two", mtu=1400, mac="02:00:00:00:00:01", up=False))
    one, two = netlink.link("one"), netlink.link("two")
    assert one is not None
    assert two is not None
    assert (one.kind, one.mtu, one.mac, one.up) == ("veth", 1400, "02:00:00:00:00:01", False)
    assert (one.lower, two.lower) == (two.ifindex, one.ifindex)
    assert {link.name for link in netlink.links()} >= {"lo", "one", "two"}
    netlink.put(LinkChange(one.ifindex, up=True, mtu=1300, arp=False), LinkChange(name="two", up=True))
    changed = netlink.link("one")
    assert changed is not None
    assert (changed.up, changed.mtu, changed.flags & 0x80) == (True, 1300, 0x80)
    with pytest.raises(NetlinkBatchError, match=r"create or change veth pair one - two: .*EEXIST"):
        netlink.put(Veth("one", "two"))
    netlink.remove(LinkName("one"))
    assert (netlink.link("one"), netlink.link("two")) == (None, None)
    netlink.remove(LinkName("one"))  # absent: no error


@pytest.mark.parametrize("text", ["10.1.2.3/24", "10.1.2.3/32", "fd00::3/64", "fd00::3/128"])
def test_addresses(netlink: NetlinkPort, device: Link, text: str) -> None:
    address = Address(device.ifindex, ip_interface(text))
    netlink.put(address)
    netlink.put(address)
    found = [a for a in netlink.addresses() if a.ifindex == device.ifindex and not a.interface.ip.is_link_local]
    assert [a.interface for a in found] == [ip_interface(text)]
    assert not found[0].flags & 0x40, "an address that waits for duplicate detection is of no use yet"
    netlink.remove(address)
    netlink.remove(address)
    assert address.interface not in [a.interface for a in netlink.addresses()]


@pytest.mark.parametrize(("network", "gateway"), [("10.2.0.0/16", "10.1.0.1"), ("fd02::/64", "fd01::1")])
def test_routes(netlink: NetlinkPort, device: Link, network: str, gateway: str) -> None:
    scope = SCOPE_LINK if "." in gateway else 0
    router = Route(ip_network(gateway), device.ifindex, scope=scope)
    route = Route(ip_network(network), device.ifindex, ip_address(gateway), mtu=1350)
    default = Route(ip_network("0.0.0.0/0" if "." in gateway else "::/0"), device.ifindex, ip_address(gateway))
    netlink.put(router, route, default)
    netlink.put(router, route, default)
    ours = {r.destination: r for r in netlink.routes() if r.protocol == route.protocol}
    assert set(ours) == {router.destination, route.destination, default.destination}
    assert (ours[route.destination].gateway, ours[route.destination].mtu) == (ip_address(gateway), 1350)
    assert ours[default.destination].default
    for _ in range(2):  # absent: no error
        netlink.remove(route, default)
        assert {r.destination for r in netlink.routes() if r.protocol == route.protocol} == {router.destination}
    netlink.remove(Route(router.destination))  # whatever its scope and device
    assert not [r for r in netlink.routes() if r.protocol == route.protocol]


@pytest.mark.parametrize("network", ["10.2.0.0/16", "fd02::/64"])
def test_tables_beyond_255(netlink: NetlinkPort, device: Link, network: str) -> None:
    assert netlink.routes(2004) == []
    scope = SCOPE_LINK if "." in network else 0
    netlink.put(Route(ip_network(network), device.ifindex, table=2004, scope=scope))
    assert [r.destination for r in netlink.routes(2004)] == [ip_network(network)]
    assert netlink.routes(2005) == []


def test_one_bad_row_leaves_the_others_done(netlink: NetlinkPort, device: Link) -> None:
    good = Address(device.ifindex, ip_interface("10.1.2.3/32"))
    with pytest.raises(NetlinkBatchError) as caught:
        netlink.put(Address(4711, ip_interface("10.9.9.9/32")), good, Address(4712, ip_interface("fd00::9/128")))
    assert sorted(caught.value.failures) == [0, 2]
    assert caught.value.first.errno == errno.ENODEV
    assert "10.9.9.9/32 of interface 4711" in str(caught.value)
    assert good.interface in [a.interface for a in netlink.addresses()]


def test_more_rows_than_one_batch(netlink: NetlinkPort, device: Link) -> None:
    rows = [Address(device.ifindex, ip_interface(f"10.1.{i // 250}.{i % 250 + 1}/32")) for i in range(500)]
    netlink.put(*rows)
    assert len([a for a in netlink.addresses() if a.interface.version == 4 and a.ifindex == device.ifindex]) == 500
    netlink.remove(*rows)
    assert not [a for a in netlink.addresses() if a.interface.version == 4 and a.ifindex == device.ifindex]


def test_a_device_takes_its_routes_and_addresses_with_it(netlink: NetlinkPort, device: Link) -> None:
    netlink.put(
        Address(device.ifindex, ip_interface("10.1.2.3/32")),
        Route(ip_network("10.8.0.0/16"), device.ifindex, scope=SCOPE_LINK),
    )
    netlink.remove(LinkName("one"))
    assert ip_network("10.8.0.0/16") not in [r.destination for r in netlink.routes()]
    assert ip_interface("10.1.2.3/32") not in [a.interface for a in netlink.addresses()]


def test_the_node_pair(netlink: NetlinkPort, sysctls: NamespaceSysctls) -> None:
    first = ensure_host_pair(netlink, sysctls, mtu=1450)
    assert [link.name for link in first] == ["cilium_host", "cilium_net"]
    assert all(link.up and link.mtu == 1450 and link.flags & 0x80 for link in first)
    assert sysctls.read("net/ipv4/conf/cilium_host/rp_filter") == "0"
    again = ensure_host_pair(netlink, sysctls, mtu=1400)
    assert [link.ifindex for link in again] == [link.ifindex for link in first], "what is there is changed in place"
    assert all(link.mtu == 1400 for link in again)
    ensure_addresses(netlink, again[0], [ip_address("10.0.0.1"), ip_address("fd00::1")])
    ensure_addresses(netlink, again[0], [ip_address("10.0.0.2"), ip_address("fd00::1")])
    found = {a.interface for a in netlink.addresses() if a.ifindex == again[0].ifindex}
    assert found == {ip_interface("10.0.0.2/32"), ip_interface("fd00::1/128")}


def test_a_stray_device_of_the_pairs_name_is_replaced(netlink: NetlinkPort, sysctls: NamespaceSysctls) -> None:
    netlink.put(Veth("cilium_host", "stray"))
    host, net = ensure_host_pair(netlink, sysctls, mtu=1500)
    assert host.lower == net.ifindex
    assert netlink.link("stray") is None


def test_the_overlay_device(netlink: NetlinkPort, sysctls: NamespaceSysctls) -> None:
    first = ensure_vxlan(netlink, sysctls, mtu=1450, port=8472)
    assert (first.kind, first.up, first.mtu) == ("vxlan", True, 1450)
    assert Vxlan("cilium_vxlan", 8472).matches(first)
    again = ensure_vxlan(netlink, sysctls, mtu=1400, port=8472)
    assert (again.ifindex, again.mtu) == (first.ifindex, 1400)
    other = ensure_vxlan(netlink, sysctls, mtu=1400, port=8473)
    assert other.ifindex != first.ifindex, "a port cannot be changed in place"


def test_the_other_overlay_device() -> None:
    """Against the fake: where the kernel has no Geneve, the test below shows what is said."""
    netlink, sysctls = FakeNetlink(), FakeSysctls()
    first = ensure_geneve(netlink, sysctls, mtu=1450, port=6081)
    assert (first.name, first.kind, first.up, first.mtu) == ("cilium_geneve", "geneve", True, 1450)
    assert ensure_geneve(netlink, sysctls, mtu=1450, port=6081).ifindex == first.ifindex
    assert ensure_geneve(netlink, sysctls, mtu=1450, port=6082).ifindex != first.ifindex


def test_geneve_on_this_kernel(left: Namespace) -> None:
    try:
        made = ensure_geneve(Netlink(left.fd), NamespaceSysctls(left.fd), mtu=1450, port=6081)
    except MissingFeature as error:
        assert "this kernel has no geneve; load the module geneve" in str(error)  # noqa: PT017 - either way is right
    else:
        assert Geneve("cilium_geneve", 6081).matches(made)


def test_a_taken_overlay_port_is_explained(left: Namespace) -> None:
    left.ip("link", "add", "other", "type", "vxlan", "external", "dstport", "8472")
    left.ip("link", "set", "other", "up")
    with pytest.raises(DeviceError, match="is another overlay using the port"):
        ensure_vxlan(Netlink(left.fd), NamespaceSysctls(left.fd), mtu=1450, port=8472)


def test_a_parameter_that_does_not_exist() -> None:
    with pytest.raises(SysctlError, match="read kernel parameter net/ipv4/frob: No such file"):
        Sysctls().write("net/ipv4/frob", 1)
