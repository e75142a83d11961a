"""What is asked, and what is answered."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from cilium.tables.kubernetes import NamedPort
from cilium.tables.labels import NAMESPACE
from cilium.tables.names import object_name
from cilium.tables.rules import Action, DirectionRule, PolicyObject, Rule, Tier
from cilium.tables.types import IPNetwork, Labels

PROTOCOLS = {"TCP": 6, "UDP": 17, "SCTP": 132, "ICMP": 1, "ICMPv6": 58}
PROTOCOL_NAMES = {number: name for name, number in PROTOCOLS.items()}


class Direction(StrEnum):
    INGRESS = "ingress"
    EGRESS = "egress"

    @property
    def other(self) -> Direction:
        return Direction.EGRESS if self is Direction.INGRESS else Direction.INGRESS


class Traffic(msgspec.Struct, frozen=True):
    """A protocol number and the destination's port; for ICMP the type."""

    protocol: int
    port: int = 0

    def __str__(self) -> str:
        name = PROTOCOL_NAMES.get(self.protocol, f"protocol {self.protocol}")
        if self.protocol in (1, 58):
            return f"{name} type {self.port}"
        return f"{name} {self.port}" if self.protocol in PROTOCOL_NAMES else name


class Party(msgspec.Struct, frozen=True):
    """One end of a connection, as policies see it."""

    name: str
    """For people: `shop/web`, `10.1.2.3`, `world`."""
    labels: Labels
    """Security labels: of the identity, without those of CIDRs."""
    named_ports: tuple[NamedPort, ...] = ()
    networks: tuple[IPNetwork, ...] = ()
    """Where rules about CIDRs look for it: addresses, or a whole CIDR that is asked about. Empty: it is known by its
    labels only (pods, nodes), or its address is not known."""
    outside: bool = False
    """Not of this cluster."""
    endpoint: bool = True
    """A pod, or what is judged like one."""
    node_labels: Labels | None = None
    """Of a node: those of its Node object (`k8s:key=value`), which nodeSelectors select."""

    @property
    def namespace(self) -> str:
        key = f"k8s:{NAMESPACE}="
        return next((label.removeprefix(key) for label in self.labels if label.startswith(key)), "")


class Lack(StrEnum):
    """Why a rule does not match."""

    DIRECTION = "direction"
    """It is about the other direction."""
    SUBJECT = "subject"
    PEER = "peer"
    PROTOCOL = "protocol"
    PORT = "port"
    ENFORCEMENT = "enforcement"
    """It has a part that this version does not enforce."""


class Miss(msgspec.Struct, frozen=True):
    lack: Lack
    text: str


class Statement(msgspec.Struct, frozen=True):
    """One element of a direction of a rule, with where it stands."""

    policy: PolicyObject
    spec: int
    rule: Rule
    element: DirectionRule

    @property
    def action(self) -> Action:
        return self.element.action

    @property
    def tier(self) -> Tier:
        return self.rule.tier

    @property
    def where(self) -> str:
        """`spec.ingress[0]`, of several specs `specs[1].ingress[0]`."""
        spec = "spec" if len(self.policy.rules) == 1 else f"specs[{self.spec}]"
        name = f" ({self.element.name})" if self.element.name else ""
        return f"{spec}.{self.element.section}[{self.element.index}]{name}"

    @property
    def text(self) -> str:
        return f"{title(self.policy)} {self.where}"


class NearMiss(msgspec.Struct, frozen=True):
    statement: Statement
    misses: tuple[Miss, ...]


class Verdict(StrEnum):
    ALLOWED = "allowed"
    DENIED = "denied"
    AUDIT = "audit"
    """Passes, and is reported: what would deny it only watches."""

    @property
    def passes(self) -> bool:
        return self is not Verdict.DENIED


class Judgement(msgspec.Struct, frozen=True):
    """One direction."""

    direction: Direction
    subject: Party
    peer: Party
    verdict: Verdict
    reason: str
    enforced: bool
    """Policy speaks about this direction of the subject at all."""
    tier: Tier | None = None
    """Where it was decided."""
    deciding: tuple[Statement, ...] = ()
    overruled: tuple[Statement, ...] = ()
    """Match too, and were not asked or not strong enough."""
    closed_by: tuple[PolicyObject, ...] = ()
    """Whose default deny holds for the subject."""
    near: tuple[NearMiss, ...] = ()


class Explanation(msgspec.Struct, frozen=True):
    source: Party
    destination: Party
    traffic: Traffic
    egress: Judgement
    ingress: Judgement

    @property
    def verdict(self) -> Verdict:
        verdicts = (self.egress.verdict, self.ingress.verdict)
        for verdict in (Verdict.DENIED, Verdict.AUDIT):
            if verdict in verdicts:
                return verdict
        return Verdict.ALLOWED


def title(policy: PolicyObject) -> str:
    """`CiliumNetworkPolicy shop/web`."""
    return object_name(policy.kind, policy.namespace, policy.name)
