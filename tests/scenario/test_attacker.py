"""A pod with raw sockets against pods that one UDP port is open of: nothing else arrives, whatever it claims to be.

And the other side of that rule: connections from before a policy go on, even if their first packet after it is one
that nobody asked for.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from scenario.cluster import BIN, Cluster, addresses, client, server

pytestmark = pytest.mark.scenario
NS = "attacker"
MARK = 7777
"""The port that is open; a datagram to it ends the listening."""

LISTEN = f"""
import json, socket, struct
raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
raw.bind(("eth0", 0))
print("listening", flush=True)
seen = []
while True:
    frame, where = raw.recvfrom(65535)
    if where[2] == socket.PACKET_OUTGOING:
        continue
    kind = struct.unpack_from("!H", frame, 12)[0]
    at = 14 + (frame[14] & 15) * 4 if kind == 0x0800 else 54
    if kind == 0x86DD and frame[20] == 58 and frame[54] in (134, 135, 136, 137):
        continue  # neighbour discovery of the node
    if kind == 0x0806:
        continue
    if len(frame) >= at + 4 and struct.unpack_from("!H", frame, at + 2)[0] == {MARK}:
        break
    seen.append(frame.hex())
print(json.dumps(seen), flush=True)
"""

ATTACK = """
import json, re, socket, subprocess, sys
from scapy.all import *
conf.verb = 0
plan = json.loads(sys.argv[1])
subprocess.run(["ping", "-c1", "-W1", plan["node"]], stdout=subprocess.DEVNULL)
neighbours = subprocess.run(["ip", "neigh"], stdout=subprocess.PIPE, text=True).stdout
mac = re.search(r"lladdr (\\S+)", neighbours).group(1)
out = lambda packet, **fields: sendp(Ether(dst=mac, **fields) / packet, iface="eth0")
for me, you, friend, nodes in plan["targets"]:
    L3 = IPv6 if ":" in me else IP
    for flags in ("S", "A", "SA", "R", "FA", "PA", ""):
        for ports in ((22, 8080), (8080, 22)):
            out(L3(src=me, dst=you) / TCP(sport=ports[0], dport=ports[1], flags=flags))
    out(L3(src=me, dst=you) / UDP(sport=53, dport=9))
    out(L3(src=friend, dst=you) / UDP(sport=53, dport=9))
    out(L3(src=nodes[0], dst=you) / UDP(sport=53, dport=9))
    out(L3(src=me, dst=you) / UDP(sport=53, dport=9), src="02:11:22:33:44:55")
    out(Dot1Q(vlan=7) / L3(src=me, dst=you) / UDP(sport=53, dport=9))
    inner = Ether() / L3(src=friend, dst=you) / UDP(sport=53, dport=9)
    for node in nodes:
        out(L3(src=me, dst=node) / UDP(sport=1, dport=8472) / VXLAN(flags=8, vni=plan["identity"]) / inner)
    if L3 is IP:
        out(IP(src=me, dst=you) / ICMP(type=3, code=1) / IP(src=you, dst=me) / TCP(sport=8080, dport=1))
        out(IP(src=me, dst=you, len=28, flags=1, id=5) / TCP(sport=53, dport=8080, flags="A"))
        out(IP(src=me, dst=you, frag=1, id=5) / bytes(24))
        out(IP(src=me, dst=you, options=IPOption(bytes([131, 7, 4]) + socket.inet_aton(friend))) / UDP(dport=9))
    else:
        out(IPv6(src=me, dst=you) / IPv6ExtHdrFragment(id=5, m=1) / TCP(sport=53, dport=8080, flags="A"))
        out(IPv6(src=me, dst=you) / IPv6ExtHdrDestOpt() / UDP(dport=9))
        out(IPv6(src=me, dst=you) / ICMPv6ND_NA(tgt=friend))
        out(IPv6(src="::ffff:" + plan["me4"], dst=you) / UDP(dport=9))
for me, you, _, _ in plan["targets"]:
    L3 = IPv6 if ":" in me else IP
    out(L3(src=me, dst=you) / UDP(sport=53, dport=plan["mark"]))
"""

PUSH = """
import socket, threading, time
listener = socket.create_server(("::", 9000), family=socket.AF_INET6, dualstack_ipv6=True)
def push(connection):
    while True:
        connection.sendall(b"x")
        time.sleep(0.05)
print("listening", flush=True)
while True:
    threading.Thread(target=push, args=(listener.accept()[0],), daemon=True).start()
"""

PULL = """
import socket, sys
connection = socket.create_connection((sys.argv[1], 9000), timeout=20)
print("connected", flush=True)
while connection.recv(1):
    print("x", flush=True)
"""


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[None]:
    with cluster.namespace(NS):
        yield


def run_pods(cluster: Cluster) -> dict[str, Any]:
    for manifest in (
        client("evil", "node1", role="evil"),
        server("near", "node1", group="server"),
        server("far", "node2", group="server"),
    ):
        manifest["metadata"]["namespace"] = NS
        cluster.apply(manifest)
    cluster.wait_ready(NS)
    return {item["metadata"]["name"]: item for item in cluster.get("-n", NS, "pods")["items"]}


class Program:
    """Python in a pod, line by line."""

    def __init__(self, cluster: Cluster, pod: str, text: str, *arguments: str) -> None:
        command = [BIN / "kubectl", "-n", NS, "exec", pod, "--", sys.executable, "-uc", text, *arguments]
        self._process = subprocess.Popen(
            list(map(str, command)), env=cluster.environment, text=True, stdout=subprocess.PIPE
        )

    def line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()


def policy(cluster: Cluster, name: str, kind: str, *, selector: dict[str, str], **rules: Any) -> None:
    manifest = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy"}
    spec = {"podSelector": {"matchLabels": selector}, "policyTypes": [kind], **rules}
    cluster.apply({**manifest, "metadata": {"name": name, "namespace": NS}, "spec": spec})


@pytest.mark.usefixtures("namespace")
@pytest.mark.parametrize("target", ["near", "far"])
def test_what_a_pod_makes_up_reaches_nobody(cluster: Cluster, target: str) -> None:
    rule = {"from": [{"podSelector": {"matchLabels": {"role": "evil"}}}], "ports": [{"protocol": "UDP", "port": MARK}]}
    policy(cluster, "one-port", "Ingress", selector={"group": "server"}, ingress=[rule])
    pods = run_pods(cluster)
    on = {"near": "node1", "far": "node2"}[target]
    me, you = addresses(pods["evil"]), addresses(pods[target])
    cluster.eventually(lambda: all(enforced(cluster, on, address) for address in you.values()), f"{target} is enforced")
    friend = addresses(pods["far" if target == "near" else "near"])
    nodes = {node["metadata"]["name"]: node for node in cluster.get("nodes")["items"]}
    endpoint = cluster.get("-n", NS, "ciliumendpoints", "evil")
    plan = {
        "node": me[4].rpartition(".")[0] + ".1",
        "me4": me[4],
        "mark": MARK,
        "identity": endpoint["status"]["identity"]["id"],
        "targets": [
            (me[v], you[v], friend[v], [internal(nodes[name])[v] for name in ("node1", "node2")]) for v in (4, 6)
        ],
    }
    with Program(cluster, target, LISTEN) as listener:
        assert listener.line() == "listening"
        cluster.exec(NS, "evil", sys.executable, "-c", ATTACK, json.dumps(plan))
        assert json.loads(listener.line()) == []


@pytest.mark.usefixtures("namespace")
def test_connections_from_before_a_policy_go_on(cluster: Cluster) -> None:
    """Their servers speak first, and the policies close what they send: egress there, ingress here."""
    pods = run_pods(cluster)
    with Program(cluster, "near", PUSH) as near, Program(cluster, "far", PUSH) as far:
        assert near.line() == far.line() == "listening"
        targets = [address for name in ("near", "far") for address in addresses(pods[name]).values()]
        pulls = [Program(cluster, "evil", PULL, address) for address in targets]
        try:
            assert [pull.line() for pull in pulls] == ["connected"] * 4
            policy(cluster, "no-ingress", "Ingress", selector={"role": "evil"})
            policy(cluster, "no-egress", "Egress", selector={"group": "server"})
            for node, pod in (("node1", "evil"), ("node1", "near"), ("node2", "far")):
                ip = addresses(pods[pod])[4]
                cluster.eventually(lambda node=node, ip=ip: enforced(cluster, node, ip), f"{pod} is enforced")
            for pull in pulls:
                assert [pull.line() for _ in range(200)] == ["x"] * 200
        finally:
            for pull in pulls:
                pull.__exit__()


def enforced(cluster: Cluster, node: str, address: str) -> bool:
    """The datapath has a policy for the endpoint."""
    for line in cluster.dbg(node, "bpf", "endpoint", "list").splitlines():
        fields = line.split()
        if fields and fields[0] == address:
            return fields[5] != "-" or fields[6] != "-"
    return False


def internal(node: dict[str, Any]) -> dict[int, str]:
    found = [entry["address"] for entry in node["status"]["addresses"] if entry["type"] == "InternalIP"]
    return {6 if ":" in address else 4: address for address in found}
