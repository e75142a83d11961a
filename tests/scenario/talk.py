"""Traffic between pods while the world changes: every question and what became of it.

In: client pods and what they ask (talker.py runs in their namespaces). Out: samples, to be held against what was
allowed at the time.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scenario.cluster import Cluster
from scenario.node import LabNode

TALKER = Path(__file__).with_name("talker.py")
KINDS = ("udp", "udp-new", "tcp", "tcp-new")


@dataclass(frozen=True, slots=True)
class Sample:
    """One question. Times are ns of CLOCK_MONOTONIC."""

    sent: int
    answered: int  # 0: never
    again: int  # segments that TCP had sent again on this connection by then


@dataclass(frozen=True, slots=True)
class Target:
    """What one stream asks."""

    kind: str
    address: str
    port: int
    server: str

    @property
    def protocol(self) -> str:
        return self.kind[:3].upper()


class Talker:
    """A talker in one pod's network namespace; `samples` holds a list per target, in the targets' order."""

    def __init__(self, cluster: Cluster, pod: dict[str, Any], targets: Sequence[Target], *, rate: float = 20) -> None:
        self.targets = tuple(targets)
        self.samples: list[list[Sample]] = [[] for _ in targets]
        node, meta = LabNode(cluster, pod["spec"]["nodeName"]), pod["metadata"]
        (netns,) = (
            endpoint["netns"]
            for endpoint in node.endpoints()
            if (endpoint["namespace"], endpoint["pod"]) == (meta["namespace"], meta["name"])
        )
        specs = [f"{target.kind},{target.address},{target.port}" for target in targets]
        command = ["nsenter", f"--net={netns}", sys.executable, "-I", "-S", str(TALKER), str(rate), *specs]
        self._process = subprocess.Popen(
            node.lab.node_argv(node.name, command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._ended = False
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line == "end\n":
                self._ended = True
                return
            index, *fields = map(int, line.split())
            self.samples[index].append(Sample(*fields))

    def stop(self) -> None:
        """Asks no more, and returns when every question was answered or given up."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._reader.join(10)
        self._process.kill()
        self._process.wait()
        assert self._ended, "the talker died"

    def kill(self) -> None:
        """Whatever it is doing."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def last(self, index: int) -> Sample | None:
        return self.samples[index][-1] if self.samples[index] else None
