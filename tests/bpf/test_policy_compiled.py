"""Policies all the way: API objects compiled, written by the reconciler's operations, asked by packets, held against
the oracle."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bpf.harness import SHOT, Datapath
from bpf.packets import CLIENT, SERVER, echo, sctp, tcp, udp
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from property.effort import examples
from property.policy_node import Node
from property.policy_oracle import Peer, judged
from property.policy_world import ADDRESSES, PODS, RESERVED, audited_namespaces, key_of, policies, tiered

from cilium.datapath.generated import EventFlags, FlowVerdict
from cilium.features.policy.encode import groups_of
from cilium.features.policy.ops import PolicyMapOps

WORLD = (Peer(9, {"reserved:world-ipv4": ""}), Peer(10, {"reserved:world-ipv6": ""}))
PEERS = (*PODS, *RESERVED, *ADDRESSES)
PACKETS = {
    **{(6, port, 4): tcp(CLIENT[4], SERVER[4], dport=port) for port in (53, 80, 81, 443, 8080, 9090, 65535)},
    **{(6, port, 6): tcp(CLIENT[6], SERVER[6], dport=port) for port in (1, 80, 7070)},
    **{(17, port, 4): udp(CLIENT[4], SERVER[4], dport=port) for port in (53, 80)},
    (17, 8080, 6): udp(CLIENT[6], SERVER[6], dport=8080),
    **{(132, 80, family): sctp(CLIENT[family], SERVER[family], dport=80) for family in (4, 6)},
    (1, 8, 4): echo(CLIENT[4], SERVER[4]),
    (58, 128, 6): echo(CLIENT[6], SERVER[6]),
}
AUDITED = EventFlags.EGRESS_AUDITED | EventFlags.INGRESS_AUDITED
FLOWS = {flow: bytes(packet) for flow, packet in PACKETS.items()}


class Epoch:
    def __init__(self, datapath: Datapath) -> None:
        self._datapath = datapath

    def advance(self) -> None:
        self._datapath.epoch += 1
        self._datapath.set_runtime()


def write(node: Node, datapath: Datapath, epoch: Epoch) -> None:
    """As an agent does that starts on the maps of its predecessor."""
    maps = PolicyMapOps(
        entries=datapath.map("cilium_policy"),
        classes=datapath.map("cilium_policy_class"),
        endpoints=datapath.map("cilium_lxc"),
        epoch=epoch,
        wanted=set,
    )
    datapath.drop_rows("cilium_lxc")
    rows = list(node.rows.snapshot())
    assert not maps.update(rows)
    maps.prune(rows)
    maps.sweep_once()
    groups = groups_of(*datapath.map("cilium_policy").dump())
    found = {
        policy << 32 | class_id: set(ids) for policy, classes in groups.items() for class_id, ids in classes.items()
    }
    assert found == {row.key: set(row.identities) for row in rows if hasattr(row, "identities")}


def verdict(datapath: Datapath, packet: bytes, *, client: dict[str, int], server: dict[str, int]) -> str:
    """As the oracle says it."""
    for family in (4, 6):
        datapath.endpoint(CLIENT[family], id=11, **client)
        datapath.endpoint(SERVER[family], id=22, ifindex=77, **server)
    result = datapath.run("from_lxc", packet)
    if result.verdict == SHOT:
        return "denied"
    for event in result.events:  # none without a policy
        assert bool(event["flags"] & AUDITED) == (event["verdict"] == FlowVerdict.AUDITED)
    return "audited" if any(event["flags"] & AUDITED for event in result.events) else "allowed"


def compiled(applied: list[dict[str, Any]], subject: Peer, audited: list[str]) -> Node:
    node = Node()
    for peer in (*PODS, *RESERVED, *WORLD):
        node.add_peer(peer)
    node.add_endpoint(subject)
    node.audit_namespaces(audited)
    for policy in applied:
        node.add_policy(policy)
    node.settle()
    return node


def test_packets_are_judged_as_the_oracle_judges(make_datapath: Callable[..., Datapath]) -> None:
    datapath = make_datapath(allow_localhost=0)
    epoch = Epoch(datapath)

    @settings(max_examples=examples(50), deadline=None, suppress_health_check=list(HealthCheck))
    @given(
        st.lists(policies(), min_size=1, max_size=4, unique_by=key_of) | tiered(),
        st.sampled_from(PODS[:4]),
        audited_namespaces,
    )
    def judge(applied: list[dict[str, Any]], subject: Peer, audited: list[str]) -> None:
        node = compiled(applied, subject, audited)
        write(node, datapath, epoch)
        row = node.endpoint_policies.snapshot()[subject.identity]
        for peer in PEERS:
            other = {"identity": node.identity_of(peer)}
            for (protocol, port, family), packet in FLOWS.items():
                if peer.address is not None and peer.address.version != family:
                    continue
                asked = (peer, (protocol, port), audited)
                datapath.drop_rows("cilium_ct")
                mine = {"identity": subject.identity, "egress_policy": row.egress}
                found = verdict(datapath, packet, client=mine, server=other)
                assert found == judged(applied, subject, "egress", *asked), asked
                datapath.drop_rows("cilium_ct")
                mine = {"identity": subject.identity, "ingress_policy": row.ingress}
                found = verdict(datapath, packet, client=other, server=mine)
                assert found == judged(applied, subject, "ingress", *asked), asked

    judge()
