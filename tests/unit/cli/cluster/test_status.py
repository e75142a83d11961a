"""`cilium status`: what it says of a cluster, and when it is not content."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result
from unit.sources.kubernetes.fake_api import FakeAPI

from cilium.cli.cluster.main import main

APPS = "/apis/apps/v1/namespaces/kube-system"
PODS = "/api/v1/namespaces/kube-system/pods"
POLICIES = "/apis/cilium.io/v2/ciliumnetworkpolicies"


def pod(name: str, labels: dict[str, str], *, ready: bool = True, waiting: str = "", restarts: int = 0) -> Any:
    state = {"waiting": {"reason": waiting}} if waiting else {"running": {}}
    statuses = {"ready": ready, "restartCount": restarts, "state": state}
    return {
        "metadata": {"name": name, "namespace": "kube-system", "labels": labels},
        "spec": {"nodeName": "n1"},
        # Pending: the status command asks running agents for their errors, by a WebSocket.
        "status": {"phase": "Pending", "containerStatuses": [statuses]},
    }


class Cluster:
    """An API server with what the command reads."""

    def __init__(self, api: FakeAPI, path: Path) -> None:
        self._api, self._path = api, path
        api.objects |= {f"{APPS}/daemonsets": {}, f"{APPS}/deployments": {}}

    async def install(self, *, wanted: int = 1, ready: int = 1, operators: int = 1, agent: Any = None) -> None:
        daemon_set = {"status": {"desiredNumberScheduled": wanted, "numberReady": ready}}
        await self._api.put(f"{APPS}/daemonsets", "cilium", daemon_set)
        deployment = {"status": {"replicas": 1, "readyReplicas": operators}}
        await self._api.put(f"{APPS}/deployments", "cilium-operator", deployment)
        await self._api.put(PODS, "kube-system/cilium-1", agent or pod("cilium-1", {"k8s-app": "cilium"}))
        await self._api.put(PODS, "kube-system/operator-1", pod("operator-1", {"io.cilium/app": "operator"}))
        await self._api.put(PODS, "kube-system/dns", pod("dns", {"k8s-app": "kube-dns"}, ready=False))

    async def put(self, collection: str, name: str, body: Any) -> None:
        await self._api.put(collection, name, body)

    async def status(self, *arguments: str) -> Result:
        config = {
            "current-context": "c",
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
            "clusters": [{"name": "c", "cluster": {"server": self._api.url}}],
        }
        self._path.write_text(yaml.safe_dump(config))
        command = ["status", "--kubeconfig", str(self._path), *arguments]
        return await asyncio.to_thread(CliRunner().invoke, main, command)


@pytest.fixture
async def cluster(tmp_path: Path) -> Any:
    async with FakeAPI() as api:
        yield Cluster(api, tmp_path / "kubeconfig")


async def test_a_cluster_that_is_well(cluster: Cluster) -> None:
    await cluster.install()
    answer = await cluster.status()
    assert answer.exit_code == 0, answer.output
    assert answer.output.splitlines()[:3] == [
        "KIND         NAME              DESIRED   READY",
        "DaemonSet    cilium            1         1",
        "Deployment   cilium-operator   1         1",
    ]
    assert answer.output.endswith("no errors\n")
    assert "dns" not in answer.output


@pytest.mark.parametrize(
    ("cluster_is", "expected"),
    [
        ({"wanted": 3, "ready": 2}, "DaemonSet    cilium            3         2"),
        ({"wanted": 0, "ready": 0}, "DaemonSet    cilium            0         0"),
        ({"operators": 0}, "Deployment   cilium-operator   1         0"),
        (
            {"agent": pod("cilium-1", {"k8s-app": "cilium"}, ready=False, waiting="CrashLoopBackOff", restarts=4)},
            "cilium: cilium-1: CrashLoopBackOff",
        ),
        (
            {"agent": pod("cilium-1", {"k8s-app": "cilium"}, ready=False, restarts=4)},
            "cilium-1     n1     Pending, not ready, 4 restart(s)",
        ),
    ],
)
async def test_what_is_not_ready_is_named(cluster: Cluster, cluster_is: dict[str, Any], expected: str) -> None:
    await cluster.install(**cluster_is)
    answer = await cluster.status()
    assert answer.exit_code == 1
    assert expected in answer.output


async def test_an_agent_whose_node_is_silent_is_not_asked(cluster: Cluster) -> None:
    agent = pod("cilium-1", {"k8s-app": "cilium"})
    agent["status"] |= {"phase": "Running", "conditions": [{"type": "Ready", "status": "False"}]}
    await cluster.install(wanted=1, ready=0, agent=agent)
    answer = await cluster.status()
    assert "cilium-1     n1     Running, not ready" in answer.output
    assert answer.output.splitlines()[-1] == "cilium: cilium-1: node n1 is not ready, nobody hears of it"


async def test_nothing_is_installed(cluster: Cluster) -> None:
    answer = await cluster.status("--wait", "--wait-duration", "0.01")
    assert answer.exit_code == 1
    assert "cilium: not installed in this namespace" in answer.output
    assert "cilium-operator: not installed in this namespace" in answer.output


async def test_policies_that_agents_refuse_are_told_but_are_no_failure(cluster: Cluster) -> None:
    await cluster.install()
    condition = {"type": "Valid", "status": "False", "message": "spec.ingress[0]: no"}
    body = {"kind": "CiliumNetworkPolicy", "metadata": {"namespace": "shop"}, "status": {"conditions": [condition]}}
    await cluster.put(POLICIES, "shop/web", body)
    answer = await cluster.status()
    assert answer.exit_code == 0
    assert "CiliumNetworkPolicy shop/web: spec.ingress[0]: no" in answer.output


def test_no_cluster_at_all(tmp_path: Path) -> None:
    answer = CliRunner().invoke(main, ["status", "--kubeconfig", str(tmp_path / "absent")])
    assert answer.exit_code == 1
    assert f"cannot read {tmp_path / 'absent'}" in answer.output
