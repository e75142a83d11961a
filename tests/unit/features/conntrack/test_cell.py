"""The collection goes on, whatever a round meets."""

from __future__ import annotations

import asyncio

import numpy as np

from cilium.datapath.fakes import FakeMap
from cilium.features.conntrack import cell
from cilium.features.conntrack.collect import Lifetimes


async def test_a_map_that_refuses_is_asked_again() -> None:
    connections, nat = FakeMap("cilium_ct"), FakeMap("cilium_snat")
    connections.update(np.zeros(1, connections.spec.key), np.zeros(1, connections.spec.value))  # expired long ago
    connections.fail_next(3)
    ((_, run),) = cell.build(
        connections=connections,
        nat=nat,
        counters=FakeMap("cilium_policy_counters"),
        capacities={"cilium_ct": 10, "cilium_snat": 10},
        interval=0.001,
        lifetimes=Lifetimes(tcp=1, tcp_syn=1, tcp_fin=1, other=1),
    ).tasks
    task = asyncio.create_task(run())
    async with asyncio.timeout(5):
        while len(connections) and not task.done():  # noqa: ASYNC110 - a map has nobody to wake
            await asyncio.sleep(0.001)
    assert not task.done()
    task.cancel()
