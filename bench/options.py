"""What the command line decides, for every benchmark."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from bench.cluster import Cluster, cluster


@dataclass(frozen=True, slots=True)
class Options:
    rounds: int = 15
    full: bool = False  # as long as the targets say

    @contextmanager
    def cluster(self, *, nodes: int) -> Iterator[Cluster]:
        with cluster(nodes) as made:
            yield made
