"""Keys of the security labels that stand for where a pod is and as whom it runs. Upstream's: policies name them."""

from __future__ import annotations

NAMESPACE = "io.kubernetes.pod.namespace"
NAMESPACE_LABELS = "io.cilium.k8s.namespace.labels."
"""Prefix of the labels of a pod's namespace."""
SERVICE_ACCOUNT = "io.cilium.k8s.policy.serviceaccount"
CLUSTER = "io.cilium.k8s.policy.cluster"
