"""What the scenarios of containerd share: pods of images, what becomes of them, commands about images."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from scenario.cluster import BIN, Cluster

NS, IMAGE, RICH = "images", "registry.test/web:1", "registry.test/rich:1"
FOREVER = "while :; do sleep 0.1; done"


def image(cluster: Cluster, *words: object, **options: Any) -> str:
    return cluster.run(BIN / "cilium", "lab", "image", *words, "--name", cluster.name, **options)


def pod(name: str, picture: str, **spec: Any) -> dict[str, Any]:
    container = {"name": "main", "image": picture, **spec.pop("container", {})}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": NS, "labels": {"app": name}},
        "spec": {"terminationGracePeriodSeconds": 1, "containers": [container], **spec},
    }


def state(cluster: Cluster, name: str) -> dict[str, Any]:
    status: dict[str, Any] = cluster.get("-n", NS, "pod", name)["status"]["containerStatuses"][0]
    return status


def waiting(cluster: Cluster, name: str, reason: str) -> str:
    """The message with which a container waits for this reason."""
    found = cluster.eventually(
        lambda: (entry := state(cluster, name)["state"].get("waiting", {})).get("reason") == reason and entry,
        f"{name} waits: {reason}",
    )
    return str(found["message"])


@contextmanager
def following(cluster: Cluster, *words: str) -> Iterator[subprocess.Popen[str]]:
    """kubectl logs -f; `communicate` gives all that it said once the container has ended."""
    argv = [str(BIN / "kubectl"), "-n", NS, "logs", "-f", *words]
    with subprocess.Popen(argv, env=cluster.environment, stdout=subprocess.PIPE, text=True) as program:
        try:
            yield program
        finally:
            program.kill()
