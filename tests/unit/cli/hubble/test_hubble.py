"""The command against a real server on a unix socket: output formats, status, list, config, errors."""

import asyncio
import json
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from unit.hubble.serving import Serving
from unit.hubble.world import (
    CLIENT,
    CLIENT6,
    ECHO,
    ECHO6,
    HOST_COOKIE,
    WEB,
    WEB6,
    WORLD,
    record,
    records,
    socket_record,
)

from cilium.cli.hubble import times
from cilium.cli.hubble.main import hubble
from cilium.datapath.generated import DropReason, EventFlags, EventType, FlowVerdict

KNOWN = EventFlags.REPLY_KNOWN
TRAFFIC = records(
    record(flags=KNOWN | EventFlags.LOCAL),
    record(
        source=ECHO,
        destination=CLIENT,
        source_port=8080,
        destination_port=43210,
        source_endpoint=20,
        destination_endpoint=10,
        source_identity=2222,
        destination_identity=1111,
        flags=KNOWN | EventFlags.REPLY | EventFlags.LOCAL,
        tcp_flags=0x12,
    ),
    record(
        type=EventType.DROP,
        reason=DropReason.POLICY_DENY,
        verdict=FlowVerdict.DROPPED,
        flags=EventFlags.INGRESS_DECIDED,
        ingress_cookie=9,
        ingress_match=1,
    ),
    record(
        source=CLIENT6,
        destination=ECHO6,
        destination_identity=2,
        destination_endpoint=0,
        protocol=58,
        source_port=128,
        destination_port=0,
    ),
    record(destination=WORLD, destination_identity=2, destination_endpoint=0, destination_port=443),
)


@pytest.fixture
def serving(tmp_path: Path) -> Serving:
    return Serving(tmp_path)


async def run(serving: Serving, *arguments: str) -> Result:
    return await asyncio.to_thread(CliRunner().invoke, hubble, [*arguments, "--server", serving.address])


def without_times(output: str) -> list[str]:
    return [re.sub(r"^\w{3} [ \d]\d \d\d:\d\d:\d\d\.\d{3}", "T", line) for line in output.splitlines()]


async def test_compact(serving: Serving) -> None:
    async with serving.running():
        serving.write(TRAFFIC)
        result = await run(serving, "observe", "--print-policy-names")
    assert without_times(result.output) == [
        "T: default/client:43210 (ID:1111) -> default/echo:8080 (ID:2222) to-endpoint FORWARDED (TCP Flags: SYN)",
        "T: default/client:43210 (ID:1111) <- default/echo:8080 (ID:2222) to-endpoint FORWARDED (TCP Flags: SYN, ACK)",
        "T: default/client:43210 (ID:1111) -> default/echo:8080 (ID:2222) policy-verdict:L3-Only INGRESS DENIED "
        "(TCP Flags: SYN) (ingress denied by CiliumNetworkPolicy default/echo-shut specs[2].ingressDeny[1]; log: shut)",
        "T: default/client:43210 (ID:1111) <> default/echo:8080 (ID:2222) Policy denied by denylist DROPPED "
        "(TCP Flags: SYN) (ingress denied by CiliumNetworkPolicy default/echo-shut specs[2].ingressDeny[1]; log: shut)",
        "T: default/client (ID:1111) -> fd00::20 (world) to-endpoint FORWARDED (ICMPv6 EchoRequest)",
        "T: default/client:43210 (ID:1111) -> 192.0.2.1:443 (world) to-endpoint FORWARDED (TCP Flags: SYN)",
    ]


SOCKETS = records(
    socket_record(),
    socket_record(point=3, protocol=17, destination=ECHO6, destination_port=53, translated=WEB6, translated_port=80),
    socket_record(netns_cookie=HOST_COOKIE),
)


async def test_sockets(serving: Serving) -> None:
    async with serving.running():
        serving.write(SOCKETS)
        result = await run(serving, "observe", "-t", "trace-sock")
        after = await run(serving, "observe", "-t", "trace-sock:post-xlate-fwd,trace-sock:4", "--verdict", "TRANSLATED")
        numeric = await run(serving, "observe", "-t", "trace-sock", "--numeric", "--first", "2")
    lines = [
        "T: default/client (ID:1111) <> default/web:80 (world-ipv4) pre-xlate-fwd TRACED (TCP)",
        "T: default/client (ID:1111) <> default/echo:8080 (ID:2222) post-xlate-fwd TRANSLATED (TCP)",
        "T: [fd00::20]:53 (world-ipv6) <> default/client (ID:1111) pre-xlate-rev TRACED (UDP)",
        "T: [fd00:96::80]:80 (world-ipv6) <> default/client (ID:1111) post-xlate-rev TRANSLATED (UDP)",
        "T: host (host) <> default/web:80 (world-ipv4) pre-xlate-fwd TRACED (TCP)",
        "T: host (host) <> default/echo:8080 (ID:2222) post-xlate-fwd TRANSLATED (TCP)",
    ]
    assert without_times(result.output) == lines
    assert without_times(after.output) == [lines[1], lines[3], lines[5]]
    assert without_times(numeric.output) == [
        f"T: {CLIENT} (ID:1111) <> {WEB}:80 (ID:9) pre-xlate-fwd TRACED (TCP)",
        f"T: {CLIENT} (ID:1111) <> {ECHO}:8080 (ID:2222) post-xlate-fwd TRANSLATED (TCP)",
    ]


async def test_sockets_as_json(serving: Serving) -> None:
    async with serving.running():
        serving.write(SOCKETS)
        result = await run(serving, "observe", "-o", "json", "--verdict", "TRANSLATED", "--first", "1")
    flow = json.loads(result.output)["flow"]
    assert flow["verdict"] == "TRANSLATED"
    assert (flow["Type"], flow["event_type"]) == ("SOCK", {"type": 7, "sub_type": 2})
    assert flow["sock_xlate_point"] == "SOCK_XLATE_POINT_POST_DIRECTION_FWD"
    assert (flow["socket_cookie"], flow["cgroup_id"]) == ("77", "4711")
    assert flow["destination_service"] == {"name": "web", "namespace": "default"}


async def test_services(serving: Serving) -> None:
    told = records(
        record(destination=WEB, destination_port=80, destination_endpoint=0, destination_identity=2),
        record(source=WEB, source_port=80, source_endpoint=0, source_identity=2, destination=CLIENT),
        record(),
    )
    async with serving.running():
        serving.write(told)
        either = await run(serving, "observe", "--service", "web")
        asked = await run(serving, "observe", "--to-service", "default/we")
        answers = await run(serving, "observe", "--from-service", "web", "-n", "default")
        nobody = await run(serving, "observe", "--service", "prod/web")
        others = await run(serving, "observe", "--not", "--service", "/web")
    line = "T: default/client:43210 (ID:1111) -> default/web:80 (world) to-endpoint FORWARDED (TCP Flags: SYN)"
    assert without_times(asked.output) == [line]
    assert [part.split()[1] for part in without_times(answers.output)] == ["default/web:80"]
    assert without_times(either.output) == [line, *without_times(answers.output)]
    assert nobody.output == ""
    assert len(others.output.splitlines()) == 1


async def test_numbers_and_nodes(serving: Serving) -> None:
    async with serving.running():
        serving.write(TRAFFIC[-2:])
        result = await run(serving, "observe", "--numeric", "--print-node-name", "--last", "1")
    assert without_times(result.output) == [
        f"T [default/n1]: {CLIENT}:43210 (ID:1111) -> 192.0.2.1:443 (ID:2) to-endpoint FORWARDED (TCP Flags: SYN)"
    ]


async def test_filters_and_colours(serving: Serving) -> None:
    async with serving.running():
        serving.write(TRAFFIC)
        result = await run(serving, "observe", "--VERDICT", "dropped", "-t", "drop", "--color", "always")
        nothing = await run(serving, "observe", "--pod", "nobody")
    assert "\033[31mDROPPED\033[0m" in result.output
    assert len(result.output.splitlines()) == 1
    assert (nothing.exit_code, nothing.output) == (0, "")


@pytest.mark.parametrize("output", ["json", "jsonpb"])
async def test_json(serving: Serving, output: str) -> None:
    async with serving.running():
        serving.write(TRAFFIC[:1])
        result = await run(serving, "observe", "-o", output)
    (line,) = result.output.splitlines()
    flow = json.loads(line)["flow"]
    assert flow["source"]["pod_name"] == "client"
    assert flow["l4"]["TCP"] == {"source_port": 43210, "destination_port": 8080, "flags": {"SYN": True}}
    assert flow["verdict"] == "FORWARDED"
    assert flow["trace_observation_point"] == "TO_ENDPOINT"


async def test_dict_and_table(serving: Serving) -> None:
    async with serving.running():
        serving.write(TRAFFIC[:1])
        as_dict = await run(serving, "observe", "-o", "dict")
        table = await run(serving, "observe", "-o", "table")
    assert "     SOURCE: default/client:43210 (ID:1111)\n" in as_dict.output
    assert as_dict.output.endswith("    SUMMARY: TCP Flags: SYN\n------------\n")
    header, row = table.output.splitlines()
    assert header.split() == ["TIMESTAMP", "SOURCE", "DESTINATION", "TYPE", "VERDICT", "SUMMARY"]
    assert header.index("VERDICT") == row.index("FORWARDED")


async def test_following_ends_with_the_reader(serving: Serving) -> None:
    """`hubble observe -f | head -1` prints a line and ends in peace."""
    async with serving.running():
        serving.write(TRAFFIC)
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "cilium.cli.hubble.main",
            *("observe", "--follow", "--last", "1", "--server", serving.address),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={"PYTHONPATH": "src"},
        )
        assert process.stdout is not None
        assert b"FORWARDED" in await process.stdout.readline()
        serving.write(TRAFFIC[:1])
        assert b"to-endpoint" in await process.stdout.readline()
        process.terminate()
        await process.communicate()


async def test_losses_are_told_on_stderr(serving: Serving) -> None:
    async with serving.running():
        serving.write(TRAFFIC[:1])
        serving.lost = 12
        result = await run(serving, "observe")
        silent = await run(serving, "observe", "-s")
    assert result.stderr == "EVENTS LOST: PERF_EVENT_RING_BUFFER 12\n"
    assert silent.stderr == ""


async def test_status_and_lists(serving: Serving) -> None:
    async with serving.running():
        serving.write(TRAFFIC)
        status = await run(serving, "status")
        as_json = await run(serving, "status", "-o", "json")
        nodes = await run(serving, "list", "nodes")
        namespaces = await run(serving, "list", "namespaces")
    assert "Current/Max Flows: 6/1,000 (0.60%)\n" in status.output
    assert "Connected Nodes: 1/1\n" in status.output
    assert json.loads(as_json.output)["max_flows"] == "1000"
    assert re.search(r"^default/n1 +Connected .* 6/1000$", nodes.output, re.MULTILINE)
    assert namespaces.output.splitlines()[1].split() == ["default", "default"]


async def test_agent_events(serving: Serving) -> None:
    async with serving.running():
        result = await run(serving, "observe", "agent-events")
    assert re.search(r"AGENT_STARTED \{\"time\": \"20", result.output)


async def test_errors_of_the_server_are_one_line(serving: Serving) -> None:
    async with serving.running():
        result = await run(serving, "observe", "--ip", "10.0.0")
    assert result.exit_code == 1
    assert "invalid argument: whitelist[0].source_ip: '10.0.0'" in result.output
    assert "Traceback" not in result.output


def test_a_server_that_is_away(tmp_path: Path) -> None:
    result = CliRunner().invoke(hubble, ["observe", "--server", f"unix://{tmp_path}/none.sock", "--timeout", "100ms"])
    assert result.exit_code == 1
    assert "no such socket: is cilium-agent running here" in result.output
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        result = CliRunner().invoke(hubble, ["status", "--server", address, "--timeout", "100ms"])
    assert result.exit_code == 1
    assert f"{address}: no answer within 0.1 s; give another with --server" in result.output


def test_the_environment_and_the_file_name_the_server(tmp_path: Path) -> None:
    path = str(tmp_path / "config.yaml")
    runner = CliRunner()
    assert runner.invoke(hubble, ["--config", path, "config", "set", "server", "unix:///file.sock"]).exit_code == 0
    assert runner.invoke(hubble, ["--config", path, "config", "get", "server"]).output == "unix:///file.sock\n"
    assert (
        "unix:///file.sock: no such" in runner.invoke(hubble, ["--config", path, "status", "--timeout", "50ms"]).output
    )
    env = {"HUBBLE_SERVER": "unix:///env.sock"}
    assert (
        "unix:///env.sock" in runner.invoke(hubble, ["--config", path, "status", "--timeout", "50ms"], env=env).output
    )
    assert runner.invoke(hubble, ["--config", path, "config", "reset", "server"]).exit_code == 0
    assert runner.invoke(hubble, ["--config", path, "config", "view"]).output == ""
    bad = runner.invoke(hubble, ["--config", path, "config", "set", "sever", "x"])
    assert (bad.exit_code, "'sever' is no setting; known: server" in bad.output) == (1, True)


def test_times() -> None:
    assert times.duration("1h30m").total_seconds() == 5400
    assert times.nanoseconds("1970-01-01T00:00:01.5Z") == 1_500_000_000
    assert times.nanoseconds("1970-01-01T01:00:01+01:00") == 1_000_000_000
    assert times.formatted(0, 7_000_000, "RFC3339Milli").endswith(("Z", ":00", ":30"))
    assert ".007" in times.formatted(0, 7_000_000, "StampMilli")


def test_importing_the_command_loads_neither_grpc_nor_numpy() -> None:
    script = (
        "import sys, cilium.cli.hubble.main\n"
        "print([name for name in ('grpc', 'numpy', 'google.protobuf', 'yaml') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, env={"PYTHONPATH": "src"}
    )
    assert done.stdout == "[]\n"
