"""The compressed policy map, spread out: one line per policy, identity and prefix."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import click

from cilium.cli.dbg.client import get
from cilium.cli.dbg.records import PROTOCOLS, entries


def verdict_rows(endpoint: int | None) -> Iterable[tuple[object, ...]]:
    """Rows for `bpf policy get`: of the policies of one endpoint, or of all (None)."""
    wanted = _directions(endpoint)
    classes: dict[int, list[tuple[Any, Any]]] = defaultdict(list)
    for key, value in entries("cilium_policy_class"):
        classes[int(key["class"])].append((key, value))
    rules = _rule_names()
    for key, value in entries("cilium_policy"):
        policy, number = int(key["policy"]), int(value)
        if policy not in wanted:
            continue
        identity = int(key["identity"]) or "any other"
        for prefix, verdict in classes.get(number, ()):
            protocol, port = _port(prefix)
            cookie = int(verdict["cookie"])
            yield (
                policy, wanted[policy], identity, number, protocol, port, _verdict(verdict), rules.get(cookie, cookie)
            )  # fmt: skip


def _directions(endpoint: int | None) -> dict[int, str]:
    found: dict[int, str] = {}
    values = [value for _, value in entries("cilium_lxc")]
    if endpoint is not None and all(int(value["id"]) != endpoint for value in values):
        raise click.ClickException(f"endpoint {endpoint} does not exist; see cilium-dbg bpf endpoint list")
    for value in values:
        if endpoint is None or int(value["id"]) == endpoint:
            found[int(value["ingress_policy"])] = "ingress"
            found[int(value["egress_policy"])] = "egress"
    found.pop(0, None)
    return found


def _port(key: Any) -> tuple[str, str]:
    bits = int(key["prefixlen"])
    if bits <= 32:
        return "ANY", "ANY"
    protocol = PROTOCOLS.get(int(key["protocol"]), str(int(key["protocol"])))
    low = int(key["port"][0]) << 8 | int(key["port"][1])
    high = low | ((1 << (56 - bits)) - 1)
    if bits == 40:
        return protocol, "ANY"
    return protocol, str(low) if low == high else f"{low}-{high}"


def _verdict(value: Any) -> str:
    from cilium.datapath.generated import VerdictFlags

    flags = int(value["flags"])
    if flags & VerdictFlags.DENY:
        return ("default deny" if flags & VerdictFlags.DEFAULT else "deny") + (
            " (audit)" if flags & VerdictFlags.AUDIT else ""
        )
    if flags & VerdictFlags.REDIRECT:
        return f"redirect to {int(value['proxy_port'])}"
    return "allow" + (" with authentication" if flags & VerdictFlags.AUTH else "")


def _rule_names() -> dict[int, str]:
    """Names of rules from the agent; without one, cookies stay numbers."""
    try:
        documents = get("/statedb/rule-references")
    except click.ClickException:
        return {}
    return {int(row["cookie"]): _rule_name(row) for row in documents}


def _rule_name(row: dict[str, Any]) -> str:
    """`shop/web ingress[0]`, `admins ingress[0] (no-strangers)`, or what a built-in reference is called."""
    name = "/".join(filter(None, (row["namespace"], row["name"])))
    place = f" {row['section']}[{row['index']}]" if row["section"] else ""
    return name + place + (f" ({row['rule']})" if row.get("rule") else "")
