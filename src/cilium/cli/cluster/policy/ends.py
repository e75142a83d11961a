"""Who is meant by a name on the command line, as parties of the cluster.

In: `NS/POD`, a workload, a service, an address, a CIDR, an entity, a domain name, or labels. Out: `End`s: one, or
several where the name stands for several.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from ipaddress import ip_address, ip_network

import click
from msgspec import structs

from cilium.cli.cluster.policy.view import View
from cilium.features.identity.labels import security_labels
from cilium.features.policy.explain.rows import Party
from cilium.tables.identities import Reserved
from cilium.tables.kubernetes import CiliumNode, Namespace, Pod
from cilium.tables.labels import kubernetes_labels
from cilium.tables.services import Service
from cilium.tables.types import IPAddress, IPNetwork

ENTITIES = ("world", "world-ipv4", "world-ipv6", "host", "remote-node", "kube-apiserver", "health", "init", "unmanaged",
            "ingress")  # fmt: skip
_NUMBERS = {one.name.lower().replace("_", "-"): int(one) for one in Reserved}
_DOMAIN = re.compile(r"(?i)(\*|[a-z0-9_]([a-z0-9_-]*[a-z0-9])?)(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9])?)+\.?")


@dataclass(frozen=True)
class End:
    party: Party
    node: str = ""
    """Where it is, if it is in the cluster."""
    is_node: bool = False
    addresses: tuple[IPAddress, ...] = ()
    pod: str = ""
    """namespace/name of a pod whose policy agents enforce."""
    workload: str = ""
    """namespace/name of what it belongs to, or its own."""
    identity: int = 0
    """Of an entity without an address."""
    service: str = ""
    """By which service it is reached."""
    port: int = 0
    """To which the service's port is translated."""

    def beside(self, other: End) -> Party:
        """The party as the other end sees it: a node is `host` to what runs on it."""
        if self.is_node and self.node and self.node == other.node:
            own = (label for label in self.party.labels if label.startswith("node:"))
            return structs.replace(self.party, labels=(Reserved.HOST.label, *own))
        return self.party


def ends(view: View, text: str, *, option: str) -> list[End]:
    """Raises click.BadParameter."""
    kind, _, name = text.partition("/")
    if kind in ("svc", "service") and name.count("/") == 1:
        return _service(view, name, option)
    if kind == "pod" and name.count("/") == 1:
        text = name
    if text in ENTITIES:
        return _entity(view, text)
    try:
        network = ip_network(text, strict=False)
    except ValueError:
        pass
    else:
        return _network(view, network)
    if text.count("/") == 1:
        return _named(view, text, option)
    if service := _service_domain(text):
        return _service(view, service, option)
    if _DOMAIN.fullmatch(text):
        return [world(f"{text} (IPv{version})", version, len(view.versions)) for version in view.versions]
    raise click.BadParameter(
        f"{text!r} is no NAMESPACE/POD, NAMESPACE/SERVICE, address, CIDR, domain name, or one of {', '.join(ENTITIES)}",
        param_hint=option,
    )


def labelled(view: View, labels: str, namespace: str) -> End:
    """A pod that need not exist. Raises click.BadParameter."""
    pairs = dict(pair.strip().partition("=")[::2] for pair in labels.split(",") if pair.strip())
    account = pairs.pop("serviceaccount", "default")
    pod = Pod(namespace, f"({labels})", "", "", pairs, {}, service_account=account)
    if view.tables.namespaces.snapshot().get(namespace) is None:
        raise click.BadParameter(f"namespace {namespace!r} does not exist", param_hint="--namespace")
    return of_pod(view, pod)


def of_pod(view: View, pod: Pod) -> End:
    """A pod with the labels that its identity has; one on the node's network is the node."""
    if pod.host_network:
        node = view.tables.cilium_nodes.snapshot().get(pod.node)
        found = of_node(view, node) if node is not None else _unknown_node(pod.node)
        return replace(found, party=structs.replace(found.party, name=f"{pod.key} on the network of {pod.node}"))
    namespace = view.tables.namespaces.snapshot().get(pod.namespace) or Namespace(pod.namespace, {}, {})
    labels = security_labels(pod, namespace, cluster=view.settings.cluster.name, labels=view.filter)
    party = Party(pod.key, labels, tuple(pod.named_ports))
    return End(
        party,
        node=pod.node,
        addresses=pod.ips,
        pod=pod.key,
        workload=f"{pod.namespace}/{pod.workload_name or pod.name}",
    )


def _unknown_node(name: str) -> End:
    return End(Party(f"node {name}", (Reserved.REMOTE_NODE.label,), endpoint=False), node=name, is_node=True)


def of_node(view: View, node: CiliumNode) -> End:
    labels: tuple[str, ...] = (Reserved.REMOTE_NODE.label,)
    if view.apiservers.intersection(node.internal_ips):
        labels = (Reserved.KUBE_APISERVER.label, *labels)
    known = view.tables.kube_nodes.snapshot().get(node.name)
    if view.settings.policy.node_selectors and known:
        labels = (*labels, *(f"node:{key}={value}" for key, value in known.labels.items()))
    party = Party(
        f"node {node.name}",
        labels,
        networks=node_networks(view, node.internal_ips),
        endpoint=False,
        node_labels=kubernetes_labels(known.labels if known else {}),
    )
    return End(party, node=node.name, is_node=True, addresses=node.internal_ips)


def node_networks(view: View, addresses: Iterable[IPAddress]) -> tuple[IPNetwork, ...]:
    """Where rules about CIDRs find a node, if they are to."""
    return tuple(map(ip_network, addresses)) if view.settings.policy.cidrs_match_nodes else ()


def world(name: str, version: int, families: int, *networks: IPNetwork, apiserver: bool = False) -> End:
    """Something outside of the cluster; `networks` none: where is not known."""
    reserved = Reserved.WORLD
    if families > 1:
        reserved = Reserved.WORLD_IPV4 if version == 4 else Reserved.WORLD_IPV6
    labels = (Reserved.KUBE_APISERVER.label, reserved.label) if apiserver else (reserved.label,)
    party = Party(name, labels, networks=networks, outside=True, endpoint=False)
    addresses = (networks[0].network_address,) if networks else ()
    return End(party, addresses=addresses, identity=int(reserved))


def _entity(view: View, name: str) -> list[End]:
    if name == "world":
        return [world(f"world (IPv{version})", version, len(view.versions)) for version in view.versions]
    if name in ("world-ipv4", "world-ipv6"):
        return [world(name, int(name[-1]), len(view.versions))]
    labels: tuple[str, ...] = (f"reserved:{name}",)
    if name == "kube-apiserver":
        labels = (*labels, Reserved.REMOTE_NODE.label)
    return [End(Party(name, labels, endpoint=name in ("init", "health")), identity=_NUMBERS[name])]


def _network(view: View, network: IPNetwork) -> list[End]:
    if network.prefixlen < network.max_prefixlen:
        return [world(str(network), network.version, len(view.versions), network)]
    address = ip_address(network.network_address)
    if pod := view.pods_by_ip.get(address):
        return [replace(of_pod(view, pod), addresses=(address,))]
    if node := view.nodes_by_ip.get(address):
        found = of_node(view, node)
        party = structs.replace(found.party, networks=node_networks(view, (address,)))
        return [replace(found, party=party, addresses=(address,))]
    if address in view.health_ips:
        return [End(Party(str(address), (Reserved.HEALTH.label,)), addresses=(address,))]
    for service in view.tables.services.snapshot():
        if address in (*service.cluster_ips, *service.external_ips, *service.load_balancer_ips):
            return _backends(view, service, version=address.version)
    apiserver = address in view.apiservers
    return [world(str(address), network.version, len(view.versions), network, apiserver=apiserver)]


def _named(view: View, text: str, option: str) -> list[End]:
    """A pod, else the pods of a workload, else a service."""
    if pod := view.tables.pods.snapshot().get(text):
        return [of_pod(view, pod)]
    namespace, name = text.split("/")
    pods = [pod for pod in view.tables.pods.snapshot() if pod.namespace == namespace]
    if members := [pod for pod in pods if pod.workload_name == name]:
        return distinct(of_pod(view, pod) for pod in sorted(members, key=lambda pod: pod.name))
    if service := view.tables.services.snapshot().get(text):
        return _backends(view, service)
    known = [pod.key for pod in pods] + [row.key for row in view.tables.services.snapshot()]
    known += [f"{pod.namespace}/{pod.workload_name}" for pod in view.tables.pods.snapshot() if pod.workload_name]
    near = get_close_matches(text, sorted(set(known)), n=3)
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    raise click.BadParameter(f"there is no pod, workload or service {text}{hint}", param_hint=option)


def distinct(found: Iterable[End]) -> list[End]:
    """One for all that policies cannot tell apart."""
    kept: dict[tuple[object, ...], End] = {}
    for end in found:
        kept.setdefault((end.party.labels, end.party.named_ports, end.is_node, end.port), end)
    return list(kept.values())


def _service(view: View, name: str, option: str) -> list[End]:
    service = view.tables.services.snapshot().get(name)
    if service is None:
        raise click.BadParameter(f"there is no service {name}", param_hint=option)
    return _backends(view, service)


def _service_domain(text: str) -> str:
    match = re.fullmatch(r"([a-z0-9-]+)\.([a-z0-9-]+)\.svc(\.cluster\.local\.?)?", text)
    return f"{match[2]}/{match[1]}" if match else ""


def _backends(view: View, service: Service, version: int = 0) -> list[End]:
    """Marked with the service; `at_port` takes the port."""
    found = []
    for row in view.tables.endpoint_slices.snapshot():
        if row.service_key == service.key:
            for endpoint in row.endpoints:
                if endpoint.ready and version in (0, endpoint.address.version):
                    found += [replace(end, service=service.key) for end in _network(view, ip_network(endpoint.address))]
    if not found:
        raise click.ClickException(f"service {service.key} has no ready backend")
    return found


def at_port(view: View, end: End, port: int, protocol: str) -> End:
    """The backend's port behind the service's; the end itself if it is no service. Raises click.BadParameter."""
    if not end.service:
        return end
    service = view.tables.services.snapshot()[end.service]
    wanted = next((one for one in service.ports if one.port == port and one.protocol == protocol), None)
    if wanted is None:
        known = ", ".join(f"{one.port}/{one.protocol}" for one in service.ports)
        problem = f"service {end.service} has no port {port}/{protocol}; it has {known}"
        raise click.BadParameter(problem, param_hint="--port")
    for row in view.tables.endpoint_slices.snapshot():
        if row.service_key == end.service and {one.address for one in row.endpoints}.intersection(end.addresses):
            for one in row.ports:
                if one.name == wanted.name and one.protocol == protocol:
                    return replace(end, port=one.port)
    return replace(end, port=port)


def pods(view: View) -> Mapping[str, End]:
    """Every pod of the cluster that has an identity, by key."""
    return {pod.key: of_pod(view, pod) for pod in view.pods_by_ip.values()}
