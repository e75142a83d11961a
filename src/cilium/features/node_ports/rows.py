"""Tables about the ports of this node that lead elsewhere."""

from __future__ import annotations

import msgspec


class NodePort(msgspec.Struct, frozen=True):
    """Table `node-ports`, key (`port`, `protocol`): what is asked for at this port of the node goes elsewhere."""

    port: int
    protocol: str
    kind: str
    """NodePort of a Service, or HostPort of a pod."""
    owner: str
    """namespace/name."""

    @property
    def key(self) -> tuple[int, str]:
        return self.port, self.protocol
