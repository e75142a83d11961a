"""Upstream's `cilium status` as it asks a cluster, and what its `connectivity test` finds out first.

Their documents can be decoded. The stage and scenarios of the latter, with the same commands and waits, are those of
our own `cilium connectivity test`: ../test_connectivity_suite.py.
"""

from __future__ import annotations

import pytest
from kubernetes.client import ApiextensionsV1Api, RbacAuthorizationV1Api
from kubernetes.client.exceptions import ApiException
from scenario.cluster import Cluster
from scenario.upstream_cli.replay import SYSTEM, Cli, until

pytestmark = pytest.mark.scenario


@pytest.fixture(scope="module")
def cli(tunnel: Cluster) -> Cli:
    return Cli(tunnel.environment["KUBECONFIG"])


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
