"""Which policy objects select an endpoint of this node, kept by differences.

In: changes of the policies in force (`resolved-policies`, or `enforced-policies` with the host firewall) and of
`endpoint-identities`. Out: the objects for which the answer may be another one.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from cilium.features.policy.node_rules import NOTHING
from cilium.features.policy.selectors import SelectorCache
from cilium.state import Change
from cilium.tables.identities import Reserved
from cilium.tables.rules import PolicyObject


class Selecting:
    """`node`: policies are enforced on the node itself, too."""

    def __init__(self, *, node: bool = False) -> None:
        self._node = node
        self._about_node: set[str] = set()
        self._cache = SelectorCache()
        self._selectors: dict[str, tuple[int, ...]] = {}
        """By object, one number per rule."""
        self._objects: dict[int, dict[str, int]] = {}
        """By selector: how many rules of an object have it."""

    def __call__(self, key: str) -> bool:
        """Whether a rule of the object selects an endpoint, or is in force on the node."""
        return key in self._about_node or any(self._cache.members(number) for number in self._selectors.get(key, ()))

    def take_policies(self, changes: Iterable[Change[Any, Any]]) -> set[str]:
        concerned = set()
        for change in changes:
            policy: PolicyObject | None = change.new
            before = self._selectors.pop(change.key, ())
            self._about_node.discard(change.key)
            if policy is not None:
                if self._node and any(rule.node_subject and rule != NOTHING for rule in policy.rules):
                    self._about_node.add(change.key)
                subjects = [rule.subject for rule in policy.rules if not rule.node_subject]
                after = self._selectors[change.key] = tuple(map(self._cache.acquire, subjects))
                for number in after:
                    users = self._objects.setdefault(number, {})
                    users[change.key] = users.get(change.key, 0) + 1
            for number in before:
                self._leave(number, change.key)
                self._cache.release(number)
            concerned.add(change.key)
        return concerned

    def take_endpoints(self, changes: Iterable[Change[Any, Any]]) -> set[str]:
        concerned: set[str] = set()
        for change in changes:
            number = int(change.key)
            concerned |= self._of(number)
            if change.new is None or int(change.new.identity) == Reserved.HOST:
                self._cache.remove(number)
            else:
                self._cache.upsert(number, change.new.labels)
            concerned |= self._of(number)
        return concerned

    def _of(self, member: int) -> set[str]:
        if member not in self._cache:
            return set()
        return {key for number in self._cache.selecting(member) for key in self._objects.get(number, ())}

    def _leave(self, number: int, key: str) -> None:
        users = self._objects[number]
        users[key] -= 1
        if not users[key]:
            del users[key]
        if not users:
            del self._objects[number]
