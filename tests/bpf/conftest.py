"""Objects are compiled if they are older than their sources; every test gets maps of its own."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator

import pytest
from bpf.crossing import Crossing
from bpf.harness import ROOT, Datapath

from cilium.datapath.paths import OBJECT_DIRECTORY


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = str(ROOT / "tests/bpf")
    for item in items:
        if str(item.path).startswith(here):
            item.add_marker(pytest.mark.kernel)
            if os.geteuid():
                item.add_marker(pytest.mark.skip(reason="needs root"))


@pytest.fixture(scope="session")
def objects() -> None:
    subprocess.run(["make", "-s", "-C", str(ROOT / "bpf"), f"OUT={OBJECT_DIRECTORY}"], check=True)


@pytest.fixture
def make_datapath(objects: None) -> Iterator[Callable[..., Datapath]]:
    made: list[Datapath] = []

    def make(**constants: int) -> Datapath:
        made.append(Datapath(**constants))
        return made[-1]

    yield make
    for datapath in made:
        datapath.close()


@pytest.fixture
def datapath(make_datapath: Callable[..., Datapath]) -> Datapath:
    return make_datapath()


@pytest.fixture(scope="module")
def crossing() -> Iterator[Crossing]:
    made = Crossing()
    yield made
    made.underlay.close()
