"""Names for the plain numbers and strings that rows are made of."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network
from typing import NewType

IPAddress = IPv4Address | IPv6Address
IPInterface = IPv4Interface | IPv6Interface
IPNetwork = IPv4Network | IPv6Network

EndpointId = NewType("EndpointId", int)
"""1..65535, unique on its node, stable over agent restarts."""
Identity = NewType("Identity", int)
"""Numeric security identity: 24 significant bits below a scope byte (0 global, 1 CIDR, 2 remote node)."""
PolicyId = NewType("PolicyId", int)
"""One direction of one policy in `cilium_policy`; 0 means that the direction is not enforced."""
ClassId = NewType("ClassId", int)
Cookie = NewType("Cookie", int)
"""Names the rule that decided, in the datapath's verdicts and events; 0 means no rule (default deny)."""
Ifindex = NewType("Ifindex", int)

Labels = tuple[str, ...]
"""Sorted security labels, `source:key=value`, e.g. `k8s:app=web`."""
