"""CIDRs and entities as peers.

In: texts of `fromCIDR`, `toCIDRSet`, `ipBlock`, `fromEntities`. Out: `CIDRPeer`s and `Selector`s.
"""

from __future__ import annotations

import re
from ipaddress import ip_network

from cilium.sources.kubernetes.policies.errors import PolicyError
from cilium.sources.kubernetes.policies.selectors import in_cluster
from cilium.tables.labels import CLUSTER
from cilium.tables.rules import CIDRPeer, Peers, Requirement, Selector
from cilium.tables.types import IPNetwork

_CIDR = re.compile(r"[0-9A-Fa-f:.]{2,45}(/(0|[1-9][0-9]{0,2}))?")
"""Neither masks (10.0.0.0/255.0.0.0) nor zones (fe80::1%eth0)."""
ANYWHERE = {4: ip_network("0.0.0.0/0"), 6: ip_network("::/0")}

_RESERVED = {
    "host": ("host",),
    "remote-node": ("remote-node",),
    "kube-apiserver": ("kube-apiserver",),
    "health": ("health",),
    "init": ("init",),
    "ingress": ("ingress",),
    "unmanaged": ("unmanaged",),
    "world": ("world", "world-ipv4", "world-ipv6"),
    "none": (),
}
_CLUSTER = ("host", "remote-node", "init", "ingress", "health", "unmanaged", "kube-apiserver")
ENTITIES = ("all", "cluster", "cluster-mesh", "world-ipv4", "world-ipv6", *_RESERVED)


def network(text: str, path: str) -> IPNetwork:
    """A CIDR, or an address as a CIDR of one; bits beyond the prefix are ignored. Raises PolicyError."""
    try:
        if _CIDR.fullmatch(text):
            return ip_network(text, strict=False)
    except ValueError:
        pass
    raise PolicyError(path, f"{text!r} is not a CIDR such as 10.0.0.0/8 or 2001:db8::/32")


def cidr_peer(text: str, excepts: tuple[str, ...] | None, path: str, *, field: str = "cidr") -> CIDRPeer:
    """Every `except` must lie inside the CIDR it belongs to. Raises PolicyError."""
    cidr = network(text, f"{path}.{field}" if field else path)
    inner = []
    for index, entry in enumerate(excepts or ()):
        where = f"{path}.except[{index}]"
        hole = network(entry, where)
        if hole.version != cidr.version or not cidr.supernet_of(hole):  # type: ignore[arg-type]  # versions are equal
            raise PolicyError(where, f"{entry} does not lie inside {text}")
        inner.append(hole)
    return CIDRPeer(cidr, tuple(inner))


def entities(entries: tuple[str, ...], path: str, *, cluster: str) -> Peers:
    """The peers that entities stand for; any of them. Raises PolicyError for one that does not exist."""
    selectors: dict[Selector, None] = {}
    cidrs: dict[CIDRPeer, None] = {}
    for index, entity in enumerate(entries):
        if entity == "all":
            return Peers(wildcard=True)
        if entity in {"cluster", "cluster-mesh"}:
            selectors |= dict.fromkeys(map(_reserved, _CLUSTER))
            pods = in_cluster(cluster) if entity == "cluster" else Requirement(f"k8s:{CLUSTER}", "Exists")
            selectors[Selector((pods,))] = None
        elif entity in {"world-ipv4", "world-ipv6"}:
            # As a CIDR: on a node with one address family the world has no identity per family.
            cidrs[CIDRPeer(ANYWHERE[int(entity[-1])], world_only=True)] = None
        elif entity in _RESERVED:
            selectors |= dict.fromkeys(map(_reserved, _RESERVED[entity]))
        else:
            raise PolicyError(f"{path}[{index}]", f"{entity!r} is not one of {', '.join(sorted(ENTITIES))}")
    return Peers(selectors=tuple(selectors), cidrs=tuple(cidrs))


def _reserved(name: str) -> Selector:
    return Selector((Requirement(f"reserved:{name}", "Exists"),))
