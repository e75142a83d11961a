"""kube-proxy's nftables mode, as one file for `nft -f`.

In: services and the node. Out: lines. A new connection is one lookup in the map `service-ips`, which names a chain, and
one in the anonymous map of that chain, which names an endpoint's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bench.kube_proxy.model import MASQUERADE, Endpoint, Node, ServicePort, digest

TABLE = "kube-proxy"
MARK = f"{MASQUERADE:#x}"
NAME_MAX = 240
"""Longer chain names are cut, hash first."""
BASE_CHAINS = (
    ("filter-prerouting-pre-dnat", "filter", "prerouting", -110),
    ("filter-output-pre-dnat", "filter", "output", -110),
    ("filter-input", "filter", "input", 0),
    ("filter-forward", "filter", "forward", 0),
    ("filter-output", "filter", "output", 0),
    ("nat-prerouting", "nat", "prerouting", -100),
    ("nat-output", "nat", "output", -100),
    ("nat-postrouting", "nat", "postrouting", 100),
)
CHAINS = (
    "nodeport-endpoints-check", "service-endpoints-check", "firewall-check", "services", "masquerading",
    "cluster-ips-check", "mark-for-masquerade",
)  # fmt: skip
JUMPS = (
    ("filter-input", "ct state new", "nodeport-endpoints-check"),
    ("filter-input", "ct state new", "service-endpoints-check"),
    ("filter-forward", "ct state new", "service-endpoints-check"),
    ("filter-output", "ct state new", "service-endpoints-check"),
    ("filter-prerouting-pre-dnat", "ct state new", "firewall-check"),
    ("filter-output-pre-dnat", "ct state new", "firewall-check"),
    ("nat-output", "", "services"),
    ("nat-prerouting", "", "services"),
    ("nat-postrouting", "", "masquerading"),
    ("filter-forward", "ct state new", "cluster-ips-check"),
    ("filter-output", "ct state new", "cluster-ips-check"),
)
"""(from, matches, to), in the order of the rules."""


def service_chain(service: ServicePort, kind: str = "service") -> str:
    return f"{kind}-{_hashed(_path(service))}"


def endpoint_chain(service: ServicePort, endpoint: Endpoint) -> str:
    """Colons may not stand in names."""
    address = endpoint.ip.replace(":", ".")
    return f"endpoint-{_hashed(f'{_path(service)}__{address}/{endpoint.port}')}"


def rule_set(services: Sequence[ServicePort], node: Node) -> Iterator[str]:
    """Lines of the file, which replaces what a former one made."""
    writer = _Writer(node)
    yield writer.add("table", "", '{ comment "rules for kube-proxy" ; }')
    yield f"delete table {writer.table}"
    yield writer.add("table", "", '{ comment "rules for kube-proxy" ; }')
    yield from writer.base()
    for service in services:
        yield from writer.service(service)


class _Writer:
    def __init__(self, node: Node) -> None:
        self._node = node
        self._ip = "ip6" if node.version == 6 else "ip"
        self.table = f"{self._ip} {TABLE}"

    def add(self, kind: str, name: str, rest: str = "") -> str:
        return " ".join(word for word in ("add", kind, self.table, name, rest) if word)

    def rule(self, chain: str, *words: str, comment: str = "") -> str:
        text = " ".join(word for word in words if word)
        return self.add("rule", chain, f'{text} comment "{comment}"' if comment else text)

    def element(self, container: str, key: str, verdict: str = "", comment: str = "") -> str:
        about = f' comment "{comment}"' if comment else ""
        value = f" : {verdict}" if verdict else ""
        return self.add("element", container, f"{{ {key}{about}{value} }}")

    # -- what is there without any service --------------------------------------------------------------------------

    def base(self) -> Iterator[str]:
        for name, kind, hook, priority in BASE_CHAINS:
            yield self.add("chain", name, f"{{ type {kind} hook {hook} priority {priority} ; }}")
        for name in CHAINS:
            yield self.add("chain", name)
        helper = "helper for @no-endpoint-services / @no-endpoint-nodeports"
        yield self.add("chain", "reject-chain", f'{{ comment "{helper}" ; }}')
        yield from self._containers()
        for source, matches, target in JUMPS:
            yield self.rule(source, matches, "jump", target)
        yield from self._rules()
        for address in self._node.addresses:
            yield self.element("nodeport-ips", address)

    def _containers(self) -> Iterator[str]:
        address = f"ipv{self._node.version}_addr"
        for name, comment in (
            ("cluster-ips", "Active ClusterIPs"),
            ("nodeport-ips", "IPs that accept NodePort traffic"),
        ):
            yield self.add("set", name, f'{{ type {address} ; comment "{comment}" ; }}')
        port = "inet_proto . inet_service : verdict"
        whole = f"{address} . {port}"
        for name, kind, comment in (
            ("no-endpoint-services", whole, "vmap to drop or reject packets to services with no endpoints"),
            ("no-endpoint-nodeports", port, "vmap to drop or reject packets to service nodeports with no endpoints"),
            ("firewall-ips", whole, "destinations that are subject to LoadBalancerSourceRanges"),
            ("service-ips", whole, "ClusterIP, ExternalIP and LoadBalancer IP traffic"),
            ("service-nodeports", port, "NodePort traffic"),
        ):
            yield self.add("map", name, f'{{ type {kind} ; comment "{comment}" ; }}')

    def _rules(self) -> Iterator[str]:
        ip = self._ip
        yield self.rule("mark-for-masquerade", f"mark set mark or {MARK}")
        yield self.rule("masquerading", f"mark and {MARK} == 0 return")
        yield self.rule("masquerading", f"mark set mark xor {MARK}")
        yield self.rule("masquerading", "masquerade fully-random")
        yield self.rule(
            "cluster-ips-check", f"{ip} daddr @cluster-ips reject",
            comment="Reject traffic to invalid ports of ClusterIPs",
        )  # fmt: skip
        yield self.rule(
            "cluster-ips-check", f"{ip} daddr {{ {self._node.services} }} drop",
            comment="Drop traffic to unallocated ClusterIPs",
        )  # fmt: skip
        yield self.rule("reject-chain", "reject")
        port, whole = "meta l4proto . th dport", f"{ip} daddr . meta l4proto . th dport"
        here = f"{ip} daddr @nodeport-ips {port}"
        yield self.rule("service-endpoints-check", whole, "vmap @no-endpoint-services")
        yield self.rule("nodeport-endpoints-check", here, "vmap @no-endpoint-nodeports")
        yield self.rule("firewall-check", whole, "vmap @firewall-ips")
        yield self.rule("services", whole, "vmap @service-ips")
        yield self.rule("services", here, "vmap @service-nodeports")

    # -- one service ------------------------------------------------------------------------------------------------

    def service(self, service: ServicePort) -> Iterator[str]:
        yield self.element("cluster-ips", service.cluster_ip)
        if not service.endpoints:
            yield from self._refused(service)
            return
        chain, outside = service_chain(service), service_chain(service, "external")
        endpoints = {endpoint: endpoint_chain(service, endpoint) for endpoint in service.endpoints}
        for name in (*endpoints.values(), chain, *([outside] if service.external else [])):
            yield self.add("chain", name)
        yield self.element("service-ips", _key(service, service.cluster_ip), f"goto {chain}")
        for address in service.external_ips:
            yield self.element("service-ips", _key(service, address), f"goto {outside}")
        if service.node_port:
            yield self.element("service-nodeports", f"{service.protocol} . {service.node_port}", f"goto {outside}")
        strangers = f"{self._ip} daddr {service.cluster_ip} {self._ip} saddr != {self._node.pods}"
        yield self.rule(chain, strangers, "jump mark-for-masquerade")
        if service.external:
            yield self.rule(outside, "jump mark-for-masquerade")
            yield self.rule(outside, f"goto {chain}")
        turns = " , ".join(f"{number} : goto {name}" for number, name in enumerate(endpoints.values()))
        yield self.rule(chain, f"numgen random mod {len(endpoints)} vmap {{ {turns} }}")
        for endpoint, name in endpoints.items():
            yield self.rule(name, f"{self._ip} saddr {endpoint.ip}", "jump mark-for-masquerade")
            yield self.rule(name, f"meta l4proto {service.protocol} dnat to {endpoint}")

    def _refused(self, service: ServicePort) -> Iterator[str]:
        verdict, comment = "goto reject-chain", service.title
        for address in (service.cluster_ip, *service.external_ips):
            yield self.element("no-endpoint-services", _key(service, address), verdict, comment)
        if service.node_port:
            key = f"{service.protocol} . {service.node_port}"
            yield self.element("no-endpoint-nodeports", key, verdict, comment)


def _key(service: ServicePort, address: str) -> str:
    return f"{address} . {service.protocol} . {service.port}"


def _path(service: ServicePort) -> str:
    return f"{service.namespace}/{service.name}/{service.protocol}/{service.port_name}"


def _hashed(name: str) -> str:
    whole = f"{digest(name, 8)}-{name}"
    return whole if len(whole) <= NAME_MAX else whole[: NAME_MAX - 3] + "..."
