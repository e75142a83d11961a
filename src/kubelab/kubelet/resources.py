"""What a container is shown of its resources (resourceFieldRef), and what a node has of them.

In: a container's resources, the node's, a divisor. Out: a whole number, rounded up, as text.
"""

from __future__ import annotations

import os
from decimal import ROUND_CEILING, Decimal

from kubelab.kubelet.config import Object
from kubelab.quantities import quantity, quantity_text

EPHEMERAL_STORAGE = "ephemeral-storage"
EVICTION_MEMORY = 100 << 20
_HUGE_PAGES = {"hugepages-1Gi": "0", "hugepages-2Mi": "0"}


def shown(reference: Object, container: Object) -> str:
    """The value of a resourceFieldRef; a limit that is not set is what the node has. Raises ValueError."""
    section, _, resource = reference["resource"].partition(".")
    resources = container.get("resources") or {}
    value = (resources.get(section) or {}).get(resource)
    if value is None and section == "requests":
        value = (resources.get("limits") or {}).get(resource, 0)
    if value is None:
        value = allocatable().get(resource, 0)
    divisor = quantity(reference.get("divisor") or 0) or Decimal(1)
    return str(int((quantity(value) / divisor).to_integral_value(ROUND_CEILING)))


def of_node() -> dict[str, str]:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 1024
    return {"cpu": str(os.cpu_count() or 1), "memory": f"{memory}Ki", EPHEMERAL_STORAGE: "10Gi", **_HUGE_PAGES}


def allocatable() -> dict[str, str]:
    """What pods may have of it: a kubelet evicts before the last memory is used."""
    whole = of_node()
    return {**whole, "memory": quantity_text(quantity(whole["memory"]) - EVICTION_MEMORY, binary=True)}
