"""kubectl on who may do what, quotas, limits and budgets; the newest one, and Debian's old one."""

from __future__ import annotations

import base64
import json
import re
import subprocess
from pathlib import Path

import pytest
from scenario.kubelab.small_lab import Namespace, old_kubectl

pytestmark = pytest.mark.scenario

ROLES = """
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: reader}
rules: [{apiGroups: [""], resources: [pods, pods/log], verbs: [get, list]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: readers}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: reader}
subjects: [{kind: Group, name: devs, apiGroup: rbac.authorization.k8s.io}]
"""
LIMITS = """
apiVersion: v1
kind: ResourceQuota
metadata: {name: q}
spec: {hard: {pods: "2", requests.memory: 1Gi}}
---
apiVersion: v1
kind: LimitRange
metadata: {name: l}
spec: {limits: [{type: Container, defaultRequest: {memory: 128Mi}, default: {memory: 256Mi}}]}
"""
WEB = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 3
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 1
      containers: [{name: c, image: test, command: [sh, -c, "echo up; exec sleep 10000"]}]
"""


def test_a_user_with_a_certificate_that_was_asked_for(space: Namespace, tmp_path: Path) -> None:
    key, pem = tmp_path / "ann.key", tmp_path / "ann.csr"
    words = ["openssl", "req", "-new", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=ann/O=devs"]
    subprocess.run([*words, "-keyout", key, "-out", pem], check=True, capture_output=True)
    name = f"{space.name}-ann"
    request = {"request": base64.b64encode(pem.read_bytes()).decode(), "usages": ["client auth"],
               "signerName": "kubernetes.io/kube-apiserver-client", "expirationSeconds": 3600}  # fmt: skip
    space.apply({"apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest",
                 "metadata": {"name": name}, "spec": request})  # fmt: skip
    try:
        assert "kubernetes-admin" in space.kubectl("get", "csr", name)
        assert "approved" in space.kubectl("certificate", "approve", name)
        space.kubectl("wait", "--for=jsonpath={.status.certificate}", f"csr/{name}", "--timeout=10s")
        (tmp_path / "ann.crt").write_bytes(base64.b64decode(space.get("csr", name)["status"]["certificate"]))
        who = space.kubectl(
            "auth", "whoami", "--client-certificate", str(tmp_path / "ann.crt"), "--client-key", str(key)
        )
        assert re.search(r"Username +ann\nGroups +\[devs system:authenticated\]", who), who
    finally:
        space.kubectl("delete", "csr", name)


def test_auth_commands(space: Namespace) -> None:
    # This command, alone among all, wants the namespace in the manifest.
    roles = ROLES.replace("metadata: {", f"metadata: {{namespace: {space.name}, ")
    space.kubectl("auth", "reconcile", "-f", "-", stdin=roles.encode())
    someone = ("--as", "ann", "--as-group", "devs")
    assert space.kubectl("auth", "can-i", "list", "pods", *someone) == "yes\n"
    assert space.kubectl("auth", "can-i", "get", "pods", "--subresource=log", *someone) == "yes\n"
    assert space.kubectl("auth", "can-i", "delete", "pods", *someone, check=False).startswith("no")
    listed = space.kubectl("auth", "can-i", "--list", *someone)
    assert "pods/log" in listed
    assert "selfsubjectreviews.authentication.k8s.io" in listed
    who = json.loads(space.kubectl("auth", "whoami", "-o", "json", *someone))["status"]["userInfo"]
    assert who == {"username": "ann", "groups": ["devs", "system:authenticated"]}
    refused = space.kubectl("delete", "pod", "x", *someone, check=False)
    assert (
        'Error from server (Forbidden): pods "x" is forbidden: User "ann" cannot delete resource "pods" '
        f'in API group "" in the namespace "{space.name}"'
    ) in refused
    ungranted = space.kubectl("create", "role", "r", "--verb=get", "--resource=secrets", *someone, check=False)
    assert 'cannot create resource "roles"' in ungranted


def test_quotas_limits_and_budgets(space: Namespace) -> None:
    space.kubectl("apply", "-f", "-", stdin=LIMITS.encode())
    space.kubectl("apply", "-f", "-", stdin=WEB.encode())
    space.kubectl("wait", "deploy/web", "--for=jsonpath={.status.readyReplicas}=2", "--timeout=30s")
    space.until(
        lambda: space.get("quota", "q").get("status", {}).get("used") == {"pods": "2", "requests.memory": "256Mi"},
        "the quota counts",
    )
    full = space.kubectl("run", "more", "--image=test", check=False)
    assert 'pods "more" is forbidden: exceeded quota: q, requested: pods=1, used: pods=2, limited: pods=2' in full, full
    conditions = space.get("deploy", "web")["status"]["conditions"]
    failure = {c["type"]: c for c in conditions}["ReplicaFailure"]
    assert failure["reason"] == "FailedCreate"
    assert "exceeded quota" in failure["message"]
    assert "exceeded quota" in space.kubectl("get", "events", "--field-selector", "reason=FailedCreate")


def test_old_secrets_with_tokens(space: Namespace) -> None:
    annotations = {"kubernetes.io/service-account.name": "default"}
    metadata = {"name": "old", "annotations": annotations}
    space.apply(
        {"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/service-account-token", "metadata": metadata}
    )
    data = space.until(lambda: space.get("secret", "old").get("data"), "the Secret is filled")
    assert {"token", "ca.crt", "namespace"} == set(data)
    token = space.kubectl("get", "secret", "old", "-o", "go-template={{.data.token | base64decode}}")
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token}}
    answer = space.kubectl("create", "-o", "json", "-f", "-", stdin=json.dumps(review).encode())
    assert json.loads(answer)["status"]["user"]["username"] == f"system:serviceaccount:{space.name}:default"
    space.kubectl("delete", "secret", "old")
    gone = json.loads(space.kubectl("create", "-o", "json", "-f", "-", stdin=json.dumps(review).encode()))
    assert not gone["status"].get("authenticated")


def test_an_old_kubectl(space: Namespace, tmp_path: Path) -> None:
    program = old_kubectl(tmp_path)
    if program is None:
        pytest.skip("Debian's kubernetes-client is not to be had here")

    def old(*words: str, stdin: str = "") -> str:
        return space.kubectl(*words, stdin=stdin.encode(), program=program)

    # It judges by itself, with what OpenAPI v2 says in protobuf.
    for wrong, message in (("replica: 1", 'unknown field "replica"'), ("replicas: one", 'expected "integer"')):
        with pytest.raises(AssertionError, match=f"error validating .*{message}"):
            old("apply", "-f", "-", stdin=WEB.replace("replicas: 3", wrong))
    assert "RESOURCE: template <Object>" in old("explain", "deployment.spec.template")
    old("apply", "-f", "-", stdin=WEB.replace("replicas: 3", "replicas: 1"))
    old("rollout", "status", "deploy/web", "--timeout=30s")
    assert "web" in old("get", "deploy,rs,pods")
    assert old("logs", "deploy/web") == "up\n"
    old("create", "configmap", "c", "--from-literal=a=b")
    old("set", "env", "deploy/web", "A=b")
    old("rollout", "status", "deploy/web", "--timeout=30s")
    old("rollout", "undo", "deploy/web")
    assert old("auth", "can-i", "create", "pods") == "yes\n"
    assert "unchanged" in old("apply", "-f", "-", stdin=ROLES) + old("apply", "-f", "-", stdin=ROLES)
    old("delete", "deploy/web", "cm/c")
