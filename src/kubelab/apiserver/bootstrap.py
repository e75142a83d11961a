"""What every cluster starts with.

Owns: the system namespaces and the Service `kubernetes`. Comes in: a store, empty or not. Goes out: the objects,
created where they lack.
"""

from typing import Any

from kubelab.apiserver.errors import AlreadyExists
from kubelab.apiserver.store import Store

NAMESPACES = ("default", "kube-system", "kube-public", "kube-node-lease")
KUBERNETES_SERVICE: dict[str, Any] = {
    "metadata": {
        "name": "kubernetes",
        "namespace": "default",
        "labels": {"component": "apiserver", "provider": "kubernetes"},
    },
    "spec": {
        "type": "ClusterIP",
        "clusterIP": "10.96.0.1",
        "clusterIPs": ["10.96.0.1"],
        "ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": 6443}],
    },
}


async def create_namespaces(store: Store) -> None:
    """Idempotent: what is there stays as it is."""
    for name in NAMESPACES:
        await _ensure(store, "namespaces", {"metadata": {"name": name}})
    await _ensure(store, "services", KUBERNETES_SERVICE)


async def _ensure(store: Store, resource: str, obj: dict[str, Any]) -> None:
    try:
        await store.create(resource, obj, namespace=obj["metadata"].get("namespace", ""))
    except AlreadyExists:
        return
