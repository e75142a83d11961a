"""What policies mean, said as plainly as possible: no index, no cache, no compilation.

In: policy objects as the API has them (dicts), pods and other peers, one flow. Out: whether it may pass, and whether it
would be stopped if the policies in audit mode were enforced.
This is the yardstick for the compiler: keep it slow and obvious.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_network
from typing import Any

CLUSTER = "default"
NS = "k8s:io.kubernetes.pod.namespace"
NS_LABEL = "k8s:io.cilium.k8s.namespace.labels."
CLUSTER_KEY = "k8s:io.cilium.k8s.policy.cluster"
PORT_PROTOCOLS = {"TCP": {6}, "UDP": {17}, "SCTP": {132}, "ANY": {6, 17, 132}, "ICMP": {1}, "ICMPV6": {58}}


@dataclass(frozen=True)
class Peer:
    """Somebody who sends or receives. `address` is set for those outside of the cluster only."""

    identity: int
    labels: Mapping[str, str] = field(hash=False)
    named_ports: Mapping[tuple[str, int], int] = field(default_factory=dict, hash=False)
    address: IPv4Address | IPv6Address | None = None

    @property
    def namespace(self) -> str | None:
        return self.labels.get(NS)


@dataclass(frozen=True)
class Service:
    """With a selector it is its pods, without one its addresses."""

    namespace: str
    name: str
    labels: Mapping[str, str]
    selector: Mapping[str, str]
    addresses: tuple[str, ...] = ()


@dataclass(frozen=True)
class Group:
    name: str
    labels: Mapping[str, str]
    cidrs: tuple[str, ...]


@dataclass(frozen=True)
class Objects:
    """What policies may refer to."""

    services: tuple[Service, ...] = ()
    groups: tuple[Group, ...] = ()


NOTHING = Objects()
Flow = tuple[int, int]
"""Protocol number, destination port or ICMP type."""


def judged(
    policies: Iterable[dict[str, Any]],
    subject: Peer,
    direction: str,
    peer: Peer,
    flow: Flow,
    audited_namespaces: Collection[str] = (),
    objects: Objects = NOTHING,
) -> str:
    """allowed, denied, or audited: let through, and denied if the policies in audit mode were enforced."""
    everything = list(policies)
    enforced = [policy for policy in everything if not in_audit_mode(policy, audited_namespaces)]
    if not allowed(enforced, subject, direction, peer, flow, objects):
        return "denied"
    return "allowed" if allowed(everything, subject, direction, peer, flow, objects) else "audited"


def in_audit_mode(policy: dict[str, Any], audited_namespaces: Collection[str]) -> bool:
    metadata = policy["metadata"]
    own = metadata.get("annotations", {}).get("policy.cilium.io/audit-mode") == "enabled"
    return own or metadata.get("namespace") in audited_namespaces


def allowed(
    policies: Iterable[dict[str, Any]],
    subject: Peer,
    direction: str,
    peer: Peer,
    flow: Flow,
    objects: Objects = NOTHING,
) -> bool:
    """Of the tiers in their order, the first that has an answer."""
    everything = list(policies)
    cluster = [policy for policy in everything if policy["kind"] == "ClusterNetworkPolicy"]
    others = [policy for policy in everything if policy["kind"] != "ClusterNetworkPolicy"]
    for answer in (
        answer_in_order(cluster, "Admin", subject, direction, peer, flow),
        answer_of_normal(others, subject, direction, peer, flow, objects),
        answer_in_order(cluster, "Baseline", subject, direction, peer, flow),
    ):
        if answer is not None:
            return answer
    return True


def answer_in_order(
    policies: list[dict[str, Any]], tier: str, subject: Peer, direction: str, peer: Peer, flow: Flow
) -> bool | None:
    """By priority; where objects with one priority disagree, the most cautious has its way. Pass: no answer."""
    mine = [p for p in policies if p["spec"]["tier"] == tier and cluster_selects(p["spec"]["subject"], subject)]
    for priority in sorted({policy["spec"]["priority"] for policy in mine}):
        actions = {
            first_action(policy["spec"].get(direction) or (), subject, direction, peer, flow)
            for policy in mine
            if policy["spec"]["priority"] == priority
        }
        for action, answer in (("Deny", False), ("Pass", None), ("Accept", True)):
            if action in actions:
                return answer
    return None


def first_action(rules: Iterable[dict[str, Any]], subject: Peer, direction: str, peer: Peer, flow: Flow) -> str | None:
    side, ports = ("from", subject.named_ports) if direction == "ingress" else ("to", peer.named_ports)
    for rule in rules:
        if rule["action"] != "Accept" and any(entry.get("nodes") for entry in rule[side]):
            return "Deny"  # nobody can tell which nodes it means
        networks = {cidr for entry in rule[side] for cidr in entry.get("networks", ())}
        meant = {"0.0.0.0/0", "::/0"} <= networks or any(cluster_peer_matches(entry, peer) for entry in rule[side])
        if meant and cluster_flow_matches(rule.get("protocols"), flow, ports):
            return str(rule["action"])
    return None


def cluster_selects(selector: dict[str, Any], peer: Peer) -> bool:
    """`namespaces` or `pods`; whoever has no namespace is no pod."""
    if peer.namespace is None:
        return False
    if "namespaces" in selector:
        return labels_match(selector["namespaces"], namespace_labels(peer), source="k8s")
    pods = selector["pods"]
    namespaces = pods.get("namespaceSelector", {})
    return labels_match(pods["podSelector"], peer.labels, source="k8s") and labels_match(
        namespaces, namespace_labels(peer), source="k8s"
    )


def cluster_peer_matches(entry: dict[str, Any], peer: Peer) -> bool:
    if "networks" in entry:
        return any(cidr_matches(cidr, [], peer) for cidr in entry["networks"])
    if "nodes" in entry:
        return not entry["nodes"] and any(f"reserved:{name}" in peer.labels for name in ("host", "remote-node"))
    return peer.labels.get(CLUSTER_KEY) == CLUSTER and cluster_selects(entry, peer)


def cluster_flow_matches(
    protocols: list[dict[str, Any]] | None, flow: Flow, named_ports: Mapping[tuple[str, int], int]
) -> bool:
    protocol, port = flow
    for entry in protocols or ():
        ((kind, value),) = entry.items()
        if kind == "destinationNamedPort":
            if protocol in PORT_PROTOCOLS["ANY"] and named_ports.get((value, protocol)) == port:
                return True
        elif protocol in PORT_PROTOCOLS[kind.upper()]:
            wanted = value["destinationPort"]
            span = wanted.get("range") or {"start": wanted["number"], "end": wanted["number"]}
            if span["start"] <= port <= span["end"]:
                return True
    return not protocols


def answer_of_normal(
    policies: Iterable[dict[str, Any]], subject: Peer, direction: str, peer: Peer, flow: Flow, objects: Objects
) -> bool | None:
    """Deny beats allow, and a closed direction is an answer."""
    deny = allow = default_deny = False
    for policy in policies:
        for rule in policy.get("specs") or [policy["spec"]]:
            if not selects(policy, rule, subject):
                continue
            default_deny |= switches_default_deny_on(policy, rule, direction)
            for section, element in elements(policy, rule, direction):
                ports = subject.named_ports if direction == "ingress" else peer.named_ports
                matches = peer_matches(policy, element, direction, peer, objects)
                if matches and flow_matches(policy, element, flow, ports):
                    if section.endswith("Deny"):
                        deny = True
                    else:
                        allow = True
    if deny:
        return False
    return True if allow else False if default_deny else None


def selects(policy: dict[str, Any], rule: dict[str, Any], subject: Peer) -> bool:
    if policy["kind"] == "NetworkPolicy":
        own = policy["metadata"]["namespace"] == subject.namespace
        return own and labels_match(rule.get("podSelector", {}), subject.labels, source="k8s")
    if policy["kind"] == "CiliumNetworkPolicy" and policy["metadata"]["namespace"] != subject.namespace:
        return False
    return labels_match(rule["endpointSelector"], subject.labels)


def switches_default_deny_on(policy: dict[str, Any], rule: dict[str, Any], direction: str) -> bool:
    if policy["kind"] == "NetworkPolicy":
        return direction in types(rule)
    present = rule.get(direction) or rule.get(f"{direction}Deny")
    return bool(present) and rule.get("enableDefaultDeny", {}).get(direction) is not False


def types(rule: dict[str, Any]) -> set[str]:
    given = rule.get("policyTypes")
    if given:
        return {kind.lower() for kind in given}
    return {"ingress", "egress"} if rule.get("egress") else {"ingress"}


def elements(policy: dict[str, Any], rule: dict[str, Any], direction: str) -> Iterable[tuple[str, dict[str, Any]]]:
    if policy["kind"] == "NetworkPolicy" and direction not in types(rule):
        return
    for section in (direction, f"{direction}Deny"):
        for element in rule.get(section) or ():
            yield section, element


def peer_matches(policy: dict[str, Any], element: dict[str, Any], direction: str, peer: Peer, objects: Objects) -> bool:
    side = "from" if direction == "ingress" else "to"
    if policy["kind"] == "NetworkPolicy":
        peers = element.get(side)
        return not peers or any(network_policy_peer_matches(policy, entry, peer) for entry in peers)
    present = [key for key in element if key.startswith(side) and key != "toPorts"]
    if not present:
        return bool(element.get("toPorts") or element.get("icmps"))
    (kind,) = present
    match kind.removeprefix(side):
        case "Endpoints":
            return any(endpoint_matches(policy, selector, peer) for selector in element[kind])
        case "Entities":
            return any(entity_matches(entity, peer) for entity in element[kind])
        case "CIDR":
            return any(cidr_matches(cidr, [], peer) for cidr in element[kind])
        case "CIDRSet":
            return any(cidr_rule_matches(entry, peer, objects) for entry in element[kind])
        case "Services":
            return any(service_matches(entry, one, peer) for entry in element[kind] for one in objects.services)
    raise AssertionError(f"the oracle does not know {kind}")


def endpoint_matches(policy: dict[str, Any], selector: dict[str, Any], peer: Peer) -> bool:
    if not labels_match(selector, peer.labels):
        return False
    keys = [*selector.get("matchLabels", {}), *(e["key"] for e in selector.get("matchExpressions", ()))]
    present = [e["key"] for e in selector.get("matchExpressions", ()) if e["operator"] in ("In", "Exists")]
    if any(key.startswith("reserved:") for key in (*selector.get("matchLabels", {}), *present)):
        return True
    if CLUSTER_KEY not in keys and peer.labels.get(CLUSTER_KEY) != CLUSTER:
        return False
    if any(key.split(":")[-1].startswith((NS.split(":")[1], NS_LABEL.split(":")[1])) for key in keys):
        return True
    if policy["kind"] == "CiliumNetworkPolicy":
        return peer.namespace == policy["metadata"]["namespace"]
    return peer.namespace is not None


def network_policy_peer_matches(policy: dict[str, Any], entry: dict[str, Any], peer: Peer) -> bool:
    if "ipBlock" in entry:
        return cidr_matches(entry["ipBlock"]["cidr"], entry["ipBlock"].get("except", []), peer)
    if peer.namespace is None or peer.labels.get(CLUSTER_KEY) != CLUSTER:
        return False
    if not labels_match(entry.get("podSelector", {}), peer.labels, source="k8s"):
        return False
    if "namespaceSelector" not in entry:
        return peer.namespace == policy["metadata"]["namespace"]
    return labels_match(entry["namespaceSelector"], namespace_labels(peer), source="k8s")


def namespace_labels(peer: Peer) -> dict[str, str]:
    return {
        "k8s:" + key.removeprefix(NS_LABEL): value for key, value in peer.labels.items() if key.startswith(NS_LABEL)
    }


def entity_matches(entity: str, peer: Peer) -> bool:
    reserved = {key.removeprefix("reserved:") for key in peer.labels if key.startswith("reserved:")}
    inside = {"host", "remote-node", "init", "ingress", "health", "unmanaged", "kube-apiserver"}
    match entity:
        case "all":
            return True
        case "none":
            return False
        case "world":
            return peer.address is not None
        case "world-ipv4" | "world-ipv6":
            return peer.address is not None and peer.address.version == int(entity[-1])
        case "cluster":
            return bool(reserved & inside) or peer.labels.get(CLUSTER_KEY) == CLUSTER
    return entity in reserved


def cidr_matches(cidr: str, excepts: list[str], peer: Peer) -> bool:
    """CIDRs are about the world: pods and nodes are known by their labels."""
    if peer.address is None or peer.address not in ip_network(cidr):
        return False
    return not any(peer.address in ip_network(hole) for hole in excepts)


def cidr_rule_matches(entry: dict[str, Any], peer: Peer, objects: Objects) -> bool:
    holes = entry.get("except", [])
    if "cidr" in entry:
        return cidr_matches(entry["cidr"], holes, peer)
    if "cidrGroupRef" in entry:
        groups = [group for group in objects.groups if group.name == entry["cidrGroupRef"]]
    else:
        groups = [group for group in objects.groups if plain_match(entry["cidrGroupSelector"], group.labels)]
    return any(cidr_matches(cidr, holes, peer) for group in groups for cidr in group.cidrs)


def service_matches(entry: dict[str, Any], service: Service, peer: Peer) -> bool:
    reference = entry.get("k8sService") or entry["k8sServiceSelector"]
    if reference.get("namespace", service.namespace) != service.namespace:
        return False
    if "k8sService" in entry:
        meant = reference["serviceName"] == service.name
    else:
        meant = plain_match(reference["selector"], service.labels)
    if not meant:
        return False
    if not service.selector:
        return str(peer.address) in service.addresses
    local = peer.namespace == service.namespace and peer.labels.get(CLUSTER_KEY) == CLUSTER
    return local and all(peer.labels.get(f"k8s:{key}") == value for key, value in service.selector.items())


def plain_match(selector: dict[str, Any], labels: Mapping[str, str]) -> bool:
    return labels_match(selector, {f"k8s:{key}": value for key, value in labels.items()})


def flow_matches(
    policy: dict[str, Any], element: dict[str, Any], flow: Flow, named_ports: Mapping[tuple[str, int], int]
) -> bool:
    protocol, port = flow
    if policy["kind"] == "NetworkPolicy":
        ports = element.get("ports")
        return not ports or any(port_matches(entry, "TCP", protocol, port, named_ports) for entry in ports)
    if element.get("icmps"):
        return any(
            protocol == (58 if entry.get("family") == "IPv6" else 1) and port == entry["type"]
            for icmp in element["icmps"]
            for entry in icmp["fields"]
        )
    if not element.get("toPorts"):
        return True
    return any(
        port_matches(entry, "ANY", protocol, port, named_ports)
        for rule in element["toPorts"]
        for entry in rule.get("ports", ())
    )


def port_matches(
    entry: dict[str, Any], default: str, protocol: int, port: int, named_ports: Mapping[tuple[str, int], int]
) -> bool:
    if protocol not in PORT_PROTOCOLS[entry.get("protocol", default)]:
        return False
    first = entry.get("port")
    if first in (None, "0"):
        return True
    if not str(first).isdigit():
        return named_ports.get((str(first), protocol)) == port
    return int(first) <= port <= int(entry.get("endPort") or first)


def labels_match(selector: dict[str, Any], labels: Mapping[str, str], source: str = "any") -> bool:
    def values(key: str) -> list[str]:
        """The values of a key; `any` looks at every source."""
        origin, name = key.split(":", 1) if ":" in key else (source, key)
        if origin != "any":
            return [labels[f"{origin}:{name}"]] if f"{origin}:{name}" in labels else []
        return [value for label, value in labels.items() if label.split(":", 1)[1] == name]

    for key, value in selector.get("matchLabels", {}).items():
        if value not in values(key):
            return False
    for expression in selector.get("matchExpressions", ()):
        present = values(expression["key"])
        match expression["operator"]:
            case "In":
                fits = any(value in expression["values"] for value in present)
            case "NotIn":
                fits = not any(value in expression["values"] for value in present)
            case "Exists":
                fits = bool(present)
            case _:
                fits = not present
        if not fits:
            return False
    return True
