"""ValidatingAdmissionPolicies.

Comes in: writes; policies, their bindings, and the objects that these name as parameters. Goes out: a refusal with the
words of the policy, or warnings, as the binding says. Source: Kubernetes documentation "Validating Admission Policy".
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import structlog

from kubelab.apiserver.admission.base import Plugin, Write
from kubelab.apiserver.admission.conditions import Conditions, ExpressionError, Surroundings, hold
from kubelab.apiserver.admission.webhooks.rules import Match
from kubelab.apiserver.errors import ApiError, of_status, qualified
from kubelab.apiserver.resources import Resource
from kubelab.apiserver.selectors import from_spec
from kubelab.apiserver.store import Store
from kubelab.apiserver.users import warn
from kubelab.apiserver.watch import Change

log = structlog.get_logger(__name__)

Object = dict[str, Any]
POLICIES = "validatingadmissionpolicies.admissionregistration.k8s.io"
BINDINGS = "validatingadmissionpolicybindings.admissionregistration.k8s.io"
_CODES = {"Unauthorized": 401, "Forbidden": 403, "Invalid": 422, "RequestEntityTooLarge": 413}


@dataclass(frozen=True, slots=True)
class Bound:
    """A policy where it is in force."""

    policy: Object
    binding: Object
    matches: tuple[Match, ...]

    @property
    def fails(self) -> bool:
        return bool(self.policy["spec"].get("failurePolicy") != "Ignore")

    def version(self, write: Write) -> str | None:
        versions = [match.version(write) for match in self.matches]
        return None if None in versions else versions[0]


class PolicyAdmission(Plugin):
    """Construct it before the server accepts writes."""

    def __init__(self, store: Store, conditions: Conditions) -> None:
        self._store, self._conditions = store, conditions
        self._bound: list[Bound] = []
        self._read()
        store.on_commit(self._observe)

    def validate(self, write: Write) -> None:
        for bound in self._bound:
            if all(match.concerns(write) for match in bound.matches):
                self._judge(bound, write)

    def validate_other(self, write: Write) -> None:
        self.validate(write)

    def _observe(self, resource: Resource, _: Change) -> None:
        if resource.key in (POLICIES, BINDINGS):
            self._read()

    def _read(self) -> None:
        policies = {obj["metadata"]["name"]: obj for obj in self._store.peek_all(POLICIES)}
        self._bound = []
        for binding in sorted(self._store.peek_all(BINDINGS), key=lambda obj: str(obj["metadata"]["name"])):
            policy = policies.get(binding["spec"].get("policyName"))
            if policy is None:
                continue
            matches = [Match.read(policy["spec"].get("matchConstraints") or {}, rules="resourceRules")]
            if narrowed := binding["spec"].get("matchResources"):
                everything = {"apiGroups": ["*"], "apiVersions": ["*"], "operations": ["*"], "resources": ["*/*"]}
                rules = narrowed.get("resourceRules") or [everything]
                matches.append(Match.read({**narrowed, "resourceRules": rules}, rules="resourceRules"))
            self._bound.append(Bound(policy, binding, tuple(matches)))

    def _judge(self, bound: Bound, write: Write) -> None:
        version = bound.version(write)
        if version is None:
            return
        try:
            for params in self._params(bound, write):
                self._judge_with(bound, write, self._conditions.surroundings(write, version, params))
        except ExpressionError as error:
            if bound.fails:
                _act(bound, write, str(error), "Invalid")
            else:
                log.warning("policy not told", policy=bound.policy["metadata"]["name"], why=str(error))

    def _judge_with(self, bound: Bound, write: Write, seen: Surroundings) -> None:
        spec = bound.policy["spec"]
        if not hold(spec.get("matchConditions") or (), seen, fails=bound.fails):
            return
        for variable in spec.get("variables") or ():
            seen.define(variable["name"], variable["expression"])
        for validation in spec.get("validations") or ():
            if seen.value(validation["expression"]) is not True:
                _act(bound, write, _message(validation, seen), str(validation.get("reason") or "Invalid"))

    def _params(self, bound: Bound, write: Write) -> Iterator[Object | None]:
        """Every object that parametrizes the policy. Raises ExpressionError where there must be one."""
        kind, reference = bound.policy["spec"].get("paramKind"), bound.binding["spec"].get("paramRef")
        if not kind or not reference:
            yield None
            return
        group = kind["apiVersion"].rpartition("/")[0]
        resource = self._store.registry.find_kind(group, kind["kind"])
        if resource is None:
            raise ExpressionError(
                f"failed to configure policy: failed to find resource referenced by paramKind: "
                f"'{kind['apiVersion']}, Kind={kind['kind']}'"
            )
        namespace = (reference.get("namespace") or write.namespace) if resource.namespaced else ""
        if "name" in reference:
            one = self._store.peek(resource.key, reference["name"], namespace=namespace)
            found = [one] if one is not None else []
        else:
            selector = from_spec(reference.get("selector") or {})
            everything = self._store.peek_all(resource.key, namespace=namespace)
            found = [o for o in everything if selector is None or selector.matches(o["metadata"].get("labels"))]
        if not found and reference.get("parameterNotFoundAction") != "Allow":
            raise ExpressionError(
                "failed to configure binding: no params found for policy binding with `Deny` parameterNotFoundAction"
            )
        yield from found


def _message(validation: Object, seen: Surroundings) -> str:
    if expression := validation.get("messageExpression"):
        try:
            text = seen.value(expression)
            if isinstance(text, str) and text.strip() and "\n" not in text.strip():
                return text.strip()
        except ExpressionError as error:
            log.warning("messageExpression has no value", why=str(error))
    return str(validation.get("message") or f"failed expression: {str(validation['expression']).strip()}").strip()


def _act(bound: Bound, write: Write, message: str, reason: str) -> None:
    """As the binding says: Deny, Warn, Audit."""
    policy, binding = bound.policy["metadata"]["name"], bound.binding["metadata"]["name"]
    actions = bound.binding["spec"].get("validationActions") or ("Deny",)
    subject = f"ValidatingAdmissionPolicy '{policy}' with binding '{binding}'"
    if "Audit" in actions:
        log.info("policy violated", policy=policy, binding=binding, object=write.target, why=message)
    if "Warn" in actions:
        warn(f"Validation failed for {subject}: {message}")
    if "Deny" in actions:
        raise _refusal(write, f"{subject} denied request: {message}", reason)


def _refusal(write: Write, why: str, reason: str) -> ApiError:
    resource = write.resource
    name = f' "{write.target}"' if write.target else ""
    details = {
        "name": write.target,
        "group": resource.group,
        "kind": resource.plural,
        "causes": [{"message": why}],
    }
    text = f"{qualified(resource.plural, resource.group)}{name} is forbidden: {why}"
    return of_status({"code": _CODES.get(reason, 422), "reason": reason, "message": text, "details": details})
