"""`cilium lab up` with three nodes until pods can be run, and `cilium lab down`."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator

from bench.cluster import BIN
from bench.figures import Figure, median
from bench.options import Options
from kubelab.lab.lab import Lab

ROUNDS = 5


def run(options: Options) -> Iterator[Figure]:
    rounds = [once() for _ in range(ROUNDS)]
    yield median("lab of 3 nodes, up and ready", [up for up, _ in rounds], unit="s", target=20)
    yield median("lab of 3 nodes, down", [down for _, down in rounds], unit="s", target=3)


def once() -> tuple[float, float]:
    """Seconds of up and down."""
    name = f"bench-up-{os.getpid()}"
    try:
        up = timed("up", "--name", name, "--nodes", "3")
        return up, timed("down", "--name", name)
    finally:
        Lab(name).down()


def timed(*words: str) -> float:
    start = time.perf_counter()
    subprocess.run([str(BIN / "cilium"), "lab", *words], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start
