"""Nodes whose overlay device is made as the agent makes it."""

from __future__ import annotations

from bpf.nodes import Node, inside

from cilium.datapath.netlink.devices import ensure_geneve, ensure_vxlan
from cilium.datapath.netlink.port import Netlink
from cilium.datapath.netlink.sysctl import Sysctls

MAKERS = {"geneve": (ensure_geneve, 6081), "vxlan": (ensure_vxlan, 8472)}


class OverlayNode(Node):
    """`kind`: of the tunnel."""

    kind = ""

    def make_overlay(self) -> None:
        make, port = MAKERS[self.kind]
        with inside(self.namespace):
            assert make(Netlink(), Sysctls(), mtu=1500, port=port).name == self.overlay


def node_of(kind: str) -> type[OverlayNode]:
    return type(f"{kind.title()}Node", (OverlayNode,), {"kind": kind, "overlay": f"cilium_{kind}"})
