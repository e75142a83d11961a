"""The underlay of a lab: a bridge in a namespace of its own, the machine, the nodes and the world attached to it.

In: the address plan and namespace files. Out: links, addresses, routes, sysctls.

    machine --- kubelab<N> | bridge (kubelab-<lab>-underlay) | eth0 of every node
                           |                                 | eth0 of kubelab-<lab>-external, everybody's gateway

The machine's own namespace gets one veth end and its two on-link routes, nothing else: its processes (API server,
kubectl) reach nodes at their underlay addresses and are reached at the plan's ``host`` addresses.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable
from pathlib import Path

from kubelab.underlay import namespaces, syscalls
from kubelab.underlay.addresses import Plan

HOST_PORT = "host"
"""The bridge's port to the machine."""
CUTS = "table bridge kubelab-cuts"
NETNS_DIRECTORY = Path("/run/netns")
MTU = 1500


class NetworkError(Exception):
    """iproute2 refused a command; the text names it."""


def netns(lab: str, member: str) -> Path:
    """The namespace file of a member: a node, ``underlay`` or ``external``. `ip netns exec` knows it by its name."""
    return NETNS_DIRECTORY / f"kubelab-{lab}-{member}"


def pinned(lab: str) -> list[Path]:
    """All namespace files of the lab, also of a lab whose state is lost."""
    shape = re.compile(rf"kubelab-{re.escape(lab)}-(underlay|external|node\d+)")
    if not NETNS_DIRECTORY.exists():
        return []
    return sorted(path for path in NETNS_DIRECTORY.iterdir() if shape.fullmatch(path.name))


def batch(commands: Iterable[str], within: Path | None = None) -> None:
    """Runs iproute2 commands in one process, in the given network namespace. Raises NetworkError."""
    argv = ["ip", "-batch", "-"]
    if within is not None:
        argv = ["nsenter", f"--net={within}", *argv]
    text = "\n".join(commands)
    done = subprocess.run(argv, input=text, capture_output=True, text=True, check=False)
    if done.returncode:
        raise NetworkError(f"ip -batch in {within or 'the machine'}: {done.stderr.strip()}\n{text}")


def create(lab: str, plan: Plan) -> None:
    """Bridge, uplink and external router."""
    underlay, external = netns(lab, "underlay"), netns(lab, "external")
    namespaces.create_network(underlay)
    namespaces.create_network(external)
    batch([f"link add name {plan.host_link} type veth peer name {HOST_PORT} netns {underlay}"])
    batch(
        [
            "link add name br0 type bridge stp_state 0 forward_delay 0 mcast_snooping 0",
            "link set br0 addrgenmode none",
            f"link set br0 mtu {MTU} up",
            f"link set {HOST_PORT} mtu {MTU} master br0 up",
        ],
        within=underlay,
    )
    batch(
        [
            f"link set {plan.host_link} mtu {MTU} up",
            *(_own(address, plan.host_link) for address in plan.host),
        ]
    )
    plug(lab, "external", external)
    _configure(external, plan.router, [f"addr add {address} dev lo {_now(address)}" for address in plan.world])


def plug(lab: str, port: str, member: Path) -> None:
    """A cable from the bridge to ``eth0`` of a member's namespace."""
    batch(
        [
            f"link add name {port} type veth peer name eth0 netns {member}",
            f"link set {port} mtu {MTU} master br0 up",
        ],
        within=netns(lab, "underlay"),
    )


def unplug(lab: str, port: str) -> None:
    """Takes the cable of a member away; what is not there is no error."""
    within = netns(lab, "underlay")
    if within.exists():
        command = ["nsenter", f"--net={within}", "ip", "link", "del", port]
        subprocess.run(command, capture_output=True, check=False)


def separate(lab: str, pairs: Iterable[tuple[str, str]]) -> None:
    """From now on no frame passes between the two ports of each pair; between all others they do.

    Raises NetworkError.
    """
    rules = "".join(
        f'iifname "{source}" oifname "{target}" drop\n'
        for one, other in pairs
        for source, target in ((one, other), (other, one))
    )
    chain = f"{CUTS} {{\nchain cuts {{ type filter hook forward priority 0; policy accept;\n{rules}}}\n}}\n"
    text = f"{CUTS} {{}}\ndelete {CUTS}\n" + (chain if rules else "")
    argv = ["nsenter", f"--net={netns(lab, 'underlay')}", "nft", "-f", "-"]
    done = subprocess.run(argv, input=text, capture_output=True, text=True, check=False)
    if done.returncode:
        raise NetworkError(f"nft: {done.stderr.strip()}\n{text}")


def like_network_cards(lab: str, ports: Iterable[str]) -> None:
    """Cables between veths become those between network cards, for XDP at their other ends: what arrives there has its
    checksum (a veth leaves it out, since nobody needs it), and what a program sends is taken (GRO makes a veth poll).

    Raises NetworkError.
    """
    for port in ports:
        inside = ["nsenter", f"--net={netns(lab, 'underlay')}", "ethtool", "-K", port]
        for feature in (("tx", "off"), ("gro", "on")):
            done = subprocess.run([*inside, *feature], capture_output=True, text=True, check=False)
            if done.returncode:
                raise NetworkError(f"ethtool -K {port} {' '.join(feature)}: {done.stderr.strip()}")


def configure_node(lab: str, node: str, addresses: tuple[str, ...], plan: Plan) -> None:
    """Plugs a node in: addresses on eth0, default routes through the external router."""
    member = netns(lab, node)
    plug(lab, node, member)
    routes = [f"route add {'::/0' if ':' in router else '0.0.0.0/0'} via {router}" for router in plan.router]
    _configure(member, addresses, routes)


def _own(address: str, device: str) -> str:
    """The command that gives a device its address in the underlay's subnet."""
    return f"addr add {address}/{64 if ':' in address else 24} dev {device} {_now(address)}"


def _now(address: str) -> str:
    """Usable at once: nobody else can have it."""
    return "nodad" if ":" in address else ""


def _configure(member: Path, addresses: tuple[str, ...], more: list[str]) -> None:
    def sysctls() -> None:
        syscalls.enter(str(member), syscalls.CLONE_NEWNET)
        for key, value in (
            ("net/ipv4/ip_forward", "1"),
            ("net/ipv4/conf/all/rp_filter", "0"),
            ("net/ipv4/conf/default/rp_filter", "0"),
            ("net/ipv4/conf/eth0/rp_filter", "0"),
            ("net/ipv6/conf/all/forwarding", "1"),
            ("net/ipv6/conf/all/accept_dad", "0"),
            ("net/ipv6/conf/default/accept_dad", "0"),
            ("net/ipv6/conf/eth0/accept_dad", "0"),
            ("net/ipv6/conf/eth0/accept_ra", "0"),
            ("net/ipv4/ping_group_range", "0 2147483647"),
        ):
            namespaces.write_sysctl(key, value)

    namespaces.run_in_child(sysctls)
    batch(
        [
            "link set lo up",
            f"link set eth0 mtu {MTU} up",
            *(_own(address, "eth0") for address in addresses),
            *more,
        ],
        within=member,
    )


def destroy(lab: str, host_link: str | None) -> None:
    """Removes namespaces and links; what is not there is no error."""
    if host_link is not None:
        subprocess.run(["ip", "link", "del", host_link], capture_output=True, check=False)
    for path in pinned(lab):
        namespaces.unpin(path)
