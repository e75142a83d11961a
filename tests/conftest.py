"""For all tests: cheapest first, and what this machine lacks makes a test skip with its reason."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import lanes
import pytest
import structlog
from property.effort import VARIABLE

ORDER = ("unit", "property", "bpf", "kernel", "scenario", "guest")
NEED_ROOT = {"bpf", "kernel", "scenario", "guest"}
HERE = Path(__file__).parent


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--policy-examples", type=int, metavar="N", help="examples of each property test of policies")


def pytest_configure(config: pytest.Config) -> None:
    """Before the tests are imported: what they ask for is decided there."""
    if wanted := config.getoption("--policy-examples"):
        os.environ[VARIABLE] = str(wanted)
    lanes.configure(config)


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    """Entry points set logging up for their process; the next test is another's."""
    yield
    structlog.reset_defaults()


def kind(item: pytest.Item) -> str:
    """The folder below tests/."""
    return item.path.relative_to(HERE).parts[0]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if "CILIUM_SOAK" not in os.environ:
        soaks = [item for item in items if item.get_closest_marker("soak")]
        items[:] = [item for item in items if item not in soaks]
        config.hook.pytest_deselected(items=soaks)
    items.sort(key=lambda item: ORDER.index(kind(item)) if kind(item) in ORDER else len(ORDER))
    lanes.prepare(config, items)
    if os.geteuid() != 0:
        for item in items:
            if kind(item) in NEED_ROOT:
                item.add_marker(pytest.mark.skip(reason="needs root"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Skips by reason, so that nobody overlooks what was not proved."""
    reasons: dict[str, int] = {}
    for report in terminalreporter.stats.get("skipped", []):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        reasons[reason.removeprefix("Skipped: ")] = reasons.get(reason.removeprefix("Skipped: "), 0) + 1
    for reason, count in sorted(reasons.items()):
        terminalreporter.write_line(f"skipped {count}: {reason}")
