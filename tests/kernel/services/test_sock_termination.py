"""Sockets that talk to a backend which is no more are ended; the others are not."""

from __future__ import annotations

import asyncio
import errno
from ipaddress import ip_address

import pytest
from kernel.services.conftest import ADDRESSES, Node, Place, frontend
from msgspec.structs import replace

from cilium.datapath.netlink.connections import Peer, destroy_sockets
from cilium.datapath.netlink.netns import NamespaceError
from cilium.features.services.termination import Termination
from cilium.state import Table
from cilium.tables.endpoints import Endpoint
from cilium.tables.services import EndpointSlice, Frontend, FrontendKey, SliceEndpoint
from cilium.tables.types import EndpointId

pytestmark = pytest.mark.kernel
VIP = {4: "10.96.0.1", 6: "fd96::1"}
ENDED = {"errno": errno.ECONNABORTED}
both = pytest.mark.parametrize("version", [4, 6])
kinds = pytest.mark.parametrize("kind", ["tcp", "udp"])


class World:
    """Tables as the agent has them, and the task over them."""

    def __init__(self, node: Node, *places: Place, slices: tuple[str, ...] = ()) -> None:
        self._node = node
        frontends: Table[FrontendKey, Frontend] = Table("frontends", key=lambda row: row.key)
        endpoints: Table[EndpointId, Endpoint] = Table("endpoints", key=lambda row: row.id)
        found: Table[str, EndpointSlice] = Table("endpoint-slices", key=lambda row: row.key)
        self._writer, others = frontends.writer("test"), (endpoints.writer("test"), found.writer("test"))
        others[0].commit(
            Endpoint(EndpointId(number), "pod", (), netns=str(place.netns.path), netns_cookie=place.cookie)
            for number, place in enumerate([*places, node], 1)
        )
        ends = tuple(SliceEndpoint(ip_address(ip), ready=False, serving=False, terminating=False) for ip in slices)
        others[1].upsert(EndpointSlice("shop", "web-1", "web", ends))
        for writer in (self._writer, *others):
            writer.ready()
        self.termination = Termination(
            frontends=frontends, slices=found, endpoints=endpoints, reverse=node.map("cilium_lb_reverse"),
            settled=self._settled, pause=0,
        )  # fmt: skip

    def put(self, *rows: Frontend) -> None:
        self._node.put(*rows)
        self._writer.commit(rows)

    def delete(self, row: Frontend) -> None:
        self._node.services.delete([row])
        self._writer.delete(row.key)

    def round(self) -> None:
        asyncio.run(self.termination.follow())

    def begin(self) -> None:
        """As a new agent does."""
        asyncio.run(self.termination.end(None))

    async def _settled(self, revision: int) -> None:
        del revision


def connected(place: Place, version: int, kind: str, ip: str, port: int = 80) -> int:
    one = place.open(version, kind)
    assert "errno" not in place.do("connect", socket=one, to=[ip, port])
    assert "answer" in place.do("ask", socket=one)
    return one


def serve(place: Place, kind: str, *addresses: str) -> None:
    for address in addresses:
        getattr(place.servers, kind)(address, 8080)


@both
@kinds
def test_sockets_of_a_backend_that_went_are_ended(node: Node, pod: Place, version: int, kind: str) -> None:
    gone, stays, _ = ADDRESSES[version]
    world = World(node, pod, slices=(stays,))
    for place in (node, pod):
        serve(place, kind, gone, stays)
    world.put(frontend(VIP[version], gone, protocol=kind.upper()))
    ended = [(place, connected(place, version, kind, VIP[version])) for place in (node, pod)]
    direct = [(place, connected(place, version, kind, gone, 8080)) for place in (node, pod)]
    world.put(frontend(VIP[version], gone, stays, protocol=kind.upper()))
    world.round()
    world.put(frontend(VIP[version], stays, protocol=kind.upper()))
    other = [(place, connected(place, version, kind, VIP[version])) for place in (node, pod)]
    assert [place.do("ask", socket=one)["answer"] for place, one in ended] == [f"{gone} 8080"] * 2, "not yet"
    world.round()
    assert [place.do("receive", socket=one) for place, one in ended] == [ENDED] * 2
    assert [place.do("ask", socket=one)["answer"] for place, one in direct] == [f"{gone} 8080"] * 2
    assert [place.do("ask", socket=one)["answer"] for place, one in other] == [f"{stays} 8080"] * 2
    assert len(node.map("cilium_lb_reverse").dump()[0]) == 2, "what was ended is forgotten"


@kinds
def test_a_socket_of_ipv6_that_talks_ipv4_is_ended(node: Node, kind: str) -> None:
    gone = ADDRESSES[4][0]
    world = World(node)
    serve(node, kind, gone)
    world.put(frontend(VIP[4], gone, protocol=kind.upper()))
    world.round()
    one = connected(node, 6, kind, f"::ffff:{VIP[4]}")
    world.put(frontend(VIP[4], protocol=kind.upper()))
    world.round()
    assert node.do("receive", socket=one) == ENDED


@both
@kinds
def test_what_went_while_no_agent_was_there(node: Node, version: int, kind: str) -> None:
    gone, stays, _ = ADDRESSES[version]
    serve(node, kind, gone, stays)
    kept_row = frontend(VIP[version], stays, port=81, protocol=kind.upper())
    node.put(frontend(VIP[version], gone, protocol=kind.upper()), kept_row)
    ended, kept = connected(node, version, kind, VIP[version]), connected(node, version, kind, VIP[version], 81)
    world = World(node)
    world.put(
        frontend(VIP[version], protocol=kind.upper()), frontend(VIP[version], stays, port=81, protocol=kind.upper())
    )
    world.begin()
    assert node.do("receive", socket=ended) == ENDED
    assert node.do("ask", socket=kept)["answer"] == f"{stays} 8080"


@both
@pytest.mark.parametrize("why", ["unready", "terminating", "service", "another service"])
def test_what_may_go_on(node: Node, version: int, why: str) -> None:
    """A pod that is unready, or serves while it terminates; one whose service went; one that has another service."""
    pod = ADDRESSES[version][0]
    world = World(node, slices=(pod,) if why == "unready" else ())
    rows = {kind: frontend(VIP[version], pod, protocol=kind.upper()) for kind in ("tcp", "udp")}
    world.put(*rows.values())
    world.round()
    sockets = {}
    for kind in rows:
        serve(node, kind, pod)
        sockets[kind] = connected(node, version, kind, VIP[version])
    for kind, row in rows.items():
        if why == "service":
            world.delete(row)
            continue
        if why == "another service":
            world.put(frontend(VIP[version], pod, port=81, protocol=kind.upper()))
        ends = row.backends if why == "terminating" else ()
        world.put(replace(row, backends=tuple(replace(end, terminating=True) for end in ends)))
    world.round()
    assert node.do("ask", socket=sockets["tcp"])["answer"] == f"{pod} 8080"
    if why in ("unready", "service"):
        assert node.do("receive", socket=sockets["udp"]) == ENDED, "its clients would never hear of it"
    else:
        assert node.do("ask", socket=sockets["udp"])["answer"] == f"{pod} 8080"


def test_sockets_that_are_not_there(node: Node) -> None:
    peer = Peer(6, ip_address("::ffff:10.9.9.1").packed, 80)
    assert destroy_sockets(str(node.netns.path), {(12345, peer)}) == set()
    with pytest.raises(NamespaceError, match="/var/run/netns/none-such"):
        destroy_sockets("/var/run/netns/none-such", {(12345, peer)})
