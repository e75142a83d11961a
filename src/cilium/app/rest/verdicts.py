"""GET /v1/policy/verdict: what the maps in the kernel say of one direction of a connection, read as the datapath reads
them.

In: the pinned maps, numbers. Out: the verdict and what names the deciding rule.
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_address
from typing import Any

import numpy as np

from cilium.app.inspection import Inspection
from cilium.app.rest.documents import get, rows
from cilium.datapath.addresses import addresses_array
from cilium.datapath.generated import (
    IPCACHE_CIDR_KEY,
    IPCACHE_KEY,
    POLICY_CLASS_KEY,
    POLICY_KEY,
    EndpointFlags,
    VerdictFlags,
)
from cilium.datapath.maps import BpfMap
from cilium.settings import AllowLocalhost
from cilium.tables.endpoints import Endpoint
from cilium.tables.identities import Reserved
from cilium.tables.names import object_name
from cilium.tables.rules import RuleReference
from cilium.tables.types import IPAddress

Document = dict[str, Any]
PROTOCOLS = {"TCP": 6, "UDP": 17, "SCTP": 132, "ICMP": 1, "ICMPV6": 58}
DIRECTIONS = ("ingress", "egress")


class QuestionError(ValueError):
    """The question makes no sense; the message names the parameter and the way out."""


def verdict(agent: Inspection, query: Mapping[str, str]) -> Document:
    """`endpoint`: id, namespace/pod or address; `direction`; `peer` (an address) or `identity`; `protocol`; `port`.

    Raises QuestionError.
    """
    direction = query.get("direction", "")
    if direction not in DIRECTIONS:
        raise QuestionError(f"direction: {direction!r} is not one of {', '.join(DIRECTIONS)}")
    endpoint = _endpoint(agent, query.get("endpoint", ""))
    identity = _peer(agent, query)
    protocol = PROTOCOLS.get(query.get("protocol", "").upper())
    if protocol is None:
        raise QuestionError(f"protocol: {query.get('protocol')!r} is not one of {', '.join(PROTOCOLS)}")
    port = _number(query, "port", 65535)
    entry = _in_kernel(agent, endpoint)
    number = int(entry[f"{direction}_policy"])
    found = _lookup(agent.maps, number, identity, protocol, port) if number else None
    flags = int(found["flags"]) if found is not None else 0
    default = found is None or bool(flags & VerdictFlags.DEFAULT)
    localhost = (
        direction == "ingress"
        and agent.settings.policy.allow_localhost is not AllowLocalhost.POLICY
        and not int(entry["flags"]) & EndpointFlags.HOST
    )
    if not number:
        said, why = "allowed", "not enforced"
    elif default and localhost and identity == Reserved.HOST:
        said, why = "allowed", "the node itself"
    elif default:
        said, why = "denied", "no rule allows it"
    else:
        said, why = ("denied", "deny rule") if flags & VerdictFlags.DENY else ("allowed", "allow rule")
    if said == "denied" and (int(entry["flags"]) & EndpointFlags.AUDIT or flags & VerdictFlags.AUDIT):
        said = "audit"
    cookie = int(found["cookie"]) if found is not None else 0
    return {
        "endpoint": endpoint.id,
        "direction": direction,
        "identity": identity,
        "labels": list(getattr(get(agent, "identities", identity), "labels", ())),
        "policy-id": number,
        "verdict": said,
        "reason": why,
        "cookie": cookie,
        "rule": rule_text(get(agent, "rule-references", cookie)) if cookie else "",
    }


def rule_text(rule: RuleReference | None) -> str:
    """`CiliumNetworkPolicy shop/web spec.ingress[0]`."""
    if rule is None:
        return ""
    if not rule.kind:
        return rule.section
    return f"{object_name(rule.kind, rule.namespace, rule.name)} {rule.place}"


def _endpoint(agent: Inspection, name: str) -> Endpoint:
    for row in rows(agent, "endpoints"):
        names = {str(row.id), f"{row.namespace}/{row.pod}", *map(str, row.addresses)}
        if name in names:
            found: Endpoint = row
            return found
    raise QuestionError(f"endpoint: no endpoint of this node is {name!r}; see cilium-dbg endpoint list")


def _in_kernel(agent: Inspection, endpoint: Endpoint) -> Any:
    keys = np.zeros(1, agent.maps["cilium_lxc"].spec.key)
    keys["address"] = addresses_array([endpoint.addresses[0]])
    values, found = agent.maps["cilium_lxc"].lookup(keys)
    if not found[0] or int(values[0]["flags"]) & EndpointFlags.NOT_READY:
        raise QuestionError(f"endpoint: {endpoint.id} is not ready: the kernel lets nothing pass")
    return values[0]


def _peer(agent: Inspection, query: Mapping[str, str]) -> int:
    if "identity" in query:
        return _number(query, "identity", (1 << 32) - 1)
    try:
        address = ip_address(query.get("peer", ""))
    except ValueError:
        raise QuestionError(f"peer: {query.get('peer', '')!r} is no address; give one, or identity") from None
    return identity_of(agent, address)


def identity_of(agent: Inspection, address: IPAddress) -> int:
    """As the datapath finds it: ipcache, whole addresses first; then the world."""
    exact, prefix = np.zeros(1, IPCACHE_KEY), np.zeros(1, IPCACHE_CIDR_KEY)
    exact["address"] = prefix["address"] = addresses_array([address])
    prefix["prefixlen"] = 160
    for name, keys in (("cilium_ipcache", exact), ("cilium_ipcache_cidr", prefix)):
        values, found = agent.maps[name].lookup(keys)
        if found[0]:
            identity = int(values[0]["identity"])
            if identity:
                return identity
            break
    families = agent.settings.families
    if not (families.ipv4 and families.ipv6):
        return Reserved.WORLD
    return Reserved.WORLD_IPV4 if address.version == 4 else Reserved.WORLD_IPV6


def _lookup(maps: Mapping[str, BpfMap], policy: int, identity: int, protocol: int, port: int) -> Any:
    """Two lookups; None: no row, or no prefix."""
    for who in (identity, 0):
        keys = np.zeros(1, POLICY_KEY)
        keys["policy"], keys["identity"] = policy, who
        classes, found = maps["cilium_policy"].lookup(keys)
        if found[0]:
            key = np.zeros(1, POLICY_CLASS_KEY)
            key["prefixlen"], key["class"], key["protocol"] = 56, classes[0], protocol
            key["port"][0] = port >> 8, port & 0xFF
            verdicts, found = maps["cilium_policy_class"].lookup(key)
            return verdicts[0] if found[0] else None
    return None


def _number(query: Mapping[str, str], name: str, last: int) -> int:
    text = query.get(name, "")
    if not text.isdecimal() or int(text) > last:
        raise QuestionError(f"{name}: {text!r} is not a number up to {last}")
    return int(text)
