"""Controllers of rights: roles made of others, quotas' status, Secrets with tokens."""

from __future__ import annotations

import base64

from unit.kubelab.controllers.cluster import Cluster

from kubelab.controllers.manager import ControllerOptions

ROLES = "clusterroles.rbac.authorization.k8s.io"
SECRET_TYPE = "kubernetes.io/service-account-token"


async def test_a_role_follows_the_roles_it_is_made_of(cluster: Cluster) -> None:
    selector = {"matchLabels": {"to": "all"}}
    await cluster.store.create(
        ROLES, {"metadata": {"name": "all"}, "aggregationRule": {"clusterRoleSelectors": [selector]}}
    )
    rule = {"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}
    await cluster.store.create(ROLES, {"metadata": {"name": "part", "labels": {"to": "all"}}, "rules": [rule]})
    await cluster.settle()
    assert cluster.store.peek(ROLES, "all")["rules"] == [rule]
    await cluster.store.delete(ROLES, "part")
    await cluster.settle()
    assert cluster.store.peek(ROLES, "all")["rules"] == []


async def test_quotas_tell_what_is_used(cluster: Cluster) -> None:
    hard = {"configmaps": "5", "services.nodeports": "2", "requests.storage": "10Gi", "count/deployments.apps": "1"}
    await cluster.store.create(
        "resourcequotas", {"metadata": {"name": "q"}, "spec": {"hard": hard}}, namespace="default"
    )
    await cluster.store.create("configmaps", {"metadata": {"name": "c"}}, namespace="default")
    ports = [{"name": "a", "port": 80}, {"name": "b", "port": 81}]
    service = {"metadata": {"name": "s"}, "spec": {"type": "NodePort", "ports": ports}}
    await cluster.store.create("services", service, namespace="default")
    claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1536Mi"}}}
    await cluster.store.create(
        "persistentvolumeclaims", {"metadata": {"name": "v"}, "spec": claim}, namespace="default"
    )
    await cluster.settle()
    status = cluster.store.peek("resourcequotas", "q", namespace="default")["status"]
    assert status["hard"] == hard
    assert status["used"]["services.nodeports"] == "2"
    assert status["used"]["requests.storage"] == "1536Mi"
    assert status["used"]["count/deployments.apps"] == "0"
    before = int(status["used"]["configmaps"])
    await cluster.store.delete("configmaps", "c", namespace="default")
    await cluster.settle()
    used = cluster.store.peek("resourcequotas", "q", namespace="default")["status"]["used"]
    assert int(used["configmaps"]) == before - 1


async def test_secrets_get_tokens_and_go_with_their_account() -> None:
    cluster = Cluster(ca="the CA")
    cluster._options = ControllerOptions(ca="the CA", issue_token=lambda account, secret: f"{secret} token")
    cluster.stop()
    cluster.start()
    await cluster.store.create("namespaces", {"metadata": {"name": "default"}})
    await cluster.store.create("serviceaccounts", {"metadata": {"name": "sa"}}, namespace="default")
    annotations = {"kubernetes.io/service-account.name": "sa"}
    secret = {"metadata": {"name": "s", "annotations": annotations}, "type": SECRET_TYPE}
    await cluster.store.create("secrets", secret, namespace="default")
    await cluster.settle()
    filled = cluster.store.peek("secrets", "s", namespace="default")
    data = {name: base64.b64decode(value).decode() for name, value in filled["data"].items()}
    assert data == {"token": "s token", "ca.crt": "the CA", "namespace": "default"}
    assert "kubernetes.io/service-account.uid" in filled["metadata"]["annotations"]
    await cluster.store.delete("serviceaccounts", "sa", namespace="default")
    await cluster.settle()
    assert cluster.store.peek("secrets", "s", namespace="default") is None
