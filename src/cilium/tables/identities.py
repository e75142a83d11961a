"""Security identities: the reserved ones, those of label sets, those of CIDRs."""

from __future__ import annotations

from enum import IntEnum

import msgspec

from cilium.tables.types import Identity, IPAddress, IPNetwork, Labels


class Reserved(IntEnum):
    """Identities every node knows (upstream's numbers)."""

    UNKNOWN = 0
    HOST = 1
    WORLD = 2
    UNMANAGED = 3
    HEALTH = 4
    INIT = 5
    REMOTE_NODE = 6
    KUBE_APISERVER = 7
    INGRESS = 8
    WORLD_IPV4 = 9
    WORLD_IPV6 = 10

    @property
    def label(self) -> str:
        return "reserved:" + self.name.lower().replace("_", "-")


MIN_DYNAMIC, MAX_DYNAMIC = 256, 65535
SCOPE_CIDR, SCOPE_REMOTE_NODE = 1 << 24, 2 << 24
"""Upper byte of identities that are allocated on this node, for CIDRs and for other nodes."""


class IdentityRow(msgspec.Struct, frozen=True):
    """Table `identities`, key `id`: every identity this node has to know.

    `source` is reserved, cluster (a CiliumIdentity), cidr (allocated on this node) or remote-node.
    """

    id: Identity
    labels: Labels
    source: str


class JudgedIdentity(msgspec.Struct, frozen=True):
    """Table `judged-identities`, key `id`: identities of this node's own making (CIDRs, nodes) of which the kernel's
    policy maps know what rules say. Writer: features/policy.

    Nobody may be given an identity that is not here: in the policy maps it would be one of those whom no rule names.
    """

    id: Identity


class CIDRIdentity(msgspec.Struct, frozen=True):
    """Table `cidr-identities`, key `prefix`: every CIDR that a policy names. Writer: features/policy.

    `labels` name this CIDR and every other named CIDR that contains it (`cidr:10.0.0.0/8`), and the world of its
    family. The ipcache needs a row for each, the table `identities` too.
    """

    prefix: IPNetwork
    identity: Identity
    labels: Labels


class NodeIdentity(msgspec.Struct, frozen=True):
    """Table `node-identities`, key `identity`: nodes that policies tell apart. Writer: features/ipcache.

    Empty unless policies may select nodes by label or by CIDR. The node itself is among them, as `host`.
    """

    identity: Identity
    node: str
    labels: Labels
    """`reserved:remote-node`, `node:KEY=VALUE`, and the named CIDRs around its addresses (`cidr:10.0.0.0/8`)."""
    addresses: tuple[IPAddress, ...] = ()
    """Where it is met; none for `host`, whose addresses are this node's own affair."""


def is_own(identity: Identity) -> bool:
    """Whether this node has made it: of a CIDR or of a node."""
    return int(identity) >= SCOPE_CIDR
