"""Policy rules as every source delivers them and the policy engine compiles them.

CiliumNetworkPolicy, CiliumClusterwideNetworkPolicy and NetworkPolicy all become these rows at the edge
(sources/kubernetes/policies), with namespaces, entities and defaults already resolved into plain selectors.
"""

from __future__ import annotations

import msgspec

from cilium.tables.types import IPNetwork


class Requirement(msgspec.Struct, frozen=True):
    """One term of a label selector; terms are ANDed. `operator` is In, NotIn, Exists or DoesNotExist."""

    key: str
    """With source prefix: `k8s:app`, `reserved:host`, or `any:app` for every source."""
    operator: str
    values: tuple[str, ...] = ()


class Selector(msgspec.Struct, frozen=True):
    """Selects identities by label. No requirements: every endpoint."""

    requirements: tuple[Requirement, ...] = ()


class CIDRPeer(msgspec.Struct, frozen=True):
    cidr: IPNetwork
    excepts: tuple[IPNetwork, ...] = ()


class PortRange(msgspec.Struct, frozen=True):
    """Ports `first` to `last`, both included; a named port has `name`, and the range says nothing.

    `protocol` is an IP protocol number, 0 for ANY (TCP, UDP, SCTP). ICMP types are ports of protocol 1 or 58.
    """

    protocol: int
    first: int = 0
    last: int = 65535
    name: str = ""


class Peers(msgspec.Struct, frozen=True):
    """The L3 half of a rule: OR over all members. `wildcard`: any peer at all, also the world."""

    wildcard: bool = False
    selectors: tuple[Selector, ...] = ()
    cidrs: tuple[CIDRPeer, ...] = ()


class DirectionRule(msgspec.Struct, frozen=True):
    """One element of ingress, egress, ingressDeny or egressDeny. Peers and ports are ANDed.

    `ports` None: any protocol and port. Empty peers (not wildcard, no members) select nobody.
    """

    peers: Peers
    ports: tuple[PortRange, ...] | None = None
    deny: bool = False
    index: int = 0
    """Position in its list, for people."""
    section: str = ""
    """ingress, ingressDeny, egress or egressDeny."""
    unenforced: tuple[str, ...] = ()
    """Paths of the parts that a later version implements (L7 rules, FQDNs, authentication). An allow rule opens nothing
    through them; a deny rule that cannot tell its peers denies every peer."""


class Rule(msgspec.Struct, frozen=True):
    """One `spec` of a policy object."""

    subject: Selector
    ingress: tuple[DirectionRule, ...] = ()
    egress: tuple[DirectionRule, ...] = ()
    default_deny_ingress: bool = False
    default_deny_egress: bool = False
    node_subject: bool = False
    """Selects nodes (nodeSelector of a CCNP), not pods: not enforced by this version, selects nothing."""
    labels: tuple[str, ...] = ()
    description: str = ""


class PolicyObject(msgspec.Struct, frozen=True):
    """Table `policies`, key `kind/namespace/name`: one object of the API, valid or not.

    An invalid update keeps the rules of the last valid generation and carries the error (field path and reason).
    """

    kind: str
    """CiliumNetworkPolicy, CiliumClusterwideNetworkPolicy or NetworkPolicy."""
    namespace: str
    name: str
    uid: str
    generation: int
    rules: tuple[Rule, ...]
    error: str = ""
    """Field path and reason; empty if the object is valid."""
    warnings: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        return f"{self.kind}/{self.namespace}/{self.name}"


class RuleReference(msgspec.Struct, frozen=True):
    """Table `rule-references`, key `cookie`: what a cookie in an event or verdict names. Writer: features/policy.

    Rows outlive their rule for a while, so that flows of the recent past still find their name.
    """

    cookie: int
    kind: str
    namespace: str
    name: str
    section: str
    """ingress, ingressDeny, egress or egressDeny; empty for the built-in references."""
    index: int
    spec: int = 0
    """Position of the rule in `specs`; 0 for `spec`."""
    labels: tuple[str, ...] = ()
    deleted: bool = False
