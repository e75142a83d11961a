"""Rule sets against the layout that kube-proxy's own tests publish, for four services of their example.

What is expected is written as `what is matched -> where it goes`, chain by chain; names of chains are kube-proxy's.
"""

from __future__ import annotations

import re
from collections import defaultdict

import pytest

from bench.kube_proxy import iptables, nftables
from bench.kube_proxy.model import Endpoint, Node, ServicePort

NODE = Node(version=4, pods="10.0.0.0/8", services="172.30.0.0/16", addresses=("192.168.0.2",))
NODE6 = Node(version=6, pods="fd00:10::/64", services="fd00:10:96::/112", addresses=("2001:db8::1",))


def service(number: int, *endpoints: str, node_port: int = 0, external_ips: tuple[str, ...] = ()) -> ServicePort:
    return ServicePort(
        namespace=f"ns{number}", name=f"svc{number}", port_name="p80", cluster_ip=f"172.30.0.4{number}", port=80,
        endpoints=tuple(Endpoint(ip, 80) for ip in endpoints), node_port=node_port, external_ips=external_ips,
    )  # fmt: skip


EXAMPLE = [
    service(1, "10.180.0.1"),
    service(3, "10.180.0.3", node_port=3003),
    service(4, "10.180.0.4", "10.180.0.5", external_ips=("192.168.99.33",)),
    service(6),
]
SVC = {1: "XPGD46QRK7WJZT7O", 3: "X27LE4BHSL4DOUIK", 4: "4SW47YFZTEDKD3PK"}
SEP = {
    "10.180.0.1": "SXIVWICOYRO3J4NJ", "10.180.0.3": "OYPFS5VJICHGATKP",
    "10.180.0.4": "UKSFD7AGPMPPLUHC", "10.180.0.5": "C6EBXVWJJZMIWKLZ",
}  # fmt: skip
NAT = {
    "PREROUTING": ["-> KUBE-SERVICES"],
    "OUTPUT": ["-> KUBE-SERVICES"],
    "POSTROUTING": ["-> KUBE-POSTROUTING"],
    "KUBE-POSTROUTING": ["! mark 0x4000/0x4000 -> RETURN", "-> MARK xor-mark 0x4000", "-> MASQUERADE random-fully"],
    "KUBE-MARK-MASQ": ["-> MARK or-mark 0x4000"],
    "KUBE-SERVICES": [
        f"d 172.30.0.41 dport 80 -> KUBE-SVC-{SVC[1]}",
        f"d 172.30.0.43 dport 80 -> KUBE-SVC-{SVC[3]}",
        f"d 172.30.0.44 dport 80 -> KUBE-SVC-{SVC[4]}",
        f"d 192.168.99.33 dport 80 -> KUBE-EXT-{SVC[4]}",
        "dst-type LOCAL -> KUBE-NODEPORTS",
    ],
    "KUBE-NODEPORTS": [f"dport 3003 -> KUBE-EXT-{SVC[3]}"],
    f"KUBE-EXT-{SVC[3]}": ["-> KUBE-MARK-MASQ", f"-> KUBE-SVC-{SVC[3]}"],
    f"KUBE-EXT-{SVC[4]}": ["-> KUBE-MARK-MASQ", f"-> KUBE-SVC-{SVC[4]}"],
    f"KUBE-SVC-{SVC[1]}": [
        "d 172.30.0.41 dport 80 ! s 10.0.0.0/8 -> KUBE-MARK-MASQ", f"-> KUBE-SEP-{SEP['10.180.0.1']}",
    ],
    f"KUBE-SVC-{SVC[3]}": [
        "d 172.30.0.43 dport 80 ! s 10.0.0.0/8 -> KUBE-MARK-MASQ", f"-> KUBE-SEP-{SEP['10.180.0.3']}",
    ],
    f"KUBE-SVC-{SVC[4]}": [
        "d 172.30.0.44 dport 80 ! s 10.0.0.0/8 -> KUBE-MARK-MASQ",
        f"probability 0.5000000000 -> KUBE-SEP-{SEP['10.180.0.4']}",
        f"-> KUBE-SEP-{SEP['10.180.0.5']}",
    ],
    **{
        f"KUBE-SEP-{chain}": [f"s {ip} -> KUBE-MARK-MASQ", f"-> DNAT to-destination {ip}:80"]
        for ip, chain in SEP.items()
    },
}  # fmt: skip
FILTER = {
    "INPUT": ["-> KUBE-FIREWALL", "new -> KUBE-PROXY-FIREWALL", "-> KUBE-NODEPORTS", "new -> KUBE-EXTERNAL-SERVICES"],
    "FORWARD": [
        "new -> KUBE-PROXY-FIREWALL", "-> KUBE-FORWARD", "new -> KUBE-SERVICES", "new -> KUBE-EXTERNAL-SERVICES",
    ],
    "OUTPUT": ["-> KUBE-FIREWALL", "new -> KUBE-PROXY-FIREWALL", "new -> KUBE-SERVICES"],
    "KUBE-FORWARD": ["invalid -> DROP", "mark 0x4000/0x4000 -> ACCEPT", "related,established -> ACCEPT"],
    "KUBE-FIREWALL": ["d 127.0.0.0/8 ! s 127.0.0.0/8 ! related,established,dnat -> DROP"],
    "KUBE-SERVICES": ["d 172.30.0.46 dport 80 -> REJECT"],
}  # fmt: skip
MAPS = {
    "cluster-ips": ["172.30.0.41", "172.30.0.43", "172.30.0.44", "172.30.0.46"],
    "nodeport-ips": ["192.168.0.2"],
    "service-ips": [
        "172.30.0.41 . tcp . 80 : goto service-ULMVA6XW-ns1/svc1/tcp/p80",
        "172.30.0.43 . tcp . 80 : goto service-4AT6LBPK-ns3/svc3/tcp/p80",
        "172.30.0.44 . tcp . 80 : goto service-LAUZTJTB-ns4/svc4/tcp/p80",
        "192.168.99.33 . tcp . 80 : goto external-LAUZTJTB-ns4/svc4/tcp/p80",
    ],
    "service-nodeports": ["tcp . 3003 : goto external-4AT6LBPK-ns3/svc3/tcp/p80"],
    "no-endpoint-services": ['172.30.0.46 . tcp . 80 comment "ns6/svc6:p80" : goto reject-chain'],
}
ENDPOINT = {
    "10.180.0.1": "endpoint-5OJB2KTY-ns1/svc1/tcp/p80__10.180.0.1/80",
    "10.180.0.3": "endpoint-UEIP74TE-ns3/svc3/tcp/p80__10.180.0.3/80",
    "10.180.0.4": "endpoint-UNZV3OEC-ns4/svc4/tcp/p80__10.180.0.4/80",
    "10.180.0.5": "endpoint-5RFCDDV7-ns4/svc4/tcp/p80__10.180.0.5/80",
}
MASQUERADE, BY_PORT = "jump mark-for-masquerade", "meta l4proto . th dport vmap"
RULES = {
    "filter-prerouting-pre-dnat": ["ct state new jump firewall-check"],
    "filter-output-pre-dnat": ["ct state new jump firewall-check"],
    "filter-input": ["ct state new jump nodeport-endpoints-check", "ct state new jump service-endpoints-check"],
    "filter-forward": ["ct state new jump service-endpoints-check", "ct state new jump cluster-ips-check"],
    "filter-output": ["ct state new jump service-endpoints-check", "ct state new jump cluster-ips-check"],
    "nat-prerouting": ["jump services"],
    "nat-output": ["jump services"],
    "nat-postrouting": ["jump masquerading"],
    "services": [f"ip daddr . {BY_PORT} @service-ips", f"ip daddr @nodeport-ips {BY_PORT} @service-nodeports"],
    "service-endpoints-check": [f"ip daddr . {BY_PORT} @no-endpoint-services"],
    "nodeport-endpoints-check": [f"ip daddr @nodeport-ips {BY_PORT} @no-endpoint-nodeports"],
    "firewall-check": [f"ip daddr . {BY_PORT} @firewall-ips"],
    "cluster-ips-check": [
        'ip daddr @cluster-ips reject comment "Reject traffic to invalid ports of ClusterIPs"',
        'ip daddr { 172.30.0.0/16 } drop comment "Drop traffic to unallocated ClusterIPs"',
    ],
    "mark-for-masquerade": ["mark set mark or 0x4000"],
    "masquerading": ["mark and 0x4000 == 0 return", "mark set mark xor 0x4000", "masquerade fully-random"],
    "reject-chain": ["reject"],
    "external-4AT6LBPK-ns3/svc3/tcp/p80": [MASQUERADE, "goto service-4AT6LBPK-ns3/svc3/tcp/p80"],
    "external-LAUZTJTB-ns4/svc4/tcp/p80": [MASQUERADE, "goto service-LAUZTJTB-ns4/svc4/tcp/p80"],
    "service-ULMVA6XW-ns1/svc1/tcp/p80": [
        f"ip daddr 172.30.0.41 ip saddr != 10.0.0.0/8 {MASQUERADE}",
        f"numgen random mod 1 vmap {{ 0 : goto {ENDPOINT['10.180.0.1']} }}",
    ],
    "service-4AT6LBPK-ns3/svc3/tcp/p80": [
        f"ip daddr 172.30.0.43 ip saddr != 10.0.0.0/8 {MASQUERADE}",
        f"numgen random mod 1 vmap {{ 0 : goto {ENDPOINT['10.180.0.3']} }}",
    ],
    "service-LAUZTJTB-ns4/svc4/tcp/p80": [
        f"ip daddr 172.30.0.44 ip saddr != 10.0.0.0/8 {MASQUERADE}",
        f"numgen random mod 2 vmap {{ 0 : goto {ENDPOINT['10.180.0.4']} , 1 : goto {ENDPOINT['10.180.0.5']} }}",
    ],
    **{chain: [f"ip saddr {ip} {MASQUERADE}", f"meta l4proto tcp dnat to {ip}:80"] for ip, chain in ENDPOINT.items()},
}
HOOKS = {
    "filter-prerouting-pre-dnat": ("filter", "prerouting", -110), "filter-output-pre-dnat": ("filter", "output", -110),
    "filter-input": ("filter", "input", 0), "filter-forward": ("filter", "forward", 0),
    "filter-output": ("filter", "output", 0), "nat-prerouting": ("nat", "prerouting", -100),
    "nat-output": ("nat", "output", -100), "nat-postrouting": ("nat", "postrouting", 100),
}  # fmt: skip


def tables(lines: list[str]) -> dict[str, dict[str, list[str]]]:
    """Of an iptables file: rules by table and chain, without comments, protocols and the names of matches."""
    found: dict[str, dict[str, list[str]]] = {}
    declared: set[str] = set()
    for line in lines:
        if line.startswith("*"):
            table, declared = found.setdefault(line[1:], defaultdict(list)), {"INPUT", "FORWARD", "OUTPUT"}
            declared |= {"PREROUTING", "POSTROUTING"}
        elif line.startswith(":"):
            declared.add(line[1:].split()[0])
        elif line.startswith("-A"):
            _, chain, rest = line.split(" ", 2)
            assert chain in declared
            table[chain].append(essence(rest))
    return found


def essence(rule: str) -> str:
    text = re.sub(r'-m comment --comment (".*?"|\S+) ?', "", rule)
    text = re.sub(r"-m (tcp|mark|conntrack|addrtype) |-p tcp |-m statistic --mode random |--ctstate ", "", text)
    text = re.sub(r"NEW|INVALID|RELATED\S+", lambda match: match[0].lower(), text)
    return re.sub(r"(?<![\w-])-{1,2}(?=\w)", "", text.replace("-j ", "-> "))


def test_iptables_has_the_published_chains_and_rules() -> None:
    found = tables(list(iptables.rule_set(EXAMPLE, NODE)))
    assert found["nat"] == NAT
    assert found["filter"] == FILTER


def test_nodeports_are_the_last_rule_of_services() -> None:
    for node, loopback in ((NODE, ""), (NODE6, "! -d ::1/128")):
        last = [line for line in iptables.rule_set(EXAMPLE, node) if line.startswith("-A KUBE-SERVICES")][-1]
        assert last.endswith(f"{loopback} -j KUBE-NODEPORTS".strip())
        assert "NOTE: this must be the last rule in this chain" in last


def test_iptables_comments_name_service_and_endpoint() -> None:
    lines = list(iptables.rule_set(EXAMPLE, NODE))
    assert (
        f'-A KUBE-SVC-{SVC[4]} -m comment --comment "ns4/svc4:p80 -> 10.180.0.4:80" '
        f"-m statistic --mode random --probability 0.5000000000 -j KUBE-SEP-{SEP['10.180.0.4']}"
    ) in lines
    assert (
        '-A KUBE-SERVICES -m comment --comment "ns1/svc1:p80 cluster IP" '
        f"-m tcp -p tcp -d 172.30.0.41 --dport 80 -j KUBE-SVC-{SVC[1]}"
    ) in lines


def test_a_large_cluster_has_no_comments_at_endpoints() -> None:
    many = service(1, *(f"10.180.{n // 250}.{n % 250}" for n in range(iptables.LARGE_CLUSTER + 1)))
    lines = list(iptables.rule_set([many], NODE))
    assert not [line for line in lines if line.startswith("-A KUBE-SEP") and "comment" in line]
    assert not [line for line in lines if "->" in line]
    assert [line for line in lines if "cluster IP" in line]


def test_a_node_port_without_endpoints_is_refused() -> None:
    found = tables(list(iptables.rule_set([service(6, node_port=3006, external_ips=("192.168.99.66",))], NODE)))
    assert found["filter"]["KUBE-EXTERNAL-SERVICES"] == [
        "d 192.168.99.66 dport 80 -> REJECT",
        "dst-type LOCAL dport 3006 -> REJECT",
    ]
    assert set(found["nat"]) == {*NAT} - {chain for chain in NAT if re.match("KUBE-(SVC|SEP|EXT|NODEPORTS)", chain)}


def commands(lines: list[str], kind: str, family: str = "ip") -> dict[str, list[str]]:
    """Of an nftables file: what is added, by name."""
    found: dict[str, list[str]] = defaultdict(list)
    head = f"add {kind} {family} kube-proxy "
    for line in lines:
        if line.startswith(head):
            name, _, rest = line.removeprefix(head).partition(" ")
            found[name].append(rest)
    return found


def test_nftables_has_the_published_chains_maps_and_rules() -> None:
    lines = list(nftables.rule_set(EXAMPLE, NODE))
    assert commands(lines, "rule") == RULES
    elements = commands(lines, "element")
    assert {name: [text[2:-2] for text in found] for name, found in elements.items()} == MAPS
    chains = commands(lines, "chain")
    assert set(chains) == set(RULES)
    for name, (kind, hook, priority) in HOOKS.items():
        assert chains[name] == [f"{{ type {kind} hook {hook} priority {priority} ; }}"]
    assert len([text for found in chains.values() for text in found if "hook" in text]) == len(HOOKS)


def test_nftables_maps_are_keyed_as_published() -> None:
    lines = list(nftables.rule_set(EXAMPLE, NODE))
    kinds = {name: found[0].split(";")[0] for name, found in commands(lines, "map").items()}
    port = "inet_proto . inet_service : verdict"
    assert kinds == {
        **dict.fromkeys(("service-ips", "firewall-ips", "no-endpoint-services"), f"{{ type ipv4_addr . {port} "),
        **dict.fromkeys(("service-nodeports", "no-endpoint-nodeports"), f"{{ type {port} "),
    }
    assert set(commands(lines, "set")) == {"cluster-ips", "nodeport-ips"}


def test_nftables_writes_ipv6_as_ipv6() -> None:
    asked = ServicePort(
        namespace="ns1", name="svc1", port_name="p80", cluster_ip="fd00:10:96::41", port=80,
        endpoints=(Endpoint("fd00:10::1", 80),),
    )  # fmt: skip
    lines = list(nftables.rule_set([asked], NODE6))
    rules = commands(lines, "rule", "ip6")
    (name,) = [chain for chain in rules if chain.startswith("endpoint-")]
    assert name.endswith("-ns1/svc1/tcp/p80__fd00.10..1/80")
    assert rules[name] == [f"ip6 saddr fd00:10::1 {MASQUERADE}", "meta l4proto tcp dnat to [fd00:10::1]:80"]
    assert not [line for line in lines if " ip kube-proxy" in line or "ipv4" in line or "ip daddr" in line]


@pytest.mark.parametrize("length", [30, 63])
def test_names_that_are_too_long_are_cut_behind_their_hash(length: int) -> None:
    asked = ServicePort(
        namespace="n" * length, name="s" * length, port_name="p" * length, cluster_ip="172.30.0.41", port=80,
        endpoints=(),
    )  # fmt: skip
    name = nftables.endpoint_chain(asked, Endpoint("fd00:1111:2222:3333:4444:5555:6666:7777", 65535))
    assert len(name) <= len("endpoint-") + nftables.NAME_MAX
    assert name.endswith("...") == (length == 63)
