"""The compiled datapath with maps of its own, and everything here marked as needing the kernel."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest
from bpf.harness import Datapath

HERE = os.path.dirname(__file__)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if str(item.path).startswith(HERE):
            item.add_marker(pytest.mark.kernel)
            if os.geteuid():
                item.add_marker(pytest.mark.skip(reason="needs root"))


@pytest.fixture
def make_datapath() -> Iterator[Callable[..., Datapath]]:
    made: list[Datapath] = []

    def make(**constants: int) -> Datapath:
        made.append(Datapath(**constants))
        return made[-1]

    yield make
    for datapath in made:
        datapath.close()
