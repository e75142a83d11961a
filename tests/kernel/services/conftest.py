"""A node in miniature: a network namespace with servers, a cgroup with the programs attached, maps; and a pod."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import closing
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kernel.datapath.namespaces import Namespace, namespace
from kernel.services.servers import Servers

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
from cilium.features.services.records import service_keys
from cilium.features.services.rows import HOOKS
from cilium.tables.services import Backend, Frontend, Scope

ROOT = Path(__file__).resolve().parents[3]
ADDRESSES = {4: ("10.9.9.1", "10.9.9.2", "10.9.9.3"), 6: ("fd09::1", "fd09::2", "fd09::3")}
SIZES = {"cilium_ipcache": 64, "cilium_ipcache_cidr": 64, "cilium_lb_services": 64, "cilium_lb_slots": 256,
         "cilium_lb_backends": 64, "cilium_lb_reverse": 256, "cilium_events": 1 << 16}  # fmt: skip


class Place:
    """A network namespace with servers, and a process in it and in the cgroup."""

    def __init__(self, netns: Namespace, cgroup: Path) -> None:
        self.netns, self.cgroup = netns, cgroup
        self.cookie = run_in_netns(netns.fd, netns_cookie)
        for version, addresses in ADDRESSES.items():
            for address in addresses:
                netns.ip("address", "add", f"{address}/{32 if version == 4 else 128}", "dev", "lo", "nodad")
        self.servers = Servers(netns.fd)
        program = str(Path(__file__).parent / "remote.py")
        argv = ["nsenter", f"--net={netns.path}", sys.executable, program, str(cgroup)]
        self._client = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.hear()

    def tell(self, do: str, **request: Any) -> None:
        assert self._client.stdin
        self._client.stdin.write(json.dumps({"do": do, **request}) + "\n")
        self._client.stdin.flush()

    def hear(self) -> Any:
        assert self._client.stdout
        return json.loads(self._client.stdout.readline())

    def do(self, do: str, **request: Any) -> Any:
        self.tell(do, **request)
        return self.hear()

    def open(self, family: int, kind: str) -> int:
        return int(self.do("open", family=family, kind=kind)["socket"])

    def close(self) -> None:
        self._client.kill()
        self._client.wait()
        self.servers.close()


class Node(Place):
    """The host's namespace, and what the agent keeps for it."""

    def __init__(self, netns: Namespace, cgroup: Path, pins: Path) -> None:
        self.pins = pins
        super().__init__(netns, cgroup)
        self.loaded = self.load()
        self.attach(self.loaded)
        self.start()

    def load(self, **constants: int) -> LoadedObject:
        return load(
            OBJECT_DIRECTORY / "sock.bpf.o", pin_dir=self.pins, max_entries=SIZES,
            constants={"config_host_netns_cookie": self.cookie} | constants,
        )  # fmt: skip

    def attach(self, loaded: LoadedObject) -> None:
        links = CgroupLinks(self.cgroup, self.pins / "links")
        self.hooks = SocketHookOps(links=links, programs=loaded.programs, known=HOOKS)
        assert not self.hooks.update(HOOKS)

    def start(self) -> None:
        """As a new agent does: nothing known but what the maps hold."""
        maps = {name: self.map(name) for name in MAPS if name.startswith("cilium_lb_")}
        nested = {"cilium_lb_maglev": Nested(maps.pop("cilium_lb_maglev"))}
        self.services = ServiceMaps(maps=maps, nested=nested, maglev=Maglev(size=251, seed=b"test"))

    def map(self, name: str) -> PinnedMap:
        return PinnedMap(name, self.pins)

    def put(self, *rows: Frontend) -> None:
        assert not self.services.update(rows)

    def mark(self, row: Frontend, **values: int) -> int:
        """Set fields of a row in the kernel; returns its id."""
        services, key = self.map("cilium_lb_services"), service_keys([row])
        value, _ = services.lookup(key)
        for name, what in values.items():
            value[name] = what
        services.update(key, value)
        return int(value["id"][0])

    def name_node(self, ip: str, identity: int) -> None:
        """Into the ipcache."""
        key, value = np.zeros(1, IPCACHE_KEY), np.zeros(1, IPCACHE_ENTRY)
        key["address"], value["identity"] = addresses_array([ip_address(ip)]), identity
        self.map("cilium_ipcache").update(key, value)

    def close(self) -> None:
        super().close()
        self.hooks.prune([])
        self.loaded.close()


@pytest.fixture(scope="session")
def objects() -> None:
    subprocess.run(["make", "-s", "-C", str(ROOT / "bpf"), f"OUT={OBJECT_DIRECTORY}"], check=True)


@pytest.fixture
def node(objects: None) -> Iterator[Node]:
    name = f"test-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    cgroup, pins = cgroup_root() / name, Path("/sys/fs/bpf") / name
    cgroup.mkdir()
    try:
        with namespace() as netns, closing(Node(netns, cgroup, pins)) as made:
            yield made
    finally:
        shutil.rmtree(pins, ignore_errors=True)
        cgroup.rmdir()


@pytest.fixture
def pod(node: Node) -> Iterator[Place]:
    """Another network namespace, with addresses like those of the node."""
    with namespace() as netns, closing(Place(netns, node.cgroup)) as made:
        yield made


def frontend(
    ip: str, *ends: str, port: int = 80, protocol: str = "TCP", target: int = 8080, scope: Scope = Scope.CLUSTER
) -> Frontend:
    backends = tuple(Backend(ip_address(end), target) for end in ends)
    return Frontend(ip_address(ip), port, protocol, "shop/web", "http", "ClusterIP", backends, scope=scope)
