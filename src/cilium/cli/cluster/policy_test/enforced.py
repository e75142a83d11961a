"""Whether an agent enforces what was applied: a pure look at its tables.

In: pods and policies as the API server has them, tables of one agent (`cilium-dbg statedb`). Out: what is lacking, what
is refused. A policy's row is in `policy-status` once the kernel has its rules; a pod of any node is known when the
agent has its addresses with their identity, and that identity with its labels.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

TABLES = ("policy-status", "ipcache", "ipcache-status", "identities", "pods", "endpoints", "endpoint-policies",
          "endpoint-map-status", "policy-map-status")  # fmt: skip
Object = dict[str, Any]
Tables = dict[str, list[Object]]
Key = tuple[str, str, str]
RESERVED = 255
"""Identities up to here are not those of pods' labels."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What every agent must have."""

    policies: dict[Key, int]  # generations
    addresses: dict[str, tuple[str, str]]  # a pod's address -> its name, its node


def key_of(policy: Object) -> Key:
    metadata = policy["metadata"]
    return policy["kind"], metadata.get("namespace", ""), metadata["name"]


def wanted(pods: Iterable[Object], policies: Iterable[Object]) -> Wanted:
    addresses = {
        entry["ip"]: (f"{pod['metadata']['namespace']}/{pod['metadata']['name']}", pod["spec"].get("nodeName", ""))
        for pod in pods
        if not pod["spec"].get("hostNetwork")
        for entry in pod["status"].get("podIPs") or []
    }
    return Wanted({key_of(policy): policy["metadata"].get("generation", 1) for policy in policies}, addresses)


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
        f"{kind} {namespace}/{name} is not enforced".replace(" /", " ")
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
    for table in ("policy-map-status", "endpoint-map-status"):
        pending = sum(row["kind"] != "Done" for row in tables[table])
        if pending:
            found.append(f"{pending} row(s) of {table} are not written")
    return found


def _endpoints(tables: Tables, asked: Wanted, node: str) -> list[str]:
    """Pods of this node whose policy is not there yet."""
    ready = {row["endpoint"] for row in tables["endpoint-policies"]}
    there = {f"{row['namespace']}/{row['pod']}" for row in tables["endpoints"] if row["id"] in ready}
    local = {pod for pod, where in asked.addresses.values() if where == node}
    return [f"pod {pod} has no policy yet" for pod in sorted(local - there)]


def _key(row: Object) -> Key:
    return row["kind"], row["namespace"], row["name"]
