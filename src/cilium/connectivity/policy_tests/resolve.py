"""Places become addresses: which pods, nodes and addresses of the world an expectation speaks of.

In: places as written, the state of the cluster. Out: `Asker`s that can be made to ask, `Asked` ones with addresses and
declared ports. LookupError says what is not there.

Of a workload, one pod per node stands for all: verdicts depend on labels and on the node, not on the number of pods.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from cilium.connectivity.policy_tests.cluster import State
from cilium.connectivity.policy_tests.ground import Asker, Object
from cilium.connectivity.policy_tests.places import Form, Place
from cilium.connectivity.policy_tests.reduce import OWNER

WORLD = {4: "203.0.113.10", 6: "2001:db8::10"}
"""Addresses of the lab's world that answer HTTP."""


@dataclass(frozen=True, slots=True)
class Declared:
    """A port of a pod, or of a Service, which is asked at `ask` and ends at `target` of its pods."""

    number: int
    protocol: str
    name: str
    ask: int
    target: int

    def __str__(self) -> str:
        return f"{self.name or self.number}/{self.protocol}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """`addresses` by family. `behind`: the addresses of a Service's pods."""

    name: str
    addresses: tuple[tuple[int, str], ...]
    ports: tuple[Declared, ...] = ()
    behind: tuple[str, ...] = ()
    service: bool = False


class Resolver:
    """`subnets` are the cluster's own networks, in which no address is the world's."""

    def __init__(self, state: State, subnets: Iterable[str]) -> None:
        self._pods, self._services = state.pods, state.services
        self._nodes = {node["metadata"]["name"]: _addresses_of_node(node) for node in state.nodes}
        own = [*subnets, *(cidr for node in state.nodes for cidr in node["spec"].get("podCIDRs") or [])]
        own += [address for pod in state.pods for address in _addresses(pod).values()]
        self._own = [ip_network(network) for network in own]

    # -- who asks -----------------------------------------------------------------------------------------------

    def askers(self, place: Place) -> list[Asker]:
        """Raises LookupError."""
        if place.form is Form.WORLD:
            return [Asker(name="world", node="external")]
        if place.form is Form.NETWORK and place.network is not None:
            address = self._outside(place)
            return [Asker(name=place.text, node="external", families=(place.network.version,),
                          bind=((place.network.version, address),))]  # fmt: skip
        if place.form is Form.HOST:
            self._node(place)
            return [Asker(name=place.text, node=place.name)]
        if place.kind == "Service":
            raise LookupError(f"{place}: a Service asks nobody: name its pods")
        pods = self._pods_of(place)
        if not pods:
            raise LookupError(f"{place}: no such pod or workload{self._near(place)}")
        return [
            Asker(
                name=_name(pod), node=pod["spec"]["nodeName"], uid=pod["metadata"]["uid"],
                container=pod["spec"]["containers"][0]["name"], families=tuple(_addresses(pod)),
            )
            for pod in _one_per_node(pods)
        ]  # fmt: skip

    # -- who is asked -------------------------------------------------------------------------------------------

    def asked(self, place: Place) -> list[Asked]:
        """Raises LookupError."""
        if place.form is Form.WORLD:
            return [Asked(name="world", addresses=tuple(WORLD.items()), ports=(Declared(80, "TCP", "http", 80, 80),))]
        if place.form is Form.NETWORK and place.network is not None:
            address = self._outside(place)
            return [Asked(name=place.text, addresses=((place.network.version, address),))]
        if place.form is Form.HOST:
            return [Asked(name=place.text, addresses=tuple(self._node(place).items()))]
        pods = [] if place.kind == "Service" else self._pods_of(place)
        if pods:
            return [
                Asked(name=_name(pod), addresses=tuple(_addresses(pod).items()), ports=_ports(pod))
                for pod in _one_per_node(pods)
            ]
        service = self._service(place)
        if service is None:
            raise LookupError(f"{place}: no such pod, workload or Service{self._near(place)}")
        return [self._asked_service(place, service)]

    def from_outside(self, place: Place) -> list[Asked]:
        """The same for clients outside of the cluster: Services at node ports, on the nodes that have a backend."""
        service = self._service(place) if place.form is Form.NAMED else None
        if service is None:
            raise LookupError(
                f"{place}: the world reaches the cluster by Services of type NodePort or LoadBalancer: name one"
            )
        entries = [port for port in service["spec"].get("ports") or [] if port.get("nodePort")]
        if not entries:
            raise LookupError(f"{place}: Service of type {service['spec'].get('type')}: it has no port for the world")
        backends = self._backends(service)
        node = min((pod["spec"]["nodeName"] for pod in backends), default=min(self._nodes))
        families = _families(service)
        return [
            Asked(
                name=f"{place} at {node}",
                addresses=tuple(entry for entry in self._nodes[node].items() if entry[0] in families),
                ports=tuple(_declared(port, port["nodePort"], backends) for port in entries),
                behind=_all_addresses(backends),
                service=True,
            )
        ]

    # -- lookups ------------------------------------------------------------------------------------------------

    def _pods_of(self, place: Place) -> list[Object]:
        inside = [pod for pod in self._pods if pod["metadata"]["namespace"] == place.namespace]
        if place.form is Form.SELECTED:
            return [pod for pod in inside if _selected(pod, dict(place.labels))]
        if place.kind in ("", "Pod"):
            exact = [pod for pod in inside if pod["metadata"]["name"] == place.name]
            if exact or place.kind:
                return exact
        matching = [
            (pod, kind)
            for pod in inside
            for kind, name in _owners(pod)
            if name == place.name and place.kind in ("", kind)
        ]
        kinds = sorted({kind for _, kind in matching})
        if len(kinds) > 1:
            raise LookupError(f"{place}: is a {' and a '.join(kinds)}: write KIND/NAMESPACE/NAME")
        return [pod for pod, _ in matching]

    def _service(self, place: Place) -> Object | None:
        return next(
            (
                service
                for service in self._services
                if place.kind in ("", "Service")
                and (service["metadata"]["namespace"], service["metadata"]["name"]) == (place.namespace, place.name)
            ),
            None,
        )

    def _asked_service(self, place: Place, service: Object) -> Asked:
        spec = service["spec"]
        backends = self._backends(service)
        addresses = [ip for ip in spec.get("clusterIPs") or [] if ip != "None"]
        if not addresses:
            raise LookupError(f"{place}: this Service has no cluster IP: name the pods behind it")
        return Asked(
            name=place.text,
            addresses=tuple((ip_address(ip).version, ip) for ip in addresses),
            ports=tuple(_declared(port, port["port"], backends) for port in spec.get("ports") or []),
            behind=_all_addresses(backends),
            service=True,
        )

    def _backends(self, service: Object) -> list[Object]:
        selector = service["spec"].get("selector") or {}
        namespace = service["metadata"]["namespace"]
        return [
            pod
            for pod in self._pods
            if selector and pod["metadata"]["namespace"] == namespace and _selected(pod, selector)
        ]

    def _node(self, place: Place) -> dict[int, str]:
        if place.name not in self._nodes:
            raise LookupError(f"{place}: no such node; there are {', '.join(sorted(self._nodes))}")
        return self._nodes[place.name]

    def _outside(self, place: Place) -> str:
        """An address of the network, for a server or a client in the world."""
        network = place.network
        assert network is not None
        for own in self._own:
            if own.version == network.version and own.overlaps(network):
                raise LookupError(f"{place}: overlaps {own}, a network of the lab itself")
        return first_address(network)

    def _near(self, place: Place) -> str:
        names = sorted(
            {name for pod in self._pods if pod["metadata"]["namespace"] == place.namespace for _, name in _owners(pod)}
        )
        if not names:
            spaces = sorted({pod["metadata"]["namespace"] for pod in self._pods})
            return f"; namespaces with pods are {', '.join(spaces) or 'none'}"
        return f"; {place.namespace} has {', '.join(names)}"


def first_address(network: IPv4Network | IPv6Network) -> str:
    """The network's own address if it has no other, else the one after it."""
    return str(network[0] if network.num_addresses == 1 else network[1])


def _declared(port: Object, ask: int, backends: Iterable[Object]) -> Declared:
    """A port of a Service."""
    target = port.get("targetPort", port["port"])
    if not isinstance(target, int):
        named = (one.number for pod in backends for one in _ports(pod) if one.name == target)
        target = next(named, port["port"])
    return Declared(port["port"], port.get("protocol", "TCP"), port.get("name", ""), ask, target)


def workload(pod: Object) -> str:
    """The name people know it by: its Deployment's, StatefulSet's, DaemonSet's, or its own."""
    kinds = [name for kind, name in _owners(pod) if kind not in ("Pod", "ReplicaSet")]
    sets = [name for kind, name in _owners(pod) if kind == "ReplicaSet"]
    return f"{pod['metadata']['namespace']}/{(kinds or sets or [pod['metadata']['name']])[0]}"


def _owners(pod: Object) -> list[tuple[str, str]]:
    """(kind, name) of who made the pod; a Deployment by the name of its ReplicaSet, of which it is the stem."""
    kind, _, name = (pod["metadata"].get("annotations") or {}).get(OWNER, "").partition("/")
    owners = [(kind, name)] if name else []
    for owner in pod["metadata"].get("ownerReferences") or []:
        kind, name = owner["kind"], owner["name"]
        stem, _, mark = name.rpartition("-")
        template = (pod["metadata"].get("labels") or {}).get("pod-template-hash")
        if kind == "ReplicaSet" and template and mark == template:
            owners.append(("Deployment", stem))
        else:
            owners.append((kind, name))
    return owners or [("Pod", pod["metadata"]["name"])]


def _selected(pod: Object, labels: Mapping[str, str]) -> bool:
    own = pod["metadata"].get("labels") or {}
    return all(own.get(key) == value for key, value in labels.items())


def _one_per_node(pods: Iterable[Object]) -> list[Object]:
    chosen: dict[tuple[str, str], Object] = {}
    for pod in sorted(pods, key=_name):
        chosen.setdefault((workload(pod), pod["spec"]["nodeName"]), pod)
    return list(chosen.values())


def _name(pod: Object) -> str:
    return f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"


def _addresses(pod: Object) -> dict[int, str]:
    return {ip_address(entry["ip"]).version: entry["ip"] for entry in pod["status"].get("podIPs") or []}


def _all_addresses(pods: Iterable[Object]) -> tuple[str, ...]:
    return tuple(address for pod in pods for address in _addresses(pod).values())


def _ports(pod: Object) -> tuple[Declared, ...]:
    return tuple(
        Declared(
            port["containerPort"],
            port.get("protocol", "TCP"),
            port.get("name", ""),
            port["containerPort"],
            port["containerPort"],
        )
        for container in pod["spec"]["containers"]
        for port in container.get("ports") or []
    )


def _addresses_of_node(node: Object) -> dict[int, str]:
    return {
        ip_address(entry["address"]).version: entry["address"]
        for entry in node["status"].get("addresses") or []
        if entry["type"] == "InternalIP"
    }


def _families(service: Object) -> set[int]:
    return {6 if family == "IPv6" else 4 for family in service["spec"].get("ipFamilies") or ["IPv4"]}
