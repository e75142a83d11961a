"""What this node's devices are called. Upstream's names, so that its tools and its users find them."""

from __future__ import annotations

HOST_DEVICE, HOST_PEER = "cilium_host", "cilium_net"
VXLAN_DEVICE, GENEVE_DEVICE = "cilium_vxlan", "cilium_geneve"
POD_PREFIX = "lxc"
"""How the host sides of pods' interfaces begin."""
