"""Quantities and semantic versions. Source: Kubernetes documentation "Common Expression Language"."""

import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from kubelab.apiserver.cel.functions import BOOL, DOUBLE, INT, OPAQUE, STRING, function, method
from kubelab.quantities import fault, quantity, quantity_text

Opaque = dict[str, Any]
_SEMVER = re.compile(r"^(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(?:-([0-9A-Za-z.-]+))?(?:\+[0-9A-Za-z.-]+)?$")


def _quantity(text: str) -> Opaque:
    if why := fault(text):
        raise ValueError(why)
    return {"quantity": text}


def _amount(value: Opaque) -> Decimal:
    return quantity(value["quantity"])


def _is_quantity(text: str) -> bool:
    return not fault(text)


def _as_integer(value: Opaque) -> int:
    amount = _amount(value)
    if amount != amount.to_integral_value():
        raise ValueError("cannot convert value to integer")
    return int(amount)


def _other(value: Opaque | int) -> Decimal:
    return Decimal(value) if isinstance(value, int) else _amount(value)


def _add(one: Opaque, other: Opaque | int) -> Opaque:
    return {"quantity": quantity_text(_amount(one) + _other(other))}


def _sub(one: Opaque, other: Opaque | int) -> Opaque:
    return {"quantity": quantity_text(_amount(one) - _other(other))}


def _semver(text: str) -> Opaque:
    if not _SEMVER.match(text):
        raise ValueError(f"No Major.Minor.Patch elements found in {text!r}")
    return {"semver": text}


def _parts(value: Opaque) -> tuple[int, int, int]:
    found = _SEMVER.match(value["semver"])
    assert found is not None, "checked when it was made"
    return int(found[1]), int(found[2]), int(found[3])


def _precedence(value: Opaque) -> tuple[Any, ...]:
    """By semver.org: a pre-release comes before its release, numbers before words."""
    found = _SEMVER.match(value["semver"])
    assert found is not None, "checked when it was made"
    stages = [(0, int(p), "") if p.isdigit() else (1, 0, p) for p in (found[4] or "").split(".") if p]
    return (*_parts(value), not stages, stages)


def _compared(one: Opaque, other: Opaque) -> int:
    key: Callable[[Opaque], Any] = _amount if "quantity" in one else _precedence
    a, b = key(one), key(other)
    return -1 if a < b else int(a > b)


FUNCTIONS = (
    function("quantity", ((STRING,), OPAQUE, _quantity)),
    function("isQuantity", ((STRING,), BOOL, _is_quantity)),
    method("sign", ((OPAQUE,), INT, lambda value: int(_amount(value).compare(0)))),
    method("isInteger", ((OPAQUE,), BOOL, lambda value: _amount(value) == _amount(value).to_integral_value())),
    method("asInteger", ((OPAQUE,), INT, _as_integer)),
    method("asApproximateFloat", ((OPAQUE,), DOUBLE, lambda value: float(_amount(value)))),
    method("add", ((OPAQUE, OPAQUE), OPAQUE, _add), ((OPAQUE, INT), OPAQUE, _add)),
    method("sub", ((OPAQUE, OPAQUE), OPAQUE, _sub), ((OPAQUE, INT), OPAQUE, _sub)),
    method("compareTo", ((OPAQUE, OPAQUE), INT, _compared)),
    method("isLessThan", ((OPAQUE, OPAQUE), BOOL, lambda a, b: _compared(a, b) < 0)),
    method("isGreaterThan", ((OPAQUE, OPAQUE), BOOL, lambda a, b: _compared(a, b) > 0)),
    function("semver", ((STRING,), OPAQUE, _semver)),
    function("isSemver", ((STRING,), BOOL, lambda text: _SEMVER.match(text) is not None)),
    method("major", ((OPAQUE,), INT, lambda value: _parts(value)[0])),
    method("minor", ((OPAQUE,), INT, lambda value: _parts(value)[1])),
    method("patch", ((OPAQUE,), INT, lambda value: _parts(value)[2])),
)
