"""Whether an agent enforces what was applied: a pure look at its tables.

In: pods, namespaces and policies as the API server has them, tables of one agent (`cilium-dbg statedb`). Out: what is
lacking, what is refused. A policy's row is in `policy-status` once the kernel has its rules; a pod of any node is known
when the agent has its addresses with their identity, the one that all agents have.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from cilium.connectivity.policy_tests.ground import Object, Tables
from cilium.tables.names import object_name

TABLES = (
    "policy-status", "pods", "namespaces", "identity-requests", "identities", "ipcache", "ipcache-status", "endpoints",
    "endpoint-policies", "endpoint-map-status", "policy-map-status",
)  # fmt: skip
Key = tuple[str, str, str]
RESERVED = 255
"""Identities up to here are not those of pods' labels."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What every agent must have."""

    policies: dict[Key, int]  # generations
    addresses: dict[str, tuple[str, str]]  # a pod's address -> its name, its node
    labels: dict[str, dict[str, str]]  # of pods by their name, of namespaces by theirs


def key_of(policy: Object) -> Key:
    metadata = policy["metadata"]
    return policy["kind"], metadata.get("namespace", ""), metadata["name"]


def wanted(pods: Sequence[Object], namespaces: Iterable[Object], policies: Iterable[Object]) -> Wanted:
    addresses = {
        entry["ip"]: (f"{pod['metadata']['namespace']}/{pod['metadata']['name']}", pod["spec"].get("nodeName", ""))
        for pod in pods
        if not pod["spec"].get("hostNetwork")
        for entry in pod["status"].get("podIPs") or []
    }
    labels = {_name(item["metadata"]): item["metadata"].get("labels") or {} for item in (*pods, *namespaces)}
    generations = {key_of(policy): policy["metadata"].get("generation", 1) for policy in policies}
    return Wanted(generations, addresses, labels)


def invalid(tables: Tables, asked: Wanted) -> list[tuple[Key, str]]:
    """Policies that the agent refuses in the generation that was applied, with its reason."""
    return [
        (key, row["error"])
        for row in tables.get("policy-status", [])
        if (key := _key(row)) in asked.policies and not row["valid"] and row["generation"] >= asked.policies[key]
    ]


def unenforced(tables: Tables, asked: Wanted) -> list[tuple[Key, str]]:
    """Parts of valid policies that this version does not enforce."""
    rows = tables.get("policy-status", [])
    return [(key, path) for row in rows if (key := _key(row)) in asked.policies for path in row["unenforced"]]


def lacking(tables: Tables, asked: Wanted, node: str) -> list[str]:
    """What is not there yet, in words; nothing: the agent enforces all of it."""
    if not tables:
        return ["the agent does not answer"]
    generations = {_key(row): row["generation"] for row in tables["policy-status"]}
    found = [
        f"{object_name(kind, namespace, name)} is not enforced"
        for (kind, namespace, name), generation in asked.policies.items()
        if generations.get((kind, namespace, name), 0) < generation
    ]
    identities = {row["id"] for row in tables["identities"]}
    known = {row["prefix"].partition("/")[0]: row["identity"] for row in tables["ipcache"]}
    written = {row["key"].partition("/")[0] for row in tables["ipcache-status"] if row["kind"] == "Done"}
    for address, (pod, _) in asked.addresses.items():
        identity = known.get(address, 0)
        if identity <= RESERVED or identity not in identities or address not in written:
            found.append(f"{address} is not known as pod {pod}")
    found += _endpoints(tables, asked, node)
    found += [
        f"{kind} {_name(row)} has other labels"
        for kind, rows in (("pod", tables["pods"]), ("namespace", tables["namespaces"]))
        for row in rows
        if asked.labels.get(_name(row), row["labels"]) != row["labels"]
    ]
    if tables["identity-requests"]:
        found.append("identities are being allocated")
    for table in ("policy-map-status", "endpoint-map-status"):
        pending = sum(row["kind"] != "Done" for row in tables[table])
        if pending:
            found.append(f"{pending} row(s) of {table} are not written")
    return found


def disagreeing(agents: Mapping[str, Tables], asked: Wanted) -> list[str]:
    """Pods that have one identity for some agents and another for others: their labels have changed just now."""
    identities: dict[str, set[int]] = {}
    for tables in agents.values():
        for row in tables.get("ipcache", []):
            identities.setdefault(row["prefix"].partition("/")[0], set()).add(row["identity"])
    return [
        f"pod {pod} has identities {', '.join(map(str, sorted(identities[address])))}"
        for address, (pod, _) in asked.addresses.items()
        if len(identities.get(address, ())) > 1
    ]


def _endpoints(tables: Tables, asked: Wanted, node: str) -> list[str]:
    """Pods of this node whose policy is not there yet."""
    ready = {row["endpoint"] for row in tables["endpoint-policies"]}
    there = {f"{row['namespace']}/{row['pod']}" for row in tables["endpoints"] if row["id"] in ready}
    local = {pod for pod, where in asked.addresses.values() if where == node}
    return [f"pod {pod} has no policy yet" for pod in sorted(local - there)]


def _name(metadata: Object) -> str:
    return "/".join(filter(None, (metadata.get("namespace", ""), metadata["name"])))


def _key(row: Object) -> Key:
    return row["kind"], row["namespace"], row["name"]
