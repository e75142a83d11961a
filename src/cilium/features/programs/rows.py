"""Tables that program attachment owns."""

from __future__ import annotations

import msgspec

from cilium.tables.types import Ifindex, IPAddress


class Attachment(msgspec.Struct, frozen=True):
    """Desired table `attachments`, key (`device`, `hook`): a program on a device."""

    device: str
    ifindex: Ifindex
    hook: str
    """ingress or egress."""
    program: str
    """from_lxc, to_lxc, from_host, from_overlay, from_netdev or to_netdev."""

    @property
    def key(self) -> tuple[str, str]:
        return self.device, self.hook


class NetdevEntry(msgspec.Struct, frozen=True):
    """Desired table `netdevs`, key `ifindex`: a row of the BPF map cilium_netdev."""

    ifindex: Ifindex
    mac: str
    masquerade4: IPAddress | None = None
    """Source address of masqueraded IPv4 packets that leave here."""
    masquerade6: IPAddress | None = None
