"""The desired content of the policy maps, kept by differences.

In: policies to build, identities that moved. Out: `PolicyClass` and `PolicyEntry` rows to write, keys to delete.
"""

from __future__ import annotations

from collections.abc import Iterable

from pyroaring import BitMap

from cilium.features.policy.classes import NOTHING, Classes
from cilium.features.policy.partition import partition
from cilium.features.policy.repository import Repository
from cilium.features.policy.rows import PolicyEntry, PolicyMapRow
from cilium.features.policy.subjects import Policy
from cilium.tables.identities import Reserved
from cilium.tables.types import ClassId, Identity

REST = int(Reserved.UNKNOWN)
"""The identity whose entry stands for everyone without one."""


class PolicyMap:
    """Collects what changes between two flushes; the last word on a key counts."""

    def __init__(self, repository: Repository) -> None:
        self._repository = repository
        self._classes = Classes(repository.atom)
        self._upserts: dict[int, PolicyEntry] = {}
        self._deletes: dict[int, None] = {}

    def flush(self) -> tuple[list[PolicyMapRow], list[int]]:
        """Rows to write, keys to delete."""
        classes, unused = self._classes.flush()
        upserts: list[PolicyMapRow] = [*classes, *self._upserts.values()]
        deletes = [*self._deletes, *unused]
        self._upserts, self._deletes = {}, {}
        return upserts, deletes

    def drop(self, policy: Policy) -> None:
        """Nobody has this policy any more."""
        self._assign(policy, list(policy.entries), NOTHING)
        policy.enforced, policy.always, policy.specific, policy.rest = False, BitMap(), BitMap(), NOTHING

    def build(self, policy: Policy) -> bool:
        """The rules of a policy have changed; whether that made it new from the ground up."""
        enforced, always, specific = policy.wanted(self._repository)
        if not enforced:
            self.drop(policy)
            return True
        concerned: BitMap | None = None
        if policy.enforced and always == policy.always:
            concerned = self._about(specific ^ policy.specific)
        policy.enforced, policy.always, policy.specific = True, always, specific
        if concerned is None:
            self._rebuild(policy)
        elif concerned:
            self._revise(policy, concerned)
        return concerned is None

    def move(self, identity: int, policies: Iterable[Policy]) -> None:
        """An identity came, went or has other labels."""
        about = self._repository.about(identity)
        for policy in policies:
            mine = about & policy.specific
            if mine:
                self._assign(policy, [identity], self._classes.of(mine | policy.always))
            elif identity in policy.entries:
                self._assign(policy, [identity], NOTHING)

    # ---------------------------------------------------------------------------------------------------- in parts

    def _rebuild(self, policy: Policy) -> None:
        """Everyone may have moved."""
        policy.rest = self._classes.of(policy.always)
        everyone = self._about(policy.specific) | BitMap(policy.entries)
        everyone.discard(REST)
        self._revise(policy, everyone)
        self._set(policy, REST, policy.rest)

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
