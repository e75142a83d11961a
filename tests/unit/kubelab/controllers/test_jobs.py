"""Jobs and CronJobs: exact counts, ends of every kind, schedules."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from unit.kubelab.controllers.cluster import Cluster, Object

from kubelab.apiserver.schedules import parse
from kubelab.controllers.batch import job_indexes
from kubelab.controllers.batch.job_tracking import FINALIZER

JOBS, CRON_JOBS = "jobs.batch", "cronjobs.batch"


def pod_template(policy: str = "Never") -> Object:
    return {"spec": {"restartPolicy": policy, "containers": [{"name": "main", "image": "none"}]}}


async def job(cluster: Cluster, name: str = "work", **spec: Any) -> Object:
    body = {"metadata": {"name": name, "namespace": "default"}, "spec": {"template": pod_template(), **spec}}
    created = await cluster.store.create(JOBS, body)
    await cluster.settle()
    return created


async def end(cluster: Cluster, pod: Object, code: int = 0) -> None:
    """What a kubelet reports of a pod whose container ended."""
    when = cluster.time.strftime("%Y-%m-%dT%H:%M:%SZ")
    state = {"terminated": {"exitCode": code, "finishedAt": when}}
    status = {
        "phase": "Failed" if code else "Succeeded",
        "containerStatuses": [{"name": "main", "restartCount": 0, "state": state}],
    }
    await cluster.store.update("pods", {**pod, "status": status}, subresource="status")
    await cluster.settle()


def running(cluster: Cluster) -> list[Object]:
    pods = cluster.store.peek_all("pods", namespace="default")
    return [pod for pod in pods if pod["status"].get("phase") not in ("Succeeded", "Failed")]


def status(cluster: Cluster, name: str = "work") -> Object:
    return (cluster.store.peek(JOBS, name, namespace="default") or {})["status"]


def true_conditions(found: Object) -> list[tuple[str, str]]:
    return [(c["type"], c["reason"]) for c in found.get("conditions", ()) if c["status"] == "True"]


@pytest.fixture
async def node(cluster: Cluster) -> Cluster:
    await cluster.node("n1")
    return cluster


async def test_completions_and_parallelism(node: Cluster) -> None:
    await job(node, completions=3, parallelism=2)
    first = running(node)
    assert len(first) == 2
    assert first[0]["metadata"]["finalizers"] == [FINALIZER]
    assert first[0]["metadata"]["labels"]["job-name"] == "work"
    for _ in range(3):
        await end(node, running(node)[0])
    found = status(node)
    assert found["succeeded"] == 3
    assert true_conditions(found) == [("SuccessCriteriaMet", "CompletionsReached"), ("Complete", "CompletionsReached")]
    assert "completionTime" in found
    assert found["uncountedTerminatedPods"] == {}
    assert not any(pod["metadata"].get("finalizers") for pod in node.store.peek_all("pods"))


async def test_a_crash_neither_forgets_nor_counts_twice(node: Cluster) -> None:
    await job(node, completions=2)
    node.stop()
    (pod,) = running(node)
    await end(node, pod)
    # The controller died after it had noted the pod, before it took the finalizer off.
    noted = {**status(node), "uncountedTerminatedPods": {"succeeded": [pod["metadata"]["uid"]]}}
    found = node.store.peek(JOBS, "work", namespace="default") or {}
    await node.store.update(JOBS, {**found, "status": noted}, subresource="status")
    node.start()
    await node.settle()
    assert status(node)["succeeded"] == 1
    await end(node, running(node)[0])
    assert status(node)["succeeded"] == 2


async def test_failures_wait_longer_and_end_the_job(node: Cluster) -> None:
    await job(node, backoffLimit=1)
    await end(node, running(node)[0], 1)
    assert running(node) == []  # waits
    node.pass_time(11)
    await node.settle()
    await end(node, running(node)[0], 1)
    found = status(node)
    assert found["failed"] == 2
    assert true_conditions(found)[-1] == ("Failed", "BackoffLimitExceeded")
    assert "Job has reached the specified backoff limit" in {e["message"] for e in node.store.peek_all("events")}


async def test_a_deadline_ends_what_runs(node: Cluster) -> None:
    await job(node, activeDeadlineSeconds=30, parallelism=2, completions=2)
    node.pass_time(31)
    await node.settle()
    assert all("deletionTimestamp" in pod["metadata"] for pod in running(node))
    assert true_conditions(status(node)) == [("FailureTarget", "DeadlineExceeded")]  # Failed once the pods are gone
    await node.roll()
    assert true_conditions(status(node))[-1] == ("Failed", "DeadlineExceeded")


async def test_suspended_and_resumed(node: Cluster) -> None:
    await job(node, suspend=True)
    assert running(node) == []
    assert true_conditions(status(node)) == [("Suspended", "JobSuspended")]
    await node.store.patch(JOBS, "work", {"spec": {"suspend": False}}, namespace="default")
    await node.settle()
    assert len(running(node)) == 1
    await node.store.patch(JOBS, "work", {"spec": {"suspend": True}}, namespace="default")
    await node.roll()
    assert running(node) == []
    assert status(node).get("failed", 0) == 0  # to be suspended is no failure


async def test_indexes(node: Cluster) -> None:
    await job(node, completions=3, parallelism=3, completionMode="Indexed", backoffLimitPerIndex=0)
    by_index = {job_indexes.index_of(pod): pod for pod in running(node)}
    assert sorted(by_index) == [0, 1, 2]
    assert by_index[1]["spec"]["hostname"] == "work-1"
    assert by_index[1]["metadata"]["name"].startswith("work-1-")
    variables = {entry["name"]: entry for entry in by_index[1]["spec"]["containers"][0]["env"]}
    assert "job-completion-index" in variables["JOB_COMPLETION_INDEX"]["valueFrom"]["fieldRef"]["fieldPath"]
    await end(node, by_index[0])
    await end(node, by_index[2])
    await end(node, by_index[1], 1)
    found = status(node)
    assert (found["completedIndexes"], found["failedIndexes"]) == ("0,2", "1")
    assert true_conditions(found)[-1] == ("Failed", "FailedIndexes")


async def test_policies_of_failure_and_success(node: Cluster) -> None:
    rules = [
        {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [42]}},
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]},
    ]
    await job(node, podFailurePolicy={"rules": rules})
    (pod,) = running(node)
    await end(node, pod, 42)
    condition = status(node)["conditions"][-1]
    assert (condition["type"], condition["reason"]) == ("Failed", "PodFailurePolicy")
    path = f"default/{pod['metadata']['name']}"
    assert (
        condition["message"]
        == f"Container main for pod {path} failed with exit code 42 matching FailJob rule at index 0"
    )
    await job(
        node, "quorum", completions=3, parallelism=3, completionMode="Indexed",
        successPolicy={"rules": [{"succeededIndexes": "0-1", "succeededCount": 1}]},
    )  # fmt: skip
    await end(node, next(pod for pod in running(node) if job_indexes.index_of(pod) == 1))
    await node.roll()
    assert true_conditions(status(node, "quorum"))[-1] == ("Complete", "SuccessPolicy")


async def test_a_finished_job_goes_after_its_time_and_lets_its_pods_go(node: Cluster) -> None:
    await job(node, ttlSecondsAfterFinished=60)
    await end(node, running(node)[0])
    node.pass_time(59)
    await node.settle()
    assert node.store.peek(JOBS, "work", namespace="default")
    node.pass_time(2)
    await node.roll()
    assert node.store.peek(JOBS, "work", namespace="default") is None
    await job(node, "other")
    await node.store.delete(JOBS, "other", namespace="default", propagation="Background")
    await node.roll()
    assert node.store.peek_all("pods") == []


def test_index_texts() -> None:
    assert job_indexes.write({0, 1, 2, 5, 7, 8}) == "0-2,5,7-8"
    assert job_indexes.read("0-2,5,7-8") == {0, 1, 2, 5, 7, 8}
    assert job_indexes.read("") == set()


# ---- CronJobs -------------------------------------------------------------------------------------------------------


async def cron_job(cluster: Cluster, schedule: str = "*/5 * * * *", **spec: Any) -> Object:
    body = {
        "metadata": {"name": "tick", "namespace": "default"},
        "spec": {"schedule": schedule, "jobTemplate": {"spec": {"template": pod_template()}}, **spec},
    }
    created = await cluster.store.create(CRON_JOBS, body)
    await cluster.settle()
    return created


async def pass_minutes(cluster: Cluster, minutes: float) -> None:
    cluster.pass_time(60 * minutes)
    await cluster.settle()


def jobs(cluster: Cluster) -> list[str]:
    return sorted(entry["metadata"]["name"] for entry in cluster.store.peek_all(JOBS))


async def test_a_job_each_time(node: Cluster) -> None:
    created = await cron_job(node)
    await pass_minutes(node, 4.9)
    assert jobs(node) == []
    await pass_minutes(node, 0.2)
    (name,) = jobs(node)
    assert name == f"tick-{int(datetime(2026, 1, 1, 0, 5, tzinfo=UTC).timestamp()) // 60}"
    made = node.store.peek(JOBS, name, namespace="default") or {}
    assert made["metadata"]["ownerReferences"][0]["uid"] == created["metadata"]["uid"]
    found = (node.store.peek(CRON_JOBS, "tick", namespace="default") or {})["status"]
    assert found["lastScheduleTime"] == "2026-01-01T00:05:00Z"
    assert [entry["name"] for entry in found["active"]] == [name]
    await end(node, running(node)[0])
    found = (node.store.peek(CRON_JOBS, "tick", namespace="default") or {})["status"]
    assert "active" not in found
    assert found["lastSuccessfulTime"] == status(node, name)["completionTime"]


@pytest.mark.parametrize(("policy", "count"), [("Allow", 2), ("Forbid", 1), ("Replace", 1)])
async def test_what_still_runs(node: Cluster, policy: str, count: int) -> None:
    await cron_job(node, concurrencyPolicy=policy)
    await pass_minutes(node, 5.1)
    first = jobs(node)
    await pass_minutes(node, 5)
    assert len(jobs(node)) == count
    assert (first[0] in jobs(node)) is (policy != "Replace")


async def test_missed_moments_are_made_up_for_once_or_not_at_all(node: Cluster) -> None:
    await cron_job(node)
    node.stop()
    node.time += timedelta(minutes=62)
    node.start()
    await node.settle()
    assert len(jobs(node)) == 1
    await node.store.delete(CRON_JOBS, "tick", namespace="default", propagation="Background")
    await node.roll()
    await cron_job(node, "0 * * * *", startingDeadlineSeconds=60)
    node.stop()
    node.time += timedelta(minutes=90)
    node.start()
    await node.settle()
    assert jobs(node) == []  # too late


async def test_suspended_and_history(node: Cluster) -> None:
    await cron_job(node, successfulJobsHistoryLimit=1)
    for _ in range(3):
        await pass_minutes(node, 5.1)
        await end(node, running(node)[0])
    assert len(jobs(node)) == 1
    await node.store.patch(CRON_JOBS, "tick", {"spec": {"suspend": True}}, namespace="default")
    await pass_minutes(node, 20)
    assert len(jobs(node)) == 1


def test_schedules() -> None:
    start = datetime(2026, 3, 28, 12, tzinfo=UTC)
    berlin = parse("30 2 * * *", "Europe/Berlin").after(start)
    # The night of 29 March has no 2:30: Debian's cron runs what it would skip right after the change.
    assert [next(berlin).isoformat() for _ in range(2)] == ["2026-03-29T01:00:00+00:00", "2026-03-30T00:30:00+00:00"]
    assert next(parse("@hourly").after(start)) == start + timedelta(hours=1)
    assert next(parse("@every 1h30m").after(start)) == start + timedelta(minutes=90)
    assert parse("* * * * *").last(start, start + timedelta(days=2)) == (start + timedelta(days=2), 101)
    assert parse("0 0 1 1 *").last(start, start + timedelta(days=2)) == (None, 0)
    for text, zone in (("* * * *", None), ("61 * * * *", None), ("@never", None), ("* * * * *", "Mars/Olympus")):
        with pytest.raises(ValueError, match=r"expected|Bad|unrecognized|unknown"):
            parse(text, zone)
