"""Which labels make an identity, and which number it gets."""

from __future__ import annotations

import pytest

from cilium.features.identity.labels import LabelFilter, security_labels
from cilium.features.identity.numbers import IdentitiesExhaustedError, candidate, well_known
from cilium.tables.kubernetes import Namespace, Pod

NAMESPACE = Namespace("shop", {"kubernetes.io/metadata.name": "shop", "team": "a"}, {})


def pod(**labels: str) -> Pod:
    return Pod("shop", "web-0", "u", "n1", {key.replace("__", "-"): value for key, value in labels.items()}, {})


def test_the_default_filter() -> None:
    labels = security_labels(
        pod(app="web", pod__template__hash="5d", controller__revision__hash="x"),
        NAMESPACE, cluster="c1", labels=LabelFilter(),
    )  # fmt: skip
    assert labels == (
        "k8s:app=web",
        "k8s:io.cilium.k8s.namespace.labels.kubernetes.io/metadata.name=shop",
        "k8s:io.cilium.k8s.namespace.labels.team=a",
        "k8s:io.cilium.k8s.policy.cluster=c1",
        "k8s:io.cilium.k8s.policy.serviceaccount=default",
        "k8s:io.kubernetes.pod.namespace=shop",
    )


def test_an_including_filter_leaves_the_rest_out() -> None:
    labels = security_labels(pod(app="web", build="17"), NAMESPACE, cluster="c1", labels=LabelFilter("k8s:app"))
    assert "k8s:app=web" in labels
    assert not any(label.startswith("k8s:build") for label in labels)
    assert "k8s:io.kubernetes.pod.namespace=shop" in labels


def test_an_excluding_filter() -> None:
    kept = LabelFilter("!k8s:build")
    assert kept.keeps("app")
    assert not kept.keeps("build")


def test_a_pattern_that_is_none() -> None:
    with pytest.raises(ValueError, match=r"'\(' is not a regular expression"):
        LabelFilter("(")


def test_the_number_follows_from_the_labels() -> None:
    labels = ("k8s:app=web",)
    first = candidate(labels, lambda number: False)
    assert candidate(labels, lambda number: False) == first
    assert candidate(labels, lambda number: number == first) == (first - 255) % 65280 + 256


def test_no_number_left() -> None:
    with pytest.raises(IdentitiesExhaustedError, match="labels"):
        candidate(("k8s:app=web",), lambda number: True)


def test_cluster_dns_is_well_known() -> None:
    dns = Pod("kube-system", "coredns-1", "u", "n1", {"k8s-app": "kube-dns"}, {}, service_account="coredns")
    labels = security_labels(
        dns, Namespace("kube-system", {"kubernetes.io/metadata.name": "kube-system"}, {}),
        cluster="default", labels=LabelFilter(),
    )  # fmt: skip
    assert well_known("default")[labels] == 112
