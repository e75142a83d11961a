"""The scenarios, by upstream's names: each turns the stage into actions.

In: actors, options, who takes part. Out: `Action`s, in a fixed order, named as upstream names them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from cilium.connectivity.suite.action import Action, Outside, Peer, curl, named, ping, retrying
from cilium.connectivity.suite.actors import Actors, Node, Pod, Service, family_of, has
from cilium.connectivity.suite.options import Options
from cilium.connectivity.suite.table import Part

HTTP, HOST_PORT = 8080, 40000
Scenario = Callable[[Actors, Options, Part], Iterator[Action]]
_ADDRESS_TYPES = {"InternalIP": "internal-ip", "ExternalIP": "external-ip", "Hostname": "hostname"}


def pod_to_pod(actors: Actors, options: Options, part: Part) -> Iterator[Action]:
    for number, (source, echo) in enumerate(_pairs(actors, part)):
        for family in _common(actors, source, echo):
            target = _echo(echo, family)
            yield Action(
                scenario="pod-to-pod", name=f"curl-ipv{family}-{number}", source=source, target=target, family=family,
                command=curl(target, options),
            )  # fmt: skip


def pod_to_pod_with_endpoints(actors: Actors, options: Options, part: Part) -> Iterator[Action]:
    for number, (source, echo) in enumerate(_pairs(actors, part)):
        for family in _common(actors, source, echo):
            for path, header in (("public", ()), ("private", ()), ("private", ("-H", "X-Very-Secret-Token: 42"))):
                name = f"curl-ipv{family}-{number}-{path}{'with-header' if header else ''}"
                target = _echo(echo, family, path=f"/{path}")
                yield Action(
                    scenario="pod-to-pod-with-endpoints", name=name, source=source, target=target, family=family,
                    command=curl(target, options, *header),
                )  # fmt: skip


def client_to_client(actors: Actors, options: Options, part: Part) -> Iterator[Action]:
    yield from _pings("client-to-client", actors.clients, actors, options)


def ccnp_client_to_client(actors: Actors, options: Options, part: Part) -> Iterator[Action]:
    yield from _pings("ccnp-client-to-client", actors.ccnp, actors, options)


def pod_to_service(actors: Actors, options: Options, part: Part) -> Iterator[Action]:
    pairs = ((pod, service) for pod in _clients(actors, part) for service in actors.services)
    for number, (source, service) in enumerate(pairs):
        target = _service(actors, service)
        yield Action(
            scenario="pod-to-service", name=f"curl-{number}", source=source, target=target,
            command=curl(target, options),
        )  # fmt: skip


def pod_to_itself_via_service(actors: Actors, options: Options, part: Part) -> Iterator[Action]:
    pairs = ((pod, service) for service in actors.services for pod in actors.behind(service))
    for number, (source, service) in enumerate(pairs):
        target = _service(actors, service)
        yield Action(
            scenario="pod-to-itself-via-service", name=f"curl-{number}", source=source, target=target,
            command=curl(target, options), watched=False,
        )  # fmt: skip


def pod_to_hostport(actors: Actors, options: Options, part: Part) -> Iterator[Action]:
    for number, (source, echo) in enumerate(_pairs(actors, part)):
        target = Peer(name=str(echo), address=named(echo.hosts), port=HOST_PORT, labels=echo.labels, seen=_http([echo]))
        yield Action(
            scenario="pod-to-hostport", name=f"curl-{number}", source=source, target=target,
            command=curl(target, options),
        )  # fmt: skip


def pod_to_remote_nodeport(actors: Actors, options: Options, part: Part) -> Iterator[Action]:
    yield from _node_ports("pod-to-remote-nodeport", actors, options, local=False)


def pod_to_local_nodeport(actors: Actors, options: Options, part: Part) -> Iterator[Action]:
    yield from _node_ports("pod-to-local-nodeport", actors, options, local=True)


def pod_to_host(actors: Actors, options: Options, part: Part) -> Iterator[Action]:
    for source in _clients(actors, part):
        for node in _managed(actors):
            labels = {"where": "own" if node.name == source.node else "other"}
            for kind, address in node.addresses:
                family = family_of(address)
                if family not in _common(actors, source) or not has(labels, part.target):
                    continue
                target = Peer(name=node.name, address=address, labels=labels)
                yield Action(
                    scenario="pod-to-host", name=f"ping-ipv{family}-{_ADDRESS_TYPES.get(kind, kind)}", source=source,
                    target=target, family=family, command=ping(address, options),
                )  # fmt: skip


def host_to_pod(actors: Actors, options: Options, part: Part) -> Iterator[Action]:
    pairs = ((host, echo) for host in actors.hosts for echo in actors.echoes if has(echo.labels, part.target))
    for number, (source, echo) in enumerate(pairs):
        for family in _common(actors, source, echo):
            target = _echo(echo, family)
            yield Action(
                scenario="host-to-pod", name=f"curl-ipv{family}-{number}", source=source, target=target, family=family,
                command=curl(target, options), watched=False,
            )  # fmt: skip


def pod_to_world(actors: Actors, options: Options, part: Part) -> Iterator[Action]:
    name, retry = options.target, retrying(options) if part.retry else ()
    for number, source in enumerate(_clients(actors, part)):
        for what, scheme, port, path in (
            (f"http-to-{name}", "http", 80, "/"),
            (f"https-to-{name}", "https", 443, "/"),
            (f"https-to-{name}-index", "https", 443, "/index.html"),
        ):
            target = Peer(name=f"{name}-{what.partition('-')[0]}", address=name, port=port, scheme=scheme, path=path)
            more = retry if part.retry in ("all", f"port-{port}") else ()
            yield Action(
                scenario="pod-to-world", name=f"{what}-{number}", source=source, target=target,
                command=curl(target, options, *more),
            )  # fmt: skip


def pod_to_cidr(actors: Actors, options: Options, part: Part) -> Iterator[Action]:
    which: tuple[Outside, Outside] = ("ip", "other")
    for family in actors.families:
        for outside in which:
            place = options.outside[family]
            address = place.ip if outside == "ip" else place.other_ip
            target = Peer(
                name=f"external-{address.replace('.', '').replace(':', '')}", address=address, port=443,
                scheme="https", outside=outside,
            )  # fmt: skip
            more = retrying(options) if part.retry in ("all", outside) else ()
            for number, source in enumerate(_clients(actors, part)):
                if family in source.addresses:
                    yield Action(
                        scenario="pod-to-cidr", name=f"{target.name}-{number}", source=source, target=target,
                        family=family, command=curl(target, options, *more),
                    )  # fmt: skip


def cilium_health(actors: Actors, options: Options, part: Part) -> Iterator[Action]:
    """Of each agent; what it prints is looked at in `judge`."""
    for agent in actors.agents:
        yield Action(
            scenario="cilium-health", name=agent.name, source=agent, target=Peer(name="all nodes", address="health"),
            command=("cilium-health", "status", "--probe", "-o", "json"), watched=False,
        )  # fmt: skip


SCENARIOS: dict[str, Scenario] = {
    function.__name__.replace("_", "-"): function
    for function in (
        pod_to_pod, pod_to_pod_with_endpoints, client_to_client, ccnp_client_to_client, pod_to_service,
        pod_to_itself_via_service, pod_to_hostport, pod_to_remote_nodeport, pod_to_local_nodeport, pod_to_host,
        host_to_pod, pod_to_world, pod_to_cidr, cilium_health,
    )
}  # fmt: skip


# -- who takes part -----------------------------------------------------------------------------------------------


def _clients(actors: Actors, part: Part) -> list[Pod]:
    return [pod for pod in actors.clients if has(pod.labels, part.source)]


def _pairs(actors: Actors, part: Part) -> Iterator[tuple[Pod, Pod]]:
    for source in _clients(actors, part):
        yield from ((source, echo) for echo in actors.echoes if has(echo.labels, part.target))


def _managed(actors: Actors) -> list[Node]:
    return [node for node in actors.nodes if node.cilium]


def _common(actors: Actors, *pods: Pod) -> list[int]:
    return [family for family in actors.families if all(family in pod.addresses for pod in pods)]


def _pings(scenario: str, pods: tuple[Pod, ...], actors: Actors, options: Options) -> Iterator[Action]:
    pairs = ((one, other) for one in pods for other in pods if one.addresses != other.addresses)
    for number, (source, other) in enumerate(pairs):
        for family in _common(actors, source, other):
            target = Peer(name=str(other), address=other.addresses[family], labels=other.labels)
            yield Action(
                scenario=scenario, name=f"ping-ipv{family}-{number}", source=source, target=target, family=family,
                command=ping(target.address, options),
            )  # fmt: skip


def _node_ports(scenario: str, actors: Actors, options: Options, *, local: bool) -> Iterator[Action]:
    """By all addresses of nodes, those with the source's node or those without it."""
    asked = (
        (source, service, node)
        for source in actors.clients
        for service in actors.services
        for node in _managed(actors)
        if (node.name == source.node) is local
    )
    for number, (source, service, node) in enumerate(asked):
        for _, address in node.addresses:
            family = family_of(address)
            if family not in _common(actors, source) or family not in service.addresses:
                continue
            target = Peer(
                name=str(service), address=address, port=service.node_port, labels=service.labels,
                seen=_http(actors.behind(service)),
            )  # fmt: skip
            yield Action(
                scenario=scenario, name=f"curl-{number}", source=source, target=target, family=family,
                command=curl(target, options),
            )  # fmt: skip


# -- who is asked -------------------------------------------------------------------------------------------------


def _echo(pod: Pod, family: int, path: str = "/") -> Peer:
    return Peer(name=str(pod), address=pod.addresses[family], port=HTTP, labels=pod.labels, path=path)


def _service(actors: Actors, service: Service) -> Peer:
    """By its name."""
    own = tuple((address, service.port) for address in service.addresses.values())
    seen = (*own, *_http(actors.behind(service)))
    return Peer(name=str(service), address=service.name, port=service.port, labels=service.labels, seen=seen)


def _http(pods: list[Pod] | tuple[Pod, ...]) -> tuple[tuple[str, int], ...]:
    return tuple((address, HTTP) for pod in pods for address in pod.addresses.values())
