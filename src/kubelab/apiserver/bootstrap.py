"""What every cluster starts with.

Owns: the system namespaces, the Service `kubernetes` and its EndpointSlices, the priority classes of the system; with
`authorization.roles` the default roles and bindings. Comes in: a store, empty or not, and the
addresses on which the API server listens. Goes out: the objects, created where they lack.
"""

from collections.abc import Iterable
from ipaddress import ip_address
from typing import Any

from kubelab.apiserver.authorization import roles
from kubelab.apiserver.authorization.aggregation import aggregated_rules
from kubelab.apiserver.authorization.rbac import CLUSTER_BINDINGS, CLUSTER_ROLES
from kubelab.apiserver.errors import AlreadyExists
from kubelab.apiserver.store import Store
from kubelab.apiserver.strategies.services import ServiceRanges

NAMESPACES = ("default", "kube-system", "kube-public", "kube-node-lease")
ENDPOINT_SLICES = "endpointslices.discovery.k8s.io"
SLICES = {4: "kubernetes", 6: "kubernetes-ipv6"}
"""Names by family."""
PRIORITY_CLASSES = "priorityclasses.scheduling.k8s.io"
SYSTEM_PRIORITIES = {
    "system-node-critical": (
        2000001000,
        "Used for system critical pods that must not be moved from their current node.",
    ),
    "system-cluster-critical": (
        2000000000,
        "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
    ),
}
KUBERNETES_SERVICE: dict[str, Any] = {
    "metadata": {
        "name": "kubernetes",
        "namespace": "default",
        "labels": {"component": "apiserver", "provider": "kubernetes"},
    },
    "spec": {
        "type": "ClusterIP",
        "ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": 6443}],
    },
}


async def create_namespaces(store: Store, service_ranges: ServiceRanges) -> None:
    """Idempotent: what is there stays as it is. The Service `kubernetes` has the first address of the first range."""
    for name in NAMESPACES:
        await _ensure(store, "namespaces", {"metadata": {"name": name}})
    address = str(service_ranges[0][1])
    spec = {**KUBERNETES_SERVICE["spec"], "clusterIP": address, "clusterIPs": [address]}
    await _ensure(store, "services", {**KUBERNETES_SERVICE, "spec": spec})


async def create_policy(store: Store) -> None:
    """Idempotent. A role that is made of others starts with their rules."""
    for role in roles.cluster_roles():
        rules = aggregated_rules(role, store.peek_all(CLUSTER_ROLES))
        await _ensure(store, CLUSTER_ROLES, role if rules is None else {**role, "rules": rules})
    for binding in roles.cluster_role_bindings():
        await _ensure(store, CLUSTER_BINDINGS, binding)
    for name, (value, description) in SYSTEM_PRIORITIES.items():
        priority = {"metadata": {"name": name}, "value": value, "description": description}
        await _ensure(store, PRIORITY_CLASSES, priority)


async def publish_addresses(store: Store, addresses: Iterable[tuple[str, int]]) -> None:
    """The EndpointSlices of the Service `kubernetes`, one per family: where its pods and nodes find this API server.

    Loopback addresses are nobody else's and are left out. What an earlier start published and no longer holds goes.
    """
    wanted: dict[str, dict[str, Any]] = {}
    for host, port in addresses:
        if (address := ip_address(host)).is_loopback or address.is_unspecified:
            continue
        piece = wanted.setdefault(SLICES[address.version], _slice(address.version, port))
        piece["endpoints"].append({"addresses": [str(address)], "conditions": {"ready": True}})
    for name in SLICES.values():
        if (old := store.peek(ENDPOINT_SLICES, name, namespace="default")) is None:
            if name in wanted:
                await store.create(ENDPOINT_SLICES, wanted[name], namespace="default")
        elif name not in wanted:
            await store.delete(ENDPOINT_SLICES, name, namespace="default")
        elif any(old.get(field) != wanted[name][field] for field in ("endpoints", "ports")):
            await store.update(ENDPOINT_SLICES, {**old, **wanted[name], "metadata": old["metadata"]})
    await _publish_endpoints(store, wanted)


async def _publish_endpoints(store: Store, slices: dict[str, dict[str, Any]]) -> None:
    """The same for clients of Endpoints, in the Service's family."""
    service = store.peek("services", "kubernetes", namespace="default")
    family = ip_address(service["spec"]["clusterIP"]).version if service is not None else 4
    subsets = [
        {"addresses": [{"ip": end["addresses"][0]} for end in piece["endpoints"]], "ports": piece["ports"]}
        for name, piece in slices.items()
        if name == SLICES[family]
    ]
    labels = {"endpointslice.kubernetes.io/skip-mirror": "true"}
    wanted = {"metadata": {"name": "kubernetes", "namespace": "default", "labels": labels}, "subsets": subsets}
    if (old := store.peek("endpoints", "kubernetes", namespace="default")) is None:
        await store.create("endpoints", wanted, namespace="default")
    elif (old.get("subsets") or []) != subsets:
        await store.update("endpoints", {**old, "subsets": subsets})


def _slice(version: int, port: int) -> dict[str, Any]:
    return {
        "metadata": {
            "name": SLICES[version],
            "namespace": "default",
            "labels": {"kubernetes.io/service-name": "kubernetes"},
        },
        "addressType": f"IPv{version}",
        "endpoints": [],
        "ports": [{"name": "https", "port": port, "protocol": "TCP"}],
    }


async def _ensure(store: Store, resource: str, obj: dict[str, Any]) -> None:
    try:
        await store.create(resource, obj, namespace=obj["metadata"].get("namespace", ""))
    except AlreadyExists:
        return
