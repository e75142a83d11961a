"""Documents of the agent in the form of upstream's API (cilium/cilium api/v1/models).

In: what the agent's API says. Out: the fields that upstream's programs decode, with upstream's names and types; what we
have beyond them is left out, since a field of another type makes those programs refuse the whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Document = dict[str, Any]

API_VERSION = "1.20.0"
"""The release of Cilium whose commands and documents are spoken; programs choose by it what they ask for."""

_STATUS = {
    "kubernetes": ("state", "msg"),
    "host-firewall": ("mode", "devices"),
    "encryption": ("mode", "msg"),
    "ipam": ("ipv4", "ipv6", "allocations", "status"),
    "routing": ("intra-host-routing-mode", "inter-host-routing-mode", "tunnel-protocol"),
    "masquerading": ("enabled", "mode", "enabledProtocols"),
}
_FEATURES = {
    "socketLB": ("enabled",),
    "nodePort": ("enabled", "mode", "algorithm", "acceleration", "dsrMode", "portMin", "portMax", "lutSize"),
    "externalIPs": ("enabled",),
    "hostPort": ("enabled",),
    "sessionAffinity": ("enabled",),
    "gracefulTermination": ("enabled",),
}


def status(health: Mapping[str, Any]) -> Document:
    """StatusResponse. Parts that an agent does not have, such as a proxy, are absent: that is how upstream says so."""
    found: Document = {"cilium": _some(health["cilium"], ("state", "msg")), "controllers": health["controllers"]}
    found |= {name: _some(health[name], fields) for name, fields in _STATUS.items() if name in health}
    found["cni-chaining"] = {"mode": "none"}
    if "hubble" in health:
        found["hubble"] = _some(health["hubble"], ("state", "msg")) | {
            "observer": _some(health["hubble"].get("observer", {}), ("current-flows", "max-flows", "seen-flows"))
        }
    if "cluster" in health:
        found["cluster"] = {
            "self": health["node"],
            "ciliumHealth": {"state": "Ok", "msg": str(health["cluster"].get("msg", ""))},
        }
    if "kube-proxy-replacement" in health:
        found["kube-proxy-replacement"] = _replacement(health["kube-proxy-replacement"])
    return found


def _replacement(section: Mapping[str, Any]) -> Document:
    features = section.get("features", {})
    chosen = {name: _some(features[name], fields) for name, fields in _FEATURES.items() if name in features}
    hosts_only = str(features.get("socketLB", {}).get("coverage", "")).lower().startswith("host")
    extra = {
        "bpfSocketLBHostnsOnly": hosts_only,
        "annotations": list(features.get("annotations", {}).get("names", ())),
    }
    return {**_some(section, ("mode", "devices")), "deviceList": _devices(section), "features": {**chosen, **extra}}


def _devices(section: Mapping[str, Any]) -> list[Document]:
    return [_some(device, ("name", "ip")) for device in section.get("deviceList", ())]


def endpoint(document: Mapping[str, Any]) -> Document:
    """Endpoint."""
    state = document["status"]
    policy = state["policy"]
    enabled = [direction for direction in ("ingress", "egress") if policy[direction]["enforcing"]]
    mode = {0: "none", 2: "both"}.get(len(enabled)) or enabled[0]
    realized = {"id": (state["identity"] or {}).get("id", 0), "policy-revision": policy["revision"]}
    return {
        "id": document["id"],
        "status": {
            "state": state["state"],
            "health": {"overallHealth": state["health"]["overallHealth"], "connected": True},
            "external-identifiers": state["external-identifiers"],
            "identity": state["identity"],
            "labels": {"security-relevant": state["labels"]["security-relevant"]},
            "networking": _some(
                state["networking"], ("addressing", "interface-name", "interface-index", "mac", "host-mac")
            ),
            "policy": {"realized": {**realized, "policy-enabled": mode}, "spec": {**realized, "policy-enabled": mode}},
        },
    }


def service(document: Mapping[str, Any]) -> Document:
    """Service."""
    spec = {
        "id": document["id"],
        "frontend-address": _address(document["frontend"]) | {"scope": _scope(document["scope"])},
        "backend-addresses": [
            _address(end) | {"nodeName": end.get("node", ""), "state": end["state"], "weight": end["weight"]}
            for end in document["backends"]
        ],
        "flags": {"name": document["name"], "namespace": document["namespace"], "type": document["type"]},
    }
    return {"spec": spec, "status": {"realized": spec}}


def _address(place: Mapping[str, Any]) -> Document:
    return {"ip": place["ip"], "port": place["port"], "protocol": place.get("protocol", "TCP").lower()}


def _scope(scope: str) -> str:
    return "internal" if scope == "local" else "external"


def ipcache(rows: Sequence[Mapping[str, Any]]) -> Document:
    """The map's rows by prefix: identity, key, tunnel endpoint."""
    return {
        str(row["ip"]): [
            f"{row['identity']} {row['encrypt-key']} {str(row['tunnel-endpoint']).replace('-', '0.0.0.0')}"
        ]
        for row in rows
    }


def version(own: str) -> Document:
    """Versions of program and agent: upstream's that is spoken, with ours behind it."""
    spoken = f"{API_VERSION}-{own}"
    return {"Client": {"Version": spoken}, "Daemon": {"Version": spoken}}


def _some(document: Mapping[str, Any], names: Sequence[str]) -> Document:
    return {name: document[name] for name in names if name in document}
