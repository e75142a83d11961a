"""Every component killed under traffic: nothing is lost, nothing is let through, and what changed meanwhile holds.

The agent, the operator, the kubelet and the control plane end by SIGKILL; traffic is started in pods' namespaces from
outside the API, so that it goes on whatever is away.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from scenario import traffic
from scenario.cluster import Cluster, addresses, client, curl, server
from scenario.node import AGENT, OPERATOR, LabNode
from scenario.traffic import Account, Traffic

pytestmark = pytest.mark.scenario
NS = "restart"
PORT = 8080
ENOUGH = 20
"""Exchanges and new connections that tell something."""
NODES = ("node1", "node2")
SERVERS = ("near", "far")


@pytest.fixture(scope="module")
def nodes(tunnel: Cluster) -> dict[str, LabNode]:
    return {name: LabNode(tunnel, name) for name in (*NODES, "node3")}


@pytest.fixture(scope="module")
def pods(tunnel: Cluster) -> Iterator[dict[str, Any]]:
    """Clients on node1, a server beside them and one on node2; friends may talk to servers, strangers may not."""
    with tunnel.namespace(NS):
        apply(tunnel, client("friend", "node1", role="friend"), client("stranger", "node1", role="stranger"),
              server("near", "node1", group="server"), server("far", "node2", group="server"))  # fmt: skip
        tunnel.wait_ready(NS)
        yield {item["metadata"]["name"]: item for item in tunnel.get("-n", NS, "pods")["items"]}


@pytest.fixture(autouse=True)
def policy(tunnel: Cluster, pods: dict[str, Any]) -> None:
    """Before every test the policy is as it was, and is enforced."""
    allow(tunnel, "friend")
    for target in SERVERS:
        for version in (4, 6):
            ip = addresses(pods[target])[version]
            tunnel.eventually(lambda ip=ip: answers(tunnel, "friend", ip), f"the friend reaches {target}")
            tunnel.eventually(lambda ip=ip: not answers(tunnel, "stranger", ip), f"the stranger not: {target}")


def apply(cluster: Cluster, *manifests: dict[str, Any]) -> None:
    for manifest in manifests:
        manifest["metadata"]["namespace"] = NS
    cluster.apply(*manifests)


def allow(cluster: Cluster, role: str) -> None:
    """The servers' whole policy: these clients, this port."""
    rule = {"fromEndpoints": [{"matchLabels": {"role": role}}],
            "toPorts": [{"ports": [{"port": str(PORT), "protocol": "TCP"}]}]}  # fmt: skip
    spec = {"endpointSelector": {"matchLabels": {"group": "server"}}, "ingress": [rule]}
    apply(cluster, {"apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy", "metadata": {"name": "servers"},
                    "spec": spec})  # fmt: skip


def answers(cluster: Cluster, source: str, ip: str) -> bool:
    return '"pod"' in cluster.exec(NS, source, *curl(ip, PORT), check=False)


def targets(pods: dict[str, Any]) -> list[str]:
    return [addresses(pods[target])[version] for target in SERVERS for version in (4, 6)]


def start(node: LabNode, pod: str, ips: list[str]) -> Traffic:
    """From the pod's namespace, by way of the node and not of the API."""
    netns = next(endpoint["netns"] for endpoint in node.endpoints() if endpoint["pod"] == pod)
    program = str(Path(traffic.__file__).resolve())
    command = ["nsenter", f"--net={netns}", sys.executable, program, str(PORT), *ips]
    return Traffic(node.lab.node_argv(node.name, command))


@contextmanager
def undisturbed(nodes: dict[str, LabNode], pods: dict[str, Any]) -> Iterator[dict[str, Account]]:
    """While the block runs the friend's connections all live and the stranger's all fail. Gives the accounts."""
    accounts: dict[str, Account] = {}
    friend, stranger = (start(nodes["node1"], pod, targets(pods)) for pod in ("friend", "stranger"))
    try:
        yield accounts
        accounts.update(friend.end(enough=ENOUGH))
        for ip, account in accounts.items():
            assert not account.broken, f"the connection to {ip} broke: {account}"
            assert not account.failed, f"new connections to {ip} failed: {account}"
            assert min(account.opened, account.exchanges) >= ENOUGH, f"too little traffic to tell: {account}"
        for ip, account in stranger.end().items():
            assert account.opened == account.exchanges == 0, f"the stranger came through to {ip}: {account}"
    finally:
        friend.kill()
        stranger.kill()


def pod_rows(node: LabNode) -> dict[str, dict[str, str]]:
    """The datapath's rows of pods, without the numbers of policies: those are the agent's own."""
    hidden = ("ingress-policy", "egress-policy")
    return {
        ip: {name: value for name, value in row.items() if name not in hidden}
        for ip, row in node.rows().items()
        if row["flags"] not in {"host", "health"}  # the agent makes its health endpoint anew
    }


# -- the agent ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NODES)
def test_agent_killed_under_traffic(
    tunnel: Cluster, nodes: dict[str, LabNode], pods: dict[str, Any], name: str
) -> None:
    node = nodes[name]
    endpoints, rows = node.endpoints(), pod_rows(node)
    identities = {item["metadata"]["name"]: item["status"]["identity"]["id"]
                  for item in tunnel.get("-n", NS, "ciliumendpoints")["items"]}  # fmt: skip
    with undisturbed(nodes, pods):
        for _ in range(2):
            node.kill_agent()
            node.await_agent()
    assert node.endpoints() == endpoints, "ids, addresses and interfaces stay"
    assert pod_rows(node) == rows
    after = {item["metadata"]["name"]: item["status"]["identity"]["id"]
             for item in tunnel.get("-n", NS, "ciliumendpoints")["items"]}  # fmt: skip
    assert after == identities


OTHER_LAYOUT = """
import os, sys
from cilium.datapath.generated.maps import MAPS
from cilium.datapath.libbpf import syscall
for name in sys.argv[1:]:
    path = "/sys/fs/bpf/tc/globals/" + name
    os.unlink(path)
    shape = MAPS[name].shape
    fd = syscall.map_create(name, shape._replace(value_size=shape.value_size + 8))
    syscall.pin(fd, path)
"""


def identities_of(node: LabNode) -> dict[str, tuple[str, str]]:
    """Without flags: that an endpoint came under a policy a moment ago may be forgotten."""
    return {ip: (row["identity"], row["ifindex"]) for ip, row in pod_rows(node).items()}


def test_maps_of_another_layout_under_traffic(tunnel: Cluster, nodes: dict[str, LabNode], pods: dict[str, Any]) -> None:
    """As after an upgrade: programs go on with the maps that they have until the new ones are full."""
    node = nodes["node2"]
    before = identities_of(node)
    pins = "/sys/fs/bpf/tc/globals"
    with undisturbed(nodes, pods):
        tunnel.node("node2", sys.executable, "-c", OTHER_LAYOUT, "cilium_policy")
        node.kill_agent()
        node.await_agent()
        tunnel.eventually(lambda: "refilling" not in tunnel.node("node2", "ls", pins), "the maps are full")
    assert "cilium_ipcache" in tunnel.node("node2", "ls", pins)
    logs = tunnel.kubectl("-n", "kube-system", "logs", tunnel.agent("node2"))
    for name in ("cilium_policy", "cilium_policy_class", "cilium_lxc", "cilium_ipcache"):
        assert any("map made anew" in line and name in line for line in logs.splitlines()), name
    assert "programs are replaced" in logs
    assert identities_of(node) == before
    flags = {ip: row["flags"] for ip, row in pod_rows(node).items()}
    assert not any("adopting" in each for each in flags.values()), f"nobody came under a policy by this: {flags}"
    ip = addresses(pods["far"])[4]
    tunnel.eventually(lambda: answers(tunnel, "friend", ip), "the friend reaches the server by the new maps")
    assert not answers(tunnel, "stranger", ip)


def test_while_the_agent_is_away(tunnel: Cluster, nodes: dict[str, LabNode], pods: dict[str, Any]) -> None:
    """Policy holds; pods that come wait, pods that go are gone afterwards, and a changed policy is enforced then."""
    node = nodes["node1"]
    apply(tunnel, server("leaving", "node1"))
    tunnel.wait_ready(NS)
    leaving = set(addresses(tunnel.get("-n", NS, "pod", "leaving")).values())
    assert leaving <= node.rows().keys()
    near = addresses(pods["near"])
    with node.without_agent():
        with undisturbed(nodes, pods):
            apply(tunnel, server("late", "node1", group="server"))
            tunnel.kubectl("-n", NS, "delete", "pod", "leaving", "--timeout=20s")
            assert leaving <= node.rows().keys(), "only an agent removes rows"
            assert node.queued_deletes(), "the DEL waits for the agent"
            status = tunnel.get("-n", NS, "pod", "late")["status"]
            assert not status.get("podIPs"), "no pod runs before its policy does"
        allow(tunnel, "stranger")
        far = addresses(pods["far"])
        tunnel.eventually(lambda: answers(tunnel, "stranger", far[4]), "node2 enforces the new policy")
        for version in (4, 6):
            assert answers(tunnel, "friend", near[version]), "node1 still enforces the old one"
            assert not answers(tunnel, "stranger", near[version])
    for version in (4, 6):
        tunnel.eventually(lambda version=version: answers(tunnel, "stranger", near[version]), "the new policy: in")
        tunnel.eventually(lambda version=version: not answers(tunnel, "friend", near[version]), "the new policy: out")
    tunnel.wait_ready(NS)
    late = addresses(tunnel.get("-n", NS, "pod", "late"))
    assert not (leaving - set(late.values())) & node.rows().keys()
    assert "leaving" not in [endpoint["pod"] for endpoint in node.endpoints()]
    assert node.queued_deletes() == []
    for version in (4, 6):
        assert answers(tunnel, "stranger", late[version])
        assert not answers(tunnel, "friend", late[version])
    tunnel.kubectl("-n", NS, "delete", "pod", "late", "--timeout=20s")


def test_an_add_in_flight_survives_the_agent(tunnel: Cluster, nodes: dict[str, LabNode], pods: dict[str, Any]) -> None:
    node = nodes["node1"]
    stopped = node.signal(AGENT, signal.SIGSTOP)
    try:
        apply(tunnel, server("flying", "node1", role="friend"))
        tunnel.eventually(lambda: node.pids("cilium-cni"), "the plugin asks an agent that does not answer")
    finally:
        node.kill_agent()
    assert not set(stopped) & set(node.pids(AGENT))
    node.await_agent()
    tunnel.wait_ready(NS, 40)
    flying = tunnel.get("-n", NS, "pod", "flying")
    assert [endpoint["pod"] for endpoint in node.endpoints()].count("flying") == 1
    for version in (4, 6):
        assert answers(tunnel, "flying", addresses(pods["far"])[version])
        assert answers(tunnel, "friend", addresses(flying)[version])
    tunnel.kubectl("-n", NS, "delete", "pod", "flying", "--timeout=20s")


def test_many_pods_while_the_agent_dies_again_and_again(
    tunnel: Cluster, nodes: dict[str, LabNode], pods: dict[str, Any]
) -> None:
    node = nodes["node1"]
    names = [f"churn-{number}" for number in range(6)]
    apply(tunnel, *(server(name, "node1", group="churn") for name in names))
    for _ in range(3):
        tunnel.eventually(lambda: node.pids(AGENT), "an agent")
        node.kill_agent()
    tunnel.wait_ready(NS, 60)
    node.await_agent()
    found = {item["metadata"]["name"]: addresses(item) for item in tunnel.get("-n", NS, "pods")["items"]}
    taken = [ip for entry in found.values() for ip in entry.values()]
    assert len(set(taken)) == len(taken), "no address is given twice"
    for name in names:
        for version in (4, 6):
            assert answers(tunnel, "friend", found[name][version])
    tunnel.kubectl("-n", NS, "delete", "pods", "--timeout=30s", *names)
    gone = {ip for name in names for ip in found[name].values()}
    tunnel.eventually(lambda: not gone & node.rows().keys(), "their rows are gone")
    assert not set(names) & {endpoint["pod"] for endpoint in node.endpoints()}


def test_a_changed_ipam_mode_is_refused_while_pods_run(
    tunnel: Cluster, nodes: dict[str, LabNode], pods: dict[str, Any]
) -> None:
    node = nodes["node1"]

    def set_mode(mode: str) -> None:
        tunnel.kubectl("-n", "kube-system", "patch", "configmap", "cilium-config", "--type=merge",
                       "-p", f'{{"data":{{"ipam":"{mode}"}}}}')  # fmt: skip

    def logs() -> str:
        return tunnel.kubectl("-n", "kube-system", "logs", tunnel.agent("node1"), check=False)

    with undisturbed(nodes, pods):
        set_mode("kubernetes")
        try:
            tunnel.eventually(lambda: kill_until(node, "ipam.mode: changed from cluster-pool", logs), "the refusal", 30)
            assert "drain the node" in logs()
        finally:
            set_mode("cluster-pool")
            node.forget_back_off()
        node.await_agent()


def kill_until(node: LabNode, text: str, logs: Any) -> bool:
    """The mounted configuration follows the API a moment later, so one start may still see the old one."""
    if text in logs():
        return True
    if node.ready():
        node.kill_agent()
    return False


def test_an_endpoint_object_that_somebody_deletes_comes_back(tunnel: Cluster, pods: dict[str, Any]) -> None:
    """At once, and not with the refresh."""
    before = tunnel.get("-n", NS, "ciliumendpoint", "far")
    tunnel.kubectl("-n", NS, "delete", "ciliumendpoint", "far")

    def back() -> bool:
        found = {item["metadata"]["name"]: item for item in tunnel.get("-n", NS, "ciliumendpoints")["items"]}
        again = found.get("far")
        return (
            again is not None
            and again["metadata"]["uid"] != before["metadata"]["uid"]
            and (again["status"] == before["status"])
        )

    tunnel.eventually(back, "the CiliumEndpoint is there again")


# -- the others ---------------------------------------------------------------------------------------------------


def test_operator_killed(tunnel: Cluster, nodes: dict[str, LabNode], pods: dict[str, Any]) -> None:
    def lease() -> dict[str, Any]:
        return dict(tunnel.get("-n", "kube-system", "lease", "cilium-operator-resource-lock")["spec"])

    def restarts() -> dict[str, int]:
        items = tunnel.get("-n", "kube-system", "pods", "-l", "k8s-app=cilium")["items"]
        return {item["metadata"]["name"]: item["status"]["containerStatuses"][0]["restartCount"] for item in items}

    home = next(node for node in nodes.values() if node.pids(OPERATOR))
    agents, before = restarts(), lease()
    with undisturbed(nodes, pods):
        home.signal(OPERATOR, signal.SIGKILL)
        tunnel.eventually(lambda: home.pids(OPERATOR), "the kubelet starts another")
        after = tunnel.eventually(
            lambda: (now := lease())["renewTime"] > before["renewTime"] and now.get("holderIdentity") and now,
            "the lease is held again", 40,
        )  # fmt: skip
    assert after["holderIdentity"]
    assert restarts() == agents, "agents do not notice"


def test_control_plane_killed(tunnel: Cluster, nodes: dict[str, LabNode], pods: dict[str, Any]) -> None:
    lab = nodes["node1"].lab
    rows = {name: pod_rows(node) for name, node in nodes.items()}
    with undisturbed(nodes, pods):
        lab.stop("control-plane", kill=True)
        try:
            for node in nodes.values():
                tunnel.eventually(
                    lambda node=node: "Failure" in node.dbg("status").splitlines()[0],
                    f"the agent of {node.name} says that the API server is away",
                )
            assert {name: pod_rows(node) for name, node in nodes.items()} == rows
        finally:
            lab.start_control_plane()
        assert {name: pod_rows(node) for name, node in nodes.items()} == rows
    allow(tunnel, "stranger")
    for ip in targets(pods):
        tunnel.eventually(lambda ip=ip: answers(tunnel, "stranger", ip), f"agents follow the API again: {ip}", 40)
        tunnel.eventually(lambda ip=ip: not answers(tunnel, "friend", ip), f"agents follow the API again: {ip}", 40)


def test_agent_started_without_an_api_server_keeps_the_datapath(
    tunnel: Cluster, nodes: dict[str, LabNode], pods: dict[str, Any]
) -> None:
    """Nothing is pruned before every source was heard, however long that takes."""
    node = nodes["node1"]
    node.forget_back_off()
    node.await_agent()
    rows = node.rows()
    with undisturbed(nodes, pods):
        node.lab.stop("control-plane", kill=True)
        try:
            killed = node.signal(AGENT, signal.SIGKILL)
            tunnel.eventually(lambda: set(node.pids(AGENT)) - set(killed), "another agent starts")
            tunnel.eventually(
                lambda: "waiting for the CiliumNodeConfigs" in node.dbg("status", check=False),
                "it waits for the API server",
            )
            assert node.rows() == rows
        finally:
            node.lab.start_control_plane()
        node.await_agent()
    assert pod_rows(node) == {ip: row for ip, row in pod_rows(node).items() if ip in rows}


def test_kubelet_killed(tunnel: Cluster, nodes: dict[str, LabNode], pods: dict[str, Any]) -> None:
    def containers() -> dict[str, tuple[str, int]]:
        items = tunnel.get("-n", NS, "pods")["items"]
        statuses = {item["metadata"]["name"]: item["status"]["containerStatuses"][0] for item in items}
        return {name: (status["containerID"], status["restartCount"]) for name, status in statuses.items()}

    before, endpoints = containers(), nodes["node1"].endpoints()
    with undisturbed(nodes, pods), nodes["node1"].without_kubelet():
        pass
    apply(tunnel, server("after", "node1", role="friend"))
    tunnel.wait_ready(NS)
    assert containers() | before == containers(), "pods were adopted, not started anew"
    tunnel.kubectl("-n", NS, "delete", "pod", "after", "--timeout=20s")
    # Without a grace period the object goes at once, what it stood for a moment later.
    tunnel.eventually(lambda: nodes["node1"].endpoints() == endpoints, "the endpoints are what they were")
