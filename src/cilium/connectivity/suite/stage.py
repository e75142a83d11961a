"""The stage: deploys the pods, waits until they stand and can be asked, tells who is there.

In: a cluster, options, what is going on (`tell`). Out: `Actors`. Source of the waits:
cilium-cli/connectivity/check/wait.go.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import replace

from cilium.connectivity.suite import actors as cast
from cilium.connectivity.suite.actors import Actors, Object, Pod, Service
from cilium.connectivity.suite.cluster import Cluster, SuiteError, everywhere, until
from cilium.connectivity.suite.events import Note, Tell
from cilium.connectivity.suite.features import Features
from cilium.connectivity.suite.manifests import CCNP_NAMESPACES, HTTP_PORT, ccnp_objects, objects
from cilium.connectivity.suite.options import Options

SETTLED = 30.0
"""Seconds until what is deployed is known everywhere."""
RESERVED = 255
"""Identities up to here are not those of pods' labels."""
_SHOWN = {"Namespace": "namespace", "Service": "service", "Deployment": "deployment", "DaemonSet": "daemonset"}


class Stage:
    """`bare`: the agents and nodes, before anything is deployed."""

    def __init__(self, cluster: Cluster, options: Options, bare: Actors, tell: Tell) -> None:
        self._cluster, self._options, self._bare, self._tell = cluster, options, bare, tell

    async def build(self, features: Features, *, ccnp: bool) -> Actors:
        """Raises SuiteError, ApiError, Unreachable."""
        options = self._options
        wanted = list(objects(options.namespace, options.images, single_node=options.single_node))
        wanted += list(ccnp_objects(options.images)) if ccnp else []
        namespaces = [item["metadata"]["name"] for item in wanted if item["kind"] == "Namespace"]
        await (self.remove(namespaces) if options.force_deploy else self._ended(namespaces, only_going=True))
        for item in wanted:
            if await self._cluster.create(item) and item["kind"] in _SHOWN:
                self._say("✨", f"Deploying {_SHOWN[item['kind']]} {_key(item)}...")
        for item in wanted:
            if item["kind"] in ("Deployment", "DaemonSet"):
                self._say("⌛", f"Waiting for {_SHOWN[item['kind']]} {_key(item)} to become ready...")
                await self._rolled_out(item)
        found = await self._actors(features, ccnp=ccnp)
        await self._settle(found)
        return found

    async def remove(self, namespaces: Sequence[str]) -> None:
        """Namespaces, and all that is in them."""
        for name in namespaces:
            if await self._cluster.delete({"kind": "Namespace", "metadata": {"name": name}}):
                self._say("🔥", f"Deleting namespace {name}...")
        await self._ended(namespaces)

    async def _ended(self, namespaces: Sequence[str], *, only_going: bool = False) -> None:
        """`only_going`: of those that somebody has deleted; nothing can be made in them any more."""

        async def left() -> str:
            found = [one for name in namespaces if (one := await self._cluster.find("Namespace", name))]
            kept = [one["metadata"] for one in found if not only_going or "deletionTimestamp" in one["metadata"]]
            return ", ".join(metadata["name"] for metadata in kept)

        await until(left, self._options.patience, "the end of namespaces")

    async def _actors(self, features: Features, *, ccnp: bool) -> Actors:
        namespace = self._options.namespace
        pods = [cast.pod(item) for item in await self._cluster.pods(namespace)]
        services = [
            cast.service(item) for item in await self._cluster.objects(f"/api/v1/namespaces/{namespace}/services")
        ]
        others = [pod for space in CCNP_NAMESPACES for pod in await self._cluster.pods(space)] if ccnp else []

        def of(kind: str) -> tuple[Pod, ...]:
            return tuple(sorted((pod for pod in pods if pod.labels.get("kind") == kind), key=lambda pod: pod.name))

        return replace(
            self._bare,
            clients=of("client"),
            echoes=of("echo"),
            hosts=of("host-netns"),
            services=tuple(sorted(services, key=lambda service: service.name)),
            ccnp=tuple(map(cast.pod, others)),
            families=features.families,
        )

    # -- waits ----------------------------------------------------------------------------------------------------

    async def _rolled_out(self, item: Object) -> None:
        metadata = item["metadata"]

        async def missing() -> str:
            found = await self._cluster.find(item["kind"], metadata["name"], metadata["namespace"])
            if found is None:
                return "it is gone"
            if _complete(found):
                return ""
            labels = ",".join(f"{key}={value}" for key, value in item["spec"]["selector"]["matchLabels"].items())
            return _why(await self._cluster.pods(metadata["namespace"], labels))

        await until(missing, self._options.patience, f"{_SHOWN[item['kind']]} {_key(item)}")

    async def _settle(self, found: Actors) -> None:
        """Identities, names and Services are known where they are asked for. What is not in time is told: a policy that
        somebody else has put there may stand in the way, and the tests say more of it."""
        pods = (*found.clients, *found.echoes, *found.ccnp)
        lookups = [(pod, name, server) for pod in found.clients for name, server in _names(found)]
        ports = [
            (address, service.node_port)
            for service in found.services
            for node in found.nodes if node.cilium
            for kind, address in node.addresses
            if kind == "InternalIP" and cast.family_of(address) in service.addresses
        ]  # fmt: skip
        waits: list[tuple[str, Callable[[], Iterable[Awaitable[str]]]]] = [
            ("Cilium endpoints of pods", lambda: map(self._endpoint, pods)),
            ("names in pods", lambda: (self._resolved(*one) for one in lookups)),
            ("Services in agents", lambda: (self._served(agent, found.services) for agent in found.agents)),
            ("pods in the ipcaches of agents", lambda: (self._cached(agent, pods) for agent in found.agents)),
            ("node ports", lambda: (self._open(found.clients[0], *one) for one in ports)),
        ]
        for what, calls in waits:
            await self._within(what, calls)

    async def _within(self, what: str, calls: Callable[[], Iterable[Awaitable[str]]]) -> None:
        self._say("⌛", f"Waiting for {what}...")
        try:
            await until(lambda: everywhere(calls()), SETTLED, what)
        except SuiteError as error:
            self._say("⚠️ ", str(error))

    async def _endpoint(self, pod: Pod) -> str:
        path = f"/apis/cilium.io/v2/namespaces/{pod.namespace}/ciliumendpoints"
        names = {item["metadata"]["name"]: item for item in await self._cluster.objects(path)}
        identity = ((names.get(pod.name) or {}).get("status") or {}).get("identity") or {}
        return "" if identity.get("id", 0) > RESERVED else f"{pod} has no identity"

    async def _resolved(self, pod: Pod, name: str, server: str) -> str:
        done = await self._cluster.run(pod, ["nslookup", name, *([server] if server else [])])
        return "" if done.code == 0 else f"{pod}: nslookup {name} {server}: {done.words}"

    async def _served(self, agent: Pod, services: Iterable[Service]) -> str:
        rows = await self._cluster.document(agent, ("cilium", "service", "list", "-o", "json"))
        backends = {
            (row["spec"]["frontend-address"]["ip"], row["spec"]["frontend-address"]["port"])
            for row in rows
            if row["spec"].get("backend-addresses")
        }
        lacking = (
            f"{agent}: {service} has no backend at {address}"
            for service in services
            for address in service.addresses.values()
            if (address, HTTP_PORT) not in backends
        )
        return next(lacking, "")

    async def _cached(self, agent: Pod, pods: Iterable[Pod]) -> str:
        """`IDENTITY KEY ENDPOINT` of each address."""
        rows = await self._cluster.document(agent, ("cilium", "bpf", "ipcache", "list", "-o", "json"))
        known = {network.partition("/")[0]: int(entry[0].split()[0]) for network, entry in rows.items()}
        lacking = (
            f"{agent}: {address} of {pod} is not known"
            for pod in pods
            for address in pod.addresses.values()
            if known.get(address, 0) <= RESERVED
        )
        return next(lacking, "")

    async def _open(self, pod: Pod, address: str, port: int) -> str:
        done = await self._cluster.run(pod, ["nc", "-w", "3", "-z", address, str(port)])
        return "" if done.code == 0 else f"{pod}: {address} port {port}: {done.words}"

    def _say(self, sign: str, text: str) -> None:
        self._tell(Note(sign, text))


def _names(found: Actors) -> list[tuple[str, str]]:
    """Name and name server: the echo pods' own, and the cluster's."""
    own = [("localhost", next(iter(echo.addresses.values()))) for echo in found.echoes]
    return [*own, ("kubernetes.default", ""), *((service.name, "") for service in found.services)]


def _complete(item: Object) -> bool:
    status = item.get("status") or {}
    if status.get("observedGeneration", 0) < item["metadata"].get("generation", 0):
        return False
    if item.get("kind") == "DaemonSet" or "desiredNumberScheduled" in status:
        wanted = status.get("desiredNumberScheduled", 0)
        counts = [status.get(name, 0) for name in ("numberReady", "updatedNumberScheduled")]
        return bool(wanted) and counts == [wanted] * 2
    wanted = item["spec"].get("replicas", 1)
    counts = [status.get(name, 0) for name in ("updatedReplicas", "readyReplicas", "availableReplicas")]
    return counts == [wanted] * 3 and not status.get("unavailableReplicas")


def _why(pods: Sequence[Object]) -> str:
    """Of pods that are not ready, the reason of the first."""
    for pod in pods:
        status = pod.get("status") or {}
        for state in status.get("containerStatuses") or []:
            waiting = (state.get("state") or {}).get("waiting") or {}
            if waiting:
                return (
                    f"pod {pod['metadata']['name']}: {waiting.get('reason', '')} {waiting.get('message', '')}".strip()
                )
        for condition in status.get("conditions") or []:
            if condition["status"] != "True":
                said = condition.get("message") or condition["type"]
                return f"pod {pod['metadata']['name']}: {said}"
    return "its pods are not there yet" if not pods else "its pods are not ready yet"


def _key(item: Object) -> str:
    metadata = item["metadata"]
    return "/".join(filter(None, (metadata.get("namespace", ""), metadata["name"])))


async def look(cluster: Cluster, options: Options) -> Actors:
    """Nodes and agents, before anything is deployed. Raises SuiteError, ApiError, Unreachable."""
    found = await cluster.pods(options.cilium_namespace, options.agents)
    running = [item for item in found if (item.get("status") or {}).get("phase") == "Running"]
    if not running:
        where = f"namespace {options.cilium_namespace} with labels {options.agents}"
        raise SuiteError(f"no Cilium agent runs in {where}: cilium status tells more, -n takes another namespace")
    agents = tuple(sorted(map(_agent, running), key=lambda pod: pod.node))
    nodes = tuple(cast.node(item, agents) for item in await cluster.objects("/api/v1/nodes"))
    return Actors(clients=(), echoes=(), hosts=(), services=(), nodes=nodes, agents=agents)


def _agent(item: Object) -> Pod:
    return replace(cast.pod(item), container="cilium-agent")
