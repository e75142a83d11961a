"""kube-proxy's iptables mode, as one file for `iptables-restore` or `ip6tables-restore`.

In: services and the node. Out: lines. Every new connection walks KUBE-SERVICES until its service's rule, then KUBE-SVC
until an endpoint's turn; from then on conntrack remembers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from bench.kube_proxy.model import MASQUERADE, Endpoint, Node, ServicePort, digest

LARGE_CLUSTER = 1000
"""With more endpoints than this, chains of endpoints have no comments."""
MARK = f"{MASQUERADE:#x}"
NEW = "-m conntrack --ctstate NEW"

FILTER_CHAINS = (
    "KUBE-SERVICES", "KUBE-EXTERNAL-SERVICES", "KUBE-FORWARD", "KUBE-NODEPORTS", "KUBE-PROXY-FIREWALL", "KUBE-FIREWALL",
)  # fmt: skip
NAT_CHAINS = ("KUBE-SERVICES", "KUBE-NODEPORTS", "KUBE-POSTROUTING", "KUBE-MARK-MASQ")
JUMPS = {
    "filter": (
        ("INPUT", "", "", "KUBE-FIREWALL"),
        ("INPUT", NEW, "kubernetes load balancer firewall", "KUBE-PROXY-FIREWALL"),
        ("INPUT", "", "kubernetes health check service ports", "KUBE-NODEPORTS"),
        ("INPUT", NEW, "kubernetes externally-visible service portals", "KUBE-EXTERNAL-SERVICES"),
        ("FORWARD", NEW, "kubernetes load balancer firewall", "KUBE-PROXY-FIREWALL"),
        ("FORWARD", "", "kubernetes forwarding rules", "KUBE-FORWARD"),
        ("FORWARD", NEW, "kubernetes service portals", "KUBE-SERVICES"),
        ("FORWARD", NEW, "kubernetes externally-visible service portals", "KUBE-EXTERNAL-SERVICES"),
        ("OUTPUT", "", "", "KUBE-FIREWALL"),
        ("OUTPUT", NEW, "kubernetes load balancer firewall", "KUBE-PROXY-FIREWALL"),
        ("OUTPUT", NEW, "kubernetes service portals", "KUBE-SERVICES"),
    ),
    "nat": (
        ("PREROUTING", "", "kubernetes service portals", "KUBE-SERVICES"),
        ("OUTPUT", "", "kubernetes service portals", "KUBE-SERVICES"),
        ("POSTROUTING", "", "kubernetes postrouting rules", "KUBE-POSTROUTING"),
    ),
}
"""(from, matches, comment, to). kube-proxy puts each in front of those it wrote before; this is what comes of it."""


def service_chain(service: ServicePort, kind: str = "SVC") -> str:
    return f"KUBE-{kind}-{digest(service.title + service.protocol, 16)}"


def endpoint_chain(service: ServicePort, endpoint: Endpoint) -> str:
    return f"KUBE-SEP-{digest(f'{service.title}{service.protocol}{endpoint}', 16)}"


def rule_set(services: Sequence[ServicePort], node: Node) -> Iterator[str]:
    """Lines of the file."""
    comments = sum(len(service.endpoints) for service in services) <= LARGE_CLUSTER
    yield "*mangle"
    yield from _chains(["KUBE-PROXY-CANARY"])
    yield "COMMIT"
    yield "*filter"
    yield from _chains(FILTER_CHAINS)
    yield from _jumps("filter")
    yield from _localnet(node)
    for service in services:
        if not service.endpoints:
            yield from _refused(service)
    yield from _forward()
    yield "COMMIT"
    yield "*nat"
    yield from _chains(NAT_CHAINS)
    for service in services:
        yield from _chains(_own_chains(service))
    yield from _jumps("nat")
    yield from _masquerading()
    for service in services:
        if service.endpoints:
            yield from _service(service, node, comments)
    yield from _last(node)
    yield "COMMIT"


def _own_chains(service: ServicePort) -> Iterator[str]:
    if not service.endpoints:
        return
    if service.external:
        yield service_chain(service, "EXT")
    yield service_chain(service)
    yield from (endpoint_chain(service, endpoint) for endpoint in service.endpoints)


def _service(service: ServicePort, node: Node, comments: bool) -> Iterator[str]:
    chain, outside = service_chain(service), service_chain(service, "EXT")
    cluster_ip = _to(service, service.cluster_ip, "cluster IP")
    yield f"-A KUBE-SERVICES {cluster_ip} -j {chain}"
    for address in service.external_ips:
        yield f"-A KUBE-SERVICES {_to(service, address, 'external IP')} -j {outside}"
    if service.node_port:
        port = f"-m {service.protocol} -p {service.protocol} --dport {service.node_port}"
        yield f"-A KUBE-NODEPORTS -m comment --comment {service.title} {port} -j {outside}"
    yield f"-A {chain} {cluster_ip} ! -s {node.pods} -j KUBE-MARK-MASQ"
    if service.external:
        comment = f'"masquerade traffic for {service.title} external destinations"'
        yield f"-A {outside} -m comment --comment {comment} -j KUBE-MARK-MASQ"
        yield f"-A {outside} -j {chain}"
    left = len(service.endpoints)
    for endpoint in service.endpoints:
        comment = f'-m comment --comment "{service.title} -> {endpoint}" ' if comments else ""
        chance = f"-m statistic --mode random --probability {1 / left:.10f} " if left > 1 else ""
        yield f"-A {chain} {comment}{chance}-j {endpoint_chain(service, endpoint)}"
        left -= 1
    comment = f"-m comment --comment {service.title} " if comments else ""
    for endpoint in service.endpoints:
        name = endpoint_chain(service, endpoint)
        yield f"-A {name} {comment}-s {endpoint.ip} -j KUBE-MARK-MASQ"
        protocol = f"-m {service.protocol} -p {service.protocol}"
        yield f"-A {name} {comment}{protocol} -j DNAT --to-destination {endpoint}"


def _refused(service: ServicePort) -> Iterator[str]:
    """Without endpoints a service has no chains; what asks for it is refused."""
    yield f"-A KUBE-SERVICES {_to(service, service.cluster_ip, 'has no endpoints')} -j REJECT"
    for address in service.external_ips:
        yield f"-A KUBE-EXTERNAL-SERVICES {_to(service, address, 'has no endpoints')} -j REJECT"
    if service.node_port:
        protocol = f"-m {service.protocol} -p {service.protocol}"
        yield (
            f'-A KUBE-EXTERNAL-SERVICES -m comment --comment "{service.title} has no endpoints" '
            f"-m addrtype --dst-type LOCAL {protocol} --dport {service.node_port} -j REJECT"
        )


def _to(service: ServicePort, address: str, what: str) -> str:
    comment = f'-m comment --comment "{service.title} {what}"'
    return f"{comment} -m {service.protocol} -p {service.protocol} -d {address} --dport {service.port}"


def _localnet(node: Node) -> Iterator[str]:
    """Node ports answer at loopback addresses of IPv4, which lets packets in that would be refused otherwise."""
    if node.version == 4:
        yield (
            '-A KUBE-FIREWALL -m comment --comment "block incoming localnet connections" -d 127.0.0.0/8 '
            "! -s 127.0.0.0/8 -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP"
        )


def _forward() -> Iterator[str]:
    yield "-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP"
    yield f'-A KUBE-FORWARD -m comment --comment "kubernetes forwarding rules" -m mark --mark {MARK}/{MARK} -j ACCEPT'
    yield (
        '-A KUBE-FORWARD -m comment --comment "kubernetes forwarding conntrack rule" '
        "-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"
    )


def _masquerading() -> Iterator[str]:
    yield f"-A KUBE-POSTROUTING -m mark ! --mark {MARK}/{MARK} -j RETURN"
    yield f"-A KUBE-POSTROUTING -j MARK --xor-mark {MARK}"
    comment = '"kubernetes service traffic requiring SNAT"'
    yield f"-A KUBE-POSTROUTING -m comment --comment {comment} -j MASQUERADE --random-fully"
    yield f"-A KUBE-MARK-MASQ -j MARK --or-mark {MARK}"


def _last(node: Node) -> Iterator[str]:
    comment = '"kubernetes service nodeports; NOTE: this must be the last rule in this chain"'
    loopback = " ! -d ::1/128" if node.version == 6 else ""
    yield f"-A KUBE-SERVICES -m comment --comment {comment} -m addrtype --dst-type LOCAL{loopback} -j KUBE-NODEPORTS"


def _chains(names: Iterable[str]) -> Iterator[str]:
    return (f":{name} - [0:0]" for name in names)


def _jumps(table: str) -> Iterator[str]:
    for source, matches, comment, target in JUMPS[table]:
        words = ("-A", source, matches, f'-m comment --comment "{comment}"' if comment else "", "-j", target)
        yield " ".join(word for word in words if word)
