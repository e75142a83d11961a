"""The CNI plugin under a real container runtime: containerd and runc, told over CRI what a kubelet tells them."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any
from uuid import uuid4

import pytest
from scenario.cluster import Cluster, CommandError, client, curl
from scenario.cri.containerd import Containerd, Sandbox, lacks
from scenario.node import LabNode

from kubelab.lab import state

pytestmark = pytest.mark.scenario
NS, NODE = "cri", "node3"
PLUGIN = "/opt/cni/bin/cilium-cni"


@pytest.fixture(scope="module")
def node(tunnel: Cluster) -> LabNode:
    return LabNode(tunnel, NODE)


class Agent:
    """The node's agent while there is no kubelet: killed and started by the test."""

    def __init__(self, node: LabNode) -> None:
        self._node = node
        self._process: subprocess.Popen[bytes] | None = None

    def kill(self) -> None:
        self._node.kill_agent()
        if self._process is not None:
            self._process.wait()

    def restart(self) -> None:
        with suppress(AssertionError):
            self.kill()
        self._process = self._node.start_agent()


@pytest.fixture(scope="module")
def agent(runtime: Containerd, node: LabNode) -> Iterator[Agent]:
    made = Agent(node)
    yield made
    made.kill()  # the kubelet, back again, starts its own


@pytest.fixture(scope="module")
def runtime(tunnel: Cluster, node: LabNode, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Containerd]:
    """containerd in the kubelet's place: the kubelet of this node is away, so that nobody else runs its pods."""
    if reason := lacks():
        pytest.skip(reason)
    with tunnel.namespace(NS):
        for name, role in (("friend", "friend"), ("stranger", "stranger")):
            manifest = client(name, "node1", role=role)
            manifest["metadata"]["namespace"] = NS
            tunnel.apply(manifest)
        tunnel.wait_ready(NS)
        with node.without_kubelet():
            started = Containerd(state.paths(tunnel.name).space(NODE), tmp_path_factory.mktemp("cri"))
            try:
                yield started
            finally:
                started.close()
                tunnel.kubectl("-n", NS, "delete", "pods", "--field-selector", f"spec.nodeName={NODE}", "--force")
    node.await_agent()


@pytest.fixture
def pod(tunnel: Cluster, runtime: Containerd) -> Iterator[dict[str, Any]]:
    """A Pod of the API that only our runtime will run: the agent knows its labels from here."""
    name = f"sandbox-{uuid4().hex[:6]}"
    manifest = client(name, NODE, group="sandbox")
    manifest["metadata"]["namespace"] = NS
    tunnel.apply(manifest)
    yield tunnel.get("-n", NS, "pod", name)
    tunnel.kubectl("-n", NS, "delete", "pod", name, "--force", "--grace-period=0")


@pytest.fixture
def run(runtime: Containerd, pod: dict[str, Any]) -> Iterator[Callable[..., Sandbox]]:
    """Runs sandboxes of the pod, and takes away those that a test leaves."""
    made: list[Sandbox] = []

    def start(attempt: int = 0) -> Sandbox:
        made.append(runtime.run_sandbox(pod, attempt=attempt))
        return made[-1]

    yield start
    for sandbox in made:
        runtime.stop_sandbox(sandbox)
        runtime.remove_sandbox(sandbox)


class Plugin:
    """The plugin called by hand for an attachment that containerd has made, with what libcni remembers of it."""

    def __init__(self, node: LabNode, sandbox: Sandbox) -> None:
        self._node, self._sandbox = node, sandbox
        cached = f"/var/lib/cni/results/cilium-{sandbox.id}-eth0"
        self._cache = json.loads(node.cluster.node(node.name, "cat", cached))

    def call(self, command: str, *, check: bool = True, netns: str | None = None, **config: Any) -> str:
        arguments = ";".join("=".join(pair) for pair in self._cache["cniArgs"])
        environment = {
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": self._sandbox.id,
            "CNI_NETNS": self._sandbox.netns if netns is None else netns,
            "CNI_IFNAME": "eth0",
            "CNI_ARGS": arguments,
        }
        document = {"cniVersion": "1.1.0", "name": "cilium", "type": "cilium-cni", **config}
        words = [f"{name}={value}" for name, value in environment.items()]
        cluster = self._node.cluster
        return cluster.node(self._node.name, "env", *words, PLUGIN, stdin=json.dumps(document), check=check)

    @property
    def result(self) -> Any:
        return self._cache["result"]


def reaches(cluster: Cluster, source: str, sandbox: Sandbox, version: int) -> bool:
    return cluster.exec(NS, source, *curl(sandbox.addresses[version]), check=False) == "sandbox\n"


def expect(cluster: Cluster, source: str, sandbox: Sandbox, *, reached: bool) -> None:
    for version in (4, 6):
        cluster.eventually(
            lambda version=version: reaches(cluster, source, sandbox, version) is reached,
            f"{source} {'reaches' if reached else 'does not reach'} the sandbox over IPv{version}",
        )


def endpoint_of(cluster: Cluster, pod: dict[str, Any]) -> dict[str, Any]:
    found = cluster.get("-n", NS, "ciliumendpoints", pod["metadata"]["name"])
    return dict(found["status"])


def test_a_sandbox_gets_addresses_identity_and_policy(
    tunnel: Cluster, node: LabNode, pod: dict[str, Any], run: Callable[..., Sandbox]
) -> None:
    sandbox = run()
    assert set(sandbox.addresses) == {4, 6}
    rows = node.rows()
    assert all(address in rows for address in sandbox.addresses.values()), "the datapath holds both addresses"
    status = tunnel.eventually(lambda: endpoint_of(tunnel, pod), "the CiliumEndpoint")
    assert "k8s:group=sandbox" in status["identity"]["labels"]
    expect(tunnel, "friend", sandbox, reached=True)
    expect(tunnel, "stranger", sandbox, reached=True)
    tunnel.apply(
        {
            "apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy",
            "metadata": {"name": "friends", "namespace": NS},
            "spec": {"endpointSelector": {"matchLabels": {"group": "sandbox"}},
                     "ingress": [{"fromEndpoints": [{"matchLabels": {"role": "friend"}}]}]},
        }
    )  # fmt: skip
    expect(tunnel, "stranger", sandbox, reached=False)
    expect(tunnel, "friend", sandbox, reached=True)
    tunnel.kubectl("-n", NS, "delete", "cnp", "friends")
    expect(tunnel, "stranger", sandbox, reached=True)


def test_a_policy_holds_from_the_first_packet(tunnel: Cluster, run: Callable[..., Sandbox]) -> None:
    tunnel.apply(
        {
            "apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy",
            "metadata": {"name": "closed", "namespace": NS},
            "spec": {"endpointSelector": {"matchLabels": {"group": "sandbox"}}, "ingress": [{}]},
        }
    )  # fmt: skip
    try:
        sandbox = run()
        for version in (4, 6):
            assert not reaches(tunnel, "friend", sandbox, version)
    finally:
        tunnel.kubectl("-n", NS, "delete", "cnp", "closed")
    expect(tunnel, "friend", sandbox, reached=True)


def test_stop_and_remove_take_everything_away_and_may_be_repeated(
    tunnel: Cluster, node: LabNode, runtime: Containerd, pod: dict[str, Any], run: Callable[..., Sandbox]
) -> None:
    sandbox = run()
    interface = Plugin(node, sandbox).result["interfaces"][0]["name"]
    tunnel.node(NODE, "ip", "link", "show", interface)
    runtime.stop_sandbox(sandbox)
    rows = node.rows()
    assert not any(address in rows for address in sandbox.addresses.values())
    assert sandbox.id not in [endpoint["container_id"] for endpoint in node.endpoints()]
    with pytest.raises(CommandError, match="does not exist"):
        tunnel.node(NODE, "ip", "link", "show", interface)
    runtime.stop_sandbox(sandbox)
    runtime.remove_sandbox(sandbox)
    runtime.remove_sandbox(sandbox)
    tunnel.eventually(
        lambda: "NotFound" in tunnel.kubectl("-n", NS, "get", "cep", pod["metadata"]["name"], check=False),
        "the CiliumEndpoint is gone",
    )


def test_a_late_stop_of_the_old_sandbox_leaves_the_new_one_alone(
    tunnel: Cluster, runtime: Containerd, run: Callable[..., Sandbox]
) -> None:
    old = run()
    new = run(attempt=1)
    runtime.stop_sandbox(old)
    runtime.remove_sandbox(old)
    expect(tunnel, "friend", new, reached=True)


def test_a_stop_while_the_agent_is_away_is_replayed(
    tunnel: Cluster, node: LabNode, agent: Agent, runtime: Containerd, run: Callable[..., Sandbox]
) -> None:
    sandbox, neighbour = run(), run(attempt=1)
    # The second replaced the first; what follows is about the second alone.
    assert not set(sandbox.addresses.values()) & node.rows().keys()
    agent.kill()
    for version in (4, 6):
        assert reaches(tunnel, "friend", neighbour, version), "the datapath does not need the agent"
    runtime.stop_sandbox(neighbour)
    runtime.remove_sandbox(neighbour)
    assert node.queued_deletes() == [f"{neighbour.id}.delete"]
    assert set(neighbour.addresses.values()) <= node.rows().keys(), "nobody has removed the rows yet"
    agent.restart()
    assert not set(neighbour.addresses.values()) & node.rows().keys()
    assert node.queued_deletes() == []
    assert neighbour.id not in [endpoint["container_id"] for endpoint in node.endpoints()]


def test_an_agent_restart_between_add_and_del(
    tunnel: Cluster, node: LabNode, agent: Agent, runtime: Containerd, run: Callable[..., Sandbox]
) -> None:
    sandbox = run()
    before = next(endpoint for endpoint in node.endpoints() if endpoint["container_id"] == sandbox.id)
    agent.restart()
    after = next(endpoint for endpoint in node.endpoints() if endpoint["container_id"] == sandbox.id)
    assert after == before
    Plugin(node, sandbox).call("CHECK")
    expect(tunnel, "friend", sandbox, reached=True)
    runtime.stop_sandbox(sandbox)
    assert not set(sandbox.addresses.values()) & node.rows().keys()


def test_check_names_what_is_missing(tunnel: Cluster, node: LabNode, run: Callable[..., Sandbox]) -> None:
    sandbox = run()
    plugin = Plugin(node, sandbox)
    plugin.call("CHECK", prevResult=plugin.result)
    inside = ["nsenter", f"--net={sandbox.netns}", "ip", "address"]
    address = f"{sandbox.addresses[6]}/128"
    tunnel.node(NODE, *inside, "del", address, "dev", "eth0")
    answer = json.loads(plugin.call("CHECK", check=False, prevResult=plugin.result))
    assert answer["code"] == 103
    assert sandbox.addresses[6] in answer["msg"]
    tunnel.node(NODE, *inside, "add", address, "dev", "eth0", "nodad")
    plugin.call("CHECK", prevResult=plugin.result)


def test_a_repeated_add_gives_the_same_answer(node: LabNode, run: Callable[..., Sandbox]) -> None:
    sandbox = run()
    answer = json.loads(Plugin(node, sandbox).call("ADD"))
    assert {entry["address"].partition("/")[0] for entry in answer["ips"]} == set(sandbox.addresses.values())


def test_delete_without_a_namespace_and_of_the_unknown(node: LabNode, run: Callable[..., Sandbox]) -> None:
    sandbox = run()
    plugin = Plugin(node, sandbox)
    plugin.call("DEL", netns="")
    assert not set(sandbox.addresses.values()) & node.rows().keys()
    plugin.call("DEL", netns="")
    answer = json.loads(plugin.call("CHECK", check=False))
    assert answer["code"] == 3


def test_collection_keeps_what_is_valid_and_takes_the_rest(node: LabNode, run: Callable[..., Sandbox]) -> None:
    sandbox = run()
    plugin = Plugin(node, sandbox)
    others = [
        {"containerID": endpoint["container_id"], "ifname": endpoint["container_ifname"]}
        for endpoint in node.endpoints()
        if endpoint["container_id"] != sandbox.id
    ]
    key = "cni.dev/valid-attachments"
    plugin.call("GC", **{key: [*others, {"containerID": sandbox.id, "ifname": "eth0"}]})
    assert set(sandbox.addresses.values()) <= node.rows().keys()
    plugin.call("GC", **{key: others})
    assert not set(sandbox.addresses.values()) & node.rows().keys()


def test_status_and_errors_are_told_as_the_specification_says(
    tunnel: Cluster, node: LabNode, agent: Agent, run: Callable[..., Sandbox]
) -> None:
    plugin = Plugin(node, run())
    assert plugin.call("STATUS") == ""
    agent.kill()
    answer = json.loads(plugin.call("STATUS", check=False))
    assert answer["code"] == 50
    assert "agent" in answer["msg"]
    agent.restart()
    answer = json.loads(plugin.call("STATUS", check=False, cniVersion="9.9.9"))
    assert answer["code"] == 1
