"""Label and field selectors.

Owns: parsing of the selector strings of the API and matching of objects against them. Comes in: query parameters,
`LabelSelector` structs of specs. Goes out: frozen selectors with `matches(object)`.
Source: Kubernetes documentation, "Labels and Selectors" and "Field Selectors".
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from kubelab.apiserver.errors import BadRequest

Operator = Literal["in", "notin", "exists", "absent", "gt", "lt"]

_SET_TERM = re.compile(r"^(?P<key>[^\s!=,()<>]+)\s+(?P<op>in|notin)\s*\((?P<values>[^()]*)\)$")
_EQUALITY_TERM = re.compile(r"^(?P<key>[^\s!=,()<>]+)\s*(?P<op>==|=|!=|>|<)\s*(?P<value>[^\s!=,()<>]*)$")
_EXISTS_TERM = re.compile(r"^(?P<absent>!\s*)?(?P<key>[^\s!=,()<>]+)$")
_LABEL_KEY = re.compile(r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$")


@dataclass(frozen=True, slots=True)
class Requirement:
    key: str
    operator: Operator
    values: frozenset[str] = frozenset()

    def holds(self, labels: Mapping[str, str]) -> bool:
        value = labels.get(self.key)
        match self.operator:
            case "in":
                return value in self.values
            case "notin":
                return value not in self.values
            case "exists":
                return value is not None
            case "absent":
                return value is None
            case "gt" | "lt":
                return self._compare(value)

    def _compare(self, value: str | None) -> bool:
        try:
            left, right = int(value or ""), int(next(iter(self.values)))
        except ValueError:
            return False
        return left > right if self.operator == "gt" else left < right


@dataclass(frozen=True, slots=True)
class LabelSelector:
    """All requirements must hold; none at all selects everything."""

    requirements: tuple[Requirement, ...] = ()

    def matches(self, labels: Mapping[str, str] | None) -> bool:
        return all(r.holds(labels or {}) for r in self.requirements)


@dataclass(frozen=True, slots=True)
class FieldTerm:
    path: str
    value: str
    negated: bool = False

    def holds(self, obj: Mapping[str, Any]) -> bool:
        return (field_text(obj, self.path) == self.value) is not self.negated


@dataclass(frozen=True, slots=True)
class Selector:
    """A label and a field selector together: what a list or a watch asks for."""

    labels: LabelSelector = LabelSelector()
    fields: tuple[FieldTerm, ...] = ()

    @property
    def everything(self) -> bool:
        return not self.labels.requirements and not self.fields

    def matches(self, obj: Mapping[str, Any]) -> bool:
        if self.everything:
            return True
        return self.labels.matches(obj["metadata"].get("labels")) and all(t.holds(obj) for t in self.fields)

    @property
    def exact_name(self) -> str | None:
        """The name, when the field selector admits one object only."""
        return next((t.value for t in self.fields if t.path == "metadata.name" and not t.negated), None)


def field_text(obj: Mapping[str, Any], path: str) -> str:
    """The value at a dotted path as selectors compare it: "" when absent, `true`/`false` for booleans."""
    node: Any = obj
    for segment in path.split("."):
        node = node.get(segment) if isinstance(node, Mapping) else None
        if node is None:
            return "false" if path in _FALSE_WHEN_ABSENT else ""
    return str(node).lower() if isinstance(node, bool) else str(node)


_FALSE_WHEN_ABSENT = frozenset({"spec.unschedulable", "spec.hostNetwork"})


_OF_ALL = frozenset({"metadata.name", "metadata.namespace"})


def parse_labels(text: str) -> LabelSelector:
    """Parse `a=b,c!=d,e in (f,g),!h`. Raises BadRequest naming the term that cannot be read."""
    return LabelSelector(tuple(_parse_term(term) for term in _split(text)))


def parse_fields(text: str, *, allowed: Iterable[str]) -> tuple[FieldTerm, ...]:
    """Parse `a.b=c,d!=e`. Raises BadRequest for a field that the resource does not offer."""
    supported = {*_OF_ALL, *allowed}
    terms = []
    for term in filter(None, (t.strip() for t in text.split(","))):
        match = re.match(r"^([^!=]+)(==|=|!=)(.*)$", term)
        if match is None:
            raise BadRequest(
                f"invalid field selector {text!r}: {term!r} is neither <field>=<value> nor <field>!=<value>"
            )
        path, operator, value = match.groups()
        if path not in supported:
            raise BadRequest(_unknown_field(path, own=bool(supported - _OF_ALL)))
        terms.append(FieldTerm(path, value, operator == "!="))
    return tuple(terms)


def _unknown_field(path: str, *, own: bool) -> str:
    """`own`: the kind has fields of its own to select by."""
    if own:
        return f"field label not supported: {path}"
    return f'"{path}" is not a known field selector: only "metadata.name", "metadata.namespace"'


def from_spec(selector: Mapping[str, Any] | None) -> LabelSelector | None:
    """A `metav1.LabelSelector` of a spec. None (absent) selects nothing and comes back as None."""
    if selector is None:
        return None
    requirements = [Requirement(k, "in", frozenset({v})) for k, v in (selector.get("matchLabels") or {}).items()]
    names: dict[str, Operator] = {"In": "in", "NotIn": "notin", "Exists": "exists", "DoesNotExist": "absent"}
    for expression in selector.get("matchExpressions") or ():
        operator = names[expression["operator"]]
        requirements.append(Requirement(expression["key"], operator, frozenset(expression.get("values") or ())))
    return LabelSelector(tuple(requirements))


def to_text(selector: Mapping[str, Any] | None) -> str:
    """A `metav1.LabelSelector` as selector text, the way tables and scale.status.selector show it."""
    if selector is None:
        return ""
    terms = [f"{k}={v}" for k, v in sorted((selector.get("matchLabels") or {}).items())]
    for expression in selector.get("matchExpressions") or ():
        key, values = expression["key"], ",".join(sorted(expression.get("values") or ()))
        match expression["operator"]:
            case "In":
                terms.append(f"{key} in ({values})")
            case "NotIn":
                terms.append(f"{key} notin ({values})")
            case "Exists":
                terms.append(key)
            case _:
                terms.append(f"!{key}")
    return ",".join(terms)


def _split(text: str) -> list[str]:
    """Split at commas outside of parentheses."""
    terms, depth, current = [], 0, ""
    for char in text:
        depth += (char == "(") - (char == ")")
        if char == "," and depth == 0:
            terms.append(current)
            current = ""
        else:
            current += char
    terms.append(current)
    return [t.strip() for t in terms if t.strip()]


def _parse_term(term: str) -> Requirement:
    if match := _SET_TERM.match(term):
        operator: Operator = "in" if match["op"] == "in" else "notin"
        values = frozenset(v.strip() for v in match["values"].split(","))
        return Requirement(_label_key(match["key"]), operator, values)
    if match := _EQUALITY_TERM.match(term):
        operators: dict[str, Operator] = {"=": "in", "==": "in", "!=": "notin", ">": "gt", "<": "lt"}
        return Requirement(_label_key(match["key"]), operators[match["op"]], frozenset({match["value"]}))
    if match := _EXISTS_TERM.match(term):
        return Requirement(_label_key(match["key"]), "absent" if match["absent"] else "exists")
    raise BadRequest(
        f"unable to parse label selector requirement {term!r}: use key=value, key!=value, key in (a,b), key or !key"
    )


def _label_key(key: str) -> str:
    if not _LABEL_KEY.match(key):
        raise BadRequest(
            f"invalid label key {key!r} in selector: want [prefix/]name of letters, digits, '-', '_' and '.'"
        )
    return key
