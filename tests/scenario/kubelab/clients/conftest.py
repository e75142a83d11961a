"""The small lab, with a namespace for each test that is gone after it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from kernel.kubelab.conftest import unique
from scenario.kubelab.small_lab import Namespace, SmallLab


@pytest.fixture
def kubeconfig(small_lab: SmallLab) -> str:
    return small_lab.environment["KUBECONFIG"]


@pytest.fixture
def space(small_lab: SmallLab) -> Iterator[Namespace]:
    with small_lab.namespace(unique("client").lower()) as made:
        yield made
