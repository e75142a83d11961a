"""Workloads on a lab, driven by the real kubectl: StatefulSets with volumes, Jobs, drains, nodes that fall silent."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
import yaml
from kernel.kubelab.conftest import unique
from scenario.kubelab.test_lab import install_plugin

from kubelab.lab import Lab
from kubelab.lab.options import LabOptions

pytestmark = pytest.mark.scenario
TICK = {
    "apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "tick", "namespace": "default"},
    "spec": {
        "schedule": "* * * * *", "timeZone": "Asia/Kolkata", "concurrencyPolicy": "Forbid",
        "jobTemplate": {"metadata": {"labels": {"by": "tick"}}, "spec": {"template": {"spec": {
            "restartPolicy": "Never", "containers": [{"name": "main", "image": "busybox", "command": ["date"]}]}}}},
    },
}  # fmt: skip
SLEEP = ["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.1; done"]


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    made = Lab(unique("w"))
    try:
        made.up(LabOptions(nodes=2))
        install_plugin(made)
        made.wait_ready()
        made.api().apply([TICK])  # its minute passes while the tests run
        yield made
    finally:
        made.down()


class Kubectl:
    """kubectl in a namespace of its own, which goes with the test."""

    def __init__(self, lab: Lab, namespace: str) -> None:
        self._environment = {**os.environ, **lab.env()}
        self.namespace = namespace
        self("create", "namespace", namespace)

    def __call__(self, *arguments: str, stdin: object = None, fails: bool = False) -> str:
        text = "---\n".join(yaml.safe_dump(entry) for entry in stdin) if isinstance(stdin, list) else ""
        done = subprocess.run(
            ["kubectl", "-n", self.namespace, *arguments], env=self._environment, input=text,
            capture_output=True, text=True, timeout=90, check=False,
        )  # fmt: skip
        assert (done.returncode != 0) is fails, f"kubectl {arguments}: {done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    def get(self, *arguments: str) -> Any:
        return json.loads(self("get", *arguments, "-o", "json"))

    def eventually(self, what: str, condition: Any, timeout: float = 30) -> Any:
        """Asks until the answer is true: for what `kubectl wait` cannot say."""
        deadline = time.monotonic() + timeout
        while not (found := condition()):
            assert time.monotonic() < deadline, what
            time.sleep(0.2)
        return found


@pytest.fixture
def kubectl(lab: Lab, request: pytest.FixtureRequest) -> Iterator[Kubectl]:
    made = Kubectl(lab, request.node.name.removeprefix("test_").replace("_", "-")[:40].strip("-"))
    yield made
    made("delete", "namespace", made.namespace, "--timeout=60s")


def container(**spec: Any) -> dict[str, Any]:
    return {"name": "main", "image": "busybox", "command": SLEEP, **spec}


def workload(kind: str, name: str, replicas: int | None = 2, pod: dict[str, Any] | None = None, **spec: Any) -> Any:
    template = {"metadata": {"labels": {"app": name}}, "spec": {"containers": [container()], **(pod or {})}}
    size = {} if replicas is None else {"replicas": replicas}
    body = {**size, "selector": {"matchLabels": {"app": name}}, "template": template, **spec}
    return {"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": name}, "spec": body}


def job(name: str, script: str, **spec: Any) -> Any:
    pod = {"restartPolicy": "Never", "containers": [container(command=["sh", "-c", script])]}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name},
        "spec": {"template": {"spec": pod}, **spec},
    }


def test_stateful_sets_keep_names_and_volumes(kubectl: Kubectl, lab: Lab) -> None:
    claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    mount = [{"name": "data", "mountPath": "/data"}]
    db = workload(
        "StatefulSet", "db", serviceName="db", volumeClaimTemplates=[{"metadata": {"name": "data"}, "spec": claim}],
        pod={"containers": [container(volumeMounts=mount)]},
    )  # fmt: skip
    kubectl("apply", "-f", "-", stdin=[db])
    kubectl("rollout", "status", "statefulset/db", "--timeout=30s")
    first = kubectl.get("pod", "db-1")
    assert kubectl("exec", "db-1", "--", "hostname") == "db-1\n"
    kubectl("exec", "db-1", "--", "sh", "-c", "echo kept > /data/file")
    volume = kubectl.get("pv", kubectl.get("pvc", "data-db-1")["spec"]["volumeName"])
    assert volume["spec"]["storageClassName"] == "standard"
    host = volume["spec"]["nodeAffinity"]["required"]["nodeSelectorTerms"][0]["matchExpressions"][0]["values"]
    assert host == [first["spec"]["nodeName"]]
    assert "1Gi        RWO            standard" in kubectl("get", "pvc", "data-db-1")
    assert "standard (default)" in kubectl("get", "storageclass")
    kubectl("delete", "pod", "db-1")
    kubectl("rollout", "status", "statefulset/db", "--timeout=30s")
    second = kubectl.get("pod", "db-1")
    assert second["metadata"]["uid"] != first["metadata"]["uid"]
    assert kubectl("exec", "db-1", "--", "cat", "/data/file") == "kept\n"
    # History.
    kubectl("set", "image", "statefulset/db", "main=alpine")
    kubectl("rollout", "status", "statefulset/db", "--timeout=30s")
    assert kubectl("rollout", "history", "statefulset/db").count("<none>") == 2
    kubectl("rollout", "undo", "statefulset/db")
    kubectl("rollout", "status", "statefulset/db", "--timeout=30s")
    assert kubectl.get("pod", "db-0")["spec"]["containers"][0]["image"] == "busybox"
    kubectl("scale", "statefulset/db", "--replicas=0")
    kubectl("wait", "--for=delete", "pod/db-0", "--timeout=30s")
    kubectl("delete", "pvc", "--all", "--timeout=30s")
    kubectl("wait", "--for=delete", f"pv/{volume['metadata']['name']}", "--timeout=30s")
    argv = lab.node_argv(first["spec"]["nodeName"], ["find", "/var/lib/kubelet/local-path", "-mindepth", "1"])
    assert subprocess.run(argv, capture_output=True, text=True, check=True).stdout == ""


def test_daemon_sets_and_deployments_roll_back(kubectl: Kubectl) -> None:
    surge = {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
    agent = workload("DaemonSet", "agent", None, updateStrategy=surge)
    web = workload("Deployment", "web", strategy={"type": "Recreate"})
    kubectl("apply", "-f", "-", stdin=[agent, web])
    for name in ("daemonset/agent", "deployment/web"):
        kubectl("rollout", "status", name, "--timeout=30s")
        kubectl("set", "image", name, "main=alpine")
        kubectl("rollout", "status", name, "--timeout=30s")
        assert "REVISION" in kubectl("rollout", "history", name)
        kubectl("rollout", "undo", name)
        kubectl("rollout", "status", name, "--timeout=30s")
    images = {pod["spec"]["containers"][0]["image"] for pod in kubectl.get("pods")["items"]
              if "deletionTimestamp" not in pod["metadata"]}  # fmt: skip
    assert images == {"busybox"}
    kubectl("rollout", "pause", "deployment/web")
    kubectl("set", "image", "deployment/web", "main=alpine")
    assert len(kubectl.get("rs")["items"]) == 2  # nothing new while it is paused
    kubectl("rollout", "resume", "deployment/web")
    kubectl("rollout", "restart", "deployment/web")
    kubectl("rollout", "status", "deployment/web", "--timeout=30s")


def test_jobs_end_in_every_way(kubectl: Kubectl) -> None:
    indexed = job("indexed", "echo $JOB_COMPLETION_INDEX", completions=3, parallelism=3, completionMode="Indexed")
    tick = {
        "apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "tick"},
        "spec": {"schedule": "0 0 1 1 *", "timeZone": "Europe/Berlin", "jobTemplate": {"spec": indexed["spec"]}},
    }  # fmt: skip
    jobs = [indexed, job("broken", "exit 3", backoffLimit=1), job("brief", "exit 0", ttlSecondsAfterFinished=0), tick]
    jobs.append(job("late", "exec sleep 1000", activeDeadlineSeconds=1))
    kubectl("apply", "-f", "-", stdin=jobs)
    kubectl("create", "job", "now", "--from=cronjob/tick")
    kubectl("wait", "--for=condition=complete", "job/indexed", "job/now", "--timeout=30s")
    logs = [line for n in range(3) for line in kubectl(
        "logs", "-l", f"batch.kubernetes.io/job-completion-index={n},job-name=indexed").split()]  # fmt: skip
    assert logs == ["0", "1", "2"]
    kubectl("wait", "--for=condition=failed", "job/broken", "job/late", "--timeout=30s")
    reasons = {name: kubectl.get("job", name)["status"]["conditions"][-1]["reason"] for name in ("broken", "late")}
    assert reasons == {"broken": "BackoffLimitExceeded", "late": "DeadlineExceeded"}
    kubectl("wait", "--for=delete", "job/brief", "--timeout=30s")
    assert "indexed   Complete   3/3" in kubectl("get", "jobs")
    refused = kubectl("apply", "-f", "-", stdin=[{**tick, "spec": {**tick["spec"], "schedule": "never"}}], fails=True)
    assert "spec.schedule: Invalid value" in refused


def test_drains_ask_budgets(kubectl: Kubectl, lab: Lab) -> None:
    budget = {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "web"},
              "spec": {"minAvailable": 2, "selector": {"matchLabels": {"app": "web"}}}}  # fmt: skip
    scratch = {"volumes": [{"name": "tmp", "emptyDir": {}}]}
    kubectl(
        "apply",
        "-f",
        "-",
        stdin=[budget, workload("Deployment", "web", pod=scratch), workload("DaemonSet", "agent", None)],
    )
    kubectl("rollout", "status", "deployment/web", "--timeout=30s")
    kubectl.eventually(
        "the budget allows nothing", lambda: kubectl.get("pdb", "web")["status"].get("currentHealthy") == 2
    )
    node = kubectl.get("pods", "-l", "app=web")["items"][0]["spec"]["nodeName"]
    try:
        drain = ("drain", node, "--timeout=20s")
        text = kubectl(*drain, fails=True)
        assert "cannot delete DaemonSet-managed Pods (use --ignore-daemonsets to ignore)" in text
        assert "cannot delete Pods with local storage (use --delete-emptydir-data to override)" in text
        forced = ("--ignore-daemonsets", "--delete-emptydir-data")
        text = kubectl("drain", node, "--timeout=2s", *forced, fails=True)
        assert "Cannot evict pod as it would violate the pod's disruption budget." in text
        kubectl("scale", "deployment/web", "--replicas=4")
        kubectl.eventually(
            "the budget allows two", lambda: kubectl.get("pdb", "web")["status"]["disruptionsAllowed"] >= 2
        )
        assert f"node/{node} drained" in kubectl(*drain, *forced)
        left = kubectl.get("pods", "--field-selector", f"spec.nodeName={node}")["items"]
        assert {pod["metadata"]["labels"]["app"] for pod in left} == {"agent"}
        kubectl("apply", "-f", "-", stdin=[{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "stuck"}, "spec": {
            "containers": [container()], "nodeSelector": {"kubernetes.io/hostname": node}}}])  # fmt: skip
        kubectl("wait", "--for=jsonpath={.status.conditions[0].reason}=Unschedulable", "pod/stuck", "--timeout=10s")
        text = kubectl("describe", "pod", "stuck")
        reasons = "1 node(s) didn't match Pod's node affinity/selector, 1 node(s) were unschedulable."
        assert f"0/2 nodes are available: {reasons}" in text
    finally:
        kubectl("uncordon", node)
    kubectl("wait", "--for=condition=Ready", "pod/stuck", "--timeout=30s")


def test_the_more_important_make_others_go(kubectl: Kubectl) -> None:
    whole = int(kubectl.get("node", "node1")["status"]["allocatable"]["memory"].removesuffix("Ki"))
    large = {"resources": {"requests": {"memory": f"{whole * 6 // 10}Ki"}}}  # one per node
    kubectl("create", "priorityclass", "vip", "--value=1000")
    try:
        kubectl("apply", "-f", "-", stdin=[workload("Deployment", "low", pod={"containers": [container(**large)]})])
        kubectl("rollout", "status", "deployment/low", "--timeout=30s")
        spec = {"priorityClassName": "vip", "containers": [container(**large)]}
        kubectl(
            "apply", "-f", "-", stdin=[{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "high"}, "spec": spec}]
        )
        kubectl("wait", "--for=condition=Ready", "pod/high", "--timeout=30s")
        high = kubectl.get("pod", "high")
        (told,) = kubectl.get("events", "--field-selector", "reason=Preempted")["items"]
        assert told["message"] == f"Preempted by pod {high['metadata']['uid']} on node {high['spec']['nodeName']}"
        waiting = [pod for pod in kubectl.get("pods", "-l", "app=low")["items"] if not pod["spec"].get("nodeName")]
        assert len(waiting) == 1
        described = kubectl("describe", "pod", waiting[0]["metadata"]["name"])
        assert "0/2 nodes are available: 2 Insufficient memory. no new claims to deallocate, preemption: " in described
        kubectl("delete", "pod", "high")
        kubectl("rollout", "status", "deployment/low", "--timeout=30s")
    finally:
        kubectl("delete", "priorityclass", "vip")


def test_pods_leave_a_node_that_falls_silent(kubectl: Kubectl, lab: Lab) -> None:
    brief = [{"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 1}
             for key in ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")]  # fmt: skip
    pinned = {"tolerations": brief, "affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
        {"weight": 100, "preference": {"matchExpressions": [
            {"key": "kubernetes.io/hostname", "operator": "In", "values": ["node2"]}]}}]}}}  # fmt: skip
    kubectl(
        "apply", "-f", "-", stdin=[workload("Deployment", "web", 1, pod=pinned), workload("DaemonSet", "agent", None)]
    )
    for name in ("deployment/web", "daemonset/agent"):
        kubectl("rollout", "status", name, "--timeout=30s")
    assert kubectl.get("pods", "-l", "app=web")["items"][0]["spec"]["nodeName"] == "node2"
    lab.stop("kubelet-node2", kill=True)
    try:
        kubectl("wait", "--for=condition=Ready=Unknown", "node/node2", "--timeout=40s")
        moved = "jsonpath={.items[?(@.spec.nodeName=='node1')].status.containerStatuses[0].ready}"
        kubectl.eventually(
            "a pod on the other node", lambda: "true" in kubectl("get", "pods", "-l", "app=web", "-o", moved)
        )
        agent = kubectl.get("pods", "-l", "app=agent", "--field-selector", "spec.nodeName=node2")["items"][0]
        assert "deletionTimestamp" not in agent["metadata"]
        assert next(c for c in agent["status"]["conditions"] if c["type"] == "Ready")["status"] == "False"
    finally:
        lab.start_kubelet("node2")
    kubectl("wait", "--for=condition=Ready", "node/node2", f"pod/{agent['metadata']['name']}", "--timeout=30s")
    kubectl.eventually("the old pod is gone", lambda: len(kubectl.get("pods", "-l", "app=web")["items"]) == 1)


def test_a_cron_job_fires_when_its_minute_comes(kubectl: Kubectl) -> None:
    """The last test: `tick` was there before the others."""

    def jobs() -> list[Any]:
        found: list[Any] = kubectl.get("jobs", "-n", "default", "-l", "by=tick")["items"]
        return found

    kubectl.eventually("a job of the minute", jobs, timeout=70)
    kubectl("patch", "cronjob", "-n", "default", "tick", "-p", '{"spec":{"suspend":true}}')
    (first, *_) = jobs()
    meta = first["metadata"]
    due = datetime.fromisoformat(meta["annotations"]["batch.kubernetes.io/cronjob-scheduled-timestamp"])
    assert due.utcoffset() == timedelta(hours=5, minutes=30)
    assert meta["name"] == f"tick-{int(due.timestamp()) // 60}"
    assert due.second == 0
    assert 0 <= (datetime.fromisoformat(meta["creationTimestamp"]) - due).total_seconds() < 10
    kubectl("wait", "-n", "default", "--for=condition=complete", f"job/{meta['name']}", "--timeout=30s")
    tick = kubectl.get("cronjob", "-n", "default", "tick")
    assert "lastSuccessfulTime" in tick["status"]
    events = kubectl("get", "events", "-n", "default", "--field-selector", "involvedObject.name=tick")
    assert f"Created job {meta['name']}" in events
    assert "Asia/Kolkata" in kubectl("get", "cronjobs", "-n", "default")
    kubectl("delete", "cronjob", "-n", "default", "tick")
    kubectl("wait", "-n", "default", "--for=delete", f"job/{meta['name']}", "--timeout=30s")
