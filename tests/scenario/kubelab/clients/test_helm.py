"""Helm's own Go code (the library behind helm-python-sdk): a chart installed, upgraded, rolled back, removed."""

from __future__ import annotations

from pathlib import Path

import pytest
from scenario.kubelab.small_lab import Namespace

pytestmark = pytest.mark.scenario

CHART = """
apiVersion: v2
name: shop
version: 0.1.0
"""
WORKLOAD = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: {{ .Release.Name }}}
spec:
  replicas: {{ .Values.replicas }}
  selector: {matchLabels: {app: {{ .Release.Name }}}}
  template:
    metadata: {labels: {app: {{ .Release.Name }}}}
    spec:
      serviceAccountName: {{ .Release.Name }}
      containers:
      - name: web
        image: example/web
        ports: [{containerPort: 8080}]
        env: [{name: GREETING, valueFrom: {configMapKeyRef: {name: {{ .Release.Name }}, key: greeting}}}]
---
apiVersion: v1
kind: Service
metadata: {name: {{ .Release.Name }}}
spec: {selector: {app: {{ .Release.Name }}}, ports: [{port: 80, targetPort: 8080}]}
"""
REST = """
apiVersion: v1
kind: ServiceAccount
metadata: {name: {{ .Release.Name }}}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: {{ .Release.Name }}}
data: {greeting: {{ .Values.greeting | quote }}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: {{ .Release.Name }}}
rules: [{apiGroups: [""], resources: [pods], verbs: [get]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: {{ .Release.Name }}}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: {{ .Release.Name }}}
subjects: [{kind: ServiceAccount, name: {{ .Release.Name }}, namespace: {{ .Release.Namespace }}}]
"""


@pytest.fixture
def chart(tmp_path: Path) -> Path:
    directory = tmp_path / "shop"
    (directory / "templates").mkdir(parents=True)
    (directory / "Chart.yaml").write_text(CHART)
    (directory / "values.yaml").write_text('replicas: 1\ngreeting: "hello"\n')
    (directory / "templates" / "workload.yaml").write_text(WORKLOAD)
    (directory / "templates" / "rest.yaml").write_text(REST)
    return directory


def test_a_release_lives_and_goes(kubeconfig: str, space: Namespace, chart: Path) -> None:
    helm = pytest.importorskip("helm_python")
    patient = {"wait": "watcher", "timeout": 60}
    with helm.Config(kubeconfig_path=kubeconfig, namespace=space.name) as config:
        config.check_reachable()
        config.install(chart, "web", namespace=space.name, **patient)
        assert space.get("deploy", "web")["status"]["readyReplicas"] == 1
        config.upgrade(chart, "web", {"replicas": 2, "greeting": "welcome"}, namespace=space.name, **patient)
        assert space.get("deploy", "web")["status"]["readyReplicas"] == 2
        assert space.get("cm", "web")["data"] == {"greeting": "welcome"}
        config.rollback("web", version=1, **patient)
        assert space.get("cm", "web")["data"] == {"greeting": "hello"}
        assert space.get("deploy", "web")["spec"]["replicas"] == 1
        assert len(config.history("web")) == 3
        assert {s["type"] for s in space.get("secrets")["items"]} == {"helm.sh/release.v1"}
        config.uninstall("web", **patient)
        left = space.get("deploy,svc,cm,sa,role,rolebinding,secret")["items"]
        assert {i["metadata"]["name"] for i in left} == {"default", "kube-root-ca.crt"}
