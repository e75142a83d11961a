"""What a node takes with it when it goes."""

from __future__ import annotations

from typing import Any

from kubelab.lab.drain import volumes_of


def volume(claim: str, *nodes: str) -> dict[str, Any]:
    expression = {"key": "kubernetes.io/hostname", "operator": "In", "values": list(nodes)}
    affinity = {"required": {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}}
    reference = {"claimRef": {"namespace": "shop", "name": claim}} if claim else {}
    return {"spec": {"nodeAffinity": affinity, **reference} if nodes else reference}


def test_claims_whose_volume_lies_on_that_node_alone() -> None:
    class Api:
        def get(self, path: str) -> dict[str, Any]:
            rows = [volume("b", "n1"), volume("a", "n1"), volume("other", "n2"), volume("both", "n1", "n2")]
            return {"items": [*rows, volume("anywhere"), volume("", "n1")]}

    found = volumes_of(Api(), "n1")  # type: ignore[arg-type]  # what it asks of the API
    assert found == ["PersistentVolumeClaim shop/a", "PersistentVolumeClaim shop/b"]
