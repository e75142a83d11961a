"""What upstream's `cilium connectivity test` deploys, as data: cilium-cli/connectivity/check/deployment.go.

Names, labels, ports, probes, images, commands and affinities are those of the original; images without digests.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

Object = dict[str, Any]

NAMESPACE = "cilium-test-1"
CURL, JSON_MOCK = "quay.io/cilium/alpine-curl:v1.10.0", "quay.io/cilium/json-mock:v1.3.8"
DNS_SERVER = "registry.k8s.io/coredns/coredns:v1.12.1"
HOST_PORT = 40000
SLEEP = ["/bin/ash", "-c", "sleep 10000000"]
COREFILE = ". {\n\t\t\t\tlocal\n\t\t\t\tready\n\t\t\t\tlog\n\t\t\t}"


def objects() -> Iterator[Object]:
    """In the order in which they are created."""
    yield {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
    yield {**_named("ConfigMap", "coredns-configmap"), "data": {"Corefile": COREFILE}}
    for name in ("echo-same-node", "echo-other-node"):
        yield _service(name)
    near, apart = _affinity("podAffinity"), _affinity("podAntiAffinity")
    for name, labels, affinity in (
        ("client", {}, None),
        ("client2", {"other": "client"}, near),
        ("client3", {"other": "client"}, apart),
    ):
        yield _named("ServiceAccount", name)
        yield _deployment(name, "client", CURL, labels, affinity, command=SLEEP)
    for name, labels, affinity in (
        ("echo-same-node", {"other": "echo"}, near),
        ("echo-other-node", {"first": "echo"}, apart),
    ):
        yield _named("ServiceAccount", name)
        yield _with_dns_server(_deployment(name, "echo", JSON_MOCK, labels, affinity, probe=True))
    yield _host_netns()


def _named(kind: str, name: str, version: str = "v1") -> Object:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name, "namespace": NAMESPACE}}


def _service(name: str) -> Object:
    made = _named("Service", name)
    made["metadata"]["labels"] = {"kind": "echo"}
    return made | {
        "spec": {
            "type": "NodePort",
            "ports": [{"name": "http", "port": 8080}],
            "selector": {"name": name},
            "ipFamilyPolicy": "PreferDualStack",
        }
    }


def _affinity(kind: str) -> Object:
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


def _deployment(
    name: str,
    kind: str,
    image: str,
    labels: dict[str, str],
    affinity: Object | None,
    *,
    command: list[str] | None = None,
    probe: bool = False,
) -> Object:
    selector = {"name": name, "kind": kind}
    port: Object = {"name": "http-8080", "containerPort": 8080}
    container: Object = {
        "name": name,
        "env": [{"name": "PORT", "value": "8080"}, {"name": "NAMED_PORT", "value": "http-8080"}],
        "ports": [port | ({"hostPort": HOST_PORT} if kind == "echo" else {})],
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "securityContext": {"capabilities": {"add": ["NET_RAW"]}},
    }
    container |= {"command": command} if command else {}
    container |= {"readinessProbe": _probe(8080, "/")} if probe else {}
    pod: Object = {"containers": [container], "serviceAccountName": name} | ({"affinity": affinity} if affinity else {})
    made = _named("Deployment", name, "apps/v1")
    made["metadata"]["labels"] = selector
    template = {"metadata": {"name": name, "labels": {**selector, **labels}}, "spec": pod}
    return made | {"spec": {"replicas": 1, "selector": {"matchLabels": selector}, "template": template}}


def _with_dns_server(deployment: Object) -> Object:
    pod = deployment["spec"]["template"]["spec"]
    pod["containers"].append(
        {
            "args": ["-conf", "/etc/coredns/Corefile"],
            "name": "dns-test-server",
            "ports": [
                {"containerPort": 53, "name": "dns-53"},
                {"containerPort": 53, "name": "dns-udp-53", "protocol": "UDP"},
            ],
            "image": DNS_SERVER,
            "imagePullPolicy": "IfNotPresent",
            "readinessProbe": _probe(8181, "/ready"),
            "volumeMounts": [{"name": "coredns-config-volume", "mountPath": "/etc/coredns", "readOnly": True}],
        }
    )
    source = {"name": "coredns-configmap", "items": [{"key": "Corefile", "path": "Corefile"}]}
    pod["volumes"] = [{"name": "coredns-config-volume", "configMap": source}]
    return deployment


def _host_netns() -> Object:
    labels = {"name": "host-netns", "kind": "host-netns"}
    container = {
        "name": "host-netns",
        "image": CURL,
        "imagePullPolicy": "IfNotPresent",
        "command": SLEEP,
        "securityContext": {"capabilities": {"add": ["NET_RAW"]}},
    }
    template = {
        "metadata": {"name": "host-netns", "labels": {**labels, "other": "host-netns"}},
        "spec": {"containers": [container], "hostNetwork": True},
    }
    made = _named("DaemonSet", "host-netns", "apps/v1")
    made["metadata"]["labels"] = labels
    return made | {"spec": {"selector": {"matchLabels": labels}, "template": template}}
