"""What a cluster has from its first minute on, beside what runs in its control plane: manifests.

In: a lab's options. Out: objects, in the order in which they are applied. So far: runtime classes, metrics, the
cluster's name server.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from kubelab.lab.options import LabOptions

Object = dict[str, Any]

NAMESPACE = "kube-system"
IMAGE = "registry.k8s.io/coredns/coredns:v1.12.1"
"""The stand-in for it is `kubelab.dns`."""
_LABELS = {"k8s-app": "kube-dns"}
_ROLE = "system:coredns"
COREFILE = """\
.:53 {
    errors
    health {
       lameduck 5s
    }
    ready
    kubernetes cluster.local in-addr.arpa ip6.arpa {
       pods insecure
       fallthrough in-addr.arpa ip6.arpa
       ttl 30
    }
    prometheus :9153
    forward . /etc/resolv.conf {
       max_concurrent 1000
    }
    cache 30 {
       disable success cluster.local
       disable denial cluster.local
    }
    loop
    reload
    loadbalance
}
"""


def manifests(options: LabOptions) -> Iterator[Object]:
    """Everything for a lab of these options."""
    if options.runtime == "containerd":
        yield from _runtime_classes()
    yield from _metrics()
    if options.dns:
        yield from _name_server(options)


def _runtime_classes() -> Iterator[Object]:
    """By which a pod says which of a containerd node's runtimes it wants."""
    for name in ("process", "runc"):
        yield {"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": name}, "handler": name}


def _metrics() -> Iterator[Object]:
    """That metrics.k8s.io is served, and by whom it may be read: as metrics-server's manifests have it."""
    group, version = "metrics.k8s.io", "v1beta1"
    labels = {"k8s-app": "metrics-server"}
    yield {
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": {"name": f"{version}.{group}", "labels": labels},
        "spec": {"group": group, "version": version, "groupPriorityMinimum": 100, "versionPriority": 100},
    }
    into = {f"rbac.authorization.k8s.io/aggregate-to-{role}": "true" for role in ("admin", "edit", "view")}
    yield {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": "system:aggregated-metrics-reader", "labels": {**labels, **into}},
        "rules": [{"apiGroups": [group], "resources": ["pods", "nodes"], "verbs": ["get", "list", "watch"]}],
    }


def _name_server(options: LabOptions) -> Iterator[Object]:
    account: Object = {"kind": "ServiceAccount", "name": "coredns", "namespace": NAMESPACE}
    yield {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": _meta("coredns")}
    yield {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": _ROLE},
        "rules": [
            {
                "apiGroups": [""],
                "resources": ["endpoints", "services", "pods", "namespaces"],
                "verbs": ["list", "watch"],
            },
            {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]},
        ],
    }
    yield {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": _ROLE},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": _ROLE},
        "subjects": [account],
    }
    yield {"apiVersion": "v1", "kind": "ConfigMap", "metadata": _meta("coredns"), "data": {"Corefile": COREFILE}}
    yield _service(options)
    yield {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {**_meta("coredns"), "labels": _LABELS},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": _LABELS},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1}},
            "template": {"metadata": {"labels": _LABELS}, "spec": _pod()},
        },
    }


def _service(options: LabOptions) -> Object:
    addresses = list(options.name_servers)
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            **_meta("kube-dns"),
            "annotations": {"prometheus.io/port": "9153", "prometheus.io/scrape": "true"},
            "labels": {**_LABELS, "kubernetes.io/cluster-service": "true", "kubernetes.io/name": "CoreDNS"},
        },
        "spec": {
            "clusterIP": addresses[0],
            "clusterIPs": addresses,
            "ipFamilies": [f"IPv{family}" for family in options.families],
            "ipFamilyPolicy": "RequireDualStack" if len(addresses) > 1 else "SingleStack",
            "selector": _LABELS,
            "ports": [
                {"name": "dns", "port": 53, "protocol": "UDP", "targetPort": 53},
                {"name": "dns-tcp", "port": 53, "protocol": "TCP", "targetPort": 53},
                {"name": "metrics", "port": 9153, "protocol": "TCP", "targetPort": 9153},
            ],
        },
    }


def _pod() -> Object:
    return {
        "serviceAccountName": "coredns",
        "priorityClassName": "system-cluster-critical",
        "dnsPolicy": "Default",  # its own name servers are the node's
        "nodeSelector": {"kubernetes.io/os": "linux"},
        "tolerations": [
            {"key": "CriticalAddonsOnly", "operator": "Exists"},
            {"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"},
        ],
        "containers": [
            {
                "name": "coredns",
                "image": IMAGE,
                "imagePullPolicy": "IfNotPresent",
                "args": ["-conf", "/etc/coredns/Corefile"],
                "resources": {"limits": {"memory": "170Mi"}, "requests": {"cpu": "100m", "memory": "70Mi"}},
                "ports": [
                    {"containerPort": 53, "name": "dns", "protocol": "UDP"},
                    {"containerPort": 53, "name": "dns-tcp", "protocol": "TCP"},
                    {"containerPort": 9153, "name": "metrics", "protocol": "TCP"},
                ],
                "livenessProbe": {
                    **_probe("/health", 8080),
                    "initialDelaySeconds": 60,
                    "timeoutSeconds": 5,
                    "failureThreshold": 5,
                },
                "readinessProbe": _probe("/ready", 8181),
                "securityContext": {
                    "allowPrivilegeEscalation": False,
                    "capabilities": {"add": ["NET_BIND_SERVICE"], "drop": ["ALL"]},
                    "readOnlyRootFilesystem": True,
                },
                "volumeMounts": [{"name": "config-volume", "mountPath": "/etc/coredns", "readOnly": True}],
            }
        ],
        "volumes": [
            {
                "name": "config-volume",
                "configMap": {"name": "coredns", "items": [{"key": "Corefile", "path": "Corefile"}]},
            }
        ],
    }


def _probe(path: str, port: int) -> Object:
    return {"httpGet": {"path": path, "port": port, "scheme": "HTTP"}}


def _meta(name: str) -> Object:
    return {"name": name, "namespace": NAMESPACE}
