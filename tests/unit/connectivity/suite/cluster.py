"""A cluster of two nodes with the stage on it, as the API server would tell of it, and a fake that runs commands."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from cilium.connectivity.suite import actors as cast
from cilium.connectivity.suite.action import Action
from cilium.connectivity.suite.actors import Actors, Pod
from cilium.connectivity.suite.cluster import Ran
from cilium.connectivity.suite.options import Options
from cilium.connectivity.suite.scenarios import SCENARIOS
from cilium.connectivity.suite.table import Part, Test, load
from cilium.sources.kubernetes.errors import ApiError

OPTIONS = Options()
Object = dict[str, Any]


def pod(name: str, node: int, number: int, **labels: str) -> Object:
    hosts = [{"ip": f"172.30.1.1{node}"}, {"ip": f"fd30::1{node}"}]
    return {
        "metadata": {"name": name, "namespace": OPTIONS.namespace, "labels": {"name": name, **labels}},
        "spec": {"nodeName": f"node{node}", "containers": [{"name": name}]},
        "status": {"hostIPs": hosts, "podIPs": [{"ip": f"10.0.{node}.{number}"}, {"ip": f"fd00:{node}::{number}"}]},
    }


def host(node: int) -> Object:
    made = pod(f"host-netns-{node}", node, 0, kind="host-netns")
    made["status"]["podIPs"] = copy.deepcopy(made["status"]["hostIPs"])
    return made


def service(name: str, number: int) -> Object:
    return {
        "metadata": {"name": name, "namespace": OPTIONS.namespace, "labels": {"kind": "echo"}},
        "spec": {
            "clusterIPs": [f"10.96.0.{number}", f"fd96::{number}"], "selector": {"name": name},
            "ports": [{"port": 8080, "nodePort": 30000 + number}],
        },
    }  # fmt: skip


def node(number: int) -> Object:
    addresses = [("InternalIP", f"172.30.1.1{number}"), ("InternalIP", f"fd30::1{number}"), ("Hostname", f"n{number}")]
    listed = [{"type": kind, "address": address} for kind, address in addresses]
    return {"metadata": {"name": f"node{number}"}, "status": {"addresses": listed}}


AGENTS = tuple(cast.pod(pod(f"cilium-{number}", number, 100)) for number in (1, 2))
ACTORS = Actors(
    clients=(
        cast.pod(pod("client", 1, 1, kind="client")),
        cast.pod(pod("client2", 1, 2, kind="client", other="client")),
        cast.pod(pod("client3", 2, 3, kind="client", other="client")),
    ),
    echoes=(
        cast.pod(pod("echo-other-node", 2, 5, kind="echo", first="echo")),
        cast.pod(pod("echo-same-node", 1, 4, kind="echo", other="echo")),
    ),
    hosts=(cast.pod(host(1)), cast.pod(host(2))),
    services=(cast.service(service("echo-other-node", 5)), cast.service(service("echo-same-node", 4))),
    nodes=tuple(cast.node(node(number), AGENTS) for number in (1, 2)),
    agents=AGENTS,
)


def row(name: str) -> Test:
    return next(test for test in load() if test.name == name)


def actions(scenario: str, actors: Actors = ACTORS, options: Options = OPTIONS, **part: Any) -> list[Action]:
    return list(SCENARIOS[scenario](actors, options, Part(scenario, **part)))


def flow(action: Action, **changes: Any) -> dict[str, Any]:
    """One of the action's own, dropped where its target is by default deny."""
    ends = {"source": action.source_address, "destination": action.target.address}
    kind = {"ICMPv6": {"type": 128}} if action.family == 6 else {"ICMPv4": {"type": 8}}
    layer = kind if action.ping else {"TCP": {"source_port": 40000, "destination_port": action.target.port}}
    made = {
        "time": "2026-11-27T10:00:00Z", "verdict": "DROPPED", "drop_reason_desc": "POLICY_DENIED",
        "traffic_direction": "INGRESS", "node_name": "default/node2", "IP": ends, "l4": layer,
        "source": {"namespace": "cilium-test-1", "pod_name": action.source.name},
        "destination": {"namespace": "cilium-test-1", "pod_name": "echo"},
        "ingress_denied_by": [{"kind": "CiliumNetworkPolicy", "namespace": "cilium-test-1", "name": "closed"}],
    }  # fmt: skip
    return {**made, **changes}


class FakeCluster:
    """`answer`: what a command in a pod gives. Policies are enforced at once, unless they are `refused` or `late`.

    With `deleting`, which tells of the first deletion, nothing goes before it `may_go`.
    """

    def __init__(self, answer: Callable[[Pod, Sequence[str]], Ran] = lambda pod, command: Ran(0, "", "")) -> None:
        self.answer = answer
        self.objects: dict[tuple[str, str], Object] = {}
        self.refused: set[str] = set()
        self.late: set[str] = set()
        self.history: list[str] = []
        self.deleting: asyncio.Event | None = None
        self.may_go = asyncio.Event()
        self._revision = 1

    async def create(self, manifest: Object) -> bool:
        key = manifest["kind"], manifest["metadata"]["name"]
        if key[1] in self.refused:
            raise ApiError(422, "Invalid", f"{key[1]} is wrong")
        self.history.append(f"create {key[1]}")
        if key in self.objects:
            return False
        self.objects[key] = manifest
        self._revision += key[0] != "CiliumCIDRGroup" and key[1] not in self.late
        return True

    async def delete(self, manifest: Object) -> bool:
        if self.deleting is not None:
            self.deleting.set()
            await self.may_go.wait()
            await asyncio.sleep(0)  # as any request, it takes a turn of the loop
        key = manifest["kind"], manifest["metadata"]["name"]
        self.history.append(f"delete {key[1]}")
        self._revision += key in self.objects and key[0] != "CiliumCIDRGroup"
        return self.objects.pop(key, None) is not None

    async def find(self, kind: str, name: str, namespace: str = "") -> Object | None:
        found = self.objects.get((kind, name))
        if found is None or name not in self.late:
            return found
        condition = {"type": "Valid", "status": "False", "message": "spec.x: no such thing"}
        return {**found, "status": {"conditions": [condition]}}

    async def run(self, pod: Pod, command: Sequence[str]) -> Ran:
        match list(command):
            case ["cilium", "policy", "get", *_]:
                return Ran(0, f"'{self._revision}'\n", "")
            case ["cilium", "policy", "wait", wanted, *_]:
                reached = self._revision >= int(wanted)
                return Ran(0 if reached else 1, "", "" if reached else f"revision {wanted} was not reached")
            case _:
                return self.answer(pod, command)


def every_action() -> Iterator[tuple[Test, Action]]:
    """Of all tests that this command has."""
    for test in load():
        for part in test.scenarios:
            yield from ((test, action) for action in SCENARIOS[part.scenario](ACTORS, OPTIONS, part))
