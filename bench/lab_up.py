"""`cilium lab up` with three nodes until pods can be run."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator

from bench.cluster import BIN
from bench.figures import Figure, median
from bench.options import Options
from kubelab.lab.lab import Lab

ROUNDS = 3


def run(options: Options) -> Iterator[Figure]:
    yield median("lab of 3 nodes, up and ready", [once() for _ in range(ROUNDS)], unit="s", target=20)


def once() -> float:
    name = f"bench-up-{os.getpid()}"
    start = time.perf_counter()
    try:
        argv = [str(BIN / "cilium"), "lab", "up", "--name", name, "--nodes", "3"]
        subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)
        return time.perf_counter() - start
    finally:
        Lab(name).down()
