"""The desired content of the policy maps, kept by differences.

In: sides whose rules changed, identities that moved. Out: `PolicyClass` and `PolicyMembers` rows to write, keys to
delete.
"""

from __future__ import annotations

from pyroaring import BitMap, FrozenBitMap

from cilium.features.policy.classes import NOTHING, Classes
from cilium.features.policy.partition import partition
from cilium.features.policy.repository import Repository
from cilium.features.policy.rows import PolicyMapRow, PolicyMembers
from cilium.features.policy.subjects import Policy, Side
from cilium.state.ids import StableIds
from cilium.tables.identities import Reserved
from cilium.tables.types import ClassId, PolicyId

REST = int(Reserved.UNKNOWN)
"""The identity that stands for everyone who is in no group."""


class PolicyMap:
    """Policies by name, and which of their groups have changed since the last flush."""

    def __init__(self, repository: Repository) -> None:
        self._repository = repository
        self._classes = Classes(repository.atom)
        self._ids = StableIds(first=1, last=0xFFFF_FFFF)
        self._policies: dict[bytes, Policy] = {}
        self._unused: dict[bytes, Policy] = {}
        self._fresh: set[Policy] = set()
        """Policies made from the ground up since the last flush: they know every identity already."""
        self._dirty: set[tuple[Policy, ClassId]] = set()

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

    def move(self, identities: BitMap) -> None:
        """Identities came, went or have other labels."""
        policies = [policy for policy in self._policies.values() if policy not in self._fresh]
        for identity in identities if policies else ():
            about = self._repository.about(identity)
            alone = BitMap([identity])
            for policy in policies:
                mine = about & policy.specific
                class_id = self._classes.of(mine | policy.always) if mine else NOTHING
                self._place(policy, alone, class_id)

    def flush(self) -> tuple[list[PolicyMapRow], list[int]]:
        """Rows to write, keys to delete."""
        for policy in self._unused.values():
            self._clear(policy, BitMap.union(*policy.groups.values()) if policy.groups else BitMap())
            del self._policies[policy.name]
            self._ids.free(policy.name)
        members, deletes = self._flush_groups()
        self._unused.clear()
        self._fresh.clear()
        classes, unused = self._classes.flush()
        return [*classes, *members], [*deletes, *unused]

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
            everyone = self._about(specific).union(*policy.groups.values())
            self._fresh.add(policy)
            self._revise(policy, everyone)
            self._add(policy, BitMap([REST]), policy.rest)
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
        self._clear(policy, concerned)
        for indexes, identities in partition(bitmaps):
            mine = BitMap.union(policy.always, *(atoms[index] for index in indexes))
            class_id = self._classes.of(mine)
            if class_id != policy.rest:
                self._add(policy, BitMap(identities), class_id)

    def _about(self, atoms: BitMap) -> BitMap:
        bitmaps = [self._repository.members(number) for number in atoms]
        return BitMap.union(*bitmaps) if bitmaps else BitMap()

    def _place(self, policy: Policy, identities: BitMap, class_id: ClassId) -> None:
        """Into a group only if its class says something else than the class of the rest."""
        wanted = NOTHING if class_id == policy.rest else class_id
        if not identities <= policy.groups.get(wanted, BitMap()):
            self._clear(policy, identities)
            self._add(policy, identities, wanted)

    def _clear(self, policy: Policy, identities: BitMap) -> None:
        """Takes identities out of their groups."""
        for class_id, members in policy.groups.items():
            if not members.isdisjoint(identities):
                members.difference_update(identities)
                self._dirty.add((policy, class_id))

    def _add(self, policy: Policy, identities: BitMap, class_id: ClassId) -> None:
        if not class_id or not identities:
            return
        members = policy.groups.get(class_id)
        if members is None:
            self._classes.use(class_id)
            members = policy.groups[class_id] = BitMap()
        members.update(identities)
        self._dirty.add((policy, class_id))

    def _flush_groups(self) -> tuple[list[PolicyMembers], list[int]]:
        upserts, deletes = [], []
        for policy, class_id in self._dirty:
            members = policy.groups[class_id]
            if members:
                upserts.append(PolicyMembers(policy.number, class_id, FrozenBitMap(members)))
            else:
                del policy.groups[class_id]
                self._classes.use(class_id, -1)
                deletes.append(policy.number << 32 | class_id)
        self._dirty.clear()
        return upserts, deletes
