"""The plugin's wire format and the shapes a runtime gets, and that the plugin itself speaks them."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
from ipaddress import ip_interface
from pathlib import Path

import pytest

from cilium.protocols import cni
from cilium.protocols.cni import Address, CNIError, ErrorCode, Interface, Request, Result
from cilium.sources.cni.server import CNIServer

PLUGIN = Path(cni.__file__).parents[1] / "app/cni_plugin.py"
ENVIRONMENT = {
    "CNI_COMMAND": "ADD",
    "CNI_CONTAINERID": "c1",
    "CNI_IFNAME": "eth0",
    "CNI_NETNS": "/proc/self/ns/net",
    "CNI_ARGS": "K8S_POD_NAMESPACE=default;K8S_POD_NAME=web-0",
}
CONFIG = b'{"cniVersion": "1.0.0", "name": "cilium", "type": "cilium-cni"}'
RESULT = Result(
    interfaces=[Interface("lxc1", "02:00:00:00:00:01"), Interface("eth0", "02:00:00:00:00:02", "/ns")],
    ips=[Address(ip_interface("10.0.0.5/32"), "10.0.0.1", 1), Address(ip_interface("fd00::5/128"), "fd00::1", 1)],
    routes=[{"dst": "0.0.0.0/0", "gw": "10.0.0.1"}],
    mtu=1450,
)


def decode(environment: dict[str, str], stdin: bytes) -> Request:
    return cni.decode_request(cni.encode_request(environment, stdin)[cni.HEADER.size :])


def test_request_survives_the_wire() -> None:
    request = decode(ENVIRONMENT, CONFIG)
    assert request.command == "ADD"
    assert request.args == {"K8S_POD_NAMESPACE": "default", "K8S_POD_NAME": "web-0"}
    assert request.config["name"] == "cilium"


@pytest.mark.parametrize(
    ("environment", "stdin", "code"),
    [
        (ENVIRONMENT | {"CNI_COMMAND": "FROB"}, CONFIG, ErrorCode.INVALID_ENVIRONMENT),
        (ENVIRONMENT | {"CNI_CONTAINERID": ""}, CONFIG, ErrorCode.INVALID_ENVIRONMENT),
        (ENVIRONMENT | {"CNI_NETNS": ""}, CONFIG, ErrorCode.INVALID_ENVIRONMENT),
        (ENVIRONMENT, b"{", ErrorCode.DECODE_FAILURE),
        (ENVIRONMENT, b"[]", ErrorCode.INVALID_NETWORK_CONFIG),
        (ENVIRONMENT, b'{"cniVersion": "9.9.9"}', ErrorCode.INCOMPATIBLE_VERSION),
    ],
)
def test_bad_requests_get_the_code_of_the_specification(
    environment: dict[str, str], stdin: bytes, code: ErrorCode
) -> None:
    with pytest.raises(CNIError) as caught:
        decode(environment, stdin)
    assert caught.value.code is code


def test_del_needs_no_namespace() -> None:
    assert decode(ENVIRONMENT | {"CNI_COMMAND": "DEL", "CNI_NETNS": ""}, CONFIG).netns == ""


def test_truncated_request() -> None:
    with pytest.raises(CNIError) as caught:
        cni.decode_request(b"CNI_COMMAND=ADD\0CNI_IF")
    assert caught.value.code is ErrorCode.DECODE_FAILURE


@pytest.mark.parametrize("version", cni.SUPPORTED_VERSIONS)
def test_result_takes_the_shape_of_the_version(version: str) -> None:
    request = decode(ENVIRONMENT, json.dumps({"cniVersion": version}).encode())
    body = json.loads(cni.encode_result(RESULT, request))
    assert body["cniVersion"] == version
    assert [ip["address"] for ip in body["ips"]] == ["10.0.0.5/32", "fd00::5/128"]
    assert ("version" in body["ips"][0]) == version.startswith("0.")
    assert ("mtu" in body["interfaces"][0]) == (version == "1.1.0")


def test_result_is_appended_to_a_previous_one() -> None:
    previous = {"interfaces": [{"name": "x0"}], "ips": [{"address": "192.0.2.1/24", "interface": 0}]}
    request = decode(ENVIRONMENT, json.dumps({"cniVersion": "1.0.0", "prevResult": previous}).encode())
    body = json.loads(cni.encode_result(RESULT, request))
    assert [interface["name"] for interface in body["interfaces"]] == ["x0", "lxc1", "eth0"]
    assert [ip["interface"] for ip in body["ips"]] == [0, 2, 2]


class Recorder:
    """A handler that remembers."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []
        self.inode = 0

    async def add(self, request: Request, netns_fd: int) -> Result:
        self.calls.append(("ADD", request.container_id))
        self.inode = os.fstat(netns_fd).st_ino
        return RESULT

    async def delete(self, request: Request) -> None:
        self.calls.append(("DEL", request.container_id))

    async def check(self, request: Request, netns_fd: int) -> None:
        raise CNIError(ErrorCode.CHECK_FAILED, 'interface "eth0" lost its address')

    async def collect(self, request: Request) -> None: ...

    async def status(self, request: Request) -> None: ...


async def run_plugin(directory: Path, **environment: str) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-SEI", str(PLUGIN),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        env={"CILIUM_RUN_DIR": str(directory), **ENVIRONMENT, **environment},
    )  # fmt: skip
    stdout, _ = await process.communicate(CONFIG)
    return process.returncode or 0, stdout.decode()


def server(directory: Path, handler: Recorder) -> CNIServer:
    return CNIServer(path=directory / "cni.sock", delete_queue=directory / "deleteQueue", handler=handler)


async def serve(directory: Path, handler: Recorder, body: object) -> None:
    listening = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(server(directory, handler).run(tasks, listening=listening.set))
        await listening.wait()
        try:
            await body  # type: ignore[misc]  # a coroutine
        finally:
            task.cancel()


async def test_plugin_hands_over_the_namespace_and_prints_the_result(tmp_path: Path) -> None:
    handler = Recorder()

    async def body() -> None:
        status, stdout = await run_plugin(tmp_path)
        assert status == 0
        assert json.loads(stdout)["ips"][1]["address"] == "fd00::5/128"

    await serve(tmp_path, handler, body())
    assert handler.inode == os.stat("/proc/self/ns/net").st_ino


async def test_plugin_prints_the_agents_error(tmp_path: Path) -> None:
    async def body() -> None:
        status, stdout = await run_plugin(tmp_path, CNI_COMMAND="CHECK")
        assert status == 1
        assert json.loads(stdout)["code"] == ErrorCode.CHECK_FAILED

    await serve(tmp_path, Recorder(), body())


async def test_add_waits_for_an_agent_that_restarts(tmp_path: Path) -> None:
    handler = Recorder()
    waiting = asyncio.create_task(run_plugin(tmp_path))
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "cni.sock"))
    listener.listen()
    listener.setblocking(False)
    connection, _ = await asyncio.get_running_loop().sock_accept(listener)
    connection.close()  # the agent dies with the request in hand
    listener.close()

    async def body() -> None:
        status, stdout = await waiting
        assert status == 0, stdout

    await serve(tmp_path, handler, body())
    assert handler.calls == [("ADD", "c1")]


async def test_del_without_an_agent_is_kept_and_replayed(tmp_path: Path) -> None:
    assert await run_plugin(tmp_path, CNI_COMMAND="DEL") == (0, "")
    assert await run_plugin(tmp_path, CNI_COMMAND="DEL") == (0, "")
    handler = Recorder()
    await server(tmp_path, handler).replay_deletes()
    assert handler.calls == [("DEL", "c1")]
    await server(tmp_path, handler).replay_deletes()
    assert handler.calls == [("DEL", "c1")]


async def test_status_and_check_without_an_agent_say_so(tmp_path: Path) -> None:
    for command, code in (("STATUS", 50), ("CHECK", 11), ("GC", 11)):
        status, stdout = await run_plugin(tmp_path, CNI_COMMAND=command)
        assert status == 1
        answer = json.loads(stdout)
        assert answer["code"] == code
        assert str(tmp_path) in answer["msg"]


async def test_a_namespace_that_is_not_there(tmp_path: Path) -> None:
    status, stdout = await run_plugin(tmp_path, CNI_NETNS="/run/netns/none")
    assert status == 1
    assert json.loads(stdout)["code"] == ErrorCode.INVALID_ENVIRONMENT


async def test_version_needs_no_agent(tmp_path: Path) -> None:
    status, stdout = await run_plugin(tmp_path, CNI_COMMAND="VERSION")
    assert status == 0
    assert stdout.encode() == cni.encode_version()


@pytest.mark.parametrize("container", ["../../etc/passwd", "-x", ".", "a b", "a\n", "ü", "x" * 300])
def test_container_ids_that_no_runtime_sends(container: str) -> None:
    with pytest.raises(CNIError, match="CNI_CONTAINERID") as caught:
        decode(ENVIRONMENT | {"CNI_CONTAINERID": container}, CONFIG)
    assert caught.value.code is ErrorCode.INVALID_ENVIRONMENT


@pytest.mark.parametrize("ifname", ["..", "a/b", "a:b", "a b", "sixteen-letters!", "ü", "eth0\n"])
def test_interface_names_that_no_kernel_takes(ifname: str) -> None:
    with pytest.raises(CNIError, match="CNI_IFNAME") as caught:
        decode(ENVIRONMENT | {"CNI_IFNAME": ifname}, CONFIG)
    assert caught.value.code is ErrorCode.INVALID_ENVIRONMENT


@pytest.mark.parametrize("previous", ["x", [1], 7, {"ips": "x"}, {"interfaces": {"a": 1}}, {"routes": 1}])
def test_a_previous_result_that_is_none(previous: object) -> None:
    config = json.dumps({"cniVersion": "1.0.0", "prevResult": previous}).encode()
    with pytest.raises(CNIError, match="prevResult") as caught:
        decode(ENVIRONMENT, config)
    assert caught.value.code is ErrorCode.INVALID_NETWORK_CONFIG
    decode(ENVIRONMENT | {"CNI_COMMAND": "DEL"}, config)  # what goes away asks nobody how it came


def test_a_previous_result_with_nulls_is_an_empty_one() -> None:
    previous = {"ips": None, "interfaces": None, "routes": None, "dns": None}
    request = decode(ENVIRONMENT, json.dumps({"cniVersion": "1.0.0", "prevResult": previous}).encode())
    assert len(json.loads(cni.encode_result(RESULT, request))["ips"]) == len(RESULT.ips)
