"""Which number an identity gets."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from cilium.tables.identities import MAX_DYNAMIC, MIN_DYNAMIC, IdentityRow, Reserved
from cilium.tables.labels import CLUSTER, NAMESPACE, NAMESPACE_LABELS, SERVICE_ACCOUNT
from cilium.tables.types import Identity, Labels

_SPAN = MAX_DYNAMIC - MIN_DYNAMIC + 1


class IdentitiesExhaustedError(Exception):
    """All 65,280 identities are taken: fewer labels have to make an identity (setting `labels`)."""


def candidate(labels: Labels, taken: Callable[[Identity], bool]) -> Identity:
    """The first free number on the labels' own path through the range; the same on every node that sees the same."""
    digest = hashlib.sha256("\0".join(labels).encode()).digest()
    start = int.from_bytes(digest[:8], "big") % _SPAN
    for step in range(_SPAN):
        identity = Identity(MIN_DYNAMIC + (start + step) % _SPAN)
        if not taken(identity):
            return identity
    raise IdentitiesExhaustedError(
        f"all {_SPAN} security identities are in use; exclude labels with many values by the setting `labels`"
    )


def reserved_rows() -> list[IdentityRow]:
    return [IdentityRow(id=Identity(reserved), labels=_labels(reserved), source="reserved") for reserved in Reserved]


def _labels(reserved: Reserved) -> Labels:
    """A node on which an API server runs is both; API servers elsewhere have identities of CIDRs."""
    if reserved is Reserved.KUBE_APISERVER:
        return (Reserved.KUBE_APISERVER.label, Reserved.REMOTE_NODE.label)
    return (reserved.label,)


def well_known(cluster: str) -> dict[Labels, Identity]:
    """Identities that need no allocation, so that cluster DNS and the operator start before anything works.

    Keyed by the full label set; the second number of each is for namespaces that carry their name as a label.
    """
    table: dict[Labels, Identity] = {}
    for short, number, named, account in (
        ("k8s-app=kube-dns", 102, 110, "kube-dns"),
        ("k8s-app=kube-dns", 104, 112, "coredns"),
        ("name=cilium-operator", 105, 113, "cilium-operator"),
    ):
        labels = [
            f"k8s:{short}",
            f"k8s:{NAMESPACE}=kube-system",
            f"k8s:{SERVICE_ACCOUNT}={account}",
            f"k8s:{CLUSTER}={cluster}",
        ]
        if account == "cilium-operator":
            labels += ["k8s:io.cilium/app=operator", "k8s:app.kubernetes.io/part-of=cilium"]
            labels += ["k8s:app.kubernetes.io/name=cilium-operator"]
        table[tuple(sorted(labels))] = Identity(number)
        labels.append(f"k8s:{NAMESPACE_LABELS}kubernetes.io/metadata.name=kube-system")
        table[tuple(sorted(labels))] = Identity(named)
    return table
