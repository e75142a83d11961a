"""Runs bench/tool.c: compiled once per run, servers and clients in namespaces of the caller's choice.

In: namespace files. Out: latencies, throughput, connections held.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).with_name("tool.c")
COMPILER = "clang-19"
PORT = 5000
"""Echo; PORT + 1 swallows, PORT + 2 echoes many at once; datagrams: PORT + 3 echoes, PORT + 4 is never read."""
UNREAD = 4
CPU = 1
"""Both ends share it: what one transaction costs is then what it takes."""


PATIENCE = 20
"""Seconds for one run, which takes less than one if no packet is lost."""


class ToolError(Exception):
    """The tool failed; the text is what it said."""


@dataclass(frozen=True, slots=True)
class Server:
    """A running server and its namespace."""

    process: subprocess.Popen[str]
    netns: str

    @property
    def cpu(self) -> int:
        """Nanoseconds on a CPU so far."""
        return int(Path(f"/proc/{self.process.pid}/schedstat").read_text().split()[0])

    @property
    def datagrams(self) -> int:
        """That reached a socket of the namespace so far, or its full buffer."""
        counters = Path(f"/proc/{self.process.pid}/net/snmp").read_text().splitlines()
        names, values = (line.split() for line in counters if line.startswith("Udp:"))
        found = dict(zip(names, values, strict=True))
        found |= dict(line.split() for line in Path(f"/proc/{self.process.pid}/net/snmp6").read_text().splitlines())
        return sum(int(found[f"{udp}{what}"]) for udp in ("", "Udp6") for what in ("InDatagrams", "RcvbufErrors"))


def softirq_cpu(cpu: int = CPU) -> int:
    """Nanoseconds of the kernel's thread that handles packets of a CPU when their senders have no time for it."""
    for path in Path("/proc").glob("[0-9]*/comm"):
        with suppress(OSError):  # ended meanwhile
            if path.read_text() == f"ksoftirqd/{cpu}\n":
                return int(path.with_name("schedstat").read_text().split()[0])
    raise ToolError(f"there is no ksoftirqd/{cpu}")


class Tool:
    """The compiled program."""

    def __init__(self, binary: Path) -> None:
        self._binary = binary

    @contextmanager
    def server(self, netns: str, *, cpu: int = CPU) -> Iterator[Server]:
        with self.started(netns, "serve", PORT, cpu=cpu) as process:
            yield Server(process, netns)

    @contextmanager
    def started(self, netns: str, mode: str, *words: object, cpu: int = CPU) -> Iterator[subprocess.Popen[str]]:
        """A process that has said it is ready; it is ended with its children on the way out."""
        process = subprocess.Popen(
            self._argv(netns, cpu, mode, *words), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            start_new_session=True,
        )  # fmt: skip
        try:
            assert process.stdout is not None
            if process.stdout.readline() != "ready\n":
                raise ToolError(f"{mode} in {netns} did not start")
            yield process
        finally:
            subprocess.run(["kill", "-9", "--", f"-{process.pid}"], capture_output=True, check=False)
            process.communicate()

    def run(self, netns: str, mode: str, *words: object, cpu: int = CPU, cgroup: Path | None = None) -> dict[str, Any]:
        """Raises ToolError."""
        argv, what = [*_joining(cgroup), *self._argv(netns, cpu, mode, *words)], f"{mode} {' '.join(map(str, words))}"
        try:
            done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            raise ToolError(f"{what}: nobody answers for {PATIENCE} s") from None
        if done.returncode:
            raise ToolError(f"{what}: {done.stderr.strip()}")
        return dict(json.loads(done.stdout))

    def _argv(self, netns: str, cpu: int, *words: object) -> list[str]:
        return [str(self._binary), netns, str(cpu), *map(str, words)]


def _joining(cgroup: Path | None) -> list[str]:
    """A command line that runs the rest inside the cgroup."""
    return ["sh", "-c", 'echo 0 >"$0/cgroup.procs" && exec "$@"', str(cgroup)] if cgroup is not None else []


@contextmanager
def compiled() -> Iterator[Tool]:
    """Raises ToolError when there is no compiler."""
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        binary = Path(directory) / "tool"
        argv = [COMPILER, "-O2", "-Wall", "-Wextra", "-Werror", "-o", str(binary), str(SOURCE)]
        try:
            subprocess.run(argv, check=True, capture_output=True, text=True)
        except FileNotFoundError:
            raise ToolError(f"{COMPILER} is not there: `make setup` installs it") from None
        except subprocess.CalledProcessError as error:
            raise ToolError(error.stderr) from None
        yield Tool(binary)
