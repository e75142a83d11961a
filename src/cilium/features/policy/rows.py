"""Tables that the policy engine owns."""

from __future__ import annotations

from enum import IntEnum, StrEnum

import msgspec
from pyroaring import FrozenBitMap

from cilium.tables.rules import PolicyObject, Rule
from cilium.tables.types import ClassId, PolicyId


class Match(IntEnum):
    """How specific the deciding rule is (upstream's policy_match_type)."""

    L3_ONLY = 1
    L3_L4 = 2
    L4_ONLY = 3
    ALL = 4
    L3_PROTO = 5
    PROTO_ONLY = 6


class Verdict(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """What a class says about the traffic under one prefix of (protocol, port).

    `prefix` counts bits: 0 is any traffic, 8 one protocol, 8 + n one protocol and the first n bits of the port.
    """

    prefix: int
    protocol: int
    port: int
    cookie: int
    deny: bool
    match: int
    audit: bool = False
    """Denied only if what is in audit mode were enforced: reported, not dropped."""
    default: bool = False
    """No rule denies it, default deny does. Such a row stands where a wider prefix says something else."""


class PolicyClass(msgspec.Struct, frozen=True, gc=False):
    """Desired table `policy-map`, key `id`: the rows of one class in cilium_policy_class. Immutable: other verdicts are
    another class."""

    id: ClassId
    verdicts: tuple[Verdict, ...]

    @property
    def key(self) -> int:
        return self.id


class PolicyMembers(msgspec.Struct, frozen=True, gc=False):
    """Desired table `policy-map`, key `policy << 32 | class`: the rows of cilium_policy that give these identities this
    class. An identity is in at most one class of a policy; 0 stands for everyone who is in none.

    Classes and members share a table because they are written in one round, classes first.
    """

    policy: PolicyId
    class_id: ClassId
    identities: FrozenBitMap

    @property
    def key(self) -> int:
        return self.policy << 32 | self.class_id


PolicyMapRow = PolicyClass | PolicyMembers


def standing(policy: PolicyObject) -> str:
    """What of an object is enforced while its content is invalid, in words; empty if it is valid."""
    if not policy.error:
        return ""
    if policy.enforced:
        return f"generation {policy.enforced}, the last valid one, stays enforced"
    return "whom it selects is closed: no valid generation of it is known" if policy.rules else "nothing is enforced"


class PolicyStatus(msgspec.Struct, frozen=True):
    """Table `policy-status`, key `kind/namespace/name`: what became of one policy object on this node."""

    kind: str
    namespace: str
    name: str
    generation: int
    """Of the object as it is; see `enforced`."""
    valid: bool
    error: str
    revision: int
    """Policy revision from which on the kernel enforces this generation."""
    uid: str = ""
    enforced: int = 0
    """The generation of which the rules are; 0: of none."""
    warnings: tuple[str, ...] = ()
    unenforced: tuple[str, ...] = ()
    """Paths of the parts this version parses and does not enforce."""
    audit: bool = False
    """In audit mode, by itself or by its namespace."""

    @property
    def key(self) -> str:
        return f"{self.kind}/{self.namespace}/{self.name}"


class TrialState(StrEnum):
    TRYING = "trying"
    KEPT = "kept"
    ROLLED_BACK = "rolled-back"


class HostRules(msgspec.Struct, frozen=True):
    """What one object says about this node; no rules: nothing.

    Rules stand at their position in the object; at the others, and at those of rules that do not select this node, is
    NOTHING (node_rules.py).
    """

    rules: tuple[Rule, ...] = ()
    audit: bool = False
    """Nothing is dropped for its sake: the object is in audit mode, or the whole node is. To leave that is a change."""


class HostPolicyTrial(msgspec.Struct, frozen=True):
    """Table `host-policy-trials`, key `kind/namespace/name`: how far the rules of one object that select this node
    may be trusted. Writer: trials.py.

    An object without a row is not enforced on the node.
    """

    kind: str
    namespace: str
    name: str
    generation: int
    """Of the object that was tried last."""
    state: TrialState
    tried: HostRules
    """Of that generation; nothing: the object is gone, or selects this node no more."""
    kept: HostRules
    """With which the node last kept its contact; what a roll-back restores."""
    uid: str = ""

    @property
    def key(self) -> str:
        return f"{self.kind}/{self.namespace}/{self.name}"

    @property
    def in_force(self) -> HostRules:
        return self.kept if self.state is TrialState.ROLLED_BACK else self.tried
