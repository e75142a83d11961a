"""A node with a kubelet and a fake API: the ground of the kubelet's tests."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import sys
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from kernel.kubelab.fake_api import FakeApi, certificate

from kubelab.kubelet.config import KubeletConfig
from kubelab.lab import state
from kubelab.underlay import cgroups, controllers, namespaces, network, node
from kubelab.underlay.addresses import Plan, choose, machine_routes
from kubelab.underlay.node import NodeSpace

CONFLIST = {"cniVersion": "1.0.0", "name": "test", "plugins": [{"type": "ptp"}]}


def unique(prefix: str) -> str:
    return f"{prefix}{os.getpid()}-{uuid.uuid4().hex[:4]}"


async def eventually(condition: Callable[[], Awaitable[object]], timeout: float = 10.0) -> object:
    """Asks until the answer is true: for what no watch tells."""
    async with asyncio.timeout(timeout):
        while True:
            if answer := await condition():
                return answer
            await asyncio.sleep(0.02)


class Ground:
    """One lab's underlay with one node, without daemons."""

    def __init__(self) -> None:
        self.name = unique("t")
        self.paths = state.paths(self.name)
        with state.lock(".subnets", timeout=30):
            self.plan: Plan = choose(state.others(self.name), machine_routes())
            self.paths.mount()
            network.create(self.name, self.plan)
        self.space: NodeSpace = self.paths.space("node1")
        node.create(self.space, self.plan.node(1), self.plan)

    def close(self) -> None:
        cgroups.remove(cgroups.lab_path(self.name))
        controllers.remove(self.name)
        if self.paths.namespaces.is_dir():  # a test may have taken the lab down
            for pin in self.paths.namespaces.iterdir():
                namespaces.unpin(pin)
        network.destroy(self.name, self.plan.host_link)
        self.paths.unmount()
        cgroups.remove_if_empty(cgroups.lab_path(self.name).parent)

    async def sh(self, script: str) -> str:
        """Runs a shell script in the node; its output."""
        process = await asyncio.create_subprocess_exec(
            *self.space.argv(["sh", "-ec", script]), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        out, _ = await process.communicate()
        assert process.returncode == 0, f"{script}: {out.decode()}"
        return out.decode()

    async def install_plugin(self) -> None:
        """The test plugin and its configuration; the configuration last, as installers do."""
        shutil.copy(Path(__file__).parent / "ptp.sh", self.space.kubelet / "ptp")
        config = json.dumps(CONFLIST)
        await self.sh(f"cp /var/lib/kubelet/ptp /opt/cni/bin/ptp; echo '{config}' > /etc/cni/net.d/10-test.conflist")


class Execution:
    """What came out of an exec."""

    def __init__(self) -> None:
        self.streams: dict[int, bytes] = {}

    @property
    def out(self) -> str:
        return self.streams.get(1, b"").decode()

    @property
    def err(self) -> str:
        return self.streams.get(2, b"").decode()

    @property
    def code(self) -> int:
        status = json.loads(self.streams[3])
        return 0 if status["status"] == "Success" else int(status["details"]["causes"][0]["message"])


class KubeletUnderTest:
    """The kubelet of a ground's node, against a fake API."""

    def __init__(self, ground: Ground) -> None:
        self.ground = ground
        self.api = FakeApi()
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        space, plan = self.ground.space, self.ground.plan
        if not (space.kubelet / "config.json").exists():
            cert, key = certificate(space.kubelet, plan.host[0])
            port = await self.api.start(plan.host[0], cert, key)
            inside = node.KUBELET_DIRECTORY
            KubeletConfig(
                node="node1", addresses=plan.node(1), server=f"https://{plan.host[0]}:{port}",
                ca=f"{inside}/cert.pem", certificate=f"{inside}/cert.pem", key=f"{inside}/key.pem",
                socket=f"{inside}/kubelet.sock", socket_outside=str(space.kubelet / "kubelet.sock"),
            ).write(space.kubelet / "config.json")  # fmt: skip
        argv = space.argv([sys.executable, "-m", "kubelab.kubelet", f"{node.KUBELET_DIRECTORY}/config.json"])
        with (self.ground.paths.logs / "kubelet.log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(*argv, stdout=log, stderr=log)
        await self.api.until(lambda: self.api.objects.get(("/api/v1/nodes", "node1"), {}).get("status"))
        await eventually(self._listens)

    async def _listens(self) -> bool:
        try:
            async with self.http() as session, session.get("/healthz") as response:
                return response.status == 200
        except aiohttp.ClientError:
            return False

    async def stop(self, kill: bool = False) -> None:
        if self._process is not None:
            self._process.kill() if kill else self._process.terminate()
            await self._process.wait()
            self._process = None

    def log(self) -> str:
        return (self.ground.paths.logs / "kubelet.log").read_text()

    @contextlib.asynccontextmanager
    async def http(self) -> AsyncIterator[aiohttp.ClientSession]:
        connector = aiohttp.UnixConnector(str(self.ground.space.kubelet / "kubelet.sock"))
        async with aiohttp.ClientSession("http://kubelet", connector=connector) as session:
            yield session

    async def logs(self, pod: str, container: str = "c", **query: str) -> str:
        async with (
            self.http() as session,
            session.get(f"/containerLogs/default/{pod}/{container}", params=query) as response,
        ):
            return await response.text()

    async def execute(self, pod: str, *command: str, stdin: bytes | None = None, tty: bool = False) -> Execution:
        """exec as the API server asks for it."""
        query = [("command", part) for part in command] + [("output", "1"), ("error", "1")]
        query += [("input", "1")] if stdin is not None else []
        query += [("tty", "1")] if tty else []
        result = Execution()
        protocols = ["v5.channel.k8s.io"]
        async with (
            self.http() as session,
            session.ws_connect(f"/exec/default/{pod}/c", params=query, protocols=protocols) as socket,
        ):
            if tty:
                await socket.send_bytes(b"\x04" + json.dumps({"Width": 90, "Height": 33}).encode())
            if stdin is not None:
                await socket.send_bytes(b"\x00" + stdin)
                await socket.send_bytes(b"\xff\x00")
            async for message in socket:
                channel, data = message.data[0], message.data[1:]
                result.streams[channel] = result.streams.get(channel, b"") + data
        return result

    def status(self, pod: str) -> dict[str, Any]:
        return (self.api.get_pod(pod) or {}).get("status") or {}

    async def until_phase(self, pod: str, phase: str) -> dict[str, Any]:
        await self.api.until(lambda: self.status(pod).get("phase") == phase)
        return self.status(pod)

    async def until_ready(self, pod: str) -> dict[str, Any]:
        def ready() -> bool:
            return any(c["type"] == "Ready" and c["status"] == "True" for c in self.status(pod).get("conditions", []))

        await self.api.until(ready)
        return self.status(pod)


@pytest.fixture
def ground() -> Iterator[Ground]:
    made = Ground()
    yield made
    made.close()


@pytest.fixture
async def kubelet(ground: Ground) -> AsyncIterator[KubeletUnderTest]:
    under_test = KubeletUnderTest(ground)
    try:
        await under_test.start()
        yield under_test
    finally:
        await under_test.stop(kill=True)
        await under_test.api.stop()
        print(under_test.log())
