"""CEL expressions about a write.

Owns: what expressions of policies and match conditions see (`object`, `oldObject`, `request`, `namespaceObject`,
`params`, `variables`, `authorizer`). Comes in: a write. Goes out: values of expressions; `ExpressionError`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from kubelab.apiserver.admission.base import DELETE, Object, Write
from kubelab.apiserver.admission.webhooks.reviews import request_of
from kubelab.apiserver.authorization.attributes import Authorizer
from kubelab.apiserver.cel.environment import ADMISSION, CelError, compiled
from kubelab.apiserver.cel.rights import AUTHORIZER


class ExpressionError(ValueError):
    """An expression has no value."""


class Surroundings:
    """What the expressions about one write see."""

    def __init__(self, write: Write, version: str, authorizer: Authorizer, params: Object | None = None) -> None:
        self._authorizer = authorizer
        self._broken: dict[str, str] = {}
        namespace = write.store.peek("namespaces", write.namespace) if write.namespace else None
        request = request_of(write, version, None, None)
        self._values: dict[str, Any] = {
            "object": None if write.verb == DELETE else bare(write.obj),
            "oldObject": None if write.old is None else bare(write.old),
            "request": {name: value for name, value in request.items() if name not in ("object", "oldObject")},
            "params": None if params is None else bare(params),
            "namespaceObject": None if namespace is None else bare(namespace),
            "variables": {},
            "authorizer": {"requestResource": _asked(write)},
        }

    def define(self, name: str, source: str) -> None:
        """A variable for the expressions that follow. One that has no value hurts those that use it."""
        try:
            self._values["variables"][name] = self.value(source)
        except ExpressionError as error:
            self._broken[name] = str(error)

    def value(self, source: str) -> Any:
        """Raises ExpressionError."""
        for name, why in self._broken.items():
            if f"variables.{name}" in source:
                raise ExpressionError(f'composited variable "{name}" fails to evaluate: {why}')
        token = AUTHORIZER.set(self._authorizer)
        try:
            return compiled(source, ADMISSION).evaluate(self._values)
        except CelError as error:
            raise ExpressionError(f"expression '{source}' resulted in error: {error}") from error
        finally:
            AUTHORIZER.reset(token)


class Conditions:
    def __init__(self, authorizer: Authorizer) -> None:
        self._authorizer = authorizer

    def surroundings(self, write: Write, version: str, params: Object | None = None) -> Surroundings:
        return Surroundings(write, version, self._authorizer, params)

    def hold(self, conditions: Sequence[Mapping[str, Any]], write: Write, version: str, *, fails: bool) -> bool:
        """Whether all of them do. What cannot be told raises ExpressionError if it `fails` a write, else it does not
        hold."""
        return hold(conditions, self.surroundings(write, version), fails=fails)


def hold(conditions: Sequence[Mapping[str, Any]], seen: Surroundings, *, fails: bool) -> bool:
    errors = []
    for condition in conditions:
        try:
            if seen.value(str(condition["expression"])) is not True:
                return False
        except ExpressionError as error:
            errors.append(str(error))
    if errors and fails:
        raise ExpressionError(errors[0] if len(errors) == 1 else f"[{', '.join(errors)}]")
    return not errors


def bare(obj: Object) -> Object:
    """Without managedFields, whose sets are kept encoded."""
    if "managedFields" not in obj.get("metadata", {}):
        return obj
    return {**obj, "metadata": {k: v for k, v in obj["metadata"].items() if k != "managedFields"}}


def _asked(write: Write) -> Object:
    resource = write.resource
    return {
        "group": resource.group,
        "resource": resource.plural,
        "subresource": write.subresource,
        "namespace": write.namespace,
        "name": write.target,
    }
