"""One small lab for the scenarios of kubelets and clients: two nodes, a trivial network plugin, no Cilium."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from kernel.kubelab.conftest import unique
from scenario.kubelab.kubectl import Kubectl, runner
from scenario.kubelab.small_lab import SmallLab

from kubelab.apiserver.server import ApiServer


@pytest.fixture(scope="session")
def small_lab() -> Iterator[SmallLab]:
    made = SmallLab(unique("k"))
    try:
        made.up()
        yield made
    finally:
        made.down()


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[ApiServer]:
    async with ApiServer(data_dir=tmp_path / "data") as running:
        running.write_kubeconfig(tmp_path / "config", user="kubernetes-admin", groups=["system:masters"])
        yield running


@pytest.fixture
def kubectl(server: ApiServer, tmp_path: Path) -> Kubectl:
    return runner(tmp_path)
