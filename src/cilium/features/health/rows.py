"""Tables of the health feature."""

from __future__ import annotations

from typing import Literal

import msgspec

from cilium.tables.types import IPAddress

TargetKind = Literal["host", "endpoint"]


class HealthTarget(msgspec.Struct, frozen=True):
    """Desired table `health-targets`, key `(node, address)`: who is asked.

    `host` is the agent on the node's own address, `endpoint` the node's health endpoint behind its datapath.
    """

    node: str
    address: IPAddress
    kind: TargetKind

    @property
    def key(self) -> tuple[str, str]:
        return self.node, str(self.address)


class NodeHealth(msgspec.Struct, frozen=True):
    """Observed table `node-health`, key `(node, address)`: what the last question gave. Writer: the prober."""

    node: str
    address: IPAddress
    kind: TargetKind
    ok: bool
    rtt: float
    """Seconds from connecting to the answer; of a question that failed, until it did."""
    error: str
    last: str
    """When it was asked, RFC 3339."""
    failures: int = 0
    """Questions in a row that failed."""

    @property
    def key(self) -> tuple[str, str]:
        return self.node, str(self.address)
