"""Make `src/kubelab/apiserver/schemas/builtins.json` from published JSON schemas of Kubernetes.

Comes in: `_definitions.json` of a `v<release>-local` directory, as the package `kubernetes-validate` carries it.
Goes out:
the definitions that the lab's built-in kinds reach, without prose: types, required fields, formats, merge keys, kinds.

    python tools/prune_openapi.py <_definitions.json> <output.json>
"""

import json
import sys
from pathlib import Path
from typing import Any

ROOTS = {
    "io.k8s.api.core.v1": (
        "Namespace Node Pod Service Endpoints ConfigMap Secret ServiceAccount Event ReplicationController "
        "ResourceQuota LimitRange PersistentVolumeClaim PersistentVolume Binding PodTemplate"
    ),
    "io.k8s.api.apps.v1": "Deployment ReplicaSet StatefulSet DaemonSet ControllerRevision",
    "io.k8s.api.batch.v1": "Job CronJob",
    "io.k8s.api.autoscaling.v1": "Scale HorizontalPodAutoscaler",
    "io.k8s.api.discovery.v1": "EndpointSlice",
    "io.k8s.api.networking.v1": "NetworkPolicy Ingress IngressClass IPAddress ServiceCIDR",
    "io.k8s.api.coordination.v1": "Lease",
    "io.k8s.api.rbac.v1": "Role RoleBinding ClusterRole ClusterRoleBinding",
    "io.k8s.api.events.v1": "Event",
    "io.k8s.api.policy.v1": "PodDisruptionBudget Eviction",
    "io.k8s.api.scheduling.v1": "PriorityClass",
    "io.k8s.api.storage.v1": "StorageClass VolumeAttachment CSIDriver CSINode CSIStorageCapacity VolumeAttributesClass",
    "io.k8s.api.autoscaling.v2": "HorizontalPodAutoscaler",
    "io.k8s.api.node.v1": "RuntimeClass",
    "io.k8s.api.admissionregistration.v1": (
        "ValidatingWebhookConfiguration MutatingWebhookConfiguration ValidatingAdmissionPolicy "
        "ValidatingAdmissionPolicyBinding"
    ),
    "io.k8s.api.certificates.v1": "CertificateSigningRequest",
    "io.k8s.api.flowcontrol.v1": "FlowSchema PriorityLevelConfiguration",
    "io.k8s.kube-aggregator.pkg.apis.apiregistration.v1": "APIService",
    "io.k8s.api.authentication.v1": "TokenRequest TokenReview SelfSubjectReview",
    "io.k8s.api.authorization.v1": (
        "SelfSubjectAccessReview SubjectAccessReview LocalSubjectAccessReview SelfSubjectRulesReview"
    ),
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1": "CustomResourceDefinition",
    "io.k8s.apimachinery.pkg.apis.meta.v1": "DeleteOptions Status ObjectMeta ListMeta",
}
KEPT = ("type", "format", "required", "enum", "x-kubernetes-group-version-kind")
KEPT_PREFIXES = ("x-kubernetes-list-", "x-kubernetes-patch-", "x-kubernetes-map-", "x-kubernetes-preserve")


def prune(node: dict[str, Any]) -> dict[str, Any]:
    """One schema node without prose, nulls and defaults of the publisher."""
    if isinstance(node.get("$ref"), str):
        kept = {"$ref": "#/definitions/" + node["$ref"].rsplit("/", 1)[1]}
        return kept | {k: v for k, v in node.items() if k.startswith(KEPT_PREFIXES)}
    kept = {k: v for k, v in node.items() if k in KEPT or k.startswith(KEPT_PREFIXES)}
    if isinstance(kept.get("type"), list):
        types = [t for t in kept["type"] if t != "null"]
        kept["type"] = types[0] if len(types) == 1 else types
    kept.pop("enum", None)
    if "properties" in node:
        kept["properties"] = {name: prune(child) for name, child in sorted(node["properties"].items())}
    for name in ("items", "additionalProperties"):
        if isinstance(node.get(name), dict):
            kept[name] = prune(node[name])
    return kept


def references(node: Any) -> set[str]:
    if isinstance(node, dict):
        own = {node["$ref"].rsplit("/", 1)[1]} if isinstance(node.get("$ref"), str) else set()
        return own.union(*(references(v) for v in node.values()))
    return set().union(*(references(v) for v in node)) if isinstance(node, list) else set()


def main(source: Path, target: Path) -> None:
    definitions = json.loads(source.read_text())["$defs"]
    waiting = [f"{package}.{kind}" for package, kinds in ROOTS.items() for kind in kinds.split()]
    pruned: dict[str, Any] = {}
    while waiting:
        name = waiting.pop()
        if name not in pruned:
            pruned[name] = prune(definitions[name])
            waiting.extend(references(pruned[name]))
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(dict(sorted(pruned.items())), separators=(",", ":")) + "\n")
    print(f"{len(pruned)} definitions, {target.stat().st_size} bytes")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
