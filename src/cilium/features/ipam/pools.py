"""Cluster-pool IPAM: which pod CIDR every node gets (run by the operator).

In: CiliumNodes with the CIDRs they hold, the pools. Out: one decision per node. A node keeps what it has as long as it
has it; of two nodes that claim one CIDR the first by name keeps it and the other is told. The lowest free subnet is
handed out, so the same cluster always comes out the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import ip_network

import msgspec

from cilium.features.ipam.rows import NodeCIDRs
from cilium.tables.types import IPNetwork


class Pool(msgspec.Struct, frozen=True):
    """CIDRs of one family, cut into subnets of `mask` bits."""

    cidrs: tuple[IPNetwork, ...]
    mask: int

    @property
    def version(self) -> int:
        return self.cidrs[0].version


class _Subnets:
    """The subnets of one pool. The search for a free one goes on where the last ended."""

    def __init__(self, pool: Pool) -> None:
        self._pool, self._taken, self._hint = pool, set[IPNetwork](), 0

    def covers(self, cidr: IPNetwork) -> bool:
        return cidr.version == self._pool.version and any(cidr.subnet_of(wide) for wide in self._pool.cidrs)  # type: ignore[arg-type]  # versions agree

    def take(self, cidr: IPNetwork) -> bool:
        if (
            any(cidr.overlaps(other) for other in self._taken if other.prefixlen != cidr.prefixlen)
            or cidr in self._taken
        ):
            return False
        self._taken.add(cidr)
        return True

    def free(self) -> IPNetwork | None:
        position = 0
        for wide in self._pool.cidrs:
            count = 1 << (self._pool.mask - wide.prefixlen)
            step = 1 << (wide.max_prefixlen - self._pool.mask)
            for number in range(max(0, self._hint - position), count):
                subnet = ip_network((int(wide.network_address) + number * step, self._pool.mask))
                if self.take(subnet):
                    self._hint = position + number + 1
                    return subnet
            position += count
        return None


def assign(nodes: Iterable[tuple[str, Sequence[IPNetwork]]], pools: Sequence[Pool]) -> list[NodeCIDRs]:
    """Decides for every node at once: what nodes hold is honoured before anything new is handed out."""
    subnets = {pool.version: _Subnets(pool) for pool in pools}
    held: dict[str, list[IPNetwork]] = {}
    errors: dict[str, list[str]] = {}
    for name, cidrs in sorted(nodes, key=lambda pair: (not pair[1], pair[0])):
        held[name], errors[name] = [], []
        for cidr in cidrs:
            pool = subnets.get(cidr.version)
            if pool is None or not pool.covers(cidr):
                held[name].append(cidr)  # a pool that was taken out of the settings: its nodes keep working
            elif pool.take(cidr):
                held[name].append(cidr)
            else:
                errors[name].append(f"pod CIDR {cidr} overlaps that of another node; a new one was assigned")
    decisions = []
    for name, cidrs in held.items():
        for version, pool in subnets.items():
            if any(cidr.version == version for cidr in cidrs):
                continue
            subnet = pool.free()
            if subnet is None:
                errors[name].append(
                    f"no free IPv{version} pod CIDR left in the pool; add a CIDR to clusterPoolIPv{version}PodCIDRList"
                )
            else:
                cidrs.append(subnet)
        decisions.append(NodeCIDRs(node=name, cidrs=tuple(cidrs), error="; ".join(errors[name])))
    return decisions
