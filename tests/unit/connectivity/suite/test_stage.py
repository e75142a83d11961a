"""The stage: what is deployed, also anew; namespaces that are about to go; what never comes."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from unit.connectivity.suite.cluster import AGENTS, OPTIONS, Object, node, pod

from cilium.connectivity.suite import actors as cast
from cilium.connectivity.suite.actors import Actors
from cilium.connectivity.suite.cluster import Ran, SuiteError
from cilium.connectivity.suite.events import Event, Note
from cilium.connectivity.suite.features import Features
from cilium.connectivity.suite.manifests import objects
from cilium.connectivity.suite.stage import Stage, look

FEATURES = Features("1.20.0", (4, 6), frozenset())
PODS = [
    pod("client-1", 1, 1, kind="client"), pod("echo-1", 1, 2, kind="echo"), pod("host-1", 1, 3, kind="host-netns"),
]  # fmt: skip
BARE = Actors(clients=(), echoes=(), hosts=(), services=(), nodes=(cast.node(node(1), AGENTS),), agents=AGENTS[:1])


class Api:
    """Objects that are there once they are created; workloads are complete, unless they are `stuck`."""

    def __init__(self, *, stuck: str = "") -> None:
        self.stuck, self.going = stuck, 0
        self.made: dict[tuple[str, str], Object] = {}

    async def create(self, item: Object) -> bool:
        assert not self.going, "in a namespace that goes nothing can be made"
        key = item["kind"], item["metadata"]["name"]
        return self.made.setdefault(key, item) is item

    async def delete(self, item: Object) -> bool:
        self.going = 2
        return True

    async def find(self, kind: str, name: str, namespace: str = "") -> Object | None:
        if kind == "Namespace":
            self.going = max(0, self.going - 1)
            return {"metadata": {"name": name, "deletionTimestamp": "now"}} if self.going else None
        found = self.made[(kind, name)]
        counts = {} if name == self.stuck else dict.fromkeys(
            ("updatedReplicas", "readyReplicas", "availableReplicas", "desiredNumberScheduled", "numberReady",
             "updatedNumberScheduled"), 1)  # fmt: skip
        if found["kind"] == "Deployment":
            counts.pop("desiredNumberScheduled", None)
        return {**found, "status": counts}

    async def pods(self, namespace: str, selector: str = "") -> list[Object]:
        if self.stuck and selector.startswith(f"name={self.stuck}"):
            state = {"state": {"waiting": {"reason": "ErrImagePull", "message": "no such image"}}}
            return [{"metadata": {"name": "p"}, "status": {"containerStatuses": [state]}}]
        return PODS

    async def objects(self, path: str, selector: str = "") -> list[Object]:
        if path.endswith("ciliumendpoints"):
            return [{"metadata": item["metadata"], "status": {"identity": {"id": 1000}}} for item in PODS]
        return []

    async def document(self, agent: object, command: object) -> Any:
        addresses = [entry["ip"] for item in PODS for entry in item["status"]["podIPs"]]
        return {f"{address}/128": ["1000 0 0"] for address in addresses} if "ipcache" in str(command) else []

    async def run(self, agent: object, command: object) -> Ran:
        return Ran(0, "", "")


def build(api: Any, **options: Any) -> tuple[Actors, list[Event]]:
    told: list[Event] = []
    chosen = replace(OPTIONS, single_node=True, patience=1.0, **options)
    return asyncio.run(Stage(api, chosen, BARE, told.append).build(FEATURES, ccnp=False)), told


def test_the_stage_is_built_and_told() -> None:
    found, told = build(Api())
    assert [str(one) for one in found.clients] == ["cilium-test-1/client-1"]
    assert (len(found.echoes), len(found.hosts), found.families) == (1, 1, (4, 6))
    assert [event.sign for event in told if isinstance(event, Note)].count("✨") == 6
    assert not [event for event in told if isinstance(event, Note) and event.sign.startswith("⚠️")]


def test_a_second_run_takes_what_is_there_and_force_makes_it_anew() -> None:
    api = Api()
    build(api)
    _, told = build(api)
    assert "✨" not in {event.sign for event in told if isinstance(event, Note)}
    _, told = build(api, force_deploy=True)
    assert Note("🔥", "Deleting namespace cilium-test-1...") in told


def test_a_namespace_that_goes_is_waited_for() -> None:
    api = Api()
    api.going = 3
    build(api)
    assert not api.going


def test_pods_that_never_stand_are_named_with_the_reason() -> None:
    with pytest.raises(SuiteError, match=r"deployment cilium-test-1/client2: .*: pod p: ErrImagePull no such image"):
        build(Api(stuck="client2"))


def test_on_one_node_nobody_stands_on_another() -> None:
    one = {item["metadata"]["name"] for item in objects("n", OPTIONS.images, single_node=True)}
    two = {item["metadata"]["name"] for item in objects("n", OPTIONS.images, single_node=False)}
    assert two - one == {"client3", "echo-other-node"}


def test_no_agent_is_an_error_with_a_way_out() -> None:
    api: Any = Api()

    async def nobody(namespace: str, selector: str = "") -> list[Object]:
        return []

    api.pods = nobody
    with pytest.raises(SuiteError, match="no Cilium agent runs in namespace kube-system with labels k8s-app=cilium"):
        asyncio.run(look(api, OPTIONS))
