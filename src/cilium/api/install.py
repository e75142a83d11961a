"""The objects that make a cluster run Cilium, besides the CRDs: what `cilium install` and the lab apply.

In: settings. Out: manifests in the order in which they are applied. `python -m cilium.api.install [values.yaml]`
prints them as YAML. Names of objects, labels, ports and paths are those that tools around Cilium expect.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from cilium.api import rbac
from cilium.settings import Settings, SettingsError, load_values, split_address, to_config_map

Manifest = dict[str, Any]

CONFIG_MAP, CONFIG_DIR = "cilium-config", "/tmp/cilium/config-map"
AGENT, OPERATOR = "cilium", "cilium-operator"
AGENT_LABELS = {
    "k8s-app": "cilium",
    "app.kubernetes.io/name": "cilium-agent",
    "app.kubernetes.io/part-of": "cilium",
}
OPERATOR_LABELS = {
    "io.cilium/app": "operator",
    "name": OPERATOR,
    "app.kubernetes.io/name": OPERATOR,
    "app.kubernetes.io/part-of": "cilium",
}
AGENT_SELECTOR = {"k8s-app": "cilium"}
OPERATOR_SELECTOR = {"io.cilium/app": "operator", "name": OPERATOR}
EVERYWHERE = [{"operator": "Exists"}]
CHECKSUM = "cilium.io/cilium-configmap-checksum"
"""On pod templates: a changed ConfigMap replaces the pods that read it."""


def manifests(settings: Settings, *, namespace: str = "kube-system", image: str = "") -> list[Manifest]:
    """Namespace (unless it is there anyway), accounts, rights, ConfigMap, agents, operator, services.

    `image` is a whole image reference; empty takes the one of the settings.
    """
    chosen = image or _image(settings)
    config = to_config_map(settings)
    objects: list[Manifest] = []
    if namespace not in ("kube-system", "default"):
        objects.append({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
    objects += rbac.objects(namespace, agent=AGENT, operator=OPERATOR)
    objects.append(_object("v1", "ConfigMap", CONFIG_MAP, namespace) | {"data": config})
    checksum = hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()
    objects.append(agent(settings, namespace=namespace, image=chosen, checksum=checksum))
    objects.append(operator(settings, namespace=namespace, image=chosen, checksum=checksum))
    objects += services(settings, namespace=namespace)
    return objects


def agent(settings: Settings, *, namespace: str, image: str, checksum: str) -> Manifest:
    """The DaemonSet: one agent per node, before and whatever else happens to the node."""
    mounts, volumes = _agent_volumes(settings)
    port = settings.health.port
    container = {
        "name": "cilium-agent",
        "image": image,
        "imagePullPolicy": settings.install.pull_policy,
        "command": ["cilium-agent"],
        "args": [f"--config-dir={CONFIG_DIR}"],
        "env": [*_environment(), {"name": "CILIUM_COMMAND", "value": "cilium-dbg"}],
        "ports": _ports(
            {
                "health": f"127.0.0.1:{port}",
                "peer-service": settings.hubble.listen if settings.hubble.enabled else "",
                "prometheus": settings.metrics.listen,
            }
        ),
        "securityContext": {"privileged": True},
        "startupProbe": _probe(port, period=1, failures=300),
        "livenessProbe": _probe(port, period=30, failures=10),
        "readinessProbe": _probe(port, period=5, failures=3),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": mounts,
    }
    spec = {
        "selector": {"matchLabels": dict(AGENT_SELECTOR)},
        "updateStrategy": {
            "type": "RollingUpdate",
            "rollingUpdate": {"maxUnavailable": settings.install.max_unavailable},
        },
        "template": _template(
            AGENT, AGENT_LABELS, [container], volumes, checksum=checksum, priority="system-node-critical"
        ),
    }
    return _object("apps/v1", "DaemonSet", AGENT, namespace, AGENT_LABELS) | {"spec": spec}


def operator(settings: Settings, *, namespace: str, image: str, checksum: str) -> Manifest:
    """The Deployment: one active operator. It never surges: two cannot share a node's ports."""
    host, port = split_address(settings.operator.listen) if settings.operator.listen else ("", 0)
    probes = {
        "livenessProbe": _probe(port, period=10, failures=3, host=host or "127.0.0.1"),
        "readinessProbe": _probe(port, period=5, failures=5, host=host or "127.0.0.1"),
    }
    config = {"name": CONFIG_MAP, "mountPath": CONFIG_DIR, "readOnly": True}
    container = {
        "name": OPERATOR,
        "image": image,
        "imagePullPolicy": settings.install.pull_policy,
        "command": [OPERATOR],
        "args": [f"--config-dir={CONFIG_DIR}"],
        "env": _environment(),
        "ports": _ports({"health": settings.operator.listen, "prometheus": settings.operator.metrics}),
        **(probes if port else {}),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [config],
    }
    apart = {"labelSelector": {"matchLabels": dict(OPERATOR_SELECTOR)}, "topologyKey": "kubernetes.io/hostname"}
    template = _template(
        OPERATOR,
        OPERATOR_LABELS,
        [container],
        [_config_volume()],
        checksum=checksum,
        priority="system-cluster-critical",
    )
    template["spec"]["affinity"] = {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [apart]}}
    spec = {
        "replicas": settings.install.operator_replicas,
        "selector": {"matchLabels": dict(OPERATOR_SELECTOR)},
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}},
        "template": template,
    }
    return _object("apps/v1", "Deployment", OPERATOR, namespace, OPERATOR_LABELS) | {"spec": spec}


def services(settings: Settings, *, namespace: str) -> list[Manifest]:
    """Where others find the agents: flows of this node's agent, and metrics."""
    found = []
    if settings.hubble.enabled and settings.hubble.listen:
        ports = [{"name": "peer-service", "port": 80, "protocol": "TCP", "targetPort": "peer-service"}]
        spec = {"selector": dict(AGENT_SELECTOR), "ports": ports, "internalTrafficPolicy": "Local"}
        found.append(_object("v1", "Service", "hubble-peer", namespace, AGENT_LABELS) | {"spec": spec})
    if settings.metrics.listen:
        port = split_address(settings.metrics.listen)[1]
        ports = [{"name": "metrics", "port": port, "protocol": "TCP", "targetPort": "prometheus"}]
        spec = {"clusterIP": "None", "selector": dict(AGENT_SELECTOR), "ports": ports}
        found.append(_object("v1", "Service", "cilium-agent", namespace, AGENT_LABELS) | {"spec": spec})
    return found


def _object(version: str, kind: str, name: str, namespace: str, labels: Mapping[str, str] | None = None) -> Manifest:
    metadata: Manifest = {"name": name, "namespace": namespace}
    if labels:
        metadata["labels"] = dict(labels)
    return {"apiVersion": version, "kind": kind, "metadata": metadata}


def _template(
    account: str,
    labels: Mapping[str, str],
    containers: Sequence[Manifest],
    volumes: Sequence[Manifest],
    *,
    checksum: str,
    priority: str,
) -> Manifest:
    """Both components live in the node's network: they make the pods' network and may not depend on it."""
    return {
        "metadata": {"labels": dict(labels), "annotations": {CHECKSUM: checksum}},
        "spec": {
            "serviceAccountName": account,
            "hostNetwork": True,
            "dnsPolicy": "Default",
            "priorityClassName": priority,
            "nodeSelector": {"kubernetes.io/os": "linux"},
            "tolerations": [dict(toleration) for toleration in EVERYWHERE],
            "terminationGracePeriodSeconds": 5,
            "containers": list(containers),
            "volumes": list(volumes),
        },
    }


def _environment() -> list[Manifest]:
    return [
        {"name": "K8S_NODE_NAME", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
        {"name": "CILIUM_K8S_NAMESPACE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}},
    ]


def _ports(addresses: Mapping[str, str]) -> list[Manifest]:
    """Ports by name; declared, so that the scheduler knows whom a node's ports belong to."""
    numbers = {name: split_address(address)[1] for name, address in addresses.items() if address}
    return [
        {"name": name, "containerPort": number, "hostPort": number, "protocol": "TCP"}
        for name, number in numbers.items()
    ]


def _probe(port: int, *, period: int, failures: int, host: str = "127.0.0.1") -> Manifest:
    """Asks over loopback: no policy and no datapath can come between."""
    return {
        "httpGet": {"host": host, "path": "/healthz", "port": port, "scheme": "HTTP"},
        "periodSeconds": period,
        "failureThreshold": failures,
        "successThreshold": 1,
        "timeoutSeconds": 5,
    }


def _config_volume() -> Manifest:
    return {"name": CONFIG_MAP, "configMap": {"name": CONFIG_MAP}}


def _agent_volumes(settings: Settings) -> tuple[list[Manifest], list[Manifest]]:
    """(mounts, volumes): every path is the same inside and outside, so messages name paths that exist."""
    paths = [
        ("cilium-run", settings.process.state_dir, "None"),
        ("bpf-maps", settings.maps.root, "Bidirectional"),  # mounted by the agent if need be: the node keeps it
        ("cni-path", settings.cni.binary_dir, "None"),
        ("netns", settings.process.netns_dir, "HostToContainer"),  # namespaces that come later are seen
        ("cgroup", "/sys/fs/cgroup", "HostToContainer"),
    ]
    if settings.cni.configuration:
        paths.append(("etc-cni-netd", str(PurePosixPath(settings.cni.configuration).parent), "None"))
    mounts: list[Manifest] = [
        {"name": name, "mountPath": path, **({"mountPropagation": how} if how != "None" else {})}
        for name, path, how in paths
    ]
    mounts.append({"name": CONFIG_MAP, "mountPath": CONFIG_DIR, "readOnly": True})
    volumes: list[Manifest] = [
        {"name": name, "hostPath": {"path": path, "type": "DirectoryOrCreate"}} for name, path, _ in paths
    ]
    return mounts, [*volumes, _config_volume()]


def _image(settings: Settings) -> str:
    install = settings.install
    return f"{install.image}:{install.tag}" if install.tag else install.image


def main(argv: Sequence[str]) -> int:
    import yaml

    try:
        settings = load_values(argv[0]) if argv else Settings()
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 1
    print("# Printed by `python -m cilium.api.install`. The operator registers the CRDs.")
    yaml.safe_dump_all(manifests(settings), sys.stdout, sort_keys=False)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
