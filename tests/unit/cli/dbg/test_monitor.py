"""`cilium-dbg monitor` against a real flow service."""

import asyncio
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from unit.hubble.serving import Serving
from unit.hubble.world import record, records

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


async def test_json(serving: Serving) -> None:
    async with serving.running():
        serving.write(TRAFFIC)
        result = await run(serving, "--json", "-t", "drop")
    assert json.loads(result.output)["drop_reason_desc"] == "POLICY_DENIED"


def test_without_a_server(tmp_path: Path) -> None:
    result = CliRunner().invoke(monitor, ["--server", f"unix://{tmp_path}/none.sock"])
    assert result.exit_code == 1
    assert "is cilium-agent running here" in result.output
