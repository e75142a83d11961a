"""A shop of three workloads on two nodes, as the API server would tell of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cilium.connectivity.policy_tests.cluster import State
from cilium.connectivity.policy_tests.expectations import parse
from cilium.connectivity.policy_tests.judge import Actual, Answer, CaseResult, Outcome, Verdict
from cilium.connectivity.policy_tests.plan import Case, plan
from cilium.connectivity.policy_tests.resolve import Resolver

FILE = Path("expectations.yaml")


def pod(
    name: str, node: str, number: int, *, owner: str = "", ports: Sequence[tuple[int, str, str]] = ()
) -> dict[str, Any]:
    """`owner`: the Deployment it is of."""
    labels = {"app": owner or name}
    metadata: dict[str, Any] = {"name": name, "namespace": "shop", "uid": f"u-{name}", "labels": labels}
    if owner:
        labels["pod-template-hash"] = "abc"
        metadata["ownerReferences"] = [{"kind": "ReplicaSet", "name": f"{owner}-abc"}]
    declared = [{"containerPort": port, "protocol": protocol, "name": word} for port, protocol, word in ports]
    return {
        "metadata": metadata,
        "spec": {"nodeName": node, "containers": [{"name": "main", "ports": declared}]},
        "status": {"podIPs": [{"ip": f"198.18.0.{number}"}, {"ip": f"fd00::{number}"}]},
    }


WEB = ((8080, "TCP", "http"), (53, "UDP", "dns"))
PODS = (
    pod("web-abc-1", "node1", 1, owner="web", ports=WEB),
    pod("web-abc-2", "node1", 2, owner="web", ports=WEB),
    pod("web-abc-3", "node2", 3, owner="web", ports=WEB),
    pod("db-abc-1", "node2", 4, owner="db", ports=((5432, "TCP", "sql"),)),
    pod("shell", "node1", 5),
)
SERVICES = (
    {
        "metadata": {"name": "front", "namespace": "shop"},
        "spec": {
            "type": "NodePort", "selector": {"app": "web"}, "clusterIPs": ["10.96.0.7"], "ipFamilies": ["IPv4"],
            "ports": [{"name": "www", "port": 80, "targetPort": "http", "nodePort": 30080}],
        },
    },
    {"metadata": {"name": "none", "namespace": "shop"}, "spec": {"clusterIPs": ["None"], "ports": [{"port": 80}]}},
)  # fmt: skip
NODES = tuple(
    {
        "metadata": {"name": f"node{number}"},
        "spec": {"podCIDRs": [f"198.18.{number}.0/24"]},
        "status": {
            "addresses": [{"type": "InternalIP", "address": ip} for ip in (f"172.30.1.1{number}", f"fd30::1{number}")]
        },
    }
    for number in (1, 2)
)
STATE = State(PODS, SERVICES, NODES)


def resolver() -> Resolver:
    return Resolver(STATE, ("172.30.1.0/24", "fd30::/64"))


def cases(text: str) -> list[Case]:
    return plan(FILE, parse(FILE, text), resolver())


ANSWERED = Answer("answered", "connected", "198.18.0.5", 40000, 0.01)
SILENT = Answer("timeout", "no answer within 1 s", "198.18.0.5", 40000, 1.0)


def result(case: Case, actual: Actual, *policies: str, reason: str = "") -> CaseResult:
    """Every probe of the case with the same verdict."""
    answer = ANSWERED if actual is Actual.ALLOWED else SILENT
    verdict = Verdict(actual, reason or f"by {', '.join(policies) or 'nobody'}", policies)
    return CaseResult(case, tuple(Outcome(probe, answer, verdict) for probe in case.probes))
