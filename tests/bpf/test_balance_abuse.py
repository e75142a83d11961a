"""What translation must not open: others' addresses, others' connections, answers to what was not asked."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from bpf.harness import LOOPBACK, OK, REDIRECT, Datapath, encoded
from bpf.packets import CLIENT, FAMILIES, NODE, REMOTE, SERVER, WORLD, checksums_hold, ip, tcp, udp
from bpf.test_balance_packets import PORT, TARGET, Balancer, network
from scapy.layers.inet import ICMP, IP, TCP
from scapy.layers.inet6 import ICMPv6DestUnreach, IPv6, IPv6ExtHdrFragment
from scapy.packet import Packet

from cilium.datapath.generated.enums import DropReason, RoutingMode, ServiceScope

STRANGER = {4: "10.0.1.99", 6: "fd01::99"}
ROUTER = {4: "10.0.0.254", 6: "fd00::fe"}
LOOP = {4: "169.254.42.1", 6: "100::1"}
OTHER_NODE = {4: "172.18.0.3", 6: "fd12::3"}
both = pytest.mark.parametrize("version", FAMILIES)


def error(version: int, source: str, destination: str, quoted: Packet) -> Packet:
    """A port is unreachable, somebody says."""
    message = ICMP(type=3, code=3) if version == 4 else ICMPv6DestUnreach(code=4)
    return ip(source, destination) / message / bytes(quoted.payload)[: (20 if version == 4 else 40) + 8]


def tunnelled(make_datapath, version: int) -> Balancer:
    """The backend is a pod behind the tunnel, as is a stranger; a pod of this node is CLIENT."""
    routers = {f"router{family}": ip_address(address) for family, address in ROUTER.items()}
    loops = {f"loopback{family}": ip_address(address) for family, address in LOOP.items()}
    datapath = make_datapath(services=1, routing_mode=RoutingMode.TUNNEL, tunnel_ifindex=LOOPBACK, **routers, **loops)
    balancer = Balancer(datapath, version)
    datapath.node_address(ROUTER[version])
    length = 32 if version == 4 else 128
    for address, identity in ((REMOTE[version], 3000), (STRANGER[version], 4000)):
        datapath.ipcache(f"{address}/{length}", identity, tunnel=OTHER_NODE[version])
    datapath.endpoint(CLIENT[version], 1000)
    datapath.ipcache(f"{CLIENT[version]}/{length}", 1000)
    return balancer


@both
@pytest.mark.parametrize("who", [CLIENT, STRANGER, NODE], ids=["pod here", "pod elsewhere", "node"])
@pytest.mark.parametrize("hook", ["from_netdev", "from_wire"])
def test_nobody_outside_asks_in_the_name_of_a_pod(make_datapath, version: int, who: dict[int, str], hook: str) -> None:
    balancer = tunnelled(make_datapath, version)
    run = balancer.ask if hook == "from_netdev" else on_wire(balancer.datapath)
    assert run(tcp(who[version], balancer.vip, 40000, PORT)).drop == DropReason.INVALID_SOURCE_IP
    assert run(tcp(balancer.client, balancer.vip, 40000, PORT)).drop == 0


@both
def test_nobody_outside_takes_up_a_pods_connection(make_datapath, version: int) -> None:
    balancer = tunnelled(make_datapath, version)
    balancer.service(4, balancer.backend, scope=ServiceScope.CLUSTER)
    packet = tcp(CLIENT[version], balancer.vip, 40000, PORT)
    assert balancer.datapath.run("from_lxc", packet).verdict == REDIRECT
    assert balancer.ask(packet).drop == DropReason.INVALID_SOURCE_IP


def on_wire(datapath: Datapath):
    row = {"masquerade4": encoded(NODE[4]), "masquerade6": encoded(NODE[6]), "mac": [2, 0, 0, 0, 0xFF, 1]}
    datapath.put("cilium_netdev", LOOPBACK, row)
    return lambda packet: datapath.run_frame("from_wire", packet)


@both
def test_nobody_outside_reports_in_the_name_of_a_pod(make_datapath, version: int) -> None:
    """A router may; behind an address of the node, to the backend."""
    balancer = tunnelled(make_datapath, version)
    asked = udp(balancer.client, balancer.vip, 40000, PORT)
    assert balancer.ask(asked).verdict == REDIRECT
    answer = udp(balancer.vip, balancer.client, PORT, 40000)
    for who, drop in ((balancer.client, 0), (STRANGER[version], DropReason.INVALID_SOURCE_IP)):
        assert balancer.ask(error(version, who, balancer.vip, answer)).drop == drop


@both
def test_a_pod_reports_only_on_its_own_connections(make_datapath, version: int) -> None:
    """An error about another pod's connection would go out in that pod's name."""
    datapath = make_datapath(services=1, routing_mode=RoutingMode.NATIVE)
    balancer = Balancer(datapath, version)
    balancer.service(4, balancer.backend, protocol=17, scope=ServiceScope.CLUSTER)
    victim, other = CLIENT[version], SERVER[version]
    for pod, identity in ((victim, 1000), (other, 2000)):
        datapath.endpoint(pod, identity)
    datapath.run("from_lxc", udp(victim, balancer.vip, 40000, PORT))
    answer = udp(balancer.vip, victim, PORT, 40000)
    forged = error(version, other, balancer.vip, answer)
    assert network(datapath.run("from_lxc", forged).packet).src == other
    honest = network(datapath.run("from_lxc", error(version, victim, balancer.vip, answer)).packet)
    assert (honest.src, honest.dst) == (victim, balancer.backend)


@both
def test_a_pod_reports_only_on_what_it_masquerades(make_datapath, version: int) -> None:
    datapath = make_datapath(services=1)
    Balancer(datapath, version)
    victim, other = CLIENT[version], SERVER[version]
    for pod, identity in ((victim, 1000), (other, 2000)):
        datapath.endpoint(pod, identity, ifindex=5)
    datapath.run("to_netdev", udp(victim, WORLD[version], 40000, PORT), came_from=5)
    answer = udp(WORLD[version], victim, PORT, 40000)
    forged = datapath.run("to_netdev", error(version, other, WORLD[version], answer), came_from=5)
    assert forged.drop == DropReason.NO_MAPPING_FOR_NAT_MASQUERADE
    honest = datapath.run("to_netdev", error(version, victim, WORLD[version], answer), came_from=5)
    assert (honest.verdict, network(honest.packet).src) == (OK, NODE[version])


@both
def test_a_pod_that_asks_itself_is_not_judged(make_datapath, version: int) -> None:
    """Neither the request nor the answer; whatever its policies say of itself."""
    loops = {f"loopback{family}": ip_address(address) for family, address in LOOP.items()}
    datapath = make_datapath(services=1, **loops)
    balancer, pod = Balancer(datapath, version), SERVER[version]
    datapath.endpoint(pod, 2000, ingress_policy=7, egress_policy=8)
    balancer.service(4, pod, scope=ServiceScope.CLUSTER)
    there = datapath.run("from_lxc", tcp(pod, balancer.vip, 40000, PORT))
    assert (there.verdict, network(there.packet).src) == (REDIRECT, LOOP[version])
    back = datapath.run("from_lxc", tcp(pod, LOOP[version], TARGET, 40000, "SA"))
    assert back.drop == 0
    received = network(back.packet)
    assert (back.verdict, received.src, received.dst) == (REDIRECT, balancer.vip, pod)
    assert (received[TCP].sport, received[TCP].dport) == (PORT, 40000)
    assert checksums_hold(back.data)


@both
def test_an_error_that_quotes_too_little_is_the_nodes(make_datapath, version: int) -> None:
    """A later fragment has no ports, so it was nobody's whom this node translates for."""
    balancer = Balancer(make_datapath(services=1, routing_mode=RoutingMode.NATIVE), version)
    if version == 4:
        quoted = IP(src=balancer.node, dst=balancer.client, proto=17, frag=100) / bytes(8)
        packet = ip(balancer.client, balancer.node) / ICMP(type=11, code=0) / bytes(quoted)
    else:
        quoted = IPv6(src=balancer.node, dst=balancer.client) / IPv6ExtHdrFragment(nh=17, offset=100) / bytes(8)
        packet = ip(balancer.client, balancer.node) / ICMPv6DestUnreach(code=1) / bytes(quoted)
    result = balancer.ask(packet)
    assert (result.verdict, result.drop, result.data) == (OK, 0, bytes(packet))


@both
def test_a_connection_that_ended_does_not_claim_the_next(make_datapath, version: int) -> None:
    """A pod asks the backend itself from a port from which it asked the service before."""
    balancer = Balancer(make_datapath(services=1, routing_mode=RoutingMode.NATIVE), version)
    datapath, pod = balancer.datapath, CLIENT[version]
    datapath.endpoint(pod, 1000)
    balancer.service(4, balancer.backend, scope=ServiceScope.CLUSTER)

    def answer(flags: str) -> Packet:
        return network(datapath.run("from_netdev", tcp(balancer.backend, pod, TARGET, 40000, flags)).packet)

    datapath.run("from_lxc", tcp(pod, balancer.vip, 40000, PORT))
    assert answer("SA").src == balancer.vip
    datapath.run("from_lxc", tcp(pod, balancer.vip, 40000, PORT, "FA"))
    assert answer("FA").src == balancer.vip
    assert answer("A").src == balancer.vip, "the last of the old one may still be on its way"
    for flags in ("SA", "A", "PA", "FA"):
        assert answer(flags).src == balancer.backend
    datapath.run("from_lxc", tcp(pod, balancer.vip, 40000, PORT))
    assert answer("SA").src == balancer.vip, "the service asked anew"
    keys, values = balancer.mappings()
    values["used"] = 1
    datapath.map("cilium_snat").update(keys, values)
    assert answer("A").src == balancer.backend, "silent for too long"
