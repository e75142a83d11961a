"""How processes share the tests (`pytest -n 2 --dist loadgroup`): what stays together, and what begins.

In: the collected tests. Out: a group on each; a process takes one group after the other and runs all of it. Tests on
one lab are one group, so that no lab is brought up twice; the rest goes by module.
"""

from __future__ import annotations

import pytest

LABS = ("tunnel", "native", "packets", "small_lab")
"""Those that modules share: names of fixtures, and values of the fixture `cluster`."""
FIRST = "tunnel"
"""The longest group: one process begins with it, while the other takes what is cheapest first."""


def group(item: pytest.Item) -> str:
    """What runs in the same process as this test."""
    parameters = getattr(item, "callspec", None)
    asked = {*getattr(item, "fixturenames", ())} | ({parameters.params.get("cluster")} if parameters else set())
    return next((lab for lab in LABS if lab in asked), str(item.path.relative_to(item.config.rootpath)))


def mark(item: pytest.Item) -> str:
    """Tells xdist; returns the group."""
    name = group(item)
    item.add_marker(pytest.mark.xdist_group(name))
    return name


class Names:
    """For the process that reports: a test is called by its name, without the group that xdist appends."""

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        name, at, after = report.nodeid.rpartition("@")
        if at and "]" not in after:
            report.nodeid = name
