"""One agent per node."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from cilium.app.node_lock import AgentRunningError, node_lock

OTHER = """
import sys
from pathlib import Path
from cilium.app.node_lock import node_lock
with node_lock(Path(sys.argv[1])):
    print("locked", flush=True)
    sys.stdin.read()
"""


def test_the_second_agent_is_told_whose_node_it_is(tmp_path: Path) -> None:
    command = [sys.executable, "-c", OTHER, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdin is not None
        assert other.stdout.readline() == b"locked\n"
        with (
            pytest.raises(AgentRunningError, match=rf"process {other.pid}\) already serves this node"),
            node_lock(tmp_path),
        ):
            pass
        other.kill()
        other.wait()
    with node_lock(tmp_path):  # no lock outlives its process
        assert (tmp_path / "agent.pid").stat().st_mode & 0o777 == 0o600
    with node_lock(tmp_path):
        pass
