"""Security labels: the keys that stand for where a pod is and as whom it runs (upstream's: policies name them), and
what Kubernetes' labels become."""

from __future__ import annotations

from collections.abc import Mapping

from cilium.tables.types import Labels

NAMESPACE = "io.kubernetes.pod.namespace"
NAMESPACE_LABELS = "io.cilium.k8s.namespace.labels."
"""Prefix of the labels of a pod's namespace."""
SERVICE_ACCOUNT = "io.cilium.k8s.policy.serviceaccount"
CLUSTER = "io.cilium.k8s.policy.cluster"


def kubernetes_labels(labels: Mapping[str, str]) -> Labels:
    """`{"app": "web"}` as `k8s:app=web`, sorted."""
    return tuple(sorted(f"k8s:{key}={value}" for key, value in labels.items()))
