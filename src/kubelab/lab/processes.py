"""The lab's daemons: started detached, in the lab's cgroup, with a log file and a pid record.

In: a command. Out: (pid, start time), by which it is known again; the tail of its log when it dies early.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

from kubelab.lab.errors import LabError
from kubelab.underlay import cgroups


def start_time(pid: int) -> int | None:
    """Clock ticks since boot (proc(5), field 22); None when the process is gone or a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def start(argv: list[str], log: Path, *, cgroup: Path | None = None, pass_fds: tuple[int, ...] = ()) -> tuple[int, int]:
    """Starts a daemon; it outlives us. ``cgroup`` None: the command moves itself."""
    if cgroup is not None:
        cgroups.create(cgroup)
        argv = ["sh", "-c", 'echo 0 > "$0/cgroup.procs" && exec "$@"', str(cgroup), *argv]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with log.open("ab") as stream:
        process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, start_new_session=True,
            pass_fds=pass_fds, cwd="/", env=environment,
        )  # fmt: skip
    return process.pid, start_time(process.pid) or 0


def alive(record: tuple[int, int]) -> bool:
    """Whether the recorded process still is the one that runs."""
    return start_time(record[0]) == record[1]


def is_init(pid: int) -> bool:
    """Whether it is process 1 of a PID namespace of its own: a container's first process, not one that enters it."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return False
    numbers = next((line.split()[1:] for line in lines if line.startswith("NSpid:")), [])
    return len(numbers) > 1 and numbers[-1] == "1"


def stop(record: tuple[int, int], *, kill: bool = False, timeout: float = 10.0) -> None:
    """SIGTERM (or SIGKILL) to the recorded process; returns when it is gone. Raises LabError when it stays."""
    pid, started = record
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        if start_time(pid) != started:
            return
        signal.pidfd_send_signal(pidfd, signal.SIGKILL if kill else signal.SIGTERM)
        if not select.select([pidfd], [], [], timeout)[0]:
            raise LabError(f"process {pid} did not end within {timeout:.0f} s")
        with suppress(ChildProcessError):
            os.waitpid(pid, 0)
    finally:
        os.close(pidfd)


def await_ready(fd: int, name: str, log: Path) -> None:
    """Waits for the daemon's word on a pipe. Raises LabError with the end of its log when it died instead."""
    with os.fdopen(fd, "rb") as stream:
        if stream.read() == b"ready":
            return
    tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
    raise LabError(f"{name} did not start; the end of its log:\n{tail}")
