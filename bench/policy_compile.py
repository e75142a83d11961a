"""How long the policy compiler takes, in shapes that matter.

In: a generated cluster, without an API server and without a kernel. Out: the median of each case.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from bench.figures import Figure, median
from bench.options import Options
from cilium.features.policy.compute import PolicyCompiler
from cilium.sources.kubernetes.policies import decode_cnp
from cilium.state import Derivation, Table
from cilium.tables.endpoints import EndpointIdentity
from cilium.tables.identities import IdentityRow
from cilium.tables.rules import PolicyObject
from cilium.tables.types import EndpointId, Identity, Labels

NAMESPACE = ("k8s:io.cilium.k8s.policy.cluster=default", "k8s:io.kubernetes.pod.namespace=shop")


def labels(**pairs: str) -> Labels:
    return tuple(sorted((*NAMESPACE, *(f"k8s:{key}={value}" for key, value in pairs.items()))))


def rule(name: str, subject: dict[str, str], port: int, *apps: str) -> PolicyObject:
    """Peers are pods of any of `apps`."""
    peer = {"matchExpressions": [{"key": "app", "operator": "In", "values": list(apps)}]}
    to_ports = [{"ports": [{"port": str(port), "protocol": "TCP"}]}]
    spec = {
        "endpointSelector": {"matchLabels": subject},
        "ingress": [{"fromEndpoints": [peer], "toPorts": to_ports}],
    }
    metadata = {"name": name, "namespace": "shop", "uid": name}
    return decode_cnp(msgspec.json.encode({"metadata": metadata, "spec": spec}))


class Cluster:
    """Tables and the compiler's derivation."""

    def __init__(self) -> None:
        keys: dict[str, Callable[[Any], Any]] = {
            "policies": lambda row: row.key,
            "identities": lambda row: row.id,
            "endpoint-identities": lambda row: row.endpoint,
            "cilium-endpoints": lambda row: row.key,
        }
        inputs: dict[str, Table[Any, Any]] = {name: Table(name, key=key) for name, key in keys.items()}
        self.write = {name: table.writer("bench") for name, table in inputs.items()}
        outputs: dict[str, Table[Any, Any]] = {
            "policy-map": Table("policy-map", key=lambda row: row.key),
            "endpoint-policies": Table("endpoint-policies", key=lambda row: row.endpoint),
            "policy-status": Table("policy-status", key=lambda row: row.key),
            "rule-references": Table("rule-references", key=lambda row: row.cookie),
            "judged-identities": Table("judged-identities", key=lambda row: row.id),
        }
        self.rows = outputs["policy-map"]
        self.derivation = Derivation(
            "policy",
            inputs=inputs,
            outputs={name: table.writer("policy") for name, table in outputs.items()},
            compute=PolicyCompiler().compute,
        )

    def identity(self, number: int, own: Labels) -> None:
        self.write["identities"].upsert(IdentityRow(Identity(number), own, "cluster"))

    def endpoint(self, number: int, own: Labels) -> None:
        self.identity(number, own)
        self.write["endpoint-identities"].upsert(EndpointIdentity(EndpointId(number), Identity(number), own))

    def step(self) -> float:
        """Milliseconds."""
        start = time.perf_counter()
        self.derivation.step()
        return (time.perf_counter() - start) * 1000


def selected_by_many_rules(rules_per_endpoint: int, *, shared: bool) -> Iterator[float]:
    """100 endpoints; one new identity that 1,000 of their rules select (or each endpoint's 1,000)."""
    cluster = Cluster()
    for number in range(100):
        cluster.endpoint(1000 + number, labels(app=f"app-{number}", tier="all"))
    for number in range(100 if not shared else 1):
        subject = {"tier": "all"} if shared else {"app": f"app-{number}"}
        for index in range(rules_per_endpoint):
            new = rule(f"{number}-{index}", subject, 1000 + index, "newcomer", f"other-{number}-{index}")
            cluster.write["policies"].upsert(new)
    for number in range(100 if shared else 0):
        cluster.write["policies"].upsert(rule(f"own-{number}", {"app": f"app-{number}"}, 1, "nobody"))
    cluster.step()
    number = 5000
    while True:
        cluster.identity(number, labels(app="newcomer", version=str(number)))
        yield cluster.step()
        assert any(number in getattr(row, "identities", ()) for row in cluster.rows.snapshot())
        cluster.write["identities"].delete(number)
        cluster.step()
        number += 1


def large() -> Cluster:
    """10,000 identities of 1,000 apps, 10,000 rules between them, 100 endpoints of 100 apps."""
    cluster = Cluster()
    write = cluster.write["identities"]
    write.commit(
        IdentityRow(Identity(1000 + n), labels(app=f"app-{n % 1000}", version=str(n // 1000)), "cluster")
        for n in range(10_000)
    )
    cluster.write["policies"].commit(
        rule(f"rule-{n}", {"app": f"app-{n % 100}"}, 80 + n % 10, f"app-{n * 7 % 1000}") for n in range(10_000)
    )
    for n in range(100):
        own = labels(app=f"app-{n}", version="0")
        cluster.write["endpoint-identities"].upsert(EndpointIdentity(EndpointId(n + 1), Identity(1000 + n), own))
    return cluster


def everything_at_once() -> Iterator[float]:
    while True:
        yield large().step()


def one_rule_changed() -> Iterator[float]:
    cluster = large()
    cluster.step()
    port = 9000
    while True:
        cluster.write["policies"].upsert(rule("rule-17", {"app": "app-17"}, port, "app-119"))
        yield cluster.step()
        port += 1


def one_broad_rule() -> Iterator[float]:
    """The changed rule is about 10,000 identities, its subject has 10,000 other rules."""
    cluster = Cluster()
    cluster.write["identities"].commit(
        IdentityRow(Identity(1000 + n), labels(app=f"app-{n % 1000}", tier="all"), "cluster") for n in range(10_000)
    )
    cluster.endpoint(500, labels(app="subject"))
    cluster.write["policies"].commit(
        rule(f"rule-{n}", {"app": "subject"}, 80 + n % 10, f"app-{n % 1000}") for n in range(10_000)
    )
    cluster.step()
    port = 9000
    while True:
        cluster.write["policies"].upsert(rule("broad", {"app": "subject"}, port, *(f"app-{n}" for n in range(1000))))
        yield cluster.step()
        port += 1


CASES: dict[str, tuple[Callable[[], Iterator[float]], int, float | None]] = {
    "new identity, 10 rules of each of 100 endpoints select it": (
        lambda: selected_by_many_rules(10, shared=False), 20, 5,
    ),
    "new identity, the same 1,000 rules of 100 endpoints select it": (
        lambda: selected_by_many_rules(1000, shared=True), 20, 5,
    ),
    "10,000 rules, 10,000 identities, 100 endpoints, from nothing": (everything_at_once, 3, 5000),
    "one rule of 10,000 changed": (one_rule_changed, 20, 20),
    "one rule about 10,000 identities changed, beside 10,000 rules": (one_broad_rule, 5, None),
}  # fmt: skip


def run(options: Options) -> Iterator[Figure]:
    for name, (case, runs, target) in CASES.items():
        series = case()
        times = [next(series) for _ in range(runs)]
        note = f"worst {max(times):.1f} ms of {runs}"
        yield median(f"compile: {name}", times, unit="ms", target=target, note=note)
