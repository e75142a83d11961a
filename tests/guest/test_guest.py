"""What this machine's kernel lacks, on one that has it: a QEMU guest is booted once and runs `inside/` and more.

Software emulation is slow (minutes), so this is a target of its own: `make test-guest`.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree

import pytest

pytestmark = pytest.mark.guest
ROOT = Path(__file__).parents[2]
FILES = (
    "tests/guest/inside/tunnels.py",
    "tests/guest/inside/geneve_dsr.py",
    "tests/guest/inside/geneve_lab.py",
    "tests/kernel/datapath/test_netlink.py",
)
SELECTION = "tunnels or geneve"
TOPICS = (
    "geneve-over-IPv4",
    "geneve-over-IPv6",
    "vxlan-over-IPv4",
    "vxlan-over-IPv6",
    "test_dsr_through_geneve",
    "test_geneve_lab",
    "test_geneve",
)
"""What must have been tested; every test belongs to one by its name."""


def lacks() -> str:
    """Why the guest does not run here; empty when it does."""
    if not os.environ.get("GUEST"):
        return "the guest is slow: make test-guest runs it"
    if os.geteuid():
        return "needs root"
    missing = [name for name in ("qemu-system-x86_64", "modprobe", "depmod") if shutil.which(name) is None]
    return f"needs {', '.join(missing)}: make test-guest installs them" if missing else ""


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """What came of each test in the guest, by name: empty for a pass, else the report."""
    if reason := lacks():
        pytest.skip(reason)
    results = tmp_path_factory.mktemp("guest")
    pytest_words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--junitxml=/run/results/junit.xml",
                    "-k", SELECTION, *FILES]  # fmt: skip
    script = f"cd {shlex.quote(str(ROOT))} && exec {shlex.join(pytest_words)}"
    argv = [str(ROOT / "tools/guest/boot.sh"), str(results), "sh", "-c", script]
    done = subprocess.run(argv, env={**os.environ, "GUEST_MEMORY": "3G"}, capture_output=True, text=True, check=False)
    assert (results / "junit.xml").exists(), f"no results: {done.stderr}\n{_text(results / 'output')}"
    cases = ElementTree.parse(results / "junit.xml").iter("testcase")
    return {str(case.get("name")): "\n".join(part.text or "" for part in case) for case in cases}


@pytest.mark.parametrize("topic", TOPICS)
def test_in_the_guest(outcomes: Mapping[str, str], topic: str) -> None:
    ours = {name: report for name, report in outcomes.items() if topic in name}
    assert ours, f"nothing was tested: {sorted(outcomes)}"
    assert not any(ours.values()), "\n\n".join(f"{name}: {report}" for name, report in ours.items() if report)


def test_nothing_else_went_wrong(outcomes: Mapping[str, str]) -> None:
    assert [name for name in outcomes if not any(topic in name for topic in TOPICS)] == []


def _text(path: Path) -> str:
    return path.read_text(errors="replace")[-5000:] if path.exists() else "(no output)"
