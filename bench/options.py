"""What the command line decides, for every benchmark."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from bench.cluster import Cluster, cluster


@dataclass(frozen=True, slots=True)
class Options:
    rounds: int = 15
    full: bool = False  # as long as the targets say
    services: tuple[int, ...] = (1, 100, 1_000, 10_000)

    @contextmanager
    def cluster(self, *, nodes: int, values: Mapping[str, Any] | None = None, name: str = "") -> Iterator[Cluster]:
        """`values`: as in a values file; `name`: tells one of several at once from the others."""
        with cluster(nodes, values, name) as made:
            yield made
