"""The API server stops, is silent, restarts again and again: who needs it waits, and goes on where it was.

`CILIUM_SOAK` makes the silences as long as a node may be silent, and longer.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest
from scenario.cluster import Cluster, addresses, client, curl, server

from kubelab.lab import Lab, state

pytestmark = pytest.mark.scenario
NS = "outage"
SOAK = "CILIUM_SOAK" in os.environ
SILENCE = 120.0 if SOAK else 11.0  # seconds; the operator may not renew its Lease for 10, a node be silent for 100


def silent(cluster: Cluster) -> None:
    """Connections stay, and nobody answers."""
    recorded = state.paths(cluster.name).read()
    assert recorded is not None
    pid = recorded.pids["control-plane"][0]
    os.kill(pid, signal.SIGSTOP)
    try:
        time.sleep(SILENCE)
    finally:
        os.kill(pid, signal.SIGCONT)


def restarting(cluster: Cluster) -> None:
    """Every connection breaks, several times in a row."""
    lab = Lab(cluster.name)
    for _ in range(20 if SOAK else 3):
        lab.stop("control-plane", kill=True)
        lab.start_control_plane()


def away(cluster: Cluster) -> None:
    """Nobody listens."""
    lab = Lab(cluster.name)
    lab.stop("control-plane", kill=True)
    time.sleep(SILENCE)
    lab.start_control_plane()


def restarts(cluster: Cluster) -> dict[str, int]:
    """Of every container, by pod: no pod is replaced and no container started again."""
    return {
        pod["metadata"]["uid"]: sum(status["restartCount"] for status in pod["status"]["containerStatuses"])
        for pod in cluster.get("-A", "pods")["items"]
    }


def ready_nodes(cluster: Cluster) -> list[str]:
    return [
        node["metadata"]["name"]
        for node in cluster.get("nodes")["items"]
        if any(entry["type"] == "Ready" and entry["status"] == "True" for entry in node["status"]["conditions"])
        and not node["spec"].get("taints")
    ]


def place(cluster: Cluster, *manifests: dict[str, Any]) -> None:
    for manifest in manifests:
        manifest["metadata"]["namespace"] = NS
    cluster.apply(*manifests)
    cluster.wait_ready(NS)


@pytest.mark.parametrize("outage", [silent, restarting, away] if SOAK else [silent, restarting])
def test_an_outage_of_the_api_server(tunnel: Cluster, outage: Callable[[Cluster], None]) -> None:
    with tunnel.namespace(NS):
        place(tunnel, client("client", "node1", role="friend"), server("server", "node2"))
        before = restarts(tunnel)
        outage(tunnel)
        tunnel.eventually(lambda: len(ready_nodes(tunnel)) == 3, "every node is ready", 30)
        assert restarts(tunnel) == before
        # The control loops work: a pod gets a place, an address, an identity, and policy.
        place(tunnel, server("late", "node3"))
        for name in ("server", "late"):
            for ip in addresses(tunnel.get("-n", NS, "pod", name)).values():
                tunnel.exec(NS, "client", *curl(ip))
        rule = {"endpointSelector": {}, "ingress": [{"fromEndpoints": [{"matchLabels": {"role": "nobody"}}]}]}
        meta = {"name": "closed", "namespace": NS}
        tunnel.apply({"apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy", "metadata": meta, "spec": rule})
        ip = addresses(tunnel.get("-n", NS, "pod", "late"))[4]
        tunnel.eventually(lambda: '"pod"' not in tunnel.exec(NS, "client", *curl(ip), check=False), "the policy holds")
        assert restarts(tunnel).items() >= before.items()
