"""A node in miniature: a network namespace with servers, a cgroup with the programs attached, maps of its own."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kernel.datapath.namespaces import Namespace, namespace

from cilium.datapath.addresses import addresses_array
from cilium.datapath.generated import IPCACHE_ENTRY, IPCACHE_KEY
from cilium.datapath.generated.maps import MAPS
from cilium.datapath.links import CgroupLinks
from cilium.datapath.loader import LoadedObject, load
from cilium.datapath.maps import PinnedMap
from cilium.datapath.mounts import cgroup_root
from cilium.datapath.nested import Nested
from cilium.datapath.netlink.netns import netns_cookie, run_in_netns
from cilium.datapath.paths import OBJECT_DIRECTORY
from cilium.features.services.hooks import SocketHookOps
from cilium.features.services.maglev import Maglev
from cilium.features.services.ops import ServiceMaps
from cilium.features.services.rows import HOOKS
from cilium.tables.services import Backend, Frontend

ROOT = Path(__file__).resolve().parents[3]
ADDRESSES = {4: ("10.9.9.1", "10.9.9.2", "10.9.9.3"), 6: ("fd09::1", "fd09::2", "fd09::3")}
SIZES = {"cilium_ipcache": 64, "cilium_ipcache_cidr": 64, "cilium_lb_services": 64, "cilium_lb_slots": 256,
         "cilium_lb_backends": 64, "cilium_lb_reverse": 256}  # fmt: skip


class Servers:
    """They answer with their own address and port, until they are closed."""

    def __init__(self, netns: int) -> None:
        self._netns = netns
        self._sockets: list[socket.socket] = []

    def tcp(self, ip: str, port: int) -> None:
        listener = self._bind(ip, port, socket.SOCK_STREAM)
        listener.listen(128)
        threading.Thread(target=self._accept, args=(listener, f"{ip} {port}"), daemon=True).start()

    def udp(self, ip: str, port: int) -> None:
        bound = self._bind(ip, port, socket.SOCK_DGRAM)
        threading.Thread(target=self._echo, args=(bound, f"{ip} {port}"), daemon=True).start()

    def close(self) -> None:
        for each in self._sockets:
            with suppress(OSError):  # a datagram socket has nobody to shut down, and wakes all the same
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _bind(self, ip: str, port: int, kind: int) -> socket.socket:
        family = socket.AF_INET6 if ":" in ip else socket.AF_INET
        made = run_in_netns(self._netns, lambda: socket.socket(family, kind))
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((ip, port))
        self._sockets.append(made)
        return made

    def _accept(self, listener: socket.socket, name: str) -> None:
        try:
            while True:
                taken, _ = listener.accept()
                threading.Thread(target=self._answer, args=(taken, name), daemon=True).start()
        except OSError:
            return  # closed

    def _answer(self, taken: socket.socket, name: str) -> None:
        with taken:
            while taken.recv(100):
                taken.sendall(name.encode())

    def _echo(self, bound: socket.socket, name: str) -> None:
        try:
            while True:
                _, sender = bound.recvfrom(100)
                if sender is None:
                    return
                bound.sendto(name.encode(), sender)
        except OSError:
            return


class Node:
    def __init__(self, netns: Namespace, cgroup: Path, pins: Path) -> None:
        self.pins, self._cgroup = pins, cgroup
        cookie = run_in_netns(netns.fd, netns_cookie)
        self.loaded = load(
            OBJECT_DIRECTORY / "sock.bpf.o", pin_dir=pins, max_entries=SIZES,
            constants={"config_host_netns_cookie": cookie},
        )  # fmt: skip
        self.attach(self.loaded)
        self.servers = Servers(netns.fd)
        self.start()
        argv = [
            "nsenter",
            f"--net={netns.path}",
            sys.executable,
            str(Path(__file__).parent / "remote.py"),
            str(cgroup),
        ]
        self._client = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._read()

    def attach(self, loaded: LoadedObject) -> None:
        links = CgroupLinks(self._cgroup, self.pins / "links")
        self.hooks = SocketHookOps(links=links, programs=loaded.programs, known=HOOKS)
        assert not self.hooks.update(HOOKS)

    def start(self) -> None:
        """As a new agent does: nothing known but what the maps hold."""
        maps = {name: self.map(name) for name in MAPS if name.startswith("cilium_lb_")}
        tables = {"cilium_lb_maglev": Nested(maps.pop("cilium_lb_maglev"))}
        self.services = ServiceMaps(maps=maps, tables=tables, maglev=Maglev(size=251, seed=b"test"))

    def map(self, name: str) -> PinnedMap:
        return PinnedMap(name, self.pins)

    def put(self, *rows: Frontend) -> None:
        assert not self.services.update(rows)

    def name_node(self, ip: str, identity: int) -> None:
        """Into the ipcache."""
        key, value = np.zeros(1, IPCACHE_KEY), np.zeros(1, IPCACHE_ENTRY)
        key["address"], value["identity"] = addresses_array([ip_address(ip)]), identity
        self.map("cilium_ipcache").update(key, value)

    def tell(self, do: str, **request: Any) -> None:
        assert self._client.stdin
        self._client.stdin.write(json.dumps({"do": do, **request}) + "\n")
        self._client.stdin.flush()

    def hear(self) -> Any:
        return json.loads(self._read())

    def do(self, do: str, **request: Any) -> Any:
        self.tell(do, **request)
        return self.hear()

    def open(self, family: int, kind: str) -> int:
        return int(self.do("open", family=family, kind=kind)["socket"])

    def close(self) -> None:
        self._client.kill()
        self._client.wait()
        self.servers.close()
        self.hooks.prune([])
        self.loaded.close()

    def _read(self) -> str:
        assert self._client.stdout
        return self._client.stdout.readline()


@pytest.fixture(scope="session")
def objects() -> None:
    subprocess.run(["make", "-s", "-C", str(ROOT / "bpf"), f"OUT={OBJECT_DIRECTORY}"], check=True)


@pytest.fixture
def node(objects: None) -> Iterator[Node]:
    name = f"test-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    cgroup, pins = cgroup_root() / name, Path("/sys/fs/bpf") / name
    cgroup.mkdir()
    try:
        with namespace() as netns:
            for version, addresses in ADDRESSES.items():
                for address in addresses:
                    netns.ip("address", "add", f"{address}/{32 if version == 4 else 128}", "dev", "lo")
            made = Node(netns, cgroup, pins)
            try:
                yield made
            finally:
                made.close()
    finally:
        shutil.rmtree(pins, ignore_errors=True)
        cgroup.rmdir()


def frontend(ip: str, *ends: str, port: int = 80, protocol: str = "TCP", target: int = 8080) -> Frontend:
    backends = tuple(Backend(ip_address(end), target) for end in ends)
    return Frontend(ip_address(ip), port, protocol, "shop/web", "http", "ClusterIP", backends)
