"""Resource quantities as containers are shown them (resourceFieldRef).

In: a container's resources, the node's, a divisor. Out: a whole number, rounded up, as text.
"""

from __future__ import annotations

import os
from decimal import ROUND_CEILING, Decimal, InvalidOperation

from kubelab.kubelet.config import Object

_FACTORS = {
    "m": Decimal("0.001"), "k": Decimal(10**3), "M": Decimal(10**6), "G": Decimal(10**9), "T": Decimal(10**12),
    "Ki": Decimal(1 << 10), "Mi": Decimal(1 << 20), "Gi": Decimal(1 << 30), "Ti": Decimal(1 << 40),
}  # fmt: skip


def number(text: object) -> Decimal:
    """100m, 1.5, 2Gi. Raises ValueError."""
    words = str(text)
    suffix = words.lstrip("+-0123456789.eE") if not words[-1:].isdigit() else ""
    try:
        return Decimal(words.removesuffix(suffix) or "0") * _FACTORS.get(suffix, Decimal(1))
    except InvalidOperation:
        raise ValueError(f"{words!r} is no resource quantity") from None


def shown(reference: Object, container: Object) -> str:
    """The value of a resourceFieldRef; a limit that is not set is what the node has. Raises ValueError."""
    section, _, resource = reference["resource"].partition(".")
    resources = container.get("resources") or {}
    value = (resources.get(section) or {}).get(resource)
    if value is None and section == "requests":
        value = (resources.get("limits") or {}).get(resource, 0)
    if value is None:
        value = of_node().get(resource, 0)
    divisor = number(reference.get("divisor") or 0) or Decimal(1)
    return str(int((number(value) / divisor).to_integral_value(ROUND_CEILING)))


def of_node() -> dict[str, str]:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 1024
    return {"cpu": str(os.cpu_count() or 1), "memory": f"{memory}Ki", "ephemeral-storage": "10Gi"}
