"""Policy rules as every source delivers them and the policy engine compiles them.

CiliumNetworkPolicy, CiliumClusterwideNetworkPolicy, NetworkPolicy and ClusterNetworkPolicy all become these rows at the
edge (sources/kubernetes/policies), with namespaces, entities and defaults already resolved into plain selectors.
"""

from __future__ import annotations

from enum import IntEnum

import msgspec

from cilium.tables.types import IPNetwork, Labels

DEFAULT_DENY = 0
"""Cookie of what no rule lets pass where policies close the direction."""
NO_DEFAULT_DENY = 1
"""Cookie of the rule that nobody wrote: policies apply, and none of them switches default deny on."""
AUDITED_DEFAULT_DENY = 2
"""Cookie of what default deny would refuse if the policies in audit mode were enforced."""
FIRST_COOKIE = 256
"""Of rules that somebody wrote."""


class Tier(IntEnum):
    """Where a rule stands: the lowest number is asked first (upstream's numbers)."""

    ADMIN = 100
    """ClusterNetworkPolicies of tier Admin."""
    NORMAL = 200
    """NetworkPolicy, CiliumNetworkPolicy, CiliumClusterwideNetworkPolicy: deny beats allow, default deny ends it."""
    BASELINE = 250
    """ClusterNetworkPolicies of tier Baseline: asked where no policy of tier NORMAL closes the direction."""


class Action(IntEnum):
    """What a rule does with the traffic it is about."""

    ALLOW = 0
    DENY = 1
    PASS = 2
    """Skips the rest of its tier."""


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
    world_only: bool = False
    """Only what is outside of the cluster, even where CIDRs match nodes: an entity, written as a CIDR."""


class PortRange(msgspec.Struct, frozen=True):
    """Ports `first` to `last`, both included; a named port has `name`, and the range says nothing.

    `protocol` is an IP protocol number, 0 for ANY (TCP, UDP, SCTP). ICMP types are ports of protocol 1 or 58.
    """

    protocol: int
    first: int = 0
    last: int = 65535
    name: str = ""


class ServicePeer(msgspec.Struct, frozen=True):
    """Services whose backends are meant: the one with this name, or those whose labels `selector` selects.

    `namespace` empty: of every namespace.
    """

    namespace: str = ""
    name: str = ""
    selector: Selector | None = None
    path: str = ""
    """Where the object says so."""


class CIDRGroupPeer(msgspec.Struct, frozen=True):
    """The CIDRs of one CiliumCIDRGroup, or of those whose labels `selector` selects, without `excepts`."""

    name: str = ""
    selector: Selector | None = None
    excepts: tuple[IPNetwork, ...] = ()
    path: str = ""
    """Where the object says so."""


class CIDRGroup(msgspec.Struct, frozen=True):
    """Table `cidr-groups`, key `name`: cilium.io/v2 CiliumCIDRGroup.

    An invalid update keeps the CIDRs of the last valid generation and carries the error.
    """

    name: str
    uid: str
    labels: Labels = ()
    """`k8s:key=value`, sorted."""
    cidrs: tuple[IPNetwork, ...] = ()
    error: str = ""
    """Field path and reason; empty if the object is valid."""


class Peers(msgspec.Struct, frozen=True):
    """The L3 half of a rule: OR over all members. `wildcard`: any peer at all, also the world.

    `services` and `cidr_groups` are references to other objects. In `resolved-policies` there are none left: they have
    become selectors and CIDRs.
    """

    wildcard: bool = False
    selectors: tuple[Selector, ...] = ()
    cidrs: tuple[CIDRPeer, ...] = ()
    services: tuple[ServicePeer, ...] = ()
    cidr_groups: tuple[CIDRGroupPeer, ...] = ()


class DirectionRule(msgspec.Struct, frozen=True):
    """One element of ingress, egress, ingressDeny or egressDeny. Peers and ports are ANDed.

    `ports` None: any protocol and port. Empty peers (not wildcard, no members) select nobody.
    """

    peers: Peers
    ports: tuple[PortRange, ...] | None = None
    action: Action = Action.ALLOW
    index: int = 0
    """Position in its list, for people; in an ordered tier also its rank in the object."""
    section: str = ""
    """ingress, ingressDeny, egress or egressDeny."""
    name: str = ""
    """Of a rule that has one (ClusterNetworkPolicy)."""
    unenforced: tuple[str, ...] = ()
    """Paths of the parts that a later version implements (L7 rules, FQDNs, authentication), or that need a setting. An
    allow rule opens nothing through them; a deny rule that cannot tell its peers denies every peer."""


class Rule(msgspec.Struct, frozen=True):
    """One `spec` of a policy object."""

    subject: Selector
    ingress: tuple[DirectionRule, ...] = ()
    egress: tuple[DirectionRule, ...] = ()
    default_deny_ingress: bool = False
    default_deny_egress: bool = False
    node_subject: bool = False
    """Selects nodes (nodeSelector of a CCNP), not pods; enforced with the host firewall only."""
    labels: tuple[str, ...] = ()
    description: str = ""
    tier: Tier = Tier.NORMAL
    priority: int = 0
    """Inside of an ordered tier (Admin, Baseline): the lowest is asked first. Meaningless in NORMAL."""
    log: str = ""
    """`log.value`: goes into every verdict of these rules."""


class NodeReport(msgspec.Struct, frozen=True):
    """What one node says of a policy in its status: `status.nodes.<node>`."""

    revision: int
    """The generation of the object that the node enforces."""
    enforcing: bool
    """The policy selects an endpoint there."""
    ok: bool
    error: str = ""


class PolicyReport(msgspec.Struct, frozen=True):
    """The status of a policy object: condition `Valid` and nodes."""

    valid: str = ""
    """True, False, or empty: nobody has said so yet."""
    message: str = ""
    since: str = ""
    """lastTransitionTime."""
    applied: str = ""
    """`status.applied`, which printers show: nodes that enforce the present generation / nodes that are concerned."""
    nodes: dict[str, NodeReport] = {}


class PolicyObject(msgspec.Struct, frozen=True):
    """One object of the API, valid or not. Key `kind/namespace/name`.

    Table `policies`: as parsed (writer: sources/kubernetes). Table `resolved-policies`: the same with references to
    other objects resolved (writer: features/policy); that is what is compiled.

    An invalid update keeps the rules of the last valid generation and carries the error (field path and reason).
    """

    kind: str
    """CiliumNetworkPolicy, CiliumClusterwideNetworkPolicy, NetworkPolicy or ClusterNetworkPolicy."""
    namespace: str
    name: str
    uid: str
    generation: int
    rules: tuple[Rule, ...]
    error: str = ""
    """Field path and reason; empty if the object is valid."""
    warnings: tuple[str, ...] = ()
    enforced: int = 0
    """The generation whose rules these are; 0: none, the rules of an invalid object close whom it selects."""
    report: PolicyReport | None = None
    """What its status says; read by the operator only."""
    audit: bool = False
    """Nothing is dropped for its sake: what it would have dropped is reported as AUDIT. Nor does it open anything that
    other policies close."""

    @property
    def key(self) -> str:
        return f"{self.kind}/{self.namespace}/{self.name}"


class SelectorUse(msgspec.Struct, frozen=True):
    """A selector of peers in the rules of this node, and whom it selects at the moment."""

    selector: Selector
    policies: tuple[str, ...]
    """Kind and name of those whose rules it stands in."""
    users: int
    """Rules."""
    identities: tuple[int, ...]


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
    log: str = ""
    """`log.value` of its rule."""
    action: Action = Action.ALLOW
    rule: str = ""
    """Name of the element, if it has one."""
    revision: int = 0
    """Policy revision from which on the rule stands as it does."""

    @property
    def policy(self) -> str:
        """Key of its object."""
        return f"{self.kind}/{self.namespace}/{self.name}"

    @property
    def place(self) -> str:
        """`spec.ingress[0]`, `spec.ingress[0] (its name)`; of default deny, and of the built-in references, nothing."""
        if not self.cookie or not self.section:
            return ""
        name = f" ({self.rule})" if self.rule else ""
        return f"{f'specs[{self.spec}]' if self.spec else 'spec'}.{self.section}[{self.index}]{name}"
