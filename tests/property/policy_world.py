"""A small cluster, and hypothesis strategies for policies in it."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

from hypothesis import strategies as st
from property.policy_oracle import CLUSTER, CLUSTER_KEY, NS, NS_LABEL, Group, Objects, Peer, Service

NAMESPACES = {"shop": {"team": "a"}, "bank": {"team": "b"}, "labs": {}}
APPS = ("web", "api", "db")


def key_of(policy: dict[str, Any]) -> str:
    return f"{policy['kind']}/{policy['metadata'].get('namespace', '')}/{policy['metadata']['name']}"


def pod(number: int, namespace: str, app: str, **extra: Any) -> Peer:
    labels = {NS: namespace, "k8s:app": app, CLUSTER_KEY: extra.pop("cluster", CLUSTER)}
    labels |= {NS_LABEL + key: value for key, value in NAMESPACES[namespace].items()}
    labels |= {f"k8s:{key}": value for key, value in extra.pop("labels", {}).items()}
    return Peer(number, labels, extra.pop("ports", {}))


PODS = (
    pod(1001, "shop", "web", ports={("http", 6): 8080, ("dns", 17): 53}),
    pod(1002, "shop", "api", ports={("http", 6): 9090}),
    pod(1003, "shop", "db", labels={"tier": "back"}),
    pod(1004, "bank", "web", labels={"tier": "front"}, ports={("http", 6): 8080}),
    pod(1005, "bank", "db", labels={"tier": "back"}, ports={("http", 17): 80}),
    pod(1006, "labs", "api"),
    pod(1007, "shop", "web", cluster="elsewhere", ports={("http", 6): 7070}),
)
RESERVED = tuple(
    Peer(number, {f"reserved:{name}": ""})
    for number, name in ((1, "host"), (4, "health"), (6, "remote-node"), (7, "kube-apiserver"), (5, "init"))
)
ADDRESSES = tuple(
    Peer(0, {}, address=ip_address(text))
    for text in (
        "10.1.2.3",
        "10.1.9.9",
        "10.200.0.1",
        "192.168.1.1",
        "8.8.8.8",
        "2001:db8::1",
        "2001:db8:1::1",
        "fd00::1",
    )
)
CIDRS = (
    ("0.0.0.0/0", ["10.0.0.0/8", "10.1.2.0/24"]),
    ("10.0.0.0/8", ["10.1.0.0/16", "10.200.0.1/32"]),
    ("10.1.0.0/16", ["10.1.2.3/32"]),
    ("192.168.0.0/16", []),
    ("8.8.8.8/32", []),
    ("::/0", ["2001:db8::/32"]),
    ("2001:db8::/32", ["2001:db8:1::/48"]),
    ("fd00::/8", []),
)
SERVICES = (
    Service("shop", "web", {"app": "web"}, {"app": "web"}),
    Service("bank", "db", {"app": "db", "tier": "back"}, {"app": "db"}),
    Service("shop", "db", {"app": "db"}, {"app": "db", "tier": "back"}),
    Service("labs", "outside", {"tier": "back"}, {}, ("10.1.2.3", "2001:db8::1")),
    Service("bank", "name", {"tier": "front"}, {}),
)
GROUPS = (
    Group("ten", {"tier": "back"}, ("10.0.0.0/8", "2001:db8::/32")),
    Group("part", {"app": "db"}, ("10.1.0.0/16", "8.8.8.8/32")),
    Group("none", {"app": "db"}, ()),
)
OBJECTS = Objects(SERVICES, GROUPS)
FLOWS = (
    *((6, port) for port in (0, 1, 53, 79, 80, 81, 443, 7070, 8080, 9090, 65535)),
    *((17, port) for port in (53, 80, 8080)),
    (132, 80),
    (1, 0),
    (1, 8),
    (58, 128),
    (47, 0),
)


def maybe(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Any subset of the fields."""
    return st.fixed_dictionaries({}, optional=fields)


def selectors(*keys: str) -> st.SearchStrategy[dict[str, Any]]:
    key = st.sampled_from(keys or ("app", "k8s:app", "tier", "k8s:tier", "reserved:host"))
    values = st.lists(st.sampled_from((*APPS, "back", "front", "a", "b", "shop", "bank")), min_size=1, max_size=2)
    listed = st.fixed_dictionaries({"key": key, "operator": st.sampled_from(("In", "NotIn")), "values": values})
    bare = st.fixed_dictionaries({"key": key, "operator": st.sampled_from(("Exists", "DoesNotExist"))})
    labels = st.dictionaries(key, st.sampled_from((*APPS, "back", "a", "shop")), max_size=1)
    return maybe(matchLabels=labels, matchExpressions=st.lists(listed | bare, max_size=2))


PEER_KEYS = (
    "app",
    "k8s:tier",
    NS,
    "io.kubernetes.pod.namespace",
    NS_LABEL + "team",
    CLUSTER_KEY,
    "reserved:host",
    "any:host",
)
ENTITIES = ("all", "world", "world-ipv4", "world-ipv6", "cluster", "host", "remote-node", "kube-apiserver", "health")

cilium_ports = st.one_of(
    st.fixed_dictionaries(
        {"port": st.sampled_from(("0", "53", "80", "443", "8080"))},
        optional={"protocol": st.sampled_from(("TCP", "UDP", "SCTP", "ANY"))},
    ),
    st.fixed_dictionaries(
        {"port": st.sampled_from(("1", "79", "80")), "endPort": st.sampled_from((80, 81, 8079, 65535))},
        optional={"protocol": st.sampled_from(("TCP", "ANY"))},
    ),
    st.fixed_dictionaries(
        {"port": st.sampled_from(("http", "dns", "nobody"))},
        optional={"protocol": st.sampled_from(("TCP", "UDP", "ANY"))},
    ),
    st.fixed_dictionaries({"protocol": st.sampled_from(("ICMP", "ICMPV6"))}),
)
to_ports = st.lists(st.fixed_dictionaries({"ports": st.lists(cilium_ports, min_size=1, max_size=2)}), max_size=2)
icmps = st.lists(
    st.fixed_dictionaries(
        {
            "fields": st.lists(
                st.fixed_dictionaries(
                    {"type": st.sampled_from((0, 8, 128))},
                    optional={"family": st.sampled_from(("IPv4", "IPv6"))},
                ),
                min_size=1,
                max_size=2,
            )
        }
    ),
    min_size=1,
    max_size=1,
)


group_rules = st.fixed_dictionaries(
    {"cidrGroupRef": st.sampled_from(("ten", "part", "none", "nowhere"))},
    optional={"except": st.lists(st.sampled_from(("10.1.0.0/16", "2001:db8:1::/48", "172.16.0.0/12")), max_size=2)},
) | st.fixed_dictionaries({"cidrGroupSelector": selectors("app", "tier")})
service_rules = st.builds(
    lambda reference: {"k8sService": reference},
    st.fixed_dictionaries(
        {"serviceName": st.sampled_from(("web", "db", "outside", "name", "nowhere"))},
        optional={"namespace": st.sampled_from(sorted(NAMESPACES))},
    ),
) | st.builds(
    lambda reference: {"k8sServiceSelector": reference},
    st.fixed_dictionaries(
        {"selector": selectors("app", "tier")}, optional={"namespace": st.sampled_from(sorted(NAMESPACES))}
    ),
)


@st.composite
def cidr_rules(draw: st.DrawFn) -> dict[str, Any]:
    cidr, holes = draw(st.sampled_from(CIDRS))
    chosen = draw(st.lists(st.sampled_from(holes), unique=True)) if holes else []
    return {"cidr": cidr, "except": chosen} if chosen else {"cidr": cidr}


@st.composite
def cilium_elements(draw: st.DrawFn, side: str) -> dict[str, Any]:
    cidr = st.sampled_from([cidr for cidr, _ in CIDRS])
    peers = {
        "Endpoints": st.lists(selectors(*PEER_KEYS), max_size=2),
        "Entities": st.lists(st.sampled_from(ENTITIES), min_size=1, max_size=2),
        "CIDR": st.lists(cidr, max_size=2),
        "CIDRSet": st.lists(cidr_rules() | group_rules, max_size=2),
    }
    if side == "to":
        peers["Services"] = st.lists(service_rules, max_size=2)
    kind = draw(st.sampled_from((None, *peers)))
    element = {} if kind is None else {side + kind: draw(peers[kind])}
    return element | draw(st.one_of(st.just({}), maybe(toPorts=to_ports), maybe(icmps=icmps)))


@st.composite
def cilium_rules(draw: st.DrawFn) -> dict[str, Any]:
    rule: dict[str, Any] = {"endpointSelector": draw(selectors())}
    for section, side in (("ingress", "from"), ("ingressDeny", "from"), ("egress", "to"), ("egressDeny", "to")):
        rule[section] = draw(st.lists(cilium_elements(side), max_size=2))
    if not any(rule[section] for section in rule if section != "endpointSelector"):
        rule["ingress"] = [{}]
    if draw(st.booleans()):
        rule["enableDefaultDeny"] = draw(maybe(ingress=st.booleans(), egress=st.booleans()))
    return rule


network_policy_ports = st.one_of(
    st.fixed_dictionaries({"port": st.sampled_from((80, 8080, "http"))}),
    st.fixed_dictionaries({"port": st.just(79), "endPort": st.just(443), "protocol": st.just("TCP")}),
    maybe(protocol=st.sampled_from(("TCP", "UDP"))),
)
network_policy_peers = st.one_of(
    st.fixed_dictionaries({"podSelector": selectors("app", "tier")}, optional={"namespaceSelector": selectors("team")}),
    st.fixed_dictionaries({"namespaceSelector": selectors("team")}),
    st.builds(lambda rule: {"ipBlock": rule}, cidr_rules()),
)


def network_policy_elements(side: str) -> st.SearchStrategy[dict[str, Any]]:
    return maybe(
        **{side: st.lists(network_policy_peers, max_size=2), "ports": st.lists(network_policy_ports, max_size=2)}
    )


namespaced_pods = st.fixed_dictionaries(
    {"podSelector": selectors("app", "tier")}, optional={"namespaceSelector": selectors("team")}
)
cluster_subjects = st.one_of(
    st.fixed_dictionaries({"namespaces": selectors("team")}), st.fixed_dictionaries({"pods": namespaced_pods})
)
cluster_networks = st.fixed_dictionaries(
    {"networks": st.lists(st.sampled_from([cidr for cidr, _ in CIDRS]), min_size=1, max_size=2, unique=True)}
)
cluster_ports = st.one_of(
    st.builds(lambda number: {"number": number}, st.sampled_from((53, 80, 8080))),
    st.just({"range": {"start": 79, "end": 443}}),
)
cluster_transports = st.builds(
    lambda protocol, port: {protocol: {"destinationPort": port}}, st.sampled_from(("tcp", "udp", "sctp")), cluster_ports
)
cluster_names = st.builds(lambda name: {"destinationNamedPort": name}, st.sampled_from(("http", "dns")))


@st.composite
def cluster_rules(draw: st.DrawFn, side: str) -> dict[str, Any]:
    nodes = st.sampled_from(({"nodes": {}}, {"nodes": {"matchLabels": {"role": "edge"}}}))
    outside = cluster_networks | nodes if side == "to" else st.nothing()
    peers = draw(st.lists(cluster_subjects | outside, min_size=1, max_size=2))
    protocols = (
        cluster_transports
        if any("pods" not in p and "namespaces" not in p for p in peers)
        else (cluster_transports | cluster_names)
    )
    rule = {"action": draw(st.sampled_from(("Accept", "Deny", "Pass"))), side: peers}
    return rule | draw(maybe(protocols=st.lists(protocols, min_size=1, max_size=2)))


cluster_policies = st.fixed_dictionaries(
    {
        "tier": st.sampled_from(("Admin", "Baseline")),
        "priority": st.sampled_from((1, 2)),
        "subject": cluster_subjects,
        "ingress": st.lists(cluster_rules("from"), max_size=3),
        "egress": st.lists(cluster_rules("to"), max_size=3),
    }
)
audited_namespaces = st.lists(st.sampled_from(sorted(NAMESPACES)), unique=True, max_size=2)


@st.composite
def policies(draw: st.DrawFn) -> dict[str, Any]:
    kind = draw(
        st.sampled_from(
            ("CiliumNetworkPolicy", "CiliumClusterwideNetworkPolicy", "NetworkPolicy", "ClusterNetworkPolicy")
        )
    )
    metadata: dict[str, Any] = {"name": draw(st.sampled_from(("one", "two"))), "uid": "u"}
    if kind not in ("CiliumClusterwideNetworkPolicy", "ClusterNetworkPolicy"):
        metadata["namespace"] = draw(st.sampled_from(sorted(NAMESPACES)))
    if draw(st.integers(0, 3)) == 0:
        metadata["annotations"] = {"policy.cilium.io/audit-mode": "enabled"}
    if kind == "ClusterNetworkPolicy":
        return {"kind": kind, "metadata": metadata, "spec": draw(cluster_policies)}
    if kind != "NetworkPolicy":
        return {"kind": kind, "metadata": metadata, "spec": draw(cilium_rules())}
    spec = draw(
        maybe(
            ingress=st.lists(network_policy_elements("from"), max_size=2),
            egress=st.lists(network_policy_elements("to"), max_size=2),
            policyTypes=st.lists(st.sampled_from(("Ingress", "Egress")), unique=True),
        )
    )
    return {"kind": kind, "metadata": metadata, "spec": {"podSelector": draw(selectors("app", "tier"))} | spec}


# Worlds in which rules of several tiers, and of objects with one priority, are about the same packets.

broad_peers = st.sampled_from(
    (
        {"namespaces": {}},
        {"pods": {"podSelector": {"matchLabels": {"app": "web"}}}},
        {"pods": {"podSelector": {}, "namespaceSelector": {"matchLabels": {"team": "b"}}}},
    )
)
broad_ports = st.sampled_from(
    (
        [{"tcp": {"destinationPort": {"number": 80}}}],
        [{"tcp": {"destinationPort": {"range": {"start": 79, "end": 443}}}}],
        [{"destinationNamedPort": "http"}],
    )
)
broad_rules = st.fixed_dictionaries(
    {"action": st.sampled_from(("Accept", "Deny", "Pass")), "from": st.lists(broad_peers, min_size=1, max_size=1)},
    optional={"protocols": broad_ports},
)
CLOSED = {"ingress": [{}]}
BROAD_SECTIONS = (
    CLOSED,
    {"ingress": [{"fromEndpoints": [{"matchLabels": {"app": "web"}}]}]},
    {"ingressDeny": [{"fromEntities": ["all"], "toPorts": [{"ports": [{"port": "80", "protocol": "TCP"}]}]}]},
    CLOSED | {"enableDefaultDeny": {"ingress": False}},
)


@st.composite
def tiered(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Policies about the ingress of every pod; some of them in audit mode."""

    def metadata(name: str) -> dict[str, Any]:
        audit = draw(st.integers(0, 3)) == 0
        return {"name": name, "uid": "u"} | (
            {"annotations": {"policy.cilium.io/audit-mode": "enabled"}} if audit else {}
        )

    found: list[dict[str, Any]] = []
    for name in draw(st.sampled_from((("a", "b"), ("a", "b", "c"), ("a", "b", "c", "d")))):
        spec = {
            "tier": draw(st.sampled_from(("Admin", "Baseline"))),
            "priority": draw(st.sampled_from((1, 2))),
            "subject": {"namespaces": {}},
            "ingress": draw(st.lists(broad_rules, min_size=1, max_size=3)),
        }
        found.append({"kind": "ClusterNetworkPolicy", "metadata": metadata(name), "spec": spec})
    for sections in draw(st.lists(st.sampled_from(BROAD_SECTIONS), max_size=2)):
        spec = {"endpointSelector": {}} | sections
        found.append({"kind": "CiliumClusterwideNetworkPolicy", "metadata": metadata(f"n{len(found)}"), "spec": spec})
    return found
