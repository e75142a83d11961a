"""What a lab of three nodes costs while nobody asks anything of it, and how long a pod takes from apply to Ready.

A pod is a stand-in with a readiness probe, created by one request and followed by a watch; the others that are on the
machine are like it.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from typing import Any

from bench.cluster import BIN
from bench.figures import Figure, distribution, median
from bench.options import Options
from kubelab.lab.api import LabApi, is_ready
from kubelab.lab.lab import Lab
from kubelab.lab.usage import Usage

NODES = 3
ROUNDS, INTERVAL, SETTLE = 5, 10.0, 15.0
CROWDS = ((10, 500.0), (200, 1000.0))
"""Pods on the machine, and the target in milliseconds."""
SINGLE = 20
PODS = "/api/v1/namespaces/default/pods"
MB = 1e6


def run(options: Options) -> Iterator[Figure]:
    name = f"bench-cost-{os.getpid()}"
    try:
        subprocess.run([str(BIN / "cilium"), "lab", "up", "--name", name, "--nodes", str(NODES)], check=True,
                       stdout=subprocess.DEVNULL)  # fmt: skip
        lab = Lab(name)
        time.sleep(SETTLE)
        yield from idle(lab)
        for pods, target in CROWDS:
            crowd(lab.api(), pods)
            values = [milliseconds(lab.api(), f"single-{pods}-{number}") for number in range(SINGLE)]
            yield from distribution(f"pod from apply to Ready, {pods} pods", values, unit="ms", target=target)
    finally:
        Lab(name).down()


def idle(lab: Lab) -> Iterator[Figure]:
    rounds = [lab.usage(INTERVAL) for _ in range(ROUNDS)]
    cpu = [sum(row.cpu for row in rows) * 100 for rows in rounds]
    memory = [sum(row.memory for row in rows) / MB for rows in rounds]
    yield median("lab of 3 nodes, idle, CPU", cpu, unit="% of a core", target=3, note=dearest(rounds[-1]))
    yield median("lab of 3 nodes, memory (PSS)", memory, unit="MB", target=700, note=shares(rounds[-1]))


def dearest(rows: list[Usage]) -> str:
    return "; ".join(f"{name} {cpu:.1%}" for name, cpu, _ in by_component(rows))


def shares(rows: list[Usage]) -> str:
    return "; ".join(f"{name} {memory / MB:.0f}" for name, _, memory in by_component(rows))


def by_component(rows: list[Usage]) -> list[tuple[str, float, int]]:
    names = dict.fromkeys(row.component for row in rows)
    return [
        (
            name,
            sum(row.cpu for row in rows if row.component == name),
            sum(r.memory for r in rows if r.component == name),
        )
        for name in names
    ]


def pod(name: str) -> dict[str, Any]:
    container = {"name": "main", "image": "example/bench:1", "ports": [{"containerPort": 8080}],
                 "readinessProbe": {"tcpSocket": {"port": 8080}}}  # fmt: skip
    spec = {"terminationGracePeriodSeconds": 0, "containers": [container]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": "bench"}}, "spec": spec}


def crowd(api: LabApi, wanted: int) -> None:
    """So many pods are ready."""
    present = {item["metadata"]["name"] for item in api.get(PODS)["items"]}
    for number in range(wanted):
        if f"crowd-{number}" not in present:
            api.request("POST", PODS, pod(f"crowd-{number}"))

    def ready(items: list[dict[str, Any]]) -> bool:
        return sum(map(is_ready, items)) >= wanted

    api.wait(PODS, ready, 150, f"readiness of {wanted} pods")


def milliseconds(api: LabApi, name: str) -> float:
    """From the request to the event; the pod is gone when this returns."""
    path = f"{PODS}?fieldSelector=metadata.name%3D{name}"
    start = time.perf_counter()
    api.request("POST", PODS, pod(name))
    api.wait(path, lambda items: bool(items) and is_ready(items[0]), 30, f"readiness of {name}")
    passed = time.perf_counter() - start
    api.request("DELETE", f"{PODS}/{name}")
    api.wait(path, lambda items: not items, 30, f"the end of {name}")
    return passed * 1000
