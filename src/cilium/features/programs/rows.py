"""Tables that program attachment owns."""

from __future__ import annotations

import msgspec

from cilium.tables.types import Ifindex, IPAddress


class Attachment(msgspec.Struct, frozen=True):
    """Desired table `attachments`, key (`device`, `hook`): a program on a device."""

    device: str
    ifindex: Ifindex
    hook: str
    """ingress, egress or xdp."""
    program: str
    """from_lxc, to_lxc, from_host, from_overlay, from_netdev, to_netdev or from_wire."""

    @property
    def key(self) -> tuple[str, str]:
        return self.device, self.hook


class NetdevEntry(msgspec.Struct, frozen=True):
    """Desired table `netdevs`, key `ifindex`: a row of the BPF map cilium_netdev."""

    ifindex: Ifindex
    mac: str
    kind: str = ""
    masquerade4: IPAddress | None = None
    """Source address of masqueraded IPv4 packets that leave here."""
    masquerade6: IPAddress | None = None


class XdpDevice(msgspec.Struct, frozen=True):
    """Observed table `xdp-devices`, key `device`: services are forwarded in XDP there."""

    device: str
    ifindex: Ifindex
    mode: str
    """native or generic."""
