"""When an agent is said to enforce what was applied: every condition, missing one at a time."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
from unit.connectivity.policy_tests.shop import PODS

from cilium.connectivity.policy_tests import enforced

POLICY = {"kind": "NetworkPolicy", "metadata": {"name": "p", "namespace": "shop", "generation": 2}}
SHOP = {"metadata": {"name": "shop", "labels": {"tier": "1"}}}
ASKED = enforced.wanted(PODS[3:4], [SHOP], [POLICY])
"""One pod on node2."""
TABLES: dict[str, list[dict[str, Any]]] = {
    "policy-status": [
        {"kind": "NetworkPolicy", "namespace": "shop", "name": "p", "generation": 2, "valid": True, "error": "",
         "unenforced": ["spec.x"]}
    ],
    "ipcache": [{"prefix": "198.18.0.4/32", "identity": 1234}, {"prefix": "fd00::4/128", "identity": 1234}],
    "ipcache-status": [{"key": "198.18.0.4/32", "kind": "Done"}, {"key": "fd00::4/128", "kind": "Done"}],
    "identities": [{"id": 1234}],
    "identity-requests": [],
    "namespaces": [{"name": "shop", "labels": {"tier": "1"}}, {"name": "other", "labels": {}}],
    "pods": [{"namespace": "shop", "name": "db-abc-1", "labels": {"app": "db", "pod-template-hash": "abc"}}],
    "endpoints": [{"id": 7, "namespace": "shop", "pod": "db-abc-1"}],
    "endpoint-policies": [{"endpoint": 7}],
    "endpoint-map-status": [{"key": "x", "kind": "Done"}],
    "policy-map-status": [],
}  # fmt: skip


def test_nothing_is_lacking_when_everything_is_there() -> None:
    assert enforced.lacking(TABLES, ASKED, "node2") == []
    assert enforced.unenforced(TABLES, ASKED) == [(("NetworkPolicy", "shop", "p"), "spec.x")]
    assert enforced.invalid(TABLES, ASKED) == []


Change = Callable[[Any], None]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t["policy-status"][0].update(generation=1), "NetworkPolicy shop/p is not enforced"),
        (lambda t: t["policy-status"].clear(), "NetworkPolicy shop/p is not enforced"),
        (lambda t: t["ipcache"].pop(), "fd00::4 is not known as pod shop/db-abc-1"),
        (lambda t: t["ipcache"][0].update(identity=2), "198.18.0.4 is not known"),
        (lambda t: t["ipcache-status"][0].update(kind="Pending"), "198.18.0.4 is not known"),
        (lambda t: t["identities"].clear(), "198.18.0.4 is not known"),
        (lambda t: t["endpoint-policies"].clear(), "pod shop/db-abc-1 has no policy yet"),
        (lambda t: t["endpoint-map-status"][0].update(kind="Error"), "1 row(s) of endpoint-map-status are not written"),
        (lambda t: t["pods"][0].update(labels={"app": "old"}), "pod shop/db-abc-1 has other labels"),
        (lambda t: t["namespaces"][0].update(labels={}), "namespace shop has other labels"),
        (lambda t: t["identity-requests"].append({}), "identities are being allocated"),
        (lambda t: t.clear(), "the agent does not answer"),
    ],
)
def test_each_condition_is_waited_for(change: Change, said: str) -> None:
    tables = copy.deepcopy(TABLES)
    change(tables)
    assert any(said in text for text in enforced.lacking(tables, ASKED, "node2"))


def test_a_pod_of_another_node_needs_no_endpoint_here() -> None:
    assert enforced.lacking({**TABLES, "endpoint-policies": []}, ASKED, "node1") == []


def test_a_refused_policy_is_told_from_one_that_is_late() -> None:
    tables = copy.deepcopy(TABLES)
    tables["policy-status"][0].update(valid=False, error="spec.y: no such thing")
    assert enforced.invalid(tables, ASKED) == [(("NetworkPolicy", "shop", "p"), "spec.y: no such thing")]
    tables["policy-status"][0]["generation"] = 1
    assert enforced.invalid(tables, ASKED) == []


def test_agents_must_agree_on_an_identity() -> None:
    other = {**TABLES, "ipcache": [{"prefix": "198.18.0.4/32", "identity": 99}]}
    assert enforced.disagreeing({"node1": TABLES, "node2": TABLES}, ASKED) == []
    (said,) = enforced.disagreeing({"node1": TABLES, "node2": other}, ASKED)
    assert said == "pod shop/db-abc-1 has identities 99, 1234"
