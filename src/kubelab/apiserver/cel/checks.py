"""What is wrong with the expressions of policies and match conditions.

Comes in: specs. Goes out: one cause per expression that cannot be compiled, or that gives a value of the wrong type.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

from kubelab.apiserver.cel.environment import ADMISSION, CelError, UnsupportedError, compiled
from kubelab.apiserver.errors import Cause
from kubelab.apiserver.users import warn

Object = Mapping[str, Any]


def expression_causes(source: Any, path: str, *, want: str = "") -> Iterator[Cause]:
    """`want`: BOOL, STRING; "" for a value of any type."""
    if not isinstance(source, str) or not source.strip():
        yield Cause(path, "FieldValueRequired", "Required value")
        return
    shown = msgspec.json.encode(source).decode()
    try:
        returns = compiled(source, ADMISSION).returns
    except UnsupportedError:
        warn(
            f"{path}: this server does not know comprehensions of two variables: the expression fails when it is asked"
        )
    except CelError as error:
        yield Cause(path, "FieldValueInvalid", f"Invalid value: {shown}: {error}")
    else:
        if want and returns not in (want, "DYN"):
            yield Cause(path, "FieldValueInvalid", f"Invalid value: {shown}: must evaluate to {want.lower()}")


def condition_causes(conditions: Iterable[Object] | None, path: str) -> Iterator[Cause]:
    """Of matchConditions: named, each name once, boolean."""
    seen: set[str] = set()
    for place, condition in enumerate(conditions or ()):
        where, name = f"{path}[{place}]", str(condition.get("name") or "")
        if not name:
            yield Cause(f"{where}.name", "FieldValueRequired", "Required value")
        elif name in seen:
            yield Cause(f"{where}.name", "FieldValueDuplicate", f'Duplicate value: "{name}"')
        seen.add(name)
        yield from expression_causes(condition.get("expression"), f"{where}.expression", want="BOOL")


def policy_causes(spec: Object) -> Iterator[Cause]:
    """Of a ValidatingAdmissionPolicy."""
    yield from condition_causes(spec.get("matchConditions"), "spec.matchConditions")
    for place, variable in enumerate(spec.get("variables") or ()):
        yield from expression_causes(variable.get("expression"), f"spec.variables[{place}].expression")
    for place, validation in enumerate(spec.get("validations") or ()):
        where = f"spec.validations[{place}]"
        yield from expression_causes(validation.get("expression"), f"{where}.expression", want="BOOL")
        if "messageExpression" in validation:
            yield from expression_causes(validation["messageExpression"], f"{where}.messageExpression", want="STRING")
    if not spec.get("validations") and not spec.get("auditAnnotations"):
        yield Cause(
            "spec.validations",
            "FieldValueRequired",
            "Required value: validations or auditAnnotations must contain at least one item",
        )
