"""The life of an endpoint, with a network that can fail."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from cilium.features.endpoint.manager import EndpointManager, Link
from cilium.features.endpoint.statedir import StateDirectory
from cilium.protocols.cni import CNIError, ErrorCode, Request
from cilium.state import Table
from cilium.tables.endpoints import Endpoint
from cilium.tables.types import Ifindex, IPAddress


class Network:
    """Interfaces by name; `fails` makes the next connection fail."""

    def __init__(self) -> None:
        self.interfaces: dict[str, int] = {}
        self.inside: list[IPAddress] = []
        self.fails = ""

    async def connect(self, *, ifname: str, addresses: Sequence[IPAddress], **_: Any) -> Link:
        if self.fails:
            raise OSError(self.fails)
        self.interfaces[ifname] = len(self.interfaces) + 10
        self.inside = list(addresses)
        return Link(Ifindex(self.interfaces[ifname]), "02:00:00:00:00:02", "02:00:00:00:00:01")

    async def disconnect(self, ifname: str) -> None:
        self.interfaces.pop(ifname, None)

    async def find(self, ifname: str) -> Ifindex | None:
        number = self.interfaces.get(ifname)
        return None if number is None else Ifindex(number)

    async def inspect(self, *, netns_fd: int, container_ifname: str) -> Sequence[IPAddress]:
        return self.inside


class Pool:
    def __init__(self) -> None:
        self.used: dict[IPAddress, str] = {}

    def allocate(self, owner: str) -> tuple[IPAddress, ...]:
        number = next(n for n in range(2, 9) if ip_address(f"10.0.0.{n}") not in self.used)
        pair = (ip_address(f"10.0.0.{number}"), ip_address(f"fd00::{number}"))
        self.claim(pair, owner)
        return pair

    def claim(self, addresses: Sequence[IPAddress], owner: str) -> None:
        self.used.update(dict.fromkeys(addresses, owner))

    def release(self, addresses: Sequence[IPAddress]) -> None:
        for address in addresses:
            self.used.pop(address, None)


class Ready:
    lacks = ""

    async def wait(self, endpoint: Endpoint, seconds: float) -> None:
        if self.lacks:
            raise TimeoutError(self.lacks)


class World:
    def __init__(self, path: Path) -> None:
        self.network, self.pool, self.ready, self.path = Network(), Pool(), Ready(), path
        self.start()

    def start(self) -> None:
        """An agent's life: tables are empty, the network and the disk are as they were."""
        self.pool = Pool()
        self.table: Table[Any, Endpoint] = Table(
            "endpoints", key=lambda row: row.id,
            indexes={"container": lambda row: (row.container_id,), "pod": lambda row: (f"{row.namespace}/{row.pod}",)},
        )  # fmt: skip
        self.manager = EndpointManager(
            table=self.table, writer=self.table.writer("test"), state=StateDirectory(self.path), links=self.network,
            addresses=self.pool, readiness=self.ready, gateways=lambda: (ip_address("10.0.0.1"), ip_address("fd00::1")),
            mtu=lambda: 1450, unavailable=lambda: "",
        )  # fmt: skip

    @property
    def rows(self) -> list[Endpoint]:
        return list(self.table.snapshot())

    def clean(self) -> bool:
        return not self.network.interfaces and not self.pool.used and not self.rows and not list(self.path.iterdir())


@pytest.fixture
async def world(tmp_path: Path) -> World:
    return World(tmp_path)


def request(command: str = "ADD", container: str = "c1", pod: str = "web-0", **config: Any) -> Request:
    args = {"K8S_POD_NAMESPACE": "default", "K8S_POD_NAME": pod} if pod else {}
    return Request(command, container, "/run/netns/x", "eth0", args, {"cniVersion": "1.0.0", **config})


async def test_add_and_delete_leave_nothing(world: World) -> None:
    result = await world.manager.add(request(), 3)
    assert [str(ip.address) for ip in result.ips] == ["10.0.0.2/32", "fd00::2/128"]
    assert [ip.gateway for ip in result.ips] == ["10.0.0.1", "fd00::1"]
    assert world.rows[0].pod == "web-0"
    await world.manager.delete(request("DEL"))
    await world.manager.delete(request("DEL"))
    assert world.clean()


async def test_a_repeated_add_is_the_same_endpoint(world: World) -> None:
    assert await world.manager.add(request(), 3) == await world.manager.add(request(), 3)
    assert len(world.rows) == 1


async def test_a_new_sandbox_replaces_the_old_one(world: World) -> None:
    await world.manager.add(request(container="c1"), 3)
    await world.manager.add(request(container="c2"), 3)
    assert [row.container_id for row in world.rows] == ["c2"]
    await world.manager.delete(request("DEL", container="c1"))
    assert len(world.rows) == 1


async def test_a_failing_network_gives_everything_back(world: World) -> None:
    world.network.fails = "No such device"
    with pytest.raises(CNIError, match="No such device") as caught:
        await world.manager.add(request(), 3)
    assert caught.value.code is ErrorCode.IO_FAILURE
    assert world.clean()


async def test_an_endpoint_that_never_gets_ready_is_taken_back_and_says_why(world: World) -> None:
    world.ready.lacks = "no policy was computed for it"
    with pytest.raises(CNIError, match=r"default/web-0 is not ready.*no policy"):
        await world.manager.add(request(), 3)
    assert world.clean()


async def test_a_container_without_a_pod(world: World) -> None:
    with pytest.raises(CNIError, match="K8S_POD_NAME") as caught:
        await world.manager.add(request(pod=""), 3)
    assert caught.value.code is ErrorCode.INVALID_ENVIRONMENT


async def test_restart_restores_what_still_has_its_interface(world: World) -> None:
    await world.manager.add(request(container="c1", pod="a"), 3)
    await world.manager.add(request(container="c2", pod="b"), 3)
    before = {row.container_id: row for row in world.rows}
    del world.network.interfaces[before["c2"].ifname]
    world.start()
    assert await world.manager.restore() == 1
    assert world.rows == [before["c1"]]
    assert set(world.pool.used) == set(before["c1"].addresses)
    assert (await world.manager.add(request(container="c1", pod="a"), 3)).ips[0].address.ip == before["c1"].addresses[0]


async def test_unreadable_state_is_left_for_people_and_disturbs_nobody(world: World) -> None:
    await world.manager.add(request(), 3)
    (world.path / "99").mkdir()
    (world.path / "99" / "ep.json").write_text("{")
    world.start()
    assert await world.manager.restore() == 1
    assert (world.path / "99" / "ep.json").exists()


async def test_check_names_what_is_missing(world: World) -> None:
    await world.manager.add(request(), 3)
    await world.manager.check(request("CHECK"), 3)
    world.network.inside.pop()
    with pytest.raises(CNIError, match="fd00::2"):
        await world.manager.check(request("CHECK"), 3)
    with pytest.raises(CNIError, match="no endpoint for container c9"):
        await world.manager.check(request("CHECK", container="c9"), 3)


async def test_gc_keeps_what_is_valid(world: World) -> None:
    await world.manager.add(request(container="c1", pod="a"), 3)
    await world.manager.add(request(container="c2", pod="b"), 3)
    keep = [{"containerID": "c2", "ifname": "eth0"}]
    await world.manager.collect(request("GC", **{"cni.dev/valid-attachments": keep}))
    assert [row.container_id for row in world.rows] == ["c2"]
    with pytest.raises(CNIError, match="valid-attachments"):
        await world.manager.collect(request("GC"))


# -- misfortune


async def test_a_full_disk_gives_everything_back(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(CNIError, match="No space left") as caught:
            await world.manager.add(request(), 3)
    assert caught.value.code is ErrorCode.IO_FAILURE
    assert world.clean()
    await world.manager.add(request(), 3)
    assert len(world.rows) == 1


async def test_a_failure_nobody_foresaw_gives_everything_back(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(**_: Any) -> Link:
        raise ZeroDivisionError

    monkeypatch.setattr(world.network, "connect", broken)
    with pytest.raises(ZeroDivisionError):
        await world.manager.add(request(), 3)
    assert world.clean()


async def test_an_address_in_use_costs_one_pod_its_network_and_nobody_the_agent(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.manager.add(request(container="c1", pod="a"), 3)
    await world.manager.add(request(container="c2", pod="b"), 3)
    lost, kept = sorted(world.rows, key=lambda row: row.id)
    world.start()
    claim = world.pool.claim

    def refuse(addresses: Sequence[IPAddress], owner: str) -> None:
        if owner == "default/a":
            raise ValueError(f"{addresses[0]} is in use by router")
        claim(addresses, owner)

    monkeypatch.setattr(world.pool, "claim", refuse)
    assert await world.manager.restore() == 1
    assert world.rows == [kept]
    assert (world.path / str(lost.id) / "ep.json").exists()


@pytest.mark.parametrize(
    "change", [{"id": "7"}, {"id": 70000}, {"id": 8}, {"ifname": 5}, {"addresses": "10.0.0.1"}, {"mac": None}, []]
)
async def test_state_that_is_no_endpoint(world: World, change: Any) -> None:
    await world.manager.add(request(), 3)
    path = world.path / str(world.rows[0].id) / "ep.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | change if isinstance(change, dict) else change))
    world.start()
    assert await world.manager.restore() == 0
    assert path.exists()


async def test_a_restart_gives_no_number_again_that_was_just_in_use(world: World) -> None:
    await world.manager.add(request(container="c1", pod="a"), 3)
    await world.manager.add(request(container="c2", pod="b"), 3)
    world.start()
    await world.manager.restore()
    await world.manager.delete(request("DEL", container="c1"))
    await world.manager.add(request(container="c3", pod="c"), 3)
    assert sorted(row.id for row in world.rows) == [2, 3]


async def test_many_at_once_for_one_container_are_one_after_another(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ADD and DEL of one container never overlap, however they come."""
    inside = 0
    connect = world.network.connect

    async def slowly(**fields: Any) -> Link:
        nonlocal inside
        inside += 1
        assert inside == 1
        for _ in range(3):
            await asyncio.sleep(0)
        link = await connect(**fields)
        inside -= 1
        return link

    monkeypatch.setattr(world.network, "connect", slowly)
    await asyncio.gather(
        *(world.manager.add(request(), 3) if n % 3 else world.manager.delete(request("DEL")) for n in range(30))
    )
    assert len(world.rows) == len(world.network.interfaces) == 1
    await world.manager.delete(request("DEL"))
    assert world.clean()


async def test_two_who_remove_one_endpoint_free_its_address_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await world.manager.add(request(container="c1", pod="a"), 3)
    slow = asyncio.Event()
    disconnect = world.network.disconnect
    calls = 0

    async def slowly(ifname: str) -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            await slow.wait()
        await disconnect(ifname)

    monkeypatch.setattr(world.network, "disconnect", slowly)
    first = asyncio.create_task(world.manager.delete(request("DEL", container="c1")))
    await asyncio.sleep(0)
    await world.manager.collect(request("GC", **{"cni.dev/valid-attachments": []}))
    await world.manager.add(request(container="c2", pod="b"), 3)  # gets the address that GC freed
    slow.set()
    await first
    assert set(world.pool.used) == set(world.rows[0].addresses)


@pytest.mark.parametrize("valid", [None, "x", {}, [None], ["c1"]])
async def test_gc_that_names_nothing_removes_nothing(world: World, valid: Any) -> None:
    await world.manager.add(request(), 3)
    with pytest.raises(CNIError, match="valid-attachments"):
        await world.manager.collect(request("GC", **{"cni.dev/valid-attachments": valid}))
    assert len(world.rows) == 1


async def test_a_delete_does_not_wait_for_an_add_that_nobody_wants_any_more(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    reached = asyncio.Event()

    async def never(endpoint: Endpoint, seconds: float) -> None:
        reached.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(world.ready, "wait", never)
    add = asyncio.create_task(world.manager.add(request(), 3))
    await reached.wait()
    async with asyncio.timeout(5):
        await world.manager.delete(request("DEL"))
    with pytest.raises(CNIError, match="was deleted during its ADD"):
        await add
    assert world.clean()


async def test_an_agent_that_stops_in_an_add_leaves_it_to_the_next(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    reached = asyncio.Event()

    async def never(endpoint: Endpoint, seconds: float) -> None:
        reached.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(world.ready, "wait", never)
    add = asyncio.create_task(world.manager.add(request(), 3))
    await reached.wait()
    add.cancel()
    with pytest.raises(asyncio.CancelledError):
        await add
    world.start()
    assert await world.manager.restore() == 1


async def test_state_is_nobody_elses_business(tmp_path: Path) -> None:
    world = World(tmp_path / "state")
    await world.manager.add(request(), 3)
    folder = world.path / str(world.rows[0].id)
    assert [path.stat().st_mode & 0o777 for path in (world.path, folder, folder / "ep.json")] == [0o700, 0o700, 0o600]
