"""The cluster as the scheduler sees it: nodes with the pods on them and what these have reserved.

In: commits of pods and nodes. Out: `NodeInfo` per node, kept up to date pod by pod, so that placing one pod does not
cost a look at all others.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from kubelab.apiserver.resources import Resource
from kubelab.apiserver.store import Store
from kubelab.apiserver.watch import Change
from kubelab.controllers import objects
from kubelab.controllers.objects import Key, Object
from kubelab.controllers.scheduling import fit


@dataclass(frozen=True)
class Resident:
    """A pod on a node, with what it takes."""

    pod: Object
    requests: Mapping[str, Decimal]
    ports: frozenset[tuple[str, str, int]]


@dataclass
class NodeInfo:
    node: Object
    residents: dict[Key, Resident] = field(default_factory=dict)
    used: dict[str, Decimal] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return str(self.node["metadata"]["name"])

    @property
    def labels(self) -> Mapping[str, str]:
        return objects.labels_of(self.node)

    @property
    def pods(self) -> Iterator[Object]:
        return (resident.pod for resident in self.residents.values())

    def add(self, key: Key, resident: Resident) -> None:
        self.remove(key)
        self.residents[key] = resident
        for name, amount in resident.requests.items():
            self.used[name] = self.used.get(name, Decimal(0)) + amount

    def remove(self, key: Key) -> None:
        resident = self.residents.pop(key, None)
        for name, amount in (resident.requests if resident else {}).items():
            self.used[name] -= amount

    def copy(self) -> NodeInfo:
        """For what-if questions."""
        return NodeInfo(self.node, dict(self.residents), dict(self.used))


class ClusterView:
    """Register `observe` before whoever reads."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._nodes: dict[str, NodeInfo] = {}
        self._homes: dict[Key, str] = {}
        self._unknown: dict[str, dict[Key, Resident]] = {}
        self.repelling: dict[Key, str] = {}
        """Pods with required anti-affinity, and their nodes: all others must be held against these."""
        for node in store.peek_all("nodes"):
            self._learn_node(node)
        for pod in store.peek_all("pods"):
            self._learn_pod(pod)

    def observe(self, resource: Resource, change: Change) -> None:
        obj = change.entry.object
        if resource.key == "nodes":
            if change.type == "DELETED":
                info = self._nodes.pop(obj["metadata"]["name"], None)
                if info is not None and info.residents:
                    self._unknown[info.name] = info.residents
            else:
                self._learn_node(obj)
        elif resource.key == "pods":
            if change.type == "DELETED":
                self._forget(objects.key_of(obj))
            else:
                self._learn_pod(obj)

    @property
    def nodes(self) -> list[NodeInfo]:
        """Nodes that take pods at all, by name."""
        return [self._nodes[name] for name in sorted(self._nodes) if not objects.is_deleting(self._nodes[name].node)]

    def namespace_labels(self, name: str) -> Mapping[str, str]:
        namespace = self._store.peek("namespaces", name)
        return objects.labels_of(namespace) if namespace is not None else {}

    def placed(self) -> Iterator[tuple[Object, NodeInfo]]:
        return ((pod, info) for info in self._nodes.values() for pod in info.pods)

    def repellers(self) -> Iterator[tuple[Object, NodeInfo]]:
        for key, name in self.repelling.items():
            if (info := self._nodes.get(name)) is not None and key in info.residents:
                yield info.residents[key].pod, info

    def _learn_node(self, node: Object) -> None:
        name = node["metadata"]["name"]
        if (info := self._nodes.get(name)) is not None:
            info.node = node
            return
        info = self._nodes[name] = NodeInfo(node)
        for key, resident in self._unknown.pop(name, {}).items():
            info.add(key, resident)

    def _learn_pod(self, pod: Object) -> None:
        key, home = objects.key_of(pod), (pod.get("spec") or {}).get("nodeName")
        if not home or objects.is_finished(pod):
            self._forget(key)
            return
        info = self._nodes.get(home)
        old = (info.residents if info is not None else self._unknown.get(home, {})).get(key)
        if old is not None and old.pod["spec"] is pod["spec"]:
            resident = Resident(pod, old.requests, old.ports)
        else:
            resident = Resident(pod, fit.requests_of(pod), frozenset(fit.host_ports(pod)))
        if self._homes.get(key) != home:
            self._forget(key)
        self._homes[key] = home
        if info is not None:
            info.add(key, resident)
        else:
            self._unknown.setdefault(home, {})[key] = resident
        if fit.terms_of(pod, "podAntiAffinity"):
            self.repelling[key] = home

    def _forget(self, key: Key) -> None:
        home = self._homes.pop(key, None)
        self.repelling.pop(key, None)
        if home is None:
            return
        if (info := self._nodes.get(home)) is not None:
            info.remove(key)
        elif (strays := self._unknown.get(home)) is not None:
            strays.pop(key, None)
            if not strays:
                del self._unknown[home]
