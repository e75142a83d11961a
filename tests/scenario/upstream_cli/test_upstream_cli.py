"""Upstream's `cilium status` and `cilium connectivity test` as they ask a cluster.

Their documents can be decoded, their stage stands, and their scenarios come out as they expect.
"""

from __future__ import annotations

import contextlib
import ipaddress
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pytest
from kubernetes.client import ApiextensionsV1Api, RbacAuthorizationV1Api
from kubernetes.client.exceptions import ApiException
from scenario.cluster import Cluster
from scenario.upstream_cli.objects import HOST_PORT, NAMESPACE, objects
from scenario.upstream_cli.replay import SYSTEM, Cli, curl, deployed, ping, until

pytestmark = pytest.mark.scenario
ANY_ERROR = -1
"""An expected code: the command fails, whatever with."""


@pytest.fixture(scope="module")
def cli(tunnel: Cluster) -> Cli:
    return Cli(tunnel.environment["KUBECONFIG"])


@dataclass
class Actors:
    """The stage once it stands."""

    cli: Cli
    pods: dict[str, Any]
    services: dict[str, Any]
    nodes: dict[str, dict[int, str]]
    hosts: dict[str, Any] = field(default_factory=dict)

    def ip(self, name: str, family: int) -> str:
        return next(e.ip for e in self.pods[name].status.pod_ips if ipaddress.ip_address(e.ip).version == family)

    def run(self, source: str, command: list[str]) -> int:
        pod = self.pods.get(source) or self.hosts[source]
        return self.cli.exec(NAMESPACE, pod.metadata.name, command).code


@pytest.fixture(scope="module")
def actors(cli: Cli) -> Iterator[Actors]:
    """deploy() and validateDeployment()."""
    for manifest in objects():
        cli.create(manifest)
    try:
        names = ("client", "client2", "client3", "echo-same-node", "echo-other-node")
        for name in names:
            until(lambda name=name: deployed(cli, name), f"deployment {name}", 60)
        pods = {name: cli.pods(f"name={name}")[0] for name in names}
        services = {one.metadata.name: one for one in cli.core.list_namespaced_service(NAMESPACE).items}
        nodes = {
            node.metadata.name: {ipaddress.ip_address(e.address).version: e.address
                                 for e in node.status.addresses if e.type == "InternalIP"}
            for node in cli.core.list_node().items
        }  # fmt: skip
        until(lambda: len(cli.pods("name=host-netns")) == len(nodes), "daemonset host-netns")
        until(lambda: all(p.status.phase == "Running" for p in cli.pods("name=host-netns")), "daemonset host-netns")
        hosts = {f"host-{pod.spec.node_name}": pod for pod in cli.pods("name=host-netns")}
        made = Actors(cli, pods, services, nodes, hosts)
        wait(made)
        yield made
    finally:
        cli.core.delete_namespace(NAMESPACE)

        def gone() -> bool:
            with contextlib.suppress(ApiException):
                cli.core.read_namespace(NAMESPACE)
                return False
            return True

        until(gone, "the namespace disappears", 60)


def wait(actors: Actors) -> None:
    """WaitForCiliumEndpoint, WaitForPodDNS, WaitForCoreDNS, WaitForService, …Endpoints, WaitForNodePorts, …IPCache."""
    cli = actors.cli
    for name, pod in actors.pods.items():
        place = ("cilium.io", "v2", NAMESPACE, "ciliumendpoints", pod.metadata.name)
        endpoint = until(lambda place=place: cli.custom.get_namespaced_custom_object(*place), f"endpoint of {name}")
        assert endpoint["status"]["identity"]["id"] > 255
    clients = [name for name in actors.pods if name.startswith("client")]
    for name in clients:
        for echo in ("echo-same-node", "echo-other-node"):
            lookup = ["nslookup", "localhost", actors.pods[echo].status.pod_ip]
            until(lambda name=name, lookup=lookup: actors.run(name, lookup) == 0, f"{name}: DNS server of {echo}")
        until(lambda name=name: actors.run(name, ["nslookup", "kubernetes.default"]) == 0, f"{name}: CoreDNS")
    for name, service in actors.services.items():
        wanted = f"Address: {service.spec.cluster_ip}\n"
        until(lambda name=name, wanted=wanted: wanted in looked_up(actors, name), f"name of service {name}")
        for agent in cli.agents():
            until(lambda agent=agent, service=service: served(cli, agent, service), f"{name} at {agent.metadata.name}")
        port = str(service.spec.ports[0].node_port)
        for node in actors.nodes.values():
            open_port = ["nc", "-w", "3", "-z", node[4], port]
            until(lambda open_port=open_port: actors.run("client", open_port) == 0, f"node port of {name}")
    for agent in cli.agents():
        until(lambda agent=agent: cached(cli, agent, actors.pods.values()), "pods in the ipcache")


def looked_up(actors: Actors, name: str) -> str:
    pod = actors.pods["client"].metadata.name
    return actors.cli.exec(NAMESPACE, pod, ["nslookup", name]).stdout.replace("\r\n", "\n")


def served(cli: Cli, agent: Any, service: Any) -> bool:
    """checkServiceEndpoints: backends by the address of a frontend."""
    found = {
        (each["spec"]["frontend-address"]["ip"], each["spec"]["frontend-address"]["port"]): len(
            each["spec"]["backend-addresses"]
        )
        for each in cli.in_agent(agent, "cilium", "service", "list", "--output=json").document
    }
    return all(found.get((ip, 8080), 0) >= 1 for ip in service.spec.cluster_ips)


def cached(cli: Cli, agent: Any, pods: Any) -> bool:
    """validateIPCache: `IDENTITY KEY ENDPOINT` of every pod, and not a reserved identity."""
    entries = cli.in_agent(agent, "cilium", "bpf", "ipcache", "list", "-o", "json").document
    addresses = [str(ipaddress.ip_network(pod.status.pod_ip)) for pod in pods]
    return all(address in entries and int(entries[address][0].split()[0]) > 255 for address in addresses)


# -- cilium status ------------------------------------------------------------------------------------------------


def test_status(cli: Cli) -> None:
    """status/k8s.go: no error and no warning is left over."""
    agents = cli.apps.read_namespaced_daemon_set_status("cilium", SYSTEM)
    status = agents.status
    assert status.desired_number_scheduled == status.number_ready == status.number_available > 0
    assert not status.number_unavailable
    assert agents.metadata.generation == status.observed_generation
    assert status.updated_number_scheduled == status.desired_number_scheduled
    operator = cli.apps.read_namespaced_deployment_status("cilium-operator", SYSTEM)
    assert operator.status.replicas == operator.status.ready_replicas == operator.status.updated_replicas
    assert cli.core.list_namespaced_pod(SYSTEM, label_selector="name=cilium-operator").items
    for absent in ("hubble-relay", "hubble-ui", "clustermesh-apiserver"):
        with pytest.raises(ApiException) as refused:
            cli.apps.read_namespaced_deployment(absent, SYSTEM)
        assert refused.value.status == 404
    with pytest.raises(ApiException) as refused:
        cli.apps.read_namespaced_daemon_set("cilium-envoy", SYSTEM)
    assert refused.value.status == 404
    settings = cli.core.read_namespaced_config_map("cilium-config", SYSTEM)
    assert not any(key.startswith("config.cilium.io/") for key in settings.metadata.annotations or {})
    managed = {
        (item["metadata"]["namespace"], item["metadata"]["name"])
        for item in cli.custom.list_cluster_custom_object("cilium.io", "v2", "ciliumendpoints")["items"]
    }
    running = [pod for pod in cli.core.list_pod_for_all_namespaces().items if not pod.spec.host_network]
    until(lambda: {(p.metadata.namespace, p.metadata.name) for p in running} <= managed, "all pods are managed", 1)
    for pod in cli.agents():
        assert next(one for one in pod.status.container_statuses if one.name == "cilium-agent").state.running
        document = cli.in_agent(pod, "cilium", "status", "-o", "json").document
        for part in ("cilium", "kubernetes", "hubble"):
            assert document[part]["state"] == "Ok", document[part]
        assert document["cluster"]["ciliumHealth"]["state"] == "Ok"
        failing = [one for one in document["controllers"] if one["status"]["consecutive-failure-count"]]
        assert not failing
        for endpoint in cli.in_agent(pod, "cilium", "endpoint", "list", "-o", "json").document:
            assert endpoint["status"]["state"] == "ready"
            assert endpoint["status"]["health"]["overallHealth"] == "OK"


def test_features(cli: Cli) -> None:
    """check/features.go: what the suite finds out before it chooses its tests."""
    settings = cli.core.read_namespaced_config_map("cilium-config", SYSTEM).data
    assert settings["enable-ipv4"] == settings["enable-ipv6"] == "true"
    assert settings["routing-mode"] == "tunnel"
    assert settings["tunnel-protocol"] == "vxlan"
    assert settings["cluster-name"]
    for name in ("ciliumnetworkpolicies.cilium.io", "ciliumclusterwidenetworkpolicies.cilium.io"):
        assert ApiextensionsV1Api(cli.api).read_custom_resource_definition(name)
    assert RbacAuthorizationV1Api(cli.api).read_cluster_role("cilium").rules
    assert cli.custom.list_cluster_custom_object("cilium.io", "v2", "ciliumnodes")["items"]
    for pod in cli.agents():
        version = cli.in_agent(pod, "cilium", "version", "-o", "jsonpath={$.Daemon.Version}").stdout
        assert [int(part) for part in version.strip().partition("-")[0].split(".")] == [1, 20, 0]
        runtime = cli.in_agent(pod, "cat", "/var/run/cilium/state/agent-runtime-config.json").document
        assert runtime["EnableK8sNetworkPolicy"] is runtime["EnableICMPRules"] is True
        status = cli.in_agent(pod, "cilium", "status", "-o", "json").document
        assert "proxy" not in status
        replacement = status["kube-proxy-replacement"]
        assert replacement["mode"] == "True"
        assert all(replacement["features"][name]["enabled"] for name in ("nodePort", "hostPort", "socketLB"))
        assert isinstance(replacement["features"]["annotations"], list)
        assert status["encryption"]["mode"] == "Disabled"
        assert status["cni-chaining"]["mode"] == "none"


# -- cilium connectivity test -------------------------------------------------------------------------------------

CLIENTS, ECHOES = ("client", "client2", "client3"), ("echo-same-node", "echo-other-node")
Action = tuple[str, list[str], int]
"""From whom, what, exit code."""


def expect(actors: Actors, actions: list[Action]) -> None:
    """All at once; the suite's own commands, so a refusal takes curl's 2 s."""
    with ThreadPoolExecutor(16) as pool:
        codes = list(pool.map(lambda action: actors.run(action[0], action[1]), actions))
    wrong = [
        f"{source}: {' '.join(command)}: exit {code}, expected {wanted}"
        for (source, command, wanted), code in zip(actions, codes, strict=True)
        if (code == 0 if wanted == ANY_ERROR else code != wanted)
    ]
    assert not wrong, "\n".join(wrong)


def pod_to_pod(actors: Actors, refused: Any = lambda source, target: False) -> list[Action]:
    return [
        (source, curl(actors.ip(echo, family), 8080), 28 if refused(source, echo) else 0)
        for source in CLIENTS
        for echo in ECHOES
        for family in (4, 6)
    ]


def client_to_client(actors: Actors, code: int = 0) -> list[Action]:
    return [
        (source, ping(actors.ip(target, family)), code)
        for source in CLIENTS
        for target in CLIENTS
        for family in (4, 6)
        if source != target
    ]


def test_no_policies(actors: Actors) -> None:
    """pod-to-pod, client-to-client, pod-to-service, -host, -hostport, -nodeport, -world; host-to-pod."""
    actions = [*pod_to_pod(actors), *client_to_client(actors)]
    actions += [(source, curl(echo, 8080), 0) for source in CLIENTS for echo in ECHOES]
    for source in CLIENTS:
        actions += [(source, ping(ip), 0) for node in actors.nodes.values() for ip in node.values()]
    for echo in ECHOES:
        own = actors.nodes[actors.pods[echo].spec.node_name]
        actions += [("client", curl(ip, HOST_PORT), 0) for ip in own.values()]
        port = actors.services[echo].spec.ports[0].node_port
        actions += [("client2", curl(ip, port), 0) for node in actors.nodes.values() for ip in node.values()]
        actions += [(host, curl(actors.ip(echo, family), 8080), 0) for host in actors.hosts for family in (4, 6)]
    actions += [(source, curl("web.world.test", 80), 0) for source in CLIENTS]
    expect(actors, actions)


def cnp(name: str, selector: dict[str, str], **rules: Any) -> dict[str, Any]:
    spec = {"endpointSelector": {"matchLabels": selector} if selector else {}, **rules}
    return {"apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy",
            "metadata": {"name": name, "namespace": NAMESPACE}, "spec": spec}  # fmt: skip


CLIENT, CLIENT2, ECHO = {"kind": "client"}, {"other": "client"}, {"kind": "echo"}
WEB = [{"ports": [{"port": "8080", "protocol": "TCP"}]}]
TO_ECHO = {"toEndpoints": [{"matchLabels": ECHO}], "toPorts": WEB}
ALLOW_ALL = cnp("allow-all", {}, egress=[{"toEntities": ["all"]}], ingress=[{"fromEntities": ["all"]}])
KNP_DENY = {
    "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
    "metadata": {"name": "all-ingress-deny", "namespace": NAMESPACE},
    "spec": {"podSelector": {}, "policyTypes": ["Ingress"], "ingress": []},
}  # fmt: skip


@contextlib.contextmanager
def policies(cli: Cli, *manifests: dict[str, Any]) -> Iterator[None]:
    """Applied and deleted as the suite does, with its waits."""
    cli.changed(lambda: [cli.create(manifest) for manifest in manifests], len(manifests))
    try:
        yield
    finally:
        cli.changed(lambda: [cli.delete(manifest) for manifest in manifests], len(manifests))


def test_client_egress(actors: Actors) -> None:
    with policies(actors.cli, cnp("client-egress-to-echo", CLIENT, egress=[TO_ECHO])):
        expect(actors, [*pod_to_pod(actors), ("client", curl("web.world.test", 80), ANY_ERROR)])


def test_echo_ingress(actors: Actors) -> None:
    """From client2's kind only: client is refused at the echo pods."""
    allow = cnp("echo-ingress", ECHO, ingress=[{"fromEndpoints": [{"matchLabels": CLIENT2}], "toPorts": WEB}])
    with policies(actors.cli, allow):
        expect(actors, pod_to_pod(actors, lambda source, _: source == "client"))


def test_deny_beats_allow(actors: Actors) -> None:
    """client-egress-to-echo-deny: two policies in one step."""
    deny = cnp("client-egress-to-echo-deny", CLIENT2, egressDeny=[TO_ECHO])
    with policies(actors.cli, ALLOW_ALL, deny):
        expect(actors, [*pod_to_pod(actors, lambda source, _: source != "client"), *client_to_client(actors)])


def test_everything_denied(actors: Actors) -> None:
    """all-egress-deny also cuts names: the service is not found (6) or not in time (28)."""
    with policies(actors.cli, cnp("all-egress-deny", {}, egress=[{}])):
        by_name = ("client", curl("echo-other-node", 8080), ANY_ERROR)
        expect(actors, [*pod_to_pod(actors, lambda *_: True), by_name])
    with policies(actors.cli, KNP_DENY):
        expect(actors, pod_to_pod(actors, lambda *_: True))
