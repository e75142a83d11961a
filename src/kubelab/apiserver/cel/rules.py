"""x-kubernetes-validations: the rules that CRDs put beside their schemas.

Comes in: a structural schema; an object, and the one that is stored. Goes out: one cause per rule that does not hold.
Rules that name `oldSelf` judge changes only, where the old value can be told: entries of lists by the keys of
`x-kubernetes-list-type: map`. A rule about what did not change becomes a warning (ratcheting).
Source: Kubernetes documentation "CustomResourceDefinitions", "Validation rules".
"""

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec

from kubelab.apiserver.cel.environment import RULES, CelError, Program, UnsupportedError, compiled
from kubelab.apiserver.cel.values import to_cel
from kubelab.apiserver.errors import Cause
from kubelab.apiserver.schemas import Node
from kubelab.apiserver.users import warn

Object = dict[str, Any]
_OLD = re.compile(r"\boldSelf\b")
_OPTIONAL = "cel.bind(oldSelf, size(oldSelf) == 0 ? optional.none() : optional.of(oldSelf[0]), {})"
_LONGEST_MESSAGE = 5 * 1024
_BLOCKING = frozenset(("FieldValueRequired", "FieldValueTooLong", "FieldValueTooMany", "FieldValueTypeInvalid"))
_NOT_CHECKED = (
    'Invalid value: "null": some validation rules were not checked because the object was invalid; '
    "correct the existing errors to complete validation"
)


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule, compiled. `optional`: `oldSelf` may be missing, and is an optional value."""

    spec: Object
    program: Program
    message: Program | None
    changes_only: bool
    optional: bool

    @classmethod
    def read(cls, spec: Object) -> "Rule":
        """Raises CelError."""
        source, optional = str(spec.get("rule") or ""), bool(spec.get("optionalOldSelf"))
        program = _boolean(_OPTIONAL.format(source) if optional else source)
        expression = spec.get("messageExpression")
        message = compiled(str(expression), RULES) if expression else None
        if message is not None and message.returns not in ("STRING", "DYN"):
            raise CelError("messageExpression must evaluate to a string")
        return cls(spec, program, message, bool(_OLD.search(source)), optional)

    @property
    def title(self) -> str:
        return str(self.spec.get("message") or self.spec.get("rule") or "").strip()


def _boolean(source: str) -> Program:
    program = compiled(source, RULES)
    if program.returns not in ("BOOL", "DYN"):
        raise CelError("cel expression must evaluate to a bool")
    return program


@dataclass(slots=True)
class Validator:
    """The rules of one place and of what is below it. Places without any are not there."""

    node: Node
    rules: list[Rule] = field(default_factory=list)
    fields: dict[str, "Validator"] = field(default_factory=dict)
    entries: "Validator | None" = None
    items: "Validator | None" = None

    def violations(self, value: Any, old: Any, path: str = "", *, root: bool = True) -> Iterator[Cause]:
        """`old` None: there is none, or it cannot be told."""
        if value is None:
            return
        if self.rules:
            yield from self._judged(value, old, path, root=root)
        if isinstance(value, dict):
            before = old if isinstance(old, dict) and self.node.schema.get("x-kubernetes-map-type") != "atomic" else {}
            for name, child in value.items():
                below = self.fields.get(name)
                if below is not None:
                    yield from below.violations(child, before.get(name), f"{path}.{name}".lstrip("."), root=False)
                elif self.entries is not None and name not in self.node.properties:
                    yield from self.entries.violations(child, before.get(name), f"{path}[{name}]", root=False)
        elif isinstance(value, list) and self.items is not None:
            for place, child in enumerate(value):
                yield from self.items.violations(child, self._former(child, old), f"{path}[{place}]", root=False)

    def _former(self, child: Any, old: Any) -> Any:
        """The entry of the old list that this one was."""
        keys = self.node.schema.get("x-kubernetes-list-map-keys")
        if self.node.schema.get("x-kubernetes-list-type") != "map" or not isinstance(old, list) or not keys:
            return None
        return next((entry for entry in old if all(entry.get(k) == child.get(k) for k in keys)), None)

    def _judged(self, value: Any, old: Any, path: str, *, root: bool) -> Iterator[Cause]:
        seen = to_cel(value, self.node, root=root)
        before = to_cel(old, self.node, root=root)
        for rule in self.rules:
            if rule.changes_only and old is None and not rule.optional:
                continue
            values = {"self": seen, "oldSelf": ([] if old is None else [before]) if rule.optional else before}
            cause = self._broken(rule, values, path)
            if cause is None:
                continue
            if not rule.changes_only and old is not None and value == old:
                warn(str(cause))
            else:
                yield cause

    def _broken(self, rule: Rule, values: Object, path: str) -> Cause | None:
        kind = self.node.type or "object"
        try:
            if rule.program.evaluate(values) is True:
                return None
        except CelError as error:
            text = f"{error} evaluating rule: {rule.title}"
            if str(error).startswith("no such overload"):
                what = "call arguments did not match a supported operator, function or macro signature for rule"
                text = f"'{error}': {what}: {rule.title}"
            return Cause(path or "<nil>", "FieldValueInvalid", f'Invalid value: "{kind}": {text}')
        where = f"{path}{rule.spec.get('fieldPath') or ''}".lstrip(".") or "<nil>"
        return _cause(where, str(rule.spec.get("reason") or "FieldValueInvalid"), kind, _message(rule, values))


def _message(rule: Rule, values: Object) -> str:
    if rule.message is not None:
        try:
            text = rule.message.evaluate(values)
            if isinstance(text, str) and text.strip() and "\n" not in text.strip() and len(text) <= _LONGEST_MESSAGE:
                return text.strip()
        except CelError:
            pass  # As if there were no expression.
    return str(rule.spec["message"]).strip() if rule.spec.get("message") else f"failed rule: {rule.title}"


def _cause(path: str, reason: str, kind: str, message: str) -> Cause:
    match reason:
        case "FieldValueForbidden":
            return Cause(path, reason, f"Forbidden: {message}")
        case "FieldValueRequired":
            return Cause(path, reason, f"Required value: {message}")
        case "FieldValueDuplicate":
            return Cause(path, reason, f'Duplicate value: "{kind}"')
    return Cause(path, "FieldValueInvalid", f'Invalid value: "{kind}": {message}')


def validator(node: Node) -> Validator | None:
    """The rules of a schema; None without any. Rules that cannot be compiled are left out: `faults` tells of them."""
    made = Validator(node)
    for part in (node.schema, *(node.schema.get("allOf") or ())):
        for spec in part.get("x-kubernetes-validations") or ():
            with contextlib.suppress(CelError):
                made.rules.append(Rule.read(spec))
    for name in node.properties:
        child = node.child(name)
        below = validator(child) if child is not None and child.structural else None
        if below is not None:
            made.fields[name] = below
    extra = node.schema.get("additionalProperties")
    entry = node.child("*") if isinstance(extra, dict) and "*" not in node.properties else None
    made.entries = validator(entry) if entry is not None else None
    made.items = validator(node.items) if node.items is not None else None
    return made if made.rules or made.fields or made.entries or made.items else None


def blocked(causes: list[Cause]) -> Cause | None:
    """Rules are not asked about an object that is not even shaped as they expect: what is said instead."""
    return Cause("<nil>", "FieldValueInvalid", _NOT_CHECKED) if any(c.reason in _BLOCKING for c in causes) else None


def faults(schema: Object, path: str) -> Iterator[Cause]:
    """What is wrong with the rules of one place in a schema."""
    for place, spec in enumerate(schema.get("x-kubernetes-validations") or ()):
        where, shown = f"{path}.x-kubernetes-validations[{place}]", msgspec.json.encode(spec).decode()
        if not str(spec.get("rule") or "").strip():
            yield Cause(f"{where}.rule", "FieldValueRequired", "Required value: rule is not specified")
            continue
        if "\n" in str(spec.get("rule")) and not spec.get("message") and not spec.get("messageExpression"):
            text = "Required value: message must be specified if rule contains line breaks"
            yield Cause(f"{where}.message", "FieldValueRequired", text)
        try:
            Rule.read(spec)
        except UnsupportedError:
            warn(f"{where}.rule: is not enforced: this server does not know comprehensions of two variables")
        except CelError as error:
            place_of = "messageExpression" if "messageExpression" in str(error) else "rule"
            yield Cause(f"{where}.{place_of}", "FieldValueInvalid", f"Invalid value: {shown}: {error}")
