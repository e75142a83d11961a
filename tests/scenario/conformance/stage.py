"""Pods, nodes and the world outside, who all may be asked whom they reach.

In: who is on the stage, manifests to apply, what is expected. Out: nothing, or an assertion that names every question
with another answer than expected.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from scenario.cluster import Cluster, addresses
from scenario.conformance.agents import COMMAND, SETTLED, Agents, Asker, Manifest
from scenario.node import LabNode


@dataclass(frozen=True, slots=True)
class Flow:
    """Who asks whom: `kind` tcp, udp or icmp (then `port` is 0), over IP `version`."""

    source: str
    target: str
    kind: str
    port: int
    version: int

    def __str__(self) -> str:
        return f"{self.source} -> {self.target} {self.kind}/{self.port} IPv{self.version}"


class Stage:
    """Actors by name. `hosts` are nodes, `external` is the world; every other actor is a pod, and `name` says how a pod
    `namespace/name` is called here."""

    def __init__(
        self,
        cluster: Cluster,
        namespaces: Iterable[str],
        hosts: Sequence[str] = (),
        name: Callable[[str], str] = lambda key: key,
    ) -> None:
        self.cluster, self._name = cluster, name
        self.addresses: dict[str, dict[int, str]] = {}
        self._askers: dict[str, Asker] = {}
        self.agents = Agents(cluster)
        try:
            for node in cluster.get("nodes")["items"]:
                self._take_node(node, asks=node["metadata"]["name"] in hosts)
            for namespace in namespaces:
                for pod in cluster.get("-n", namespace, "pods")["items"]:
                    self._take_pod(pod)
        except BaseException:
            self.close()
            raise

    def _take_node(self, node: Manifest, *, asks: bool) -> None:
        name = node["metadata"]["name"]
        ips = [entry["address"] for entry in node["status"]["addresses"] if entry["type"] == "InternalIP"]
        self.addresses[name] = {6 if ":" in ip else 4: ip for ip in ips}
        if asks:
            self._askers[name] = self.agents.askers[name]

    def _take_pod(self, pod: Manifest) -> None:
        meta, node = pod["metadata"], LabNode(self.cluster, pod["spec"]["nodeName"])
        key = f"{meta['namespace']}/{meta['name']}"
        self.addresses[self._name(key)] = addresses(pod)
        (netns,) = (
            endpoint["netns"] for endpoint in node.endpoints() if f"{endpoint['namespace']}/{endpoint['pod']}" == key
        )
        command = ["nsenter", f"--net={netns}", *COMMAND]
        self._askers[self._name(key)] = Asker(node.lab.node_argv(node.name, command))

    def take_world(self, **targets: Mapping[int, str]) -> None:
        """The world asks as `external`; `targets` are addresses in it or of anything else that cannot ask."""
        argv = LabNode(self.cluster, "node1").lab.node_argv("external", COMMAND)
        self._askers["external"] = Asker(argv)
        self.addresses |= {name: dict(ips) for name, ips in targets.items()}

    def __enter__(self) -> Stage:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        for asker in self._askers.values():
            asker.close()
        self.agents.close()

    @contextmanager
    def policies(self, *manifests: Manifest) -> Iterator[None]:
        """Applied and enforced inside, gone afterwards."""
        try:
            self.agents.apply(*manifests)
            yield
        finally:
            self.agents.remove(*manifests)

    # -- questions ------------------------------------------------------------------------------------------------

    def ask(self, expected: Mapping[Flow, bool]) -> dict[Flow, str]:
        """All at once: the answers that are not as expected."""
        by_source: dict[str, list[Flow]] = defaultdict(list)
        for flow in expected:
            by_source[flow.source].append(flow)
        for source, flows in by_source.items():
            questions = [(flow.kind, self.addresses[flow.target][flow.version], flow.port) for flow in flows]
            self._askers[source].ask(questions, sum(expected[flow] for flow in flows))
        answers = {
            flow: answer
            for source, flows in by_source.items()
            for flow, answer in zip(flows, self._askers[source].answers(), strict=True)
        }
        return {flow: answer for flow, answer in answers.items() if (answer == "yes") != expected[flow]}

    def expect(self, expected: Mapping[Flow, bool], why: object = "") -> None:
        """What is enforced reaches the last map a moment later than the first, so it may be asked again; in the end
        every answer of one round is as expected."""
        deadline = time.monotonic() + SETTLED
        while wrong := self.ask(expected):
            if time.monotonic() > deadline:
                lines = [f"{flow}: {answer}" for flow, answer in list(wrong.items())[:30]]
                raise AssertionError(f"{why}: {len(wrong)} of {len(expected)} are not as expected\n" + "\n".join(lines))


def pod(name: str, node: str, *, ports: Sequence[tuple[str, str, int]], account: str = "", **labels: str) -> Manifest:
    """One in which the stand-in answers on `ports`: name, protocol, number."""
    declared = [{"name": each, "protocol": protocol, "containerPort": number} for each, protocol, number in ports]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"name": name, **labels}},
        "spec": {
            "nodeName": node,
            "terminationGracePeriodSeconds": 0,
            **({"serviceAccountName": account} if account else {}),
            "containers": [{"name": "main", "image": "example/server:1", "ports": declared}],
        },
    }
