"""The NetworkPolicy cases of Kubernetes' e2e suite: nine pods in three namespaces on three nodes, each asks each other
and the world, TCP and UDP, over both families, under every policy.

The same cases go without a lab through oracle and compiler: tests/property/test_netpol_cases.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack

import pytest
from scenario.cluster import Cluster
from scenario.conformance.agents import Manifest, policy_key
from scenario.conformance.netpol import NAMESPACES, NODE, PODS, PORTS, WORLD, Case, flows, policy, usual_labels
from scenario.conformance.netpol_cases import CASES
from scenario.conformance.stage import Stage, pod

pytestmark = pytest.mark.scenario


@pytest.fixture(scope="module")
def stage(tunnel: Cluster) -> Iterator[Stage]:
    with ExitStack() as stack:
        for namespace in NAMESPACES:
            stack.enter_context(tunnel.namespace(namespace))
            tunnel.kubectl("label", "namespace", namespace, f"ns={namespace}")
        manifests = []
        for namespace in NAMESPACES:
            for name in PODS:
                manifests.append(pod(name, NODE[name], ports=PORTS, pod=name))
                manifests[-1]["metadata"]["namespace"] = namespace
        tunnel.apply(*manifests)
        for namespace in NAMESPACES:
            tunnel.wait_ready(namespace)
        made = stack.enter_context(Stage(tunnel, NAMESPACES))
        made.take_world(**WORLD)
        yield made


class Play:
    """Goes from state to state; leaves the world as it was."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._policies: dict[str, Manifest] = {}
        self._labels: dict[str, dict[str, str]] = {}

    def go(self, policies: tuple[Manifest, ...], labels: Mapping[str, Mapping[str, str | None]]) -> None:
        old, new = self._policies, {policy_key(policy): policy for policy in policies}
        self._policies = old | new
        self._stage.agents.apply(*(policy for key, policy in new.items() if old.get(key) != policy))
        self._stage.agents.remove(*(policy for key, policy in old.items() if key not in new))
        self._policies = new
        for what in {*self._labels, *labels}:
            wanted = {key: text for key, text in {**usual_labels(what), **labels.get(what, {})}.items() if text}
            self._relabel(what, self._labels.get(what, usual_labels(what)), wanted)
            self._labels[what] = wanted

    def _relabel(self, what: str, old: dict[str, str], new: dict[str, str]) -> None:
        words = [f"{key}={text}" for key, text in new.items()] + [f"{key}-" for key in old if key not in new]
        namespace, _, name = what.partition("/")
        where = ["-n", namespace, "label", "pod", name] if name else ["label", "namespace", namespace]
        self._stage.cluster.kubectl(*where, *words, "--overwrite")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_netpol(stage: Stage, case: Case) -> None:
    play = Play(stage)
    try:
        for number, step in enumerate(case.steps):
            play.go(step.policies, step.labels)
            stage.expect(flows(step.passes), f"{case.name}, step {number}")
    finally:
        play.go((), {})


def test_every_answer_is_looked_at(stage: Stage) -> None:
    """The opposite of what is so is found wrong, question by question."""
    closed = policy("x", "Ingress", "Egress")
    with stage.policies(closed):
        expected = flows(lambda ask: "x" not in {ask.ns, ask.source_ns})
        stage.expect(expected)
        assert stage.ask({flow: not passes for flow, passes in expected.items()}).keys() == expected.keys()
