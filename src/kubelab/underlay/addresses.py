"""Which addresses a lab uses: one subnet per family and lab, chosen so that nothing on the machine overlaps.

In: the subnets of other labs and the machine's routes. Out: a frozen plan, recorded in the lab's state.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Literal

Network = IPv4Network | IPv6Network
Family = Literal[4, 6]

WORLD_V4 = ("203.0.113.10", "203.0.113.11", "203.0.113.53")
WORLD_V6 = ("2001:db8::10", "2001:db8::11", "2001:db8::53")
WORLD: dict[Family, tuple[str, ...]] = {4: WORLD_V4, 6: WORLD_V6}
"""Two web servers and a name server."""
PUBLIC: dict[Family, tuple[str, ...]] = {
    4: ("1.1.1.1", "1.0.0.1"),
    6: ("2606:4700:4700::1111", "2606:4700:4700::1001"),
}
"""Addresses of the real world that public manifests ask: in a lab they are web servers of its own world."""
MAX_NODES = 100


class NoFreeSubnetError(Exception):
    """All candidate subnets overlap with something on this machine."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The addresses of one lab, all derived from ``index`` (1..254); of its families, the primary first."""

    index: int
    families: tuple[Family, ...] = (4, 6)

    @property
    def v4(self) -> IPv4Network:
        return IPv4Network(f"172.30.{self.index}.0/24")

    @property
    def v6(self) -> IPv6Network:
        return IPv6Network(f"fd00:172:30:{self.index}::/64")

    @property
    def subnets(self) -> tuple[Network, ...]:
        return tuple(self.v4 if family == 4 else self.v6 for family in self.families)

    @property
    def host(self) -> tuple[str, ...]:
        """The machine's own addresses on the underlay: where nodes reach the API server."""
        return self._of(str(self.v4[1]), str(self.v6[1]))

    @property
    def router(self) -> tuple[str, ...]:
        """The external namespace: everybody's default gateway."""
        return self._of(str(self.v4[254]), str(self.v6[254]))

    @property
    def world(self) -> tuple[str, ...]:
        """Addresses behind the router that answer in every lab."""
        return tuple(address for family in self.families for address in (*WORLD[family], *PUBLIC[family]))

    @property
    def name_servers(self) -> tuple[str, ...]:
        """The world's."""
        return tuple(WORLD[family][-1] for family in self.families)

    def node(self, number: int) -> tuple[str, ...]:
        """Addresses of node ``number`` (from 1)."""
        if not 1 <= number <= MAX_NODES:
            raise ValueError(f"node number {number}: a lab has 1 to {MAX_NODES} nodes")
        return self._of(str(self.v4[10 + number]), str(self.v6[0x10 + number]))

    @property
    def host_link(self) -> str:
        return f"kubelab{self.index}"

    def _of(self, v4: str, v6: str) -> tuple[str, ...]:
        return tuple(v4 if family == 4 else v6 for family in self.families)


def choose(taken: Iterable[int], routes: Iterable[Network], families: tuple[Family, ...] = (4, 6)) -> Plan:
    """The first plan whose subnets no other lab has and no route of the machine overlaps."""
    busy, used = set(taken), list(routes)
    for index in range(1, 255):
        plan = Plan(index, families)
        if index not in busy and not any(_overlap(net, plan.v4) or _overlap(net, plan.v6) for net in used):
            return plan
    raise NoFreeSubnetError(
        "every subnet 172.30.1.0/24 to 172.30.254.0/24 is in use: remove a lab or a route in 172.30.0.0/16"
    )


def machine_routes() -> list[Network]:
    """Destinations in the machine's main routing tables, default routes left out."""
    found: list[Network] = []
    for family in ("-4", "-6"):
        answer = subprocess.run(["ip", "-j", family, "route"], capture_output=True, text=True, check=True)
        destinations = (route["dst"] for route in json.loads(answer.stdout or "[]"))
        found += [ip_network(dst, strict=False) for dst in destinations if dst != "default"]
    return found


def _overlap(one: Network, other: Network) -> bool:
    return one.version == other.version and one.overlaps(other)
