"""The layer of files above the machine's."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

from kubelab.images import layer, registry
from kubelab.images.programs import INSIDE, standin_argv


def test_commands_at_the_paths_of_images(tmp_path: Path) -> None:
    made = layer.build(tmp_path, registry.load())
    assert (made.root / "agnhost").stat().st_mode & 0o777 == 0o755
    inside = shlex.join(standin_argv("agnhost"))
    assert inside in (made.root / "agnhost").read_text()
    command = [*shlex.split(inside.replace(INSIDE, f"{made.root}{INSIDE}")), "dns-server-list"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.endswith("\n")
    assert (made.root / "data").stat().st_mode & 0o777 == 0o777
    for command in ("/agnhost", "/pause", "/bin/sh", "/bin/ash", "/bin/grpc_health_probe"):
        assert made.exists(command), command
    assert made.exists("ash", "/usr/local/bin:/usr/bin:/bin")
    assert not made.exists("no-such-command", "/usr/bin:/bin")
    assert not made.exists("/bin/no-such-command")
    accounts = (made.root / "etc/passwd").read_text().splitlines()
    assert sum(line.startswith("nginx:") for line in accounts) == 1
    assert sum(line.startswith("root:") for line in accounts) == 1


def test_it_is_made_once(tmp_path: Path) -> None:
    made = layer.build(tmp_path, registry.load())
    before = (made.root / "agnhost").stat().st_ino
    assert layer.build(tmp_path, registry.load()) == made
    assert (made.root / "agnhost").stat().st_ino == before
    assert [path.name for path in tmp_path.iterdir()] == [made.root.name]
