"""The compressed policy map, spread out as upstream's: one line per endpoint, identity and prefix."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import click

from cilium.cli.dbg.client import get
from cilium.cli.dbg.records import PROTOCOLS, entries

DIRECTIONS = ("Ingress", "Egress")
ANYBODY = 0
"""Identity of everyone who has no row of his own."""


def header(numeric: bool) -> tuple[str, ...]:
    who = "IDENTITY" if numeric else "LABELS (source:key[=value])"
    head = ("POLICY", "DIRECTION", who, "PORT/PROTO", "PROXY PORT", "AUTH TYPE", "BYTES", "PACKETS", "PREFIX", "COOKIE")
    return (*head, "RULE")


@dataclass(frozen=True)
class Names:
    """What numbers mean; without an agent they stay numbers."""

    identities: Mapping[int, str]
    rules: Mapping[int, str]
    counts: Mapping[int, tuple[int, int]]
    """Packets and bytes by cookie."""


def policies(endpoint: int | None, *, numeric: bool) -> dict[int, list[tuple[object, ...]]]:
    """Rows by endpoint: of one, or of all (None). Raises click.ClickException."""
    classes: dict[int, list[tuple[Any, Any]]] = defaultdict(list)
    for key, value in entries("cilium_policy_class"):
        classes[int(key["class"])].append((key, value))
    members: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for key, value in entries("cilium_policy"):
        members[int(key["policy"])].append((int(key["identity"]), int(value)))
    names = Names({} if numeric else _labels(), _rules(), _counts())
    found = {}
    for number, enforced in sorted(_enforced(endpoint).items()):
        found[number] = [
            row
            for direction, policy in zip(DIRECTIONS, enforced, strict=True)
            for identity, class_id in sorted(members.get(policy, ()))
            for prefix, verdict in classes.get(class_id, ())
            for row in (_row(direction, identity, prefix, verdict, names),)
        ]
    return found


def _enforced(endpoint: int | None) -> dict[int, tuple[int, int]]:
    """(ingress policy, egress policy) by endpoint; 0: not enforced."""
    found = {
        int(value["id"]): (int(value["ingress_policy"]), int(value["egress_policy"]))
        for _, value in entries("cilium_lxc")
    }
    if endpoint is None:
        return found
    if endpoint not in found:
        raise click.ClickException(f"endpoint {endpoint} does not exist; see cilium-dbg bpf endpoint list")
    return {endpoint: found[endpoint]}


def _row(direction: str, identity: int, prefix: Any, verdict: Any, names: Names) -> tuple[object, ...]:
    from cilium.datapath.generated import VerdictFlags

    flags, cookie = int(verdict["flags"]), int(verdict["cookie"])
    packets, size = names.counts.get(cookie, (0, 0))
    who = "ANY" if identity == ANYBODY else names.identities.get(identity, identity)
    return (
        ("Deny" if flags & VerdictFlags.DENY else "Allow") + (" (audit)" if flags & VerdictFlags.AUDIT else ""),
        direction,
        who,
        _port(prefix),
        int(verdict["proxy_port"]) or "NONE",
        "required" if flags & VerdictFlags.AUTH else "disabled",
        size,
        packets,
        int(prefix["prefixlen"]) - 32,
        cookie,
        names.rules.get(cookie, ""),
    )


def _port(key: Any) -> str:
    """`8080/TCP`, `80-95/TCP`, `TCP`, `ANY`."""
    bits = int(key["prefixlen"])
    if bits <= 32:
        return "ANY"
    protocol = PROTOCOLS.get(int(key["protocol"]), str(int(key["protocol"])))
    low = int(key["port"][0]) << 8 | int(key["port"][1])
    high = low | ((1 << (56 - bits)) - 1)
    if bits == 40:
        return f"ANY/{protocol}"
    return f"{low}/{protocol}" if low == high else f"{low}-{high}/{protocol}"


def _labels() -> dict[int, str]:
    return {int(row["id"]): ",".join(row["labels"]) for row in _ask("/identity")}


def _rules() -> dict[int, str]:
    return {int(row["cookie"]): _rule_name(row) for row in _ask("/statedb/rule-references")}


def _rule_name(row: Mapping[str, Any]) -> str:
    """`CiliumNetworkPolicy shop/web ingress[0]`, for one with a name `… (no-strangers)`, or what is built in."""
    name = "/".join(filter(None, (row["namespace"], row["name"])))
    words = (
        row["kind"],
        name,
        row["section"] and f"{row['section']}[{row['index']}]",
        row["rule"] and f"({row['rule']})",
    )
    return " ".join(filter(None, words))


def _counts() -> dict[int, tuple[int, int]]:
    """Of the rules that are counted."""
    return {
        int(rule["cookie"]): (rule["packets"] or 0, rule["bytes"] or 0)
        for row in _ask("/policy")
        for rule in row["rules"]
    }


def _ask(path: str) -> Iterable[Mapping[str, Any]]:
    try:
        answer: list[Mapping[str, Any]] = get(path)
    except click.ClickException:
        return []
    return answer
