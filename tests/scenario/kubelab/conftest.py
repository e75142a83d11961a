"""One small lab for the scenarios of kubelets and clients: two nodes, a trivial network plugin, no Cilium."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from kernel.kubelab.conftest import unique
from scenario.kubelab.small_lab import SmallLab


@pytest.fixture(scope="session")
def small_lab() -> Iterator[SmallLab]:
    made = SmallLab(unique("k"))
    try:
        made.up()
        yield made
    finally:
        made.down()
