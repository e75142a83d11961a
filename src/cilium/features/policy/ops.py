"""Writes `policy-map` into cilium_policy and cilium_policy_class.

In: classes and their members, in one round. Out: map elements; an error per row that is not wholly written.

A mirror says what the kernel has, so only differences are written. Nothing is let through by half of a change:
- classes are written before the entries that name them, and no entry names an incomplete class;
- the entry for everyone else (identity 0) is written after all other entries of its policy, and not while one is
  missing: that one might deny; for the same reason an entry that has to change and cannot is not deleted;
- what the datapath may still look at is deleted later, by `sweep`: policies that an endpoint still has, classes that
  an entry still names.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import structlog
from pyroaring import BitMap

from cilium.datapath.errors import DatapathError
from cilium.datapath.maps import Array, BpfMap, MapWriteError
from cilium.datapath.runtime import Epoch
from cilium.features.policy.encode import class_rows, entry_rows, groups_of, whole
from cilium.features.policy.rows import PolicyClass, PolicyMapRow, PolicyMembers
from cilium.state.reconciler import Errors
from cilium.tables.identities import Reserved

log = structlog.get_logger("policy")

SWEEP_INTERVAL = 0.1
"""Seconds between two looks at what waits for deletion, while something does."""
REST = BitMap([int(Reserved.UNKNOWN)])
NOBODY = BitMap()

Failures = dict[int, Exception | str]
Groups = dict[int, dict[int, BitMap]]
"""Identities by policy and class."""


class PolicyMapOps:
    """Operations of the `policy-map` reconciler (order: updates first). `wanted` says which policies endpoints are to
    have; `endpoints` is cilium_lxc, which says which they do have."""

    def __init__(
        self, *, entries: BpfMap, classes: BpfMap, endpoints: BpfMap, epoch: Epoch, wanted: Callable[[], set[int]]
    ) -> None:
        self._entries, self._classes, self._endpoints = entries, classes, endpoints
        self._epoch, self._wanted = epoch, wanted
        self._desired: Groups = {}
        self._desired_classes: dict[int, PolicyClass] = {}
        self._kernel: Groups = {}
        self._kernel_classes: dict[int, PolicyClass | None] = {}
        """None: not known in full, left by another life or by a failed write."""
        self._loaded = False
        self._changed = False
        self._work = asyncio.Event()

    # -------------------------------------------------------------------------------------------------- operations

    def update(self, rows: Sequence[PolicyMapRow]) -> Errors:
        self._load()
        classes = [row for row in rows if isinstance(row, PolicyClass)]
        members = [row for row in rows if isinstance(row, PolicyMembers)]
        errors = self._write_classes(classes)
        for row in members:
            self._desired.setdefault(row.policy, {})[row.class_id] = BitMap(row.identities)
        policies = {row.policy for row in members}
        reasons = self._settle(policies)
        for row in members:
            if self._missing(row.policy, row.class_id):
                errors[row.key] = reasons.get(row.key, f"waits for other entries of policy {row.policy}")
        self._judge_anew()
        self._work.set()
        return errors

    def delete(self, rows: Sequence[PolicyMapRow]) -> Errors:
        self._load()
        policies = set()
        for row in rows:
            if isinstance(row, PolicyClass):
                self._desired_classes.pop(row.id, None)
            else:
                policies.add(row.policy)
                self._desired.get(row.policy, {}).pop(row.class_id, None)
                if not self._desired.get(row.policy):
                    self._desired.pop(row.policy, None)
        self._settle(policies & self._desired.keys())
        self._delete_policies(policies - self._desired.keys())
        self._judge_anew()
        self._work.set()
        return {}

    def prune(self, rows: Sequence[PolicyMapRow]) -> None:
        """What is in the maps and ought not to be, whoever left it there; and what ought to be there is seen anew."""
        self._desired, self._desired_classes, self._loaded = {}, {}, False
        self._load()
        self._write_classes([row for row in rows if isinstance(row, PolicyClass)])
        for row in rows:
            if isinstance(row, PolicyMembers):
                self._desired.setdefault(row.policy, {})[row.class_id] = BitMap(row.identities)
        self._settle(self._desired.keys())
        self._delete_policies(self._kernel.keys() - self._desired.keys())
        self._judge_anew()
        self._work.set()

    # ------------------------------------------------------------------------------------------------------- sweep

    async def sweep(self) -> None:
        """The task: deletes what had to wait. The interval also lets packets pass that are between two lookups."""
        while True:
            await self._work.wait()
            await asyncio.sleep(SWEEP_INTERVAL)
            self._work.clear()
            try:
                swept = self.sweep_once()
            except DatapathError as error:  # what is left over closes nothing and opens nothing
                log.warning("not swept, will be retried", error=str(error))
                swept = False
            if not swept:
                self._work.set()

    def sweep_once(self) -> bool:
        """Deletes what the datapath does not look at any more; whether nothing is left to wait."""
        self._delete_policies(self._kernel.keys() - self._desired.keys())
        named = {class_id for groups in self._kernel.values() for class_id in groups}
        self._delete_classes(self._kernel_classes.keys() - self._desired_classes.keys() - named)
        self._judge_anew()
        waiting = self._kernel_classes.keys() - self._desired_classes.keys() - named
        return not waiting and self._kernel.keys() <= self._desired.keys()

    def present(self) -> dict[int, tuple[int, int]]:
        """(ingress, egress) policies that endpoints have in the kernel, by id."""
        _, rows = self._endpoints.dump()
        columns = (rows[name].tolist() for name in ("id", "ingress_policy", "egress_policy"))
        return {number: (ingress, egress) for number, ingress, egress in zip(*columns, strict=True)}

    def _held(self) -> set[int]:
        """Policies that an endpoint has in the kernel and is about to lose."""
        _, endpoints = self._endpoints.dump()
        present = np.union1d(endpoints["ingress_policy"], endpoints["egress_policy"])
        return set(present.tolist()) - self._wanted()

    # ----------------------------------------------------------------------------------------------------- entries

    def _settle(self, policies: Iterable[int]) -> Failures:
        """Makes the kernel's groups of these policies the desired ones; reasons by row key for what is missing."""
        policies = list(policies)
        reasons = self._write(policies, NOBODY)
        reasons |= self._write([p for p in policies if self._missing_of(p) <= REST], REST)
        self._delete(
            (policy, class_id, stale)
            for policy in policies
            for class_id, members in self._kernel.get(policy, {}).items()
            if (stale := members - self._desired[policy].get(class_id, NOBODY) - self._missing_of(policy))
        )
        return reasons

    def _write(self, policies: Iterable[int], only: BitMap) -> Failures:
        """Entries of one half: everyone but the rest (`only` empty), or the rest."""
        reasons: Failures = {}
        groups = []
        for policy in policies:
            for class_id in self._desired[policy]:
                missing = self._missing(policy, class_id)
                missing = missing & only if only else missing - REST
                if missing and self._kernel_classes.get(class_id) is None:
                    reasons[policy << 32 | class_id] = f"class {class_id} is not complete in cilium_policy_class"
                elif missing:
                    groups.append((policy, class_id, missing))
        keys, values = entry_rows(groups)
        failures = self._update(self._entries, keys, values)
        for index, error in failures.items():
            reasons[int(keys["policy"][index]) << 32 | int(values[index])] = error
        failed = groups_of(keys[list(failures)], values[list(failures)])
        for policy, class_id, identities in groups:
            self._moved(policy, class_id, identities - failed.get(policy, {}).get(class_id, NOBODY))
        return reasons

    def _moved(self, policy: int, class_id: int, identities: BitMap) -> None:
        """The kernel has given these identities this class."""
        if not identities:
            return
        groups = self._kernel.setdefault(policy, {})
        for other in [other for other, members in groups.items() if not members.isdisjoint(identities)]:
            groups[other] = groups[other] - identities
            if not groups[other]:
                del groups[other]
        groups[class_id] = groups.get(class_id, NOBODY) | identities

    def _missing(self, policy: int, class_id: int) -> BitMap:
        """Whom the kernel has not given this class yet."""
        return self._desired[policy][class_id] - self._kernel.get(policy, {}).get(class_id, NOBODY)

    def _missing_of(self, policy: int) -> BitMap:
        """The same for all classes of a policy."""
        missing = [self._missing(policy, class_id) for class_id in self._desired[policy]]
        return NOBODY.union(*missing)

    def _delete_policies(self, policies: Iterable[int]) -> None:
        """All entries, unless an endpoint still has the policy."""
        present = [policy for policy in policies if policy in self._kernel]
        held = self._held() if present else set()
        free = [policy for policy in present if policy not in held]
        self._delete((policy, class_id, all_) for policy in free for class_id, all_ in self._kernel[policy].items())

    def _delete(self, groups: Iterable[tuple[int, int, BitMap]]) -> None:
        """Entries that are not wanted; what fails is tried again by the sweep or the next prune."""
        groups = list(groups)
        keys, values = entry_rows(groups)
        failures = self._remove(self._entries, keys)
        failed = groups_of(keys[failures], values[failures])
        for policy, class_id, identities in groups:
            left = self._kernel[policy].pop(class_id) - identities | failed.get(policy, {}).get(class_id, NOBODY)
            if left:
                self._kernel[policy][class_id] = left
            if not self._kernel[policy]:
                del self._kernel[policy]

    # ----------------------------------------------------------------------------------------------------- classes

    def _write_classes(self, rows: Sequence[PolicyClass]) -> Failures:
        """A class is whole or an error."""
        self._recognise([row for row in rows if row.id in self._kernel_classes])
        new = [row for row in rows if self._kernel_classes.get(row.id) != row]
        keys, values = class_rows(new)
        failures = self._update(self._classes, keys, values)
        errors: Failures = {int(keys["class"][index]): error for index, error in failures.items()}
        self._desired_classes |= {row.id: row for row in rows}
        self._kernel_classes |= {row.id: None if row.id in errors else row for row in new}
        return errors

    def _recognise(self, rows: Sequence[PolicyClass]) -> None:
        """Numbers that the kernel knows: the same class from another life, a half-written one, or another's."""
        rows = [row for row in rows if self._kernel_classes[row.id] != row]
        if not rows:
            return
        present_keys, present_values = self._classes.dump()
        keys, values = class_rows(rows)
        mine, wanted = present_keys[np.isin(present_keys["class"], keys["class"])], set(whole(keys))
        self._remove(self._classes, mine[[index for index, key in enumerate(whole(mine)) if key not in wanted]])
        present = set(whole(present_keys, present_values))
        different = {
            int(number)
            for number, element in zip(keys["class"], whole(keys, values), strict=True)
            if element not in present
        }
        self._kernel_classes |= {row.id: None if row.id in different else row for row in rows}

    def _delete_classes(self, numbers: set[int]) -> None:
        known = [row for number in numbers if (row := self._kernel_classes[number]) is not None]
        keys, _ = class_rows(known)
        unknown = [number for number in numbers if self._kernel_classes[number] is None]
        if unknown:
            present, _ = self._classes.dump()
            keys = np.concatenate([keys, present[np.isin(present["class"], unknown)]])
        left = set(keys["class"][self._remove(self._classes, keys)].tolist())
        for number in numbers - left:
            del self._kernel_classes[number]

    # -------------------------------------------------------------------------------------------------- the kernel

    def _load(self) -> None:
        """The mirror begins with what is there."""
        if self._loaded:
            return
        self._loaded = True
        self._kernel = groups_of(*self._entries.dump())
        keys, _ = self._classes.dump()
        self._kernel_classes = dict.fromkeys(np.unique(keys["class"]).tolist())

    def _update(self, port: BpfMap, keys: Array, values: Array) -> dict[int, Exception]:
        """Errors by index."""
        if not len(keys):
            return {}
        self._changed = True
        try:
            port.update(keys, values)
        except MapWriteError as error:
            return dict(error.failures)
        return {}

    def _remove(self, port: BpfMap, keys: Array) -> list[int]:
        """Indexes of what could not be deleted."""
        if not len(keys):
            return []
        self._changed = True
        try:
            port.delete(keys)
        except MapWriteError as error:
            return list(error.failures)
        return []

    def _judge_anew(self) -> None:
        if self._changed:
            self._changed = False
            self._epoch.advance()
