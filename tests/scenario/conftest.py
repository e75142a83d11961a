"""Labs for scenario tests. Each has a name of its own, so it lives beside others, and goes even when tests fail."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from scenario.cluster import Cluster, lacks

TUNNEL = ""
NATIVE = """
ipam: {mode: kubernetes}
routingMode: native
autoDirectNodeRoutes: true
ipv4NativeRoutingCIDR: 10.244.0.0/16
ipv6NativeRoutingCIDR: fd00:10:244::/48
"""
MODES = {"tunnel": TUNNEL, "native": NATIVE}


def make(mode: str, directory: Path) -> Iterator[Cluster]:
    if reason := lacks():
        pytest.skip(reason)
    values = directory / f"{mode}.yaml"
    values.write_text(MODES[mode])
    made = Cluster(f"t{os.getpid()}-{mode[0]}")
    try:
        made.up(nodes=3, values=values)
        yield made
    finally:
        made.down()


@pytest.fixture(scope="session", params=list(MODES))
def cluster(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Three nodes, once per routing mode; tunnel comes with cluster-pool IPAM, native with that of Kubernetes."""
    yield from make(request.param, tmp_path_factory.mktemp("values"))


@pytest.fixture(scope="session")
def tunnel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """For what does not depend on the routing mode."""
    yield from make("tunnel", tmp_path_factory.mktemp("values"))
