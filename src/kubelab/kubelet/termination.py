"""The message that a container leaves behind: ``terminationMessagePath`` and ``terminationMessagePolicy``.

In: the file that is mounted there, the log. Out: text for ``state.terminated.message``.
"""

from __future__ import annotations

import os
from pathlib import Path

from kubelab.kubelet.config import Object
from kubelab.kubelet.runtime.contract import Mount

PATH = "/dev/termination-log"
LIMIT = 4096
LOG_LIMIT, LOG_LINES = 2048, 80


def mount(container: Object, directory: Path) -> Mount:
    """An empty file for the container to write to, fresh for each of its lives."""
    path = directory / "termination-log"
    path.unlink(missing_ok=True)
    path.touch(0o666)
    path.chmod(0o666)  # containers may run as any user
    return Mount(str(path), container.get("terminationMessagePath") or PATH)


def message(container: Object, directory: Path, log: Path, code: int) -> str:
    """What it wrote; with FallbackToLogsOnError, nothing written and a failure, the log's last lines."""
    written = _tail(directory / "termination-log", LIMIT)
    if written or not code or container.get("terminationMessagePolicy") != "FallbackToLogsOnError":
        return written
    return "".join(_tail(log, LOG_LIMIT).splitlines(keepends=True)[-LOG_LINES:])


def _tail(path: Path, limit: int) -> str:
    try:
        with path.open("rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            return os.pread(stream.fileno(), limit, max(0, size - limit)).decode(errors="replace")
    except OSError:
        return ""
