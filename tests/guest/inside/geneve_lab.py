"""A whole cluster on the guest's kernel with Geneve as its tunnel: agents, operator, pods of two nodes, a policy."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from scenario.cluster import BIN, addresses, client, server, url

from kubelab.lab import Lab

NAME = "geneve"
PODS = "/api/v1/namespaces/default/pods"
AGENTS = "/api/v1/namespaces/kube-system/pods?labelSelector=k8s-app%3Dcilium"
SLOW = 150
"""Seconds: everything takes some thirty times as long here."""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    values = tmp_path_factory.mktemp("lab") / "values.yaml"
    values.write_text("tunnelProtocol: geneve\n")
    made = Lab(NAME)
    try:
        argv = [BIN / "cilium", "lab", "up", "--name", NAME, "--nodes", "2", "--values", values]
        subprocess.run(argv, check=False)  # may tire of waiting for agents, which does not end them
        await_pods(made, AGENTS, 2)
        made.wait_ready(timeout=SLOW)
        yield made
    finally:
        made.down()


@pytest.fixture(scope="module")
def pods(lab: Lab) -> dict[str, Any]:
    manifests = [client("client", "node1", role="client"), server("far", "node2")]
    for manifest in manifests:
        manifest["metadata"]["namespace"] = "default"
    lab.api().apply(manifests)

    await_pods(lab, PODS, len(manifests))
    return {item["metadata"]["name"]: item for item in lab.api().get(PODS)["items"]}


def await_pods(lab: Lab, path: str, count: int) -> None:
    def ready(items: list[dict[str, Any]]) -> bool:
        conditions = [c for item in items for c in (item.get("status") or {}).get("conditions") or ()]
        return [c["status"] for c in conditions if c["type"] == "Ready"] == ["True"] * count

    lab.api().wait(path, ready, SLOW, f"{count} ready pods of {path}")


def inside(lab: Lab, node: str, *command: str) -> str:
    done = subprocess.run(lab.node_argv(node, command), capture_output=True, text=True, check=False)
    return done.stdout


def ask(lab: Lab, ip: str) -> str:
    """What the client gets from an address."""
    states = inside(lab, "node1", "sh", "-c", "for f in /var/run/cilium/state/*/ep.json; do cat $f; echo; done")
    endpoints = [json.loads(line) for line in states.splitlines() if line]
    netns = next(endpoint["netns"] for endpoint in endpoints if endpoint["pod"] == "client")
    return inside(lab, "node1", "nsenter", f"--net={netns}", "curl", "-gsS", "-m", "5", url(ip))


def eventually(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + SLOW
    while not condition():
        assert time.monotonic() < deadline, f"not within {SLOW} s: {what}"
        time.sleep(0.5)


def received(lab: Lab) -> int:
    found = json.loads(inside(lab, "node2", "ip", "-j", "-s", "-d", "link", "show", "cilium_geneve"))
    assert found[0]["linkinfo"]["info_kind"] == "geneve"
    return int(found[0]["stats64"]["rx"]["packets"])


def test_geneve_lab_reaches_pods_of_the_other_node(lab: Lab, pods: dict[str, Any]) -> None:
    for ip in addresses(pods["far"]).values():
        before = received(lab)
        eventually(lambda ip=ip: '"far"' in ask(lab, ip), f"the client reaches {ip}")
        assert received(lab) > before


def test_geneve_lab_enforces_a_policy(lab: Lab, pods: dict[str, Any]) -> None:
    nobody = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "closed", "namespace": "default"},
        "spec": {"podSelector": {"matchLabels": {"app": "far"}}, "policyTypes": ["Ingress"]},
    }
    lab.api().apply([nobody])
    for ip in addresses(pods["far"]).values():
        eventually(lambda ip=ip: not ask(lab, ip), f"the policy closes {ip}")
    allowed = {"from": [{"podSelector": {"matchLabels": {"role": "client"}}}]}
    lab.api().apply([nobody | {"spec": nobody["spec"] | {"ingress": [allowed]}}])
    for ip in addresses(pods["far"]).values():
        eventually(lambda ip=ip: '"far"' in ask(lab, ip), f"the policy opens {ip}")
