"""The desired content of the policy maps, kept by differences.

In: sides whose rules changed, identities that moved. Out: `PolicyClass` and `PolicyEntry` rows to write, keys to
delete.
"""

from __future__ import annotations

from collections.abc import Iterable

from pyroaring import BitMap

from cilium.features.policy.classes import NOTHING, Classes
from cilium.features.policy.ids import StableIds
from cilium.features.policy.partition import partition
from cilium.features.policy.repository import Repository
from cilium.features.policy.rows import PolicyEntry, PolicyMapRow
from cilium.features.policy.subjects import Policy, Side
from cilium.tables.identities import Reserved
from cilium.tables.types import ClassId, Identity, PolicyId

REST = int(Reserved.UNKNOWN)
"""The identity whose entry stands for everyone without one."""


class PolicyMap:
    """Policies by name, and what changes between two flushes; the last word on a key counts."""

    def __init__(self, repository: Repository) -> None:
        self._repository = repository
        self._classes = Classes(repository.atom)
        self._ids = StableIds(first=1, last=0xFFFF_FFFF)
        self._policies: dict[bytes, Policy] = {}
        self._unused: dict[bytes, Policy] = {}
        self._fresh: set[Policy] = set()
        """Policies made from the ground up since the last flush: they know every identity already."""
        self._upserts: dict[int, PolicyEntry] = {}
        self._deletes: dict[int, None] = {}

    def settle(self, side: Side) -> None:
        """The rules of a side have changed: gives it the policy that is theirs, and builds that."""
        name = side.name(self._repository)
        policy = None if name is None else self._policies.get(name)
        if name is not None and policy is None:
            policy = self._policies[name] = Policy(PolicyId(self._ids.get(name)), name)
        self._give(side, policy)
        if policy is not None:
            self._build(policy, side)

    def leave(self, side: Side) -> None:
        """The side is gone."""
        self._give(side, None)

    def move(self, identity: int) -> None:
        """An identity came, went or has other labels."""
        policies = [policy for policy in self._policies.values() if policy not in self._fresh]
        about = self._repository.about(identity) if policies else BitMap()
        for policy in policies:
            mine = about & policy.specific
            if mine:
                self._assign(policy, [identity], self._classes.of(mine | policy.always))
            elif identity in policy.entries:
                self._assign(policy, [identity], NOTHING)

    def flush(self) -> tuple[list[PolicyMapRow], list[int]]:
        """Rows to write, keys to delete."""
        for policy in self._unused.values():
            self._assign(policy, list(policy.entries), NOTHING)
            del self._policies[policy.name]
            self._ids.free(policy.name)
        self._unused.clear()
        self._fresh.clear()
        classes, unused = self._classes.flush()
        upserts: list[PolicyMapRow] = [*classes, *self._upserts.values()]
        deletes = [*self._deletes, *unused]
        self._upserts, self._deletes = {}, {}
        return upserts, deletes

    # ---------------------------------------------------------------------------------------------------- in parts

    def _give(self, side: Side, policy: Policy | None) -> None:
        old, side.policy = side.policy, policy
        if policy is not None:
            policy.users += 1
            self._unused.pop(policy.name, None)
        if old is not None:
            old.users -= 1
            if not old.users:
                self._unused[old.name] = old

    def _build(self, policy: Policy, side: Side) -> None:
        """Sides with one policy have the same atoms: the second finds nothing to do."""
        always, specific = side.atoms(self._repository)
        ground = not policy.always and not policy.specific
        changed = specific ^ policy.specific
        wildcards_changed = always != policy.always
        policy.always, policy.specific = always, specific
        if ground or wildcards_changed:
            policy.rest = self._classes.of(always)
            everyone = self._about(specific) | BitMap(policy.entries)
            everyone.discard(REST)
            self._fresh.add(policy)
            self._revise(policy, everyone)
            self._set(policy, REST, policy.rest)
        elif changed:
            self._revise(policy, self._about(changed))

    def _revise(self, policy: Policy, concerned: BitMap) -> None:
        """Finds new classes for these identities."""
        shared: dict[tuple[int, ...], BitMap] = {}
        for number in policy.specific:
            atom = self._repository.atom(number)
            shared.setdefault(atom.selectors, BitMap()).add(number)
        atoms, bitmaps = [], []
        for numbers in shared.values():
            members = self._repository.members(numbers[0])
            if not members.isdisjoint(concerned):
                atoms.append(numbers)
                bitmaps.append(members & concerned)
        left = concerned
        for indexes, identities in partition(bitmaps):
            mine = BitMap.union(policy.always, *(atoms[index] for index in indexes))
            self._assign(policy, identities, self._classes.of(mine))
            left = left - BitMap(identities)
        self._assign(policy, left, NOTHING)

    def _about(self, atoms: BitMap) -> BitMap:
        bitmaps = [self._repository.members(number) for number in atoms]
        return BitMap.union(*bitmaps) if bitmaps else BitMap()

    def _assign(self, policy: Policy, identities: Iterable[int], class_id: ClassId) -> None:
        """An entry only where it says something else than the entry for the rest."""
        wanted = NOTHING if class_id == policy.rest else class_id
        for identity in identities:
            self._set(policy, identity, wanted)

    def _set(self, policy: Policy, identity: int, class_id: ClassId) -> None:
        entries = policy.entries
        old = entries.get(identity, NOTHING)
        if old == class_id:
            return
        self._classes.use(old, -1)
        self._classes.use(class_id)
        key = policy.number << 32 | identity
        if class_id:
            entries[identity] = class_id
            self._deletes.pop(key, None)
            self._upserts[key] = PolicyEntry(policy.number, Identity(identity), class_id)
        else:
            del entries[identity]
            self._upserts.pop(key, None)
            self._deletes[key] = None
