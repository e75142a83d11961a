"""From the program's event to the line on the terminal."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from pathlib import Path

import grpc
from bpf.harness import Datapath
from bpf.packets import CLIENT, SERVER, tcp
from click.testing import CliRunner
from unit.hubble.world import Cluster, endpoint

from cilium.cli.hubble.main import hubble
from cilium.datapath.ringbuf import RingBuffer
from cilium.hubble.losses import LossCounter
from cilium.hubble.server import HubbleServer


async def test_hubble_observe_shows_what_the_kernel_did(make_datapath: Callable[..., Datapath], tmp_path: Path) -> None:
    datapath, cluster = make_datapath(), Cluster()
    cluster.endpoints.commit(upserts=[endpoint(11, "here", CLIENT[6]), endpoint(22, "there", SERVER[6])])
    datapath.endpoint(CLIENT[6], 1111, id=11, egress_policy=5)
    datapath.endpoint(SERVER[6], 2222, id=22, ingress_policy=6)
    datapath.rule(5, 2222, 1, cookie=7, match=1)
    datapath.rule(6, 1111, 2, cookie=8, protocol=6, port=80, match=2)
    address = f"unix://{tmp_path}/hubble.sock"
    with RingBuffer(datapath._object("lxc").maps["cilium_events"]) as ring:
        server = HubbleServer(
            ring=ring,
            lost=LossCounter(datapath.map("cilium_events_lost")),
            tables=cluster.tables,
            nodes=cluster.nodes,
            policies=cluster.policies,
            cluster="default",
            node_name="n1",
            socket_path=f"{tmp_path}/hubble.sock",
            listen="",
        )
        task = asyncio.ensure_future(server.run())
        async with grpc.aio.insecure_channel(address) as channel:
            await channel.channel_ready()
        datapath.run_unread("from_lxc", tcp(CLIENT[6], SERVER[6], 40000, 80))
        datapath.run_unread("from_lxc", tcp(CLIENT[6], SERVER[6], 40001, 81))
        arguments = ["observe", "--pod", "here", "--print-policy-names", "--server", address]
        result = await asyncio.to_thread(CliRunner().invoke, hubble, arguments)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    lines = [re.sub(r"^\w{3} [ \d]\d [\d:.]+: ", "", line) for line in result.output.splitlines()]
    allowed = "egress allowed by CiliumNetworkPolicy default/client-out spec.egress[0]"
    way = "default/here:{} (ID:1111) -> default/there:{} (ID:2222)"
    first, second = way.format(40000, 80), way.format(40001, 81)
    assert lines == [
        f"{first} policy-verdict:L3-Only EGRESS ALLOWED (TCP Flags: SYN) ({allowed})",
        f"{first} policy-verdict:L3-L4 INGRESS ALLOWED (TCP Flags: SYN) "
        "(ingress allowed by CiliumNetworkPolicy default/echo-in spec.ingress[0])",
        f"{first} to-endpoint FORWARDED (TCP Flags: SYN) "
        f"({allowed}; ingress allowed by CiliumNetworkPolicy default/echo-in spec.ingress[0])",
        f"{second} policy-verdict:L3-Only EGRESS ALLOWED (TCP Flags: SYN) ({allowed})",
        f"{second} policy-verdict:none INGRESS DENIED (TCP Flags: SYN)",
        f"{second.replace('->', '<>')} Policy denied DROPPED (TCP Flags: SYN) ({allowed})",
    ]
