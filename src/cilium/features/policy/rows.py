"""Tables that the policy engine owns."""

from __future__ import annotations

from enum import IntEnum

import msgspec
from pyroaring import FrozenBitMap

from cilium.tables.rules import PolicyObject
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

    @property
    def key(self) -> str:
        return f"{self.kind}/{self.namespace}/{self.name}"
