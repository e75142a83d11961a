"""Programs at their hooks on the real kernel: pins that survive, atomic replacement under traffic, leftovers."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from kernel.datapath.namespaces import Namespace, ip

from cilium.datapath.clsact import ClsactLinks
from cilium.datapath.deferred import DeferredLinks
from cilium.datapath.errors import KernelError
from cilium.datapath.libbpf.objects import Program
from cilium.datapath.links import CgroupLinks, DeviceLinks, Direction, TcxLinks, device_links, tcx_supported
from cilium.datapath.loader import LoadedObject, load
from cilium.datapath.maps import PinnedMap
from cilium.datapath.mapspec import MapSpec
from cilium.datapath.netlink.netns import run_in_netns

pytestmark = pytest.mark.kernel
ATTACH_CONNECT4 = 10  # BPF_CGROUP_INET4_CONNECT
Pair = tuple[Namespace, Namespace]


class Settling(DeferredLinks):
    """Filters are replaced by links at once."""

    def attach(self, device: str, ifindex: int, direction: Direction, program: Program) -> bool:
        changed = super().attach(device, ifindex, direction, program)
        while self.settle():
            pass
        return changed


@pytest.fixture(params=["tcx", "clsact", "deferred", "settled"])
def links(request: pytest.FixtureRequest, bpf_dir: Path) -> DeviceLinks:
    tcx = TcxLinks(bpf_dir / "links")
    match request.param:
        case "tcx":
            return tcx
        case "clsact":
            return ClsactLinks()
        case "deferred":
            return DeferredLinks(tcx, prefix="veth")
        case _:
            return Settling(tcx, prefix="veth")


@pytest.fixture
def ifindex(pair: Pair) -> int:
    return run_in_netns(pair[0].fd, lambda: socket.if_nametoindex("veth0"))


def reachable(source: Namespace, *, timeout: float) -> bool:
    """Whether a datagram from `source` to 10.9.9.2 comes back as port unreachable."""

    def probe() -> bool:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.settimeout(timeout)
            sender.connect(("10.9.9.2", 9))
            try:
                sender.send(b"x")
                sender.recv(1)
            except ConnectionRefusedError:
                return True
            except TimeoutError:
                return False
        return True

    return run_in_netns(source.fd, probe)


def test_this_kernel_gets_tcx(bpf_dir: Path) -> None:
    assert tcx_supported()
    assert isinstance(device_links(bpf_dir), DeferredLinks)


@pytest.mark.parametrize("direction", list(Direction))
def test_attach_replace_detach(
    pair: Pair, ifindex: int, links: DeviceLinks, direction: Direction, tiny: Path, bpf_dir: Path
) -> None:
    left = pair[0]
    with load(tiny, pin_dir=bpf_dir) as loaded:
        drop, count = loaded.programs["drop"], loaded.programs["count"]

        def inside(action: Callable[[], object]) -> object:
            return run_in_netns(left.fd, action)

        assert reachable(left, timeout=5)
        assert inside(lambda: links.attach("veth0", ifindex, direction, drop)) is True
        assert not reachable(left, timeout=0.2)
        assert inside(lambda: links.attach("veth0", ifindex, direction, drop)) is False, "nothing to change"
        found = inside(links.attached)
        assert [(a.device, a.direction, a.ifindex, a.program_id) for a in found] == [
            ("veth0", direction, ifindex, drop.id)
        ]
        assert inside(lambda: links.attach("veth0", ifindex, direction, count)) is True
        assert reachable(left, timeout=5)
        inside(lambda: links.attach("veth0", ifindex, direction, drop))
        inside(lambda: links.detach("veth0", direction))
        assert reachable(left, timeout=5)
        inside(lambda: links.detach("veth0", direction))  # absent: no error
        assert inside(links.attached) == []


def test_a_program_outlives_the_one_who_loaded_it(
    pair: Pair, ifindex: int, links: DeviceLinks, tiny: Path, bpf_dir: Path
) -> None:
    left = pair[0]
    with load(tiny, pin_dir=bpf_dir) as loaded:
        program = loaded.programs["drop"]
        run_in_netns(left.fd, lambda: links.attach("veth0", ifindex, Direction.INGRESS, program))
    assert not reachable(left, timeout=0.2)
    with load(tiny, pin_dir=bpf_dir) as loaded:
        program = loaded.programs["count"]
        run_in_netns(left.fd, lambda: links.attach("veth0", ifindex, Direction.INGRESS, program))
    assert reachable(left, timeout=5)


def test_no_packet_passes_unseen_while_programs_are_swapped(
    pair: Pair, ifindex: int, links: DeviceLinks, tiny: Path, bpf_dir: Path, specs: dict[str, MapSpec]
) -> None:
    """Two versions count in two slots of one map; together they saw every packet sent."""
    left, right = pair
    sent, swaps, enough = 0, 0, threading.Event()
    versions = [load(tiny, constants={"config_number": slot}, pin_dir=bpf_dir) for slot in (1, 2)]

    def attach(version: LoadedObject) -> None:
        program = version.programs["count"]
        run_in_netns(left.fd, lambda: links.attach("veth0", ifindex, Direction.EGRESS, program))

    def send() -> None:
        nonlocal sent
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            while not enough.is_set():
                sender.sendto(b"x", ("10.9.9.2", 9))
                sent += 1

    attach(versions[0])
    # Neighbour entries known beforehand: no ARP among the counted packets.
    for source, target, address in ((left, right, "10.9.9.2"), (right, left, "10.9.9.1")):
        mac = target.ip("-br", "link", "show", "veth0").split()[2]
        source.ip("neighbour", "replace", address, "lladdr", mac, "dev", "veth0", "nud", "permanent")
    with PinnedMap("tiny_array", bpf_dir, specs["tiny_array"]) as counters:
        both = np.array([1, 2], specs["tiny_array"].key)
        counters.update(both, np.zeros(2, specs["tiny_array"].value))
        sender = threading.Thread(target=lambda: run_in_netns(left.fd, send))
        sender.start()
        try:
            while swaps < 200 or sent < 20_000:
                attach(versions[swaps % 2])
                swaps += 1
        finally:
            enough.set()
            sender.join()
        counted = counters.lookup(both)[0]["a"]
    for version in versions:
        version.close()
    assert counted.min() > 0
    # IPv6 neighbour discovery of the fresh link may add a few; none may be missing.
    assert sent <= counted.sum() < sent + 50


def test_a_link_whose_device_has_gone_is_replaced(pair: Pair, ifindex: int, tiny: Path, bpf_dir: Path) -> None:
    left = pair[0]
    links = TcxLinks(bpf_dir / "links")
    with load(tiny, pin_dir=bpf_dir) as loaded:
        drop = loaded.programs["drop"]
        run_in_netns(left.fd, lambda: links.attach("veth0", ifindex, Direction.INGRESS, drop))
        left.ip("link", "delete", "veth0")
        assert [(a.device, a.ifindex) for a in links.attached()] == [("veth0", 0)]
        # The same name and the same index, another device.
        left.ip("link", "add", "veth0", "index", str(ifindex), "type", "veth", "peer", "name", "other")
        assert run_in_netns(left.fd, lambda: links.attach("veth0", ifindex, Direction.INGRESS, drop))
        assert [(a.device, a.ifindex) for a in links.attached()] == [("veth0", ifindex)]
        left.ip("link", "delete", "veth0")
        links.detach("veth0", Direction.INGRESS)
        assert links.attached() == []


def test_names_with_dots_are_pinned_and_found(left: Namespace, tiny: Path, bpf_dir: Path) -> None:
    left.ip("link", "add", "eth0.100", "type", "veth", "peer", "name", "a-b")
    links = TcxLinks(bpf_dir / "links")
    with load(tiny, pin_dir=bpf_dir) as loaded:
        program = loaded.programs["drop"]
        for name in ("eth0.100", "a-b"):

            def attach(name: str = name) -> bool:
                return links.attach(name, socket.if_nametoindex(name), Direction.EGRESS, program)

            assert run_in_netns(left.fd, attach)
    assert {a.device for a in links.attached()} == {"eth0.100", "a-b"}


def test_a_device_that_is_not_there(left: Namespace, links: DeviceLinks, tiny: Path, bpf_dir: Path) -> None:
    with load(tiny, pin_dir=bpf_dir) as loaded, pytest.raises(KernelError, match=r"ENODEV"):
        run_in_netns(left.fd, lambda: links.attach("gone", 4711, Direction.INGRESS, loaded.programs["drop"]))
    assert links.attached() == []
    assert not os.path.exists(bpf_dir / "links/gone-ingress")


@pytest.fixture
def cgroup() -> Iterator[Path]:
    root = next(p for p in (Path("/sys/fs/cgroup/unified"), Path("/sys/fs/cgroup")) if (p / "cgroup.procs").exists())
    directory = root / f"test-{os.getpid()}-{uuid.uuid4().hex[:6]}"
    directory.mkdir()
    yield directory
    directory.rmdir()


def test_cgroup(cgroup: Path, tiny: Path, bpf_dir: Path) -> None:
    """A process of the cgroup may not connect while the program refuses it."""
    links = CgroupLinks(cgroup, bpf_dir / "links")
    connect = (
        "import os, socket, sys; open(sys.argv[1] + '/cgroup.procs', 'w').write(str(os.getpid()));"
        "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.connect(('127.0.0.1', 9))"
    )

    def connects() -> bool:
        command = [sys.executable, "-c", connect, str(cgroup)]
        return subprocess.run(command, check=False, capture_output=True).returncode == 0

    with load(tiny, pin_dir=bpf_dir) as loaded:
        assert connects()
        assert links.attach("connect4", ATTACH_CONNECT4, loaded.programs["refuse"])
        assert not links.attach("connect4", ATTACH_CONNECT4, loaded.programs["refuse"])
        assert not connects()
        assert links.attach("connect4", ATTACH_CONNECT4, loaded.programs["allow"])
        assert connects()
        links.attach("connect4", ATTACH_CONNECT4, loaded.programs["refuse"])
        links.detach("connect4")
        assert connects()
        with pytest.raises(FileNotFoundError):
            CgroupLinks(cgroup / "absent", bpf_dir).attach("connect4", ATTACH_CONNECT4, loaded.programs["allow"])


def test_a_filter_becomes_a_link_when_it_is_quiet(pair: Pair, ifindex: int, tiny: Path, bpf_dir: Path) -> None:
    """Also for the one who comes after a crash in between, and while programs are exchanged."""
    left, tcx = pair[0], TcxLinks(bpf_dir / "links")

    def inside(action: Callable[[], object]) -> object:
        return run_in_netns(left.fd, action)

    with load(tiny, pin_dir=bpf_dir) as loaded:
        count, drop = loaded.programs["count"], loaded.programs["drop"]
        first = DeferredLinks(tcx, prefix="veth")
        inside(lambda: first.attach("veth0", ifindex, Direction.INGRESS, drop))
        assert tcx.attached() == []
        assert not reachable(left, timeout=0.2)
        second = DeferredLinks(tcx, prefix="veth")
        inside(lambda: second.attach("veth0", ifindex, Direction.INGRESS, count))
        assert reachable(left, timeout=5)
        inside(second.settle)
        assert [a.program_id for a in tcx.attached()] == [count.id]
        assert inside(ClsactLinks().attached) == []
        inside(lambda: second.attach("veth0", ifindex, Direction.INGRESS, drop))
        assert [a.program_id for a in tcx.attached()] == [drop.id], "what is a link stays one"
        assert inside(second.settle) is False
        inside(lambda: second.detach("veth0", Direction.INGRESS))
        assert inside(second.attached) == []
        assert reachable(left, timeout=5)


@pytest.fixture
def device() -> Iterator[str]:
    """A device of this process's own namespace, as the agent's are."""
    name = f"lxc{os.getpid()}"
    ip("link", "add", name, "type", "veth", "peer", "name", f"{name}p")
    yield name
    ip("link", "delete", name)


async def test_the_task_settles_what_was_attached(device: str, tiny: Path, bpf_dir: Path) -> None:
    settled = asyncio.Event()

    class Heard(TcxLinks):
        def attach(self, device: str, ifindex: int, direction: Direction, program: Program) -> bool:
            changed = super().attach(device, ifindex, direction, program)
            if len(self.attached()) == 2:
                loop.call_soon_threadsafe(settled.set)
            return changed

    loop, tcx = asyncio.get_running_loop(), Heard(bpf_dir / "links")
    links = DeferredLinks(tcx, quiet=0.01)
    task = asyncio.create_task(links.run())
    with load(tiny, pin_dir=bpf_dir) as loaded:
        for direction in Direction:
            links.attach(device, socket.if_nametoindex(device), direction, loaded.programs["count"])
        async with asyncio.timeout(10):
            await settled.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    for direction in Direction:
        links.detach(device, direction)
    assert links.attached() == []


def test_a_filter_left_beside_its_link_goes(device: str, tiny: Path, bpf_dir: Path) -> None:
    tcx, filters = TcxLinks(bpf_dir / "links"), ClsactLinks()
    with load(tiny, pin_dir=bpf_dir) as loaded:
        for links in (tcx, filters):
            links.attach(device, socket.if_nametoindex(device), Direction.EGRESS, loaded.programs["count"])
    assert [a.device for a in DeferredLinks(tcx).attached()] == [device]
    assert device not in [a.device for a in filters.attached()]
