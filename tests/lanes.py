"""How processes share the tests (`pytest -n 2`): what stays together, and what begins.

In: the tests that each process has collected. Out: groups, which xdist hands to whoever is free; a process runs all of
a group. Tests on one lab are one group, so that no lab is brought up twice; the rest goes by module.
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

import pytest
from xdist.remote import Producer
from xdist.scheduler.loadscope import LoadScopeScheduling

LABS = ("tunnel", "native", "packets", "small_lab", "containerd_lab")
"""Those that modules share: names of fixtures, and values of the fixture `cluster`."""
FIRST, SOON = "tunnel", "native"
"""The longest groups: one process begins with the first, while others take what is cheapest first; the second begins
before all other scenarios."""
FILE = "groups"


def configure(config: pytest.Config) -> None:
    """For the process that hands tests out; does nothing in any other."""
    if config.getoption("numprocesses", None):
        config.option.loadscopereorder = False  # the order is `conftest.py`'s
        config.pluginmanager.register(Controller())


def prepare(config: pytest.Config, items: list[pytest.Item]) -> None:
    """In a process that runs some of the tests: brings the groups into order, and gives word of them."""
    if path := getattr(config, "workerinput", {}).get(FILE):
        groups = {item.nodeid: group(item) for item in items}
        items.sort(key=lambda item: _rank(item, groups[item.nodeid]))
        written = Path(f"{path}.{os.getpid()}")
        written.write_text(json.dumps(groups))
        written.replace(path)


def _rank(item: pytest.Item, name: str) -> int:
    if name in (FIRST, SOON):
        return (FIRST, SOON).index(name) * 2
    return 3 if "scenario" in item.path.parts else 1


def group(item: pytest.Item) -> str:
    """What runs in the same process as this test."""
    parameters = getattr(item, "callspec", None)
    asked = {*getattr(item, "fixturenames", ())} | ({parameters.params.get("cluster")} if parameters else set())
    return next((lab for lab in LABS if lab in asked), item.nodeid.partition("::")[0])


class Controller:
    """Tells processes where to write the groups, and xdist to keep to them."""

    def __init__(self) -> None:
        self._directory = tempfile.TemporaryDirectory()
        self._path = Path(self._directory.name) / FILE

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        node.workerinput[FILE] = str(self._path)

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_make_scheduler(self, config: pytest.Config, log: Producer) -> Groups:
        return Groups(config, log, self._path)


class Groups(LoadScopeScheduling):
    """Every process has told of its tests, and by that of their groups, before the first is handed out."""

    def __init__(self, config: pytest.Config, log: Producer, path: Path) -> None:
        super().__init__(config, log)
        self._path, self._groups = path, dict[str, str]()

    def _split_scope(self, nodeid: str) -> str:
        self._groups = self._groups or json.loads(self._path.read_text())
        return self._groups[nodeid]
