"""Tables of the servers that tell load balancers whether this node has backends."""

from __future__ import annotations

import msgspec


class HealthCheck(msgspec.Struct, frozen=True):
    """Desired table `health-checks`, key `port`: a port of this node that answers for a Service."""

    port: int
    """healthCheckNodePort."""
    service: str
    """namespace/name."""
    local_endpoints: int
    """Ready ones on this node; none: load balancers send nothing here."""
    rivals: tuple[str, ...] = ()
    """Younger Services that want the same port, and do not get it."""
