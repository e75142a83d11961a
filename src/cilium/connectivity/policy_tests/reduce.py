"""What of a manifest the lab runs: the part that network policies can see.

In: manifests as people have them. Out: the same objects with pods of stand-ins: labels, annotations, service account,
host network and declared ports stay; commands, volumes, probes, init containers and where to run go, since no policy
asks for them and the images are not here. Kinds that no policy asks for are left out. Pods take the place of
StatefulSets, Jobs and CronJobs: a test wants them all at once, whatever their order or schedule.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

from cilium.connectivity.policy_tests.load import Manifest

WORKLOADS = ("Pod", "Deployment", "DaemonSet", "ReplicaSet")
UNROLLED = ("StatefulSet", "Job", "CronJob")
OWNER = "cilium.io/lab-test-owner"
"""Annotation of a pod that takes its owner's place: KIND/NAME."""
POLICIES = ("NetworkPolicy", "CiliumNetworkPolicy", "CiliumClusterwideNetworkPolicy", "ClusterNetworkPolicy")
APPLIED = (
    "Namespace", "ServiceAccount", *WORKLOADS, *UNROLLED, "Service", "Endpoints", "EndpointSlice", "CiliumCIDRGroup",
    "CiliumLocalRedirectPolicy", *POLICIES,
)  # fmt: skip
CLUSTER_SCOPED = ("CiliumClusterwideNetworkPolicy", "ClusterNetworkPolicy", "CiliumCIDRGroup")
"""Of those applied, beside Namespaces."""
_POLICY_GROUPS = ("cilium.io/", "policy.networking.k8s.io/", "crd.projectcalico.org/", "projectcalico.org/")
_KEPT = ("serviceAccountName", "serviceAccount", "hostNetwork", "hostname", "subdomain", "restartPolicy")


def wanted(manifest: Manifest) -> bool:
    """Whether policies can tell that the object is there. A policy of a kind that nobody serves is wanted, too: it is
    refused by the API server, not passed over in silence."""
    version = str(manifest.content["apiVersion"])
    return manifest.kind in APPLIED or version.startswith(_POLICY_GROUPS)


def unrolled(manifest: Manifest) -> list[Manifest]:
    """The object, or the pods that it asks for where the lab has no controller for it."""
    if manifest.kind not in UNROLLED:
        return [manifest]
    spec = manifest.content.get("spec")
    if manifest.kind == "CronJob" and isinstance(spec, dict):
        spec = (spec.get("jobTemplate") or {}).get("spec")
    template = spec.get("template") if isinstance(spec, dict) else None
    if not isinstance(spec, dict) or not isinstance(template, dict):
        return [manifest]  # the API server says what is wrong
    replicas = spec.get("replicas", 1) if manifest.kind == "StatefulSet" else 1
    return [_pod(manifest, template, number) for number in range(int(replicas))]


def _pod(owner: Manifest, template: dict[str, Any], number: int) -> Manifest:
    name = f"{owner.name}-{number}"
    metadata = template.get("metadata") or {}
    labels = dict(metadata.get("labels") or {})
    if owner.kind == "StatefulSet":
        labels |= {"statefulset.kubernetes.io/pod-name": name, "apps.kubernetes.io/pod-index": str(number)}
    else:
        labels |= {"job-name": owner.name, "batch.kubernetes.io/job-name": owner.name}
    annotations = {**(metadata.get("annotations") or {}), OWNER: f"{owner.kind}/{owner.name}"}
    pod = {"name": name, "namespace": owner.namespace, "labels": labels, "annotations": annotations}
    spec = {**(template.get("spec") or {}), "restartPolicy": "Always"}
    return replace(owner, content={"apiVersion": "v1", "kind": "Pod", "metadata": pod, "spec": spec})


def reduced(manifest: Manifest, image: str) -> Manifest:
    """With pods of stand-ins of that image; any other object as it is."""
    if manifest.kind not in WORKLOADS:
        return manifest
    content = copy.deepcopy(manifest.content)
    content.pop("status", None)
    spec = content.get("spec")
    pod = content if manifest.kind == "Pod" else spec.get("template") if isinstance(spec, dict) else None
    if not isinstance(pod, dict) or not isinstance(pod.get("spec"), dict):
        return manifest  # the API server says what is wrong
    pod["spec"] = _pod_spec(pod["spec"], image)
    return replace(manifest, content=content)


def _pod_spec(spec: dict[str, Any], image: str) -> dict[str, Any]:
    containers = spec.get("containers")
    if not isinstance(containers, list) or not all(isinstance(container, dict) for container in containers):
        return spec
    kept = {name: spec[name] for name in _KEPT if name in spec}
    fields = ("name", "ports")
    return {
        **kept,
        "automountServiceAccountToken": False,  # the account's name is a label; it need not exist
        "terminationGracePeriodSeconds": 0,
        "containers": [{name: c[name] for name in fields if name in c} | {"image": image} for c in containers],
    }
