"""Policy rules.

Owns: what one rule of a role covers, and how rules are taken apart and written in messages. Comes in: rules as roles
hold them. Goes out: answers, atoms, texts. Source: Kubernetes documentation "Using RBAC Authorization".
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

ALL = "*"


@dataclass(frozen=True, slots=True)
class Rule:
    verbs: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    resources: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    urls: tuple[str, ...] = ()

    @classmethod
    def read(cls, rule: Mapping[str, Any]) -> "Rule":
        keys = ("verbs", "apiGroups", "resources", "resourceNames", "nonResourceURLs")
        return cls(*(tuple(rule.get(key) or ()) for key in keys))

    def atoms(self) -> Iterator["Rule"]:
        """The rule as rules of one verb, group, resource and name each."""
        for verb in self.verbs:
            for group, resource in product(self.groups, self.resources):
                for name in self.names or ("",):
                    yield Rule((verb,), (group,), (resource,), (name,) if name else ())
            for url in self.urls:
                yield Rule((verb,), urls=(url,))

    def covers(self, atom: "Rule") -> bool:
        """Whether whoever holds this rule holds that atom."""
        if atom.verbs[0] not in self.verbs and ALL not in self.verbs:
            return False
        if atom.urls:
            return any(url_matches(url, atom.urls[0]) for url in self.urls)
        return (
            (atom.groups[0] in self.groups or ALL in self.groups)
            and _covers_resource(self.resources, atom.resources[0])
            and (not self.names or (bool(atom.names) and atom.names[0] in self.names))
        )

    def __str__(self) -> str:
        parts = (
            ("APIGroups", self.groups),
            ("Resources", self.resources),
            ("NonResourceURLs", self.urls),
            ("ResourceNames", self.names),
            ("Verbs", self.verbs),
        )
        shown = (name + ":[" + " ".join(f'"{v}"' for v in values) + "]" for name, values in parts if values)
        return "{" + ", ".join(shown) + "}"


def url_matches(pattern: str, path: str) -> bool:
    """`/healthz`, `/apis/*`, `*`."""
    return pattern in (ALL, path) or (pattern.endswith(ALL) and path.startswith(pattern[:-1]))


def missing(held: Iterable[Rule], wanted: Iterable[Rule]) -> list[Rule]:
    """What of `wanted` is in none of `held`; verbs of one resource together, sorted as they are written."""
    held = list(held)
    open_atoms = [a for rule in wanted for a in rule.atoms() if not any(h.covers(a) for h in held)]
    merged: dict[Rule, list[str]] = {}
    for atom in open_atoms:
        verbs = merged.setdefault(Rule((), atom.groups, atom.resources, atom.names, atom.urls), [])
        if atom.verbs[0] not in verbs:
            verbs.append(atom.verbs[0])
    found = [Rule(tuple(v), k.groups, k.resources, k.names, k.urls) for k, v in merged.items()]
    return sorted(found, key=str)


def _covers_resource(held: tuple[str, ...], wanted: str) -> bool:
    if wanted in held or ALL in held:
        return True
    _, slash, subresource = wanted.partition("/")
    return bool(slash) and f"{ALL}/{subresource}" in held
