"""Services translated packet by packet, as for pods whose sockets are left alone, beside kube-proxy's rules.

As `services`, with one service: already there ours should cost no more than nftables does.
"""

from __future__ import annotations

from collections.abc import Iterator

from bench.figures import Figure
from bench.options import Options
from bench.services import VALUES, measure

PACKETS = {**VALUES, "socketLB": {"hostNamespaceOnly": True}}
PAIRS = (("ours", "nftables"),)


def run(options: Options) -> Iterator[Figure]:
    yield from measure(options, "services, packet by packet", PACKETS, (1,), PAIRS)
