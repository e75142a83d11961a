"""The official Python client: typed and dynamic, watches, exec, server-side apply, tokens, leader election."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from scenario.kubelab.small_lab import Namespace

kubernetes = pytest.importorskip("kubernetes")

from kubernetes import client, dynamic, stream, watch  # noqa: E402 - skipped above where the client is missing
from kubernetes.client.exceptions import ApiException  # noqa: E402
from kubernetes.leaderelection import electionconfig, leaderelection  # noqa: E402
from kubernetes.leaderelection.resourcelock import leaselock  # noqa: E402

pytestmark = pytest.mark.scenario


@pytest.fixture
def api(kubeconfig: str) -> Iterator[Any]:
    with kubernetes.config.new_client_from_config(kubeconfig) as made:
        yield made


def with_token(api: Any, token: str) -> Any:
    """A client that shows this token and no certificate."""
    configuration = client.Configuration()
    configuration.host, configuration.ssl_ca_cert = api.configuration.host, api.configuration.ssl_ca_cert
    configuration.api_key = {"BearerToken": f"Bearer {token}"}
    return client.ApiClient(configuration)


def pod(name: str, script: str) -> dict[str, Any]:
    container = {"name": "c", "image": "test", "command": ["sh", "-c", script]}
    return {"metadata": {"name": name}, "spec": {"containers": [container], "terminationGracePeriodSeconds": 1}}


def test_pods_are_watched_read_and_entered(api: Any, space: Namespace) -> None:
    core = client.CoreV1Api(api)
    version = core.list_namespaced_pod(space.name).metadata.resource_version
    core.create_namespaced_pod(space.name, pod("p", "echo said; exec sleep 10000"))
    watcher, phases = watch.Watch(), []
    for event in watcher.stream(core.list_namespaced_pod, space.name, resource_version=version, timeout_seconds=30):
        phases.append((event["type"], event["object"].status.phase))
        if event["object"].status.phase == "Running":
            watcher.stop()
    assert phases[0] == ("ADDED", "Pending")
    assert phases[-1] == ("MODIFIED", "Running")
    assert "said" in core.read_namespaced_pod_log("p", space.name)
    command = {"command": ["cat", "/var/run/secrets/kubernetes.io/serviceaccount/namespace"], "stdout": True}
    assert stream.stream(core.connect_get_namespaced_pod_exec, "p", space.name, **command) == space.name
    entered = stream.stream(
        core.connect_get_namespaced_pod_exec, "p", space.name, command=["sh", "-c", "read x; echo got $x; exit 3"],
        stdin=True, stdout=True, stderr=True, _preload_content=False,
    )  # fmt: skip
    entered.write_stdin("this\n")
    entered.run_forever(timeout=10)
    assert (entered.read_stdout(), entered.returncode) == ("got this\n", 3)


def test_server_side_apply_by_the_dynamic_client(api: Any, space: Namespace) -> None:
    deployments = dynamic.DynamicClient(api).resources.get(api_version="apps/v1", kind="Deployment")
    template = {"metadata": {"labels": {"app": "a"}}, "spec": {"containers": [{"name": "c", "image": "test"}]}}
    spec = {"replicas": 0, "selector": {"matchLabels": {"app": "a"}}, "template": template}
    manifest = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a"}, "spec": spec}
    made = deployments.server_side_apply(manifest, namespace=space.name, field_manager="one")
    assert made.metadata.managedFields[0].manager == "one"
    other = {**manifest, "spec": {**spec, "replicas": 1}}
    with pytest.raises(ApiException) as refused:
        deployments.server_side_apply(other, namespace=space.name, field_manager="two")
    assert refused.value.status == 409
    forced = deployments.server_side_apply(other, namespace=space.name, field_manager="two", force_conflicts=True)
    assert forced.spec.replicas == 1
    assert [d.metadata.name for d in deployments.get(namespace=space.name, label_selector="").items] == ["a"]


def test_an_account_does_what_its_roles_say(api: Any, space: Namespace) -> None:
    core, rbac = client.CoreV1Api(api), client.RbacAuthorizationV1Api(api)
    core.create_namespaced_service_account(space.name, {"metadata": {"name": "robot"}})
    request = {"spec": {"audiences": [], "expirationSeconds": 900}}
    token = core.create_namespaced_service_account_token("robot", space.name, request).status.token
    with with_token(api, token) as limited:
        mine = client.CoreV1Api(limited)
        with pytest.raises(ApiException, match=r'cannot list resource \\"pods\\" in API group \\"\\"'):
            mine.list_namespaced_pod(space.name)
        rules = [{"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]}]
        rbac.create_namespaced_role(space.name, {"metadata": {"name": "lists"}, "rules": rules})
        subject = {"kind": "ServiceAccount", "name": "robot", "namespace": space.name}
        reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "lists"}
        bound = {"metadata": {"name": "lists"}, "roleRef": reference, "subjects": [subject]}
        rbac.create_namespaced_role_binding(space.name, bound)
        assert mine.list_namespaced_pod(space.name).items == []
        with pytest.raises(ApiException) as refused:
            mine.list_pod_for_all_namespaces()
        assert refused.value.status == 403
        core.delete_namespaced_service_account("robot", space.name)
        with pytest.raises(ApiException) as gone:
            mine.list_namespaced_pod(space.name)
        assert gone.value.status == 401


def test_a_leader_is_elected_over_a_lease(api: Any, space: Namespace, kubeconfig: str) -> None:
    kubernetes.config.load_kube_config(kubeconfig)
    leads = threading.Event()
    lock = leaselock.LeaseLock("leader", space.name, "me")
    config = electionconfig.Config(
        lock, lease_duration=4, renew_deadline=3, retry_period=1, onstarted_leading=leads.set, onstopped_leading=None
    )
    threading.Thread(target=leaderelection.LeaderElection(config).run, daemon=True).start()
    assert leads.wait(20)
    lease = client.CoordinationV1Api(api).read_namespaced_lease("leader", space.name)
    assert lease.spec.holder_identity == "me"
