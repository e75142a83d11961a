"""What the connectivity test deploys, as data. Names, labels, ports, probes and images are upstream's.

Source: `cilium/cilium`, cilium-cli/connectivity/check/deployment.go. In: options. Out: objects, in the order in which
they are created.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from cilium.connectivity.suite.options import Images

Object = dict[str, Any]

HOST_PORT, HTTP_PORT = 40000, 8080
CCNP_NAMESPACES = ("cilium-test-ccnp1", "cilium-test-ccnp2")
SLEEP = ["/bin/ash", "-c", "sleep 10000000"]
COREFILE = ". {\n\t\t\t\tlocal\n\t\t\t\tready\n\t\t\t\tlog\n\t\t\t}"


def objects(namespace: str, images: Images, *, single_node: bool) -> Iterator[Object]:
    """The stage in its namespace; on a single node, without those who stand on another one."""
    yield _namespace(namespace)
    yield {**_named("ConfigMap", "coredns-configmap", namespace), "data": {"Corefile": COREFILE}}
    echoes = ("echo-same-node",) if single_node else ("echo-same-node", "echo-other-node")
    for name in echoes:
        yield _service(name, namespace)
    near, apart = _affinity("podAffinity"), _affinity("podAntiAffinity")
    clients: list[tuple[str, dict[str, str], Object | None]] = [
        ("client", {}, None), ("client2", {"other": "client"}, near), ("client3", {"other": "client"}, apart),
    ]  # fmt: skip
    for name, labels, affinity in clients[:2] if single_node else clients:
        yield _named("ServiceAccount", name, namespace)
        container = {**_container(name, images.curl), "ports": [_port()], "command": SLEEP}
        yield _deployment(name, namespace, "client", [container], labels, affinity)
    for name in echoes:
        yield _named("ServiceAccount", name, namespace)
        same = name == "echo-same-node"
        container = {
            **_container(name, images.json_mock),
            "ports": [_port() | {"hostPort": HOST_PORT}],
            "readinessProbe": _probe(HTTP_PORT, "/"),
        }
        labels = {"other": "echo"} if same else {"first": "echo"}
        containers = [container, _dns_server(images.dns_server)]
        made = _deployment(name, namespace, "echo", containers, labels, near if same else apart)
        source = {"name": "coredns-configmap", "items": [{"key": "Corefile", "path": "Corefile"}]}
        made["spec"]["template"]["spec"]["volumes"] = [{"name": "coredns-config-volume", "configMap": source}]
        yield made
    yield _host_netns(namespace, images.curl)


def ccnp_objects(images: Images) -> Iterator[Object]:
    """Clients in namespaces of their own, for policies that are about namespaces."""
    for namespace in CCNP_NAMESPACES:
        yield _namespace(namespace)
        yield _named("ServiceAccount", "client-ccnp", namespace)
        container = {**_container("client-ccnp", images.curl), "ports": [_port()], "command": SLEEP}
        yield _deployment("client-ccnp", namespace, "client", [container], {}, None)


def _namespace(name: str) -> Object:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


def _named(kind: str, name: str, namespace: str, version: str = "v1") -> Object:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name, "namespace": namespace}}


def _service(name: str, namespace: str) -> Object:
    made = _named("Service", name, namespace)
    made["metadata"]["labels"] = {"kind": "echo"}
    return made | {
        "spec": {
            "type": "NodePort",
            "ports": [{"name": "http", "port": HTTP_PORT}],
            "selector": {"name": name},
            "ipFamilyPolicy": "PreferDualStack",
        }
    }


def _affinity(kind: str) -> Object:
    """To or against the node of `client`."""
    term = {
        "labelSelector": {"matchExpressions": [{"key": "name", "operator": "In", "values": ["client"]}]},
        "topologyKey": "kubernetes.io/hostname",
    }
    return {kind: {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}


def _probe(port: int, path: str) -> Object:
    return {
        "httpGet": {"path": path, "port": port, "scheme": "HTTP"},
        "timeoutSeconds": 2, "successThreshold": 1, "periodSeconds": 1, "initialDelaySeconds": 1, "failureThreshold": 3,
    }  # fmt: skip


def _port() -> Object:
    return {"name": "http-8080", "containerPort": HTTP_PORT}


def _container(name: str, image: str) -> Object:
    return {
        "name": name,
        "env": [{"name": "PORT", "value": str(HTTP_PORT)}, {"name": "NAMED_PORT", "value": "http-8080"}],
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "securityContext": {"capabilities": {"add": ["NET_RAW"]}},
    }


def _dns_server(image: str) -> Object:
    return {
        "name": "dns-test-server",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "args": ["-conf", "/etc/coredns/Corefile"],
        "ports": [
            {"containerPort": 53, "name": "dns-53"},
            {"containerPort": 53, "name": "dns-udp-53", "protocol": "UDP"},
        ],
        "readinessProbe": _probe(8181, "/ready"),
        "volumeMounts": [{"name": "coredns-config-volume", "mountPath": "/etc/coredns", "readOnly": True}],
    }


def _deployment(
    name: str, namespace: str, kind: str, containers: list[Object], labels: dict[str, str], affinity: Object | None
) -> Object:
    selector = {"name": name, "kind": kind}
    pod: Object = {"containers": containers, "serviceAccountName": name} | ({"affinity": affinity} if affinity else {})
    made = _named("Deployment", name, namespace, "apps/v1")
    made["metadata"]["labels"] = selector
    template = {"metadata": {"name": name, "labels": {**selector, **labels}}, "spec": pod}
    return made | {"spec": {"replicas": 1, "selector": {"matchLabels": selector}, "template": template}}


def _host_netns(namespace: str, image: str) -> Object:
    labels = {"name": "host-netns", "kind": "host-netns"}
    container = {
        "name": "host-netns",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": SLEEP,
        "securityContext": {"capabilities": {"add": ["NET_RAW"]}},
    }
    template = {
        "metadata": {"name": "host-netns", "labels": {**labels, "other": "host-netns"}},
        "spec": {"containers": [container], "hostNetwork": True},
    }
    made = _named("DaemonSet", "host-netns", namespace, "apps/v1")
    made["metadata"]["labels"] = labels
    return made | {"spec": {"selector": {"matchLabels": labels}, "template": template}}
