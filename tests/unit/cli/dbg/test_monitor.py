"""`cilium-dbg monitor` against a real flow service."""

import asyncio
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from unit.hubble.serving import Serving
from unit.hubble.world import record, records, socket_record

from cilium.cli.dbg.monitor import monitor
from cilium.datapath.generated import DropReason, EventFlags, EventType, FlowVerdict

TRAFFIC = records(
    record(),
    record(
        type=EventType.DROP,
        reason=DropReason.POLICY_DENIED,
        verdict=FlowVerdict.DROPPED,
        flags=EventFlags.INGRESS_DECIDED,
    ),
)


@pytest.fixture
def serving(tmp_path: Path) -> Serving:
    return Serving(tmp_path)


async def run(serving: Serving, *arguments: str) -> Result:
    fixed = ["--no-follow", "--server", serving.address]
    return await asyncio.to_thread(CliRunner().invoke, monitor, [*arguments, *fixed])


async def test_lines_of_chosen_types_and_endpoints(serving: Serving) -> None:
    async with serving.running():
        serving.write(TRAFFIC)
        everything = await run(serving)
        drops = await run(serving, "--type", "drop", "--type", "trace", "--related-to", "20")
        nobody = await run(serving, "--from", "99")
    assert [line.split()[0] for line in everything.output.splitlines()] == ["->", "Policy", "xx"]
    assert [line.split()[0] for line in drops.output.splitlines()] == ["->", "xx"]
    assert nobody.output == ""


async def test_sockets(serving: Serving) -> None:
    async with serving.running():
        serving.write(records(TRAFFIC, socket_record()))
        chosen = await run(serving, "-t", "trace-sock", "--from", "10")
        wrong = await run(serving, "-t", "socket")
    assert chosen.output.splitlines() == [
        f"[{point}-xlate-fwd] cgroup_id: 4711 sock_cookie: 77, dst [{address} tcp, endpoint 10, service default/web"
        for point, address in (("pre", "10.96.0.80]:80"), ("post", "10.0.1.20]:8080"))
    ]
    assert wrong.exit_code == 2
    assert "trace-sock" in wrong.output


async def test_json(serving: Serving) -> None:
    async with serving.running():
        serving.write(TRAFFIC)
        result = await run(serving, "--json", "-t", "drop")
    assert json.loads(result.output)["drop_reason_desc"] == "POLICY_DENIED"


def test_without_a_server(tmp_path: Path) -> None:
    result = CliRunner().invoke(monitor, ["--server", f"unix://{tmp_path}/none.sock"])
    assert result.exit_code == 1
    assert "is cilium-agent running here" in result.output
