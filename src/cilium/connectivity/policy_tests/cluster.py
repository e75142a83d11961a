"""The cluster as a test uses it: objects go in and out again, and the waits until what was applied is enforced.

In: a ground, manifests. Out: pods, Services and nodes as they are then. Every wait is for a condition and names
it when it does not come.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from cilium.connectivity.policy_tests import enforced
from cilium.connectivity.policy_tests.errors import RefusedError, WrongTestError
from cilium.connectivity.policy_tests.ground import Ground, Object, Tables
from cilium.connectivity.policy_tests.load import Manifest
from cilium.connectivity.policy_tests.reduce import CLUSTER_SCOPED, POLICIES


@dataclass(frozen=True, slots=True)
class State:
    """What is there after a step."""

    pods: tuple[Object, ...]
    services: tuple[Object, ...]
    nodes: tuple[Object, ...]
    notes: tuple[str, ...] = ()  # parts of policies that are not enforced


class Cluster:
    """`patience`: seconds for each wait."""

    def __init__(self, ground: Ground, patience: float) -> None:
        self._ground, self._patience = ground, patience
        self._applied: dict[tuple[str, str, str], Manifest] = {}
        self._objects: dict[tuple[str, str, str], Object] = {}
        self._namespaces: list[str] = []
        self.nodes = ground.nodes

    # -- objects ------------------------------------------------------------------------------------------------

    def refuse_existing(self, manifests: list[Manifest]) -> None:
        """In a lab that others use, a test makes its namespaces itself. Raises WrongTestError naming what is there."""
        made = self._namespaces_of(manifests).items()
        problems = [
            f"{manifest.where}: namespace {name} exists in the lab already, and is not touched"
            for name, manifest in made
            if self._ground.find(_namespace(name)) is not None
        ]
        problems += [
            f"{manifest}: exists in the lab already, and is not touched"
            for manifest in manifests
            if manifest.kind in CLUSTER_SCOPED and self._ground.find(manifest.content) is not None
        ]
        if problems:
            raise WrongTestError("\n".join(problems))

    def apply(self, manifests: Iterable[Manifest]) -> None:
        """Namespaces first, those that no manifest makes too. Raises WrongTestError with what the server refuses."""
        manifests = sorted(manifests, key=lambda manifest: manifest.kind not in ("Namespace", "ServiceAccount"))
        for name in self._namespaces_of(manifests):
            if name not in self._namespaces:
                self._ground.apply(_namespace(name))
                self._namespaces.append(name)
        problems = []
        for manifest in manifests:
            key = (manifest.kind, manifest.namespace, manifest.name)
            try:
                self._objects[key] = self._ground.apply(_with_namespace(manifest))
                self._applied[key] = manifest
            except RefusedError as error:
                problems.append(f"{manifest}: {error}")
        if problems:
            raise WrongTestError("\n".join(problems))

    def remove(self) -> None:
        """What the test made goes, in a lab that stays: objects outside of namespaces, then the namespaces."""
        for (kind, _, _), manifest in self._applied.items():
            if kind in CLUSTER_SCOPED:
                self._ground.delete(manifest.content)
        for name in self._namespaces:
            self._ground.delete(_namespace(name))
        names = set(self._namespaces)
        self._ground.wait(
            "/api/v1/namespaces",
            lambda items: not any(item["metadata"]["name"] in names for item in items),
            60,
            f"the end of namespaces {', '.join(sorted(names))}",
        )

    @staticmethod
    def _namespaces_of(manifests: Iterable[Manifest]) -> dict[str, Manifest]:
        found: dict[str, Manifest] = {}
        for manifest in manifests:
            if manifest.kind not in CLUSTER_SCOPED:
                name = manifest.name if manifest.kind == "Namespace" else manifest.namespace
                found.setdefault(name, manifest)
        return found

    # -- conditions ---------------------------------------------------------------------------------------------

    def settle(self) -> State:
        """Waits until pods are ready and every agent enforces what was applied. Raises WrongTestError."""
        deadline = time.monotonic() + self._patience
        self._wait_workloads(deadline)
        state = State(self._own("pods"), self._own("services"), tuple(self._ground.get("/api/v1/nodes")["items"]))
        return replace(state, notes=self._wait_agents(state, deadline))

    def _own(self, plural: str) -> tuple[Object, ...]:
        items = self._ground.get(f"/api/v1/{plural}")["items"]
        return tuple(item for item in items if item["metadata"].get("namespace") in self._namespaces)

    def _wait_workloads(self, deadline: float) -> None:
        def lacking() -> list[str]:
            found = [
                f"{plural} {item['metadata']['namespace']}/{item['metadata']['name']}"
                for plural in ("deployments", "daemonsets", "replicasets")
                for item in self._ground.get(f"/apis/apps/v1/{plural}")["items"]
                if item["metadata"]["namespace"] in self._namespaces and not _rolled_out(item)
            ]
            return [*found, *(_pod_problem(pod) for pod in self._own("pods") if not _ready(pod))]

        self._until(lacking, deadline, "pods are not ready")

    def _wait_agents(self, state: State, deadline: float) -> tuple[str, ...]:
        """Each agent knows all pods and enforces all policies; a policy that it refuses is a mistake of the test.

        What it does not enforce of a valid policy is returned.
        """
        policies = [(self._applied[key], stored) for key, stored in self._objects.items() if key[0] in POLICIES]
        namespaces = self._ground.get("/api/v1/namespaces")["items"]
        wanted = enforced.wanted(state.pods, namespaces, [stored for _, stored in policies])
        files = {enforced.key_of(stored): manifest for manifest, stored in policies}
        notes: dict[str, None] = {}

        def lacking() -> list[str]:
            with ThreadPoolExecutor(len(self.nodes)) as pool:
                tables = dict(zip(self.nodes, pool.map(self.tables, self.nodes), strict=True))
            invalid = [problem for rows in tables.values() for problem in enforced.invalid(rows, wanted)]
            if invalid:
                raise WrongTestError("\n".join(dict.fromkeys(f"{files[key]}: {reason}" for key, reason in invalid)))
            for rows in tables.values():
                said = enforced.unenforced(rows, wanted)
                notes.update((f"{files[key]}: {path} is not enforced by this version", None) for key, path in said)
            found = [
                f"{node}: {text}" for node, rows in tables.items() for text in enforced.lacking(rows, wanted, node)
            ]
            return found or enforced.disagreeing(tables, wanted)

        self._until(lacking, deadline, "the agents do not enforce what was applied")
        return tuple(notes)

    def _until(self, lacking: Callable[[], list[str]], deadline: float, what: str) -> None:
        """Polls: the conditions are about many objects and about agents, which have nothing to watch."""
        while problems := lacking():
            if time.monotonic() >= deadline:
                shown = [*problems[:5], *([f"and {len(problems) - 5} more"] if len(problems) > 5 else [])]
                raise WrongTestError(f"{what} within {self._patience:.0f} s: {'; '.join(shown)}")
            time.sleep(0.05)

    # -- questions ----------------------------------------------------------------------------------------------

    def tables(self, node: str) -> Tables:
        """Those of a node's agent that conditions are about; none while it does not answer."""
        return self._ground.tables(node, enforced.TABLES)


def _namespace(name: str) -> Object:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


def _with_namespace(manifest: Manifest) -> Object:
    if manifest.kind == "Namespace" or manifest.kind in CLUSTER_SCOPED:
        return manifest.content
    return {**manifest.content, "metadata": {**manifest.content["metadata"], "namespace": manifest.namespace}}


def _rolled_out(item: Object) -> bool:
    status, spec = item.get("status") or {}, item["spec"]
    if status.get("observedGeneration", 0) < item["metadata"].get("generation", 0):
        return False
    if item.get("kind") == "DaemonSet" or "desiredNumberScheduled" in status:
        wanted = status.get("desiredNumberScheduled", 0)
        return bool(wanted > 0 and status.get("numberReady", 0) >= wanted)
    return bool(status.get("readyReplicas", 0) >= spec.get("replicas", 1))


def _ready(pod: Object) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or []
    ready = any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)
    return ready and "deletionTimestamp" not in pod["metadata"]


def _pod_problem(pod: Object) -> str:
    name = f"pod {pod['metadata']['namespace']}/{pod['metadata']['name']}"
    for state in (pod.get("status") or {}).get("containerStatuses") or []:
        waiting = (state.get("state") or {}).get("waiting") or {}
        if waiting:
            return f"{name}: {waiting.get('reason', '')} {waiting.get('message', '')}".rstrip()
    for condition in (pod.get("status") or {}).get("conditions") or []:
        if condition["status"] != "True" and condition.get("message"):
            return f"{name}: {condition['message']}"
    return f"{name}: {(pod.get('status') or {}).get('phase', 'Pending')}"
