"""Pod CIDRs of nodes, for clusters in which Kubernetes gives them out.

In: nodes, and the cluster's CIDRs with the size of one node's block, one per family. Out: Node.spec.podCIDR(s). A
block is free again when its node is deleted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from ipaddress import IPv4Network, IPv6Network, ip_network

from kubelab.apiserver.store import Store
from kubelab.controllers import events, objects
from kubelab.controllers.controller import Controller, Key, Mapper
from kubelab.controllers.index import PodIndex
from kubelab.controllers.objects import Object

Network = IPv4Network | IPv6Network
RETRY_EXHAUSTED = 30.0


@dataclass(frozen=True)
class ClusterCIDR:
    """A pool and the prefix length of one node's block. Raises ValueError if no block fits."""

    pool: Network
    mask_size: int

    def __post_init__(self) -> None:
        if not self.pool.prefixlen <= self.mask_size <= self.pool.max_prefixlen:
            raise ValueError(f"a node's /{self.mask_size} does not fit into the cluster CIDR {self.pool}")

    def blocks(self) -> Iterator[Network]:
        yield from self.pool.subnets(new_prefix=self.mask_size)


def first_free(cidr: ClusterCIDR, taken: Iterable[Network]) -> Network | None:
    """The first block that overlaps none of `taken`, which may have other sizes."""
    occupied = [network for network in taken if network.version == cidr.pool.version]
    exact = {network for network in occupied if network.prefixlen == cidr.mask_size}
    others = [network for network in occupied if network.prefixlen != cidr.mask_size]
    for block in cidr.blocks():
        if block not in exact and not any(block.overlaps(other) for other in others):
            return block
    return None


def pod_cidrs(node: Object) -> list[Network]:
    return [ip_network(text) for text in (node.get("spec") or {}).get("podCIDRs") or ()]


class NodeIpamController(Controller):
    name = "node-ipam-controller"

    def __init__(
        self, store: Store, *, pods: PodIndex, now: Callable[[], datetime], cidrs: tuple[ClusterCIDR, ...]
    ) -> None:
        super().__init__(store, pods=pods, now=now)
        self._cidrs = cidrs

    def watches(self) -> Mapping[str, Mapper]:
        return {"nodes": self._waiting}

    def _waiting(self, node: Object) -> Iterable[Key]:
        """The node itself; a deleted one frees its block for those without."""
        yield objects.key_of(node)
        if self.store.peek("nodes", node["metadata"]["name"]) is None:
            yield from (objects.key_of(other) for other in self.store.peek_all("nodes") if not pod_cidrs(other))

    async def reconcile(self, key: Key) -> float | None:
        node = self.store.peek("nodes", key[1])
        if node is None or objects.is_deleting(node) or pod_cidrs(node):
            return None
        taken = [network for other in self.store.peek_all("nodes") for network in pod_cidrs(other)]
        blocks = []
        for cidr in self._cidrs:
            block = first_free(cidr, taken)
            if block is None:
                await self._exhausted(node, cidr)
                return RETRY_EXHAUSTED
            blocks.append(str(block))
        patch = {"spec": {"podCIDR": blocks[0], "podCIDRs": blocks}}
        await self.store.patch("nodes", key[1], patch)
        return None

    async def _exhausted(self, node: Object, cidr: ClusterCIDR) -> None:
        await events.record(
            self.store,
            node,
            kind="Warning",
            reason="CIDRNotAvailable",
            message=f"every /{cidr.mask_size} of the cluster CIDR {cidr.pool} is taken; delete nodes or enlarge it",
            component=self.name,
            now=self.now(),
        )
