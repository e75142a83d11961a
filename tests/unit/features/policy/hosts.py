"""Clusterwide policies about nodes, for tests of the host firewall."""

from __future__ import annotations

from typing import Any

import msgspec

from cilium.sources.kubernetes.policies import decode_ccnp
from cilium.tables.rules import PolicyObject

FROM_WORLD: dict[str, Any] = {"ingress": [{"fromEntities": ["world"], "toPorts": [{"ports": [{"port": "22"}]}]}]}
FROM_CIDR: dict[str, Any] = {"ingress": [{"fromCIDRSet": [{"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}]}]}
TO_CLUSTER: dict[str, Any] = {"egress": [{"toEntities": ["cluster"]}, {"toCIDR": ["2001:db8::/32"]}]}
EVERY: dict[str, Any] = {"nodeSelector": {}}


def ccnp(name: str = "hosts", generation: int = 1, *specs: dict[str, Any]) -> PolicyObject:
    raw = {"metadata": {"name": name, "uid": f"u-{name}", "generation": generation}, "specs": list(specs)}
    policy = decode_ccnp(msgspec.json.encode(raw))
    assert not policy.error, policy.error
    return policy
