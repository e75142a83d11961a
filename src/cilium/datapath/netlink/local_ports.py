"""Ports that the kernel must not give to processes that ask for any: node ports are services'.

In: a range. Out: net.ipv4.ip_local_reserved_ports, which holds for both families; what others reserved stays.
"""

from __future__ import annotations

from cilium.datapath.netlink.sysctl import SysctlPort

EPHEMERAL, RESERVED = "net/ipv4/ip_local_port_range", "net/ipv4/ip_local_reserved_ports"


def reserve(sysctls: SysctlPort, first: int, last: int) -> bool:
    """Whether something had to be done. Raises SysctlError."""
    low, high = map(int, sysctls.read(EPHEMERAL).split())
    if last < low or first > high:
        return False
    known = sysctls.read(RESERVED).strip()
    for part in filter(None, known.split(",")):
        begin, _, end = part.partition("-")
        if int(begin) <= first and last <= int(end or begin):
            return False
    return sysctls.write(RESERVED, ",".join(filter(None, (known, f"{first}-{last}"))))
