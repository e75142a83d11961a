"""The life of pods as kubectl shows it: ends, restarts, init containers, sidecars, probes, hooks, deadlines, events.

All pods are applied at once; each case waits for what it judges.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from scenario.kubelab.small_lab import Namespace, SmallLab

pytestmark = pytest.mark.scenario
NAMESPACE = "pod-life"
FOREVER = "exec sleep 10000"
PATIENT = "trap 'echo term; exit 0' TERM; while :; do sleep 0.05; done"
COUNT = "n=$(cat /s/n 2>/dev/null || echo 0); n=$((n+1)); echo $n > /s/n; echo life $n"
GATE = "example.com/gate"
QUICK = {"periodSeconds": 1, "failureThreshold": 1}

Object = dict[str, Any]


def shell(script: str, name: str = "c", **more: Any) -> Object:
    """A container that runs a script; /s is the pod's own directory."""
    mounts = [{"name": "s", "mountPath": "/s"}]
    return {"name": name, "image": "test", "command": ["sh", "-c", script], "volumeMounts": mounts, **more}


def pod(name: str, *containers: Object, policy: str = "Always", **spec: Any) -> Object:
    return {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {"restartPolicy": policy, "terminationGracePeriodSeconds": 5, "containers": list(containers),
                 "volumes": [{"name": "s", "emptyDir": {}}], **spec},
    }  # fmt: skip


def sidecar(script: str) -> Object:
    return shell(script, "side", restartPolicy="Always")


def probed(name: str, probe: Object) -> Object:
    return pod(name, shell(PATIENT, livenessProbe={**probe, **QUICK}))


SERVER = {
    "name": "c", "image": "x/echo", "ports": [{"name": "http", "containerPort": 8080}],
    "startupProbe": {"httpGet": {"port": "http", "path": "/healthz"}},
    "readinessProbe": {"grpc": {"port": 8080}, "periodSeconds": 1},
    "livenessProbe": {"tcpSocket": {"port": 8080}, **QUICK},
}  # fmt: skip
WITNESS = "until grep -q side /s/log; do sleep 0.05; done; echo main >> /s/log; cat /s/log"
PODS = [
    pod("completed", shell("echo done; printf well > /dev/termination-log"), policy="Never"),
    pod("failed", shell("exit 3"), policy="Never"),
    pod("on-failure", shell(f"{COUNT}; test $n = 2"), policy="OnFailure"),
    pod("crash", shell(f"{COUNT}; exit 1")),
    pod("absent", {"name": "c", "image": "test", "command": ["/no/such/program"]}, policy="Never"),
    pod("ordered", shell("cat /s/log", "main"), policy="Never", initContainers=[
        shell("sleep 0.2; echo one >> /s/log", "one"), shell("echo two >> /s/log", "two")]),
    pod("init-failed", shell("echo never"), policy="Never", initContainers=[shell("exit 4", "one")]),
    pod("init-crash", shell("echo never"), initContainers=[shell("exit 4", "one"), shell("exit 0", "two")]),
    pod("job", shell(WITNESS), policy="Never", initContainers=[
        sidecar(f"echo side >> /s/log; {PATIENT}"), shell("grep side /s/log", "after")]),
    pod("job-deaf", shell("exit 0"), policy="Never", initContainers=[sidecar(FOREVER)]),
    pod("side-crashes", shell(FOREVER), initContainers=[sidecar(f"{COUNT}; test $n != 1 || exit 7; {FOREVER}")]),
    pod("init-waits", shell(FOREVER), initContainers=[shell(PATIENT, "one")]),
    pod("no-volume", shell(FOREVER), volumes=[{"name": "s", "secret": {"secretName": "absent"}}]),
    pod("deaf", shell(FOREVER), terminationGracePeriodSeconds=600),
    pod("goes", shell(f"{COUNT}; exit 1")),
    pod("good", SERVER),
    probed("bad-exec", {"exec": {"command": ["sh", "-c", "echo broken; exit 5"]}}),
    probed("bad-http", {"httpGet": {"port": 81, "path": "/live"}}),
    probed("bad-tcp", {"tcpSocket": {"port": 82}}),
    probed("bad-grpc", {"grpc": {"port": 83}}),
    pod("bad-start", shell(PATIENT, startupProbe={"exec": {"command": ["false"]}, **QUICK})),
    pod("slow-start", shell(FOREVER, startupProbe={"exec": {"command": ["test", "-e", "/s/go"]}, "periodSeconds": 1,
                                                   "failureThreshold": 60},
                            livenessProbe={"exec": {"command": ["test", "-e", "/s/go"]}, **QUICK})),
    pod("gated", shell(FOREVER), readinessGates=[{"conditionType": GATE}]),
    pod("hook-fails", shell(PATIENT, lifecycle={"postStart": {"exec": {"command": ["sh", "-c", "exit 6"]}}})),
    pod("hook-first", shell(f"{FOREVER}", lifecycle={"postStart": {"exec": {"command": [
        "sh", "-c", "until [ -e /s/go ]; do sleep 0.05; done"]}}})),
    pod("pre-stop", shell(PATIENT, lifecycle={"preStop": {"exec": {"command": [
        "sh", "-c", "sleep 0.3; echo hook > /proc/1/fd/1"]}}})),
    pod("pre-sleep", shell("trap 'date +%s.%N; exit 0' TERM; while :; do sleep 0.05; done",
                           lifecycle={"preStop": {"sleep": {"seconds": 1}}})),
    pod("message", shell("printf why > /tmp/why; exit 1", terminationMessagePath="/tmp/why"), policy="Never"),
    pod("from-log", shell("echo first; echo last words; exit 1",
                          terminationMessagePolicy="FallbackToLogsOnError"), policy="Never"),
    pod("late", shell(PATIENT), activeDeadlineSeconds=12),
    pod("non-root", shell(FOREVER), securityContext={"runAsNonRoot": True}),
    pod("needs-map", shell("echo $WANTED; exec sleep 10000", env=[
        {"name": "WANTED", "valueFrom": {"configMapKeyRef": {"name": "late-map", "key": "word"}}}])),
    pod("needs-volume", shell("cat /m/word; exec sleep 10000", volumeMounts=[{"name": "m", "mountPath": "/m"}]),
        volumes=[{"name": "m", "configMap": {"name": "late-volume"}}]),
    pod("stays", shell(FOREVER)),
    pod("ends-alone", shell("until [ -e /s/go ]; do sleep 0.05; done; exit 9"), policy="Never"),
]  # fmt: skip


@pytest.fixture(scope="module")
def here(small_lab: SmallLab) -> Iterator[Namespace]:
    with small_lab.namespace(NAMESPACE) as made:
        made.apply(*PODS)
        yield made


def state(here: Namespace, name: str, container: str = "c", kind: str = "state") -> Object:
    status = here.status(name)
    every = [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]
    return next((dict(c[kind]) for c in every if c["name"] == container), {})


def ended(here: Namespace, name: str, phase: str) -> Object:
    """The pod's status once it has run to its end."""
    here.until(lambda: here.status(name)["phase"] in ("Succeeded", "Failed"), f"{name}'s end")
    status = here.status(name)
    assert status["phase"] == phase, status
    return status


def waits(here: Namespace, name: str, reason: str, container: str = "c") -> str:
    """The message of a container that waits for this reason."""
    found = here.until(
        lambda: (s := state(here, name, container).get("waiting", {})).get("reason") == reason and s,
        f"{name}: {reason}",
    )
    return str(found.get("message", ""))


def told(here: Namespace, name: str, reason: str, words: str) -> str:
    """The message of an event; ``words`` is a pattern for all of it."""
    return str(here.until(
        lambda: next((m for r, m in here.events(name) if r == reason and re.fullmatch(words, m, re.DOTALL)), None),
        f"{name}: event {reason}: {words}",
    ))  # fmt: skip


def condition(here: Namespace, name: str, kind: str) -> Object:
    return next((c for c in here.status(name).get("conditions") or [] if c["type"] == kind), {"status": "False"})


def shown(here: Namespace, name: str) -> str:
    """kubectl's STATUS column."""
    return here.kubectl("get", "pod", name, "--no-headers").split()[2]


def ready(here: Namespace, *names: str) -> None:
    here.kubectl("wait", "--for=condition=Ready", *(f"pod/{name}" for name in names), "--timeout=30s")


@pytest.mark.parametrize(("name", "phase", "column", "code", "reason", "message"), [
    ("completed", "Succeeded", "Completed", 0, "Completed", "well"),
    ("failed", "Failed", "Error", 3, "Error", None),
    ("absent", "Failed", "StartError", 128, "StartError", None),
    ("message", "Failed", "Error", 1, "Error", "why"),
    ("from-log", "Failed", "Error", 1, "Error", "first\nlast words\n"),
])  # fmt: skip
def test_ends(here: Namespace, name: str, phase: str, column: str, code: int, reason: str, message: str | None) -> None:
    ended(here, name, phase)
    end = state(here, name)["terminated"]
    assert (end["exitCode"], end["reason"]) == (code, reason)
    assert name == "absent" or end.get("message") == message
    assert shown(here, name) == column
    if phase == "Succeeded":
        assert condition(here, name, "Ready")["reason"] == "PodCompleted"
        assert condition(here, name, "Initialized")["status"] == "True"


def test_restarts_until_it_succeeds(here: Namespace) -> None:
    status = ended(here, "on-failure", "Succeeded")["containerStatuses"][0]
    assert status["restartCount"] == 1
    assert status["lastState"]["terminated"]["exitCode"] == 1
    assert here.kubectl("logs", "on-failure") == "life 2\n"
    assert here.kubectl("logs", "on-failure", "--previous") == "life 1\n"


def test_a_crash_loop_backs_off(here: Namespace) -> None:
    message = waits(here, "crash", "CrashLoopBackOff")
    uid = here.get("pod", "crash")["metadata"]["uid"]
    label = rf"crash_{NAMESPACE}\({uid}\)"
    assert re.fullmatch(rf"back-off \d+s restarting failed container=c pod={label}", message)
    told(here, "crash", "BackOff", f"Back-off restarting failed container c in pod {label}")
    last = state(here, "crash", kind="lastState")["terminated"]
    assert (last["exitCode"], last["reason"]) == (1, "Error")
    assert here.status("crash")["phase"] == "Running"
    assert re.fullmatch(r"life \d+\n", here.kubectl("logs", "crash", "--previous"))


def test_init_containers_run_in_order(here: Namespace) -> None:
    status = ended(here, "ordered", "Succeeded")
    assert here.kubectl("logs", "ordered") == "one\ntwo\n"
    assert [(c["name"], c["ready"]) for c in status["initContainerStatuses"]] == [("one", True), ("two", True)]
    status = ended(here, "init-failed", "Failed")
    assert status["initContainerStatuses"][0]["state"]["terminated"]["exitCode"] == 4
    assert status["containerStatuses"][0]["state"]["waiting"]["reason"] == "PodInitializing"
    assert shown(here, "init-failed") == "Init:Error"
    waits(here, "init-crash", "CrashLoopBackOff", "one")
    assert shown(here, "init-crash") in ("Init:CrashLoopBackOff", "Init:Error", "Init:0/2")
    unmet = condition(here, "init-crash", "Initialized")
    assert (unmet["status"], unmet["reason"]) == ("False", "ContainersNotInitialized")
    assert unmet["message"] == "containers with incomplete status: [one two]"
    assert here.status("init-crash")["phase"] == "Pending"


def test_sidecars_outlive_what_they_serve_and_do_not_hold_the_pod_back(here: Namespace) -> None:
    ended(here, "job", "Succeeded")
    assert here.kubectl("logs", "job", "-c", "c") == "side\nmain\n"
    here.until(lambda: "terminated" in state(here, "job", "side"), "the sidecar's end")
    side, main = state(here, "job", "side")["terminated"], state(here, "job")["terminated"]
    assert side["exitCode"] == 0
    assert side["finishedAt"] >= main["finishedAt"]
    assert here.kubectl("logs", "job", "-c", "side") == "term\n"
    ended(here, "job-deaf", "Succeeded")  # however the sidecar ended
    here.until(lambda: "terminated" in state(here, "job-deaf", "side"), "the deaf sidecar's end")
    assert here.status("job-deaf")["phase"] == "Succeeded"


@pytest.mark.parametrize(("name", "words"), [
    ("bad-exec", "broken"),
    ("bad-http", r'Get "http://{ip}:81/live": dial tcp {ip}:81: connect: connection refused'),
    ("bad-tcp", "dial tcp {ip}:82: connect: connection refused"),
    ("bad-grpc", 'timeout: failed to connect service "{ip}:83" within 1s: context deadline exceeded'),
])  # fmt: skip
def test_liveness_probes_restart(here: Namespace, name: str, words: str) -> None:
    here.until(lambda: here.status(name)["containerStatuses"][0]["restartCount"], f"{name}: a restart")
    ip = here.status(name)["podIP"]
    told(here, name, "Unhealthy", "Liveness probe failed: " + words.format(ip=re.escape(ip)) + r"\s*")
    told(here, name, "Killing", "Container c failed liveness probe, will be restarted")
    assert state(here, name, kind="lastState")["terminated"]["exitCode"] == 0, "it was asked to end by SIGTERM"
    assert here.kubectl("logs", name, "--previous") == "term\n"


def test_events_of_a_start(here: Namespace) -> None:
    ready(here, "stays")
    told(here, "stays", "Scheduled", f"Successfully assigned {NAMESPACE}/stays to node1")
    told(here, "stays", "Pulled", 'Container image "test" already present on machine')
    told(here, "stays", "Created", "Created container: c")
    told(here, "stays", "Started", "Started container c")


def test_good_probes_of_all_kinds_leave_it_alone(here: Namespace) -> None:
    ready(here, "good")
    status = here.status("good")["containerStatuses"][0]
    assert (status["restartCount"], status["started"], status["ready"]) == (0, True, True)
    assert not [m for r, m in here.events("good") if r == "Killing"]


def test_startup_probes(here: Namespace) -> None:
    told(here, "bad-start", "Unhealthy", r"Startup probe failed: .*")
    told(here, "bad-start", "Killing", "Container c failed startup probe, will be restarted")
    here.until(lambda: "running" in state(here, "slow-start"), "a start")
    status = here.status("slow-start")["containerStatuses"][0]
    assert (status["started"], status["ready"], status["restartCount"]) == (False, False, 0)
    assert condition(here, "slow-start", "Ready")["reason"] == "ContainersNotReady"
    here.kubectl("exec", "slow-start", "--", "touch", "/s/go")
    ready(here, "slow-start")
    status = here.status("slow-start")["containerStatuses"][0]
    assert (status["started"], status["restartCount"]) == (True, 0), "liveness waits for the startup probe"


def test_readiness_gates(here: Namespace) -> None:
    here.until(lambda: condition(here, "gated", "ContainersReady")["status"] == "True", "its containers")
    closed = condition(here, "gated", "Ready")
    assert (closed["status"], closed["reason"]) == ("False", "ReadinessGatesNotReady")
    assert closed["message"] == f'corresponding condition of pod readiness gate "{GATE}" does not exist.'
    patch = f'{{"status": {{"conditions": [{{"type": "{GATE}", "status": "True"}}]}}}}'
    here.kubectl("patch", "pod", "gated", "--subresource=status", "-p", patch)
    ready(here, "gated")


def test_post_start_hooks(here: Namespace) -> None:
    told(here, "hook-fails", "FailedPostStartHook", r"PostStartHook failed.*")
    told(here, "hook-fails", "Killing", "FailedPostStartHook.*")
    here.until(lambda: here.status("hook-fails")["containerStatuses"][0]["restartCount"], "a restart")
    here.until(lambda: "running" in state(here, "hook-first"), "a start")
    assert condition(here, "hook-first", "Ready")["status"] == "False"
    here.kubectl("exec", "hook-first", "--", "touch", "/s/go")
    ready(here, "hook-first")


def test_pre_stop_hooks_run_before_sigterm(here: Namespace) -> None:
    ready(here, "pre-stop", "pre-sleep")
    following = {name: here.start("logs", "-f", name) for name in ("pre-stop", "pre-sleep")}
    begun = float(here.kubectl("exec", "pre-sleep", "--", "date", "+%s.%N"))
    here.kubectl("delete", "pod", *following, "--timeout=20s")
    said = {name: process.communicate(timeout=20)[0] for name, process in following.items()}
    assert said["pre-stop"] == "hook\nterm\n"
    assert float(said["pre-sleep"]) - begun >= 1
    told(here, "pre-stop", "Killing", "Stopping container c")


def test_a_deadline_ends_a_pod(here: Namespace) -> None:
    status = ended(here, "late", "Failed")
    message = "Pod was active on the node longer than the specified deadline"
    assert (status["reason"], status["message"]) == ("DeadlineExceeded", message)
    told(here, "late", "DeadlineExceeded", message)
    here.until(lambda: "terminated" in state(here, "late"), "the container's end")


def test_what_cannot_be_configured_is_told_and_heals(here: Namespace) -> None:
    message = waits(here, "non-root", "CreateContainerConfigError")
    assert message.startswith("container has runAsNonRoot and image will run as root (pod: ")
    assert waits(here, "needs-map", "CreateContainerConfigError") == 'configmap "late-map" not found'
    told(here, "needs-map", "Failed", 'Error: configmap "late-map" not found')
    told(here, "needs-volume", "FailedMount", 'MountVolume.SetUp failed for volume "m" : configmap "late-volume" .*')
    assert waits(here, "needs-volume", "ContainerCreating") == ""
    here.kubectl("create", "configmap", "late-map", "--from-literal=word=here")
    here.kubectl("create", "configmap", "late-volume", "--from-literal=word=there")
    ready(here, "needs-map", "needs-volume")
    assert here.kubectl("logs", "needs-map") == "here\n"
    assert here.kubectl("logs", "needs-volume") == "there"


def test_a_sidecar_is_restarted_under_any_policy(here: Namespace) -> None:
    ready(here, "side-crashes")
    here.until(lambda: here.status("side-crashes")["initContainerStatuses"][0]["restartCount"] == 1, "a restart")
    ready(here, "side-crashes")
    assert state(here, "side-crashes", "side", kind="lastState")["terminated"]["exitCode"] == 7
    assert here.status("side-crashes")["containerStatuses"][0]["restartCount"] == 0


def test_pods_go_at_any_stage(here: Namespace) -> None:
    here.until(lambda: "running" in state(here, "init-waits", "one"), "its init container")
    assert shown(here, "init-waits") == "Init:0/1"
    refused = here.kubectl("logs", "init-waits", "-c", "c", check=False)
    assert 'container "c" in pod "init-waits" is waiting to start: PodInitializing' in refused
    waits(here, "goes", "CrashLoopBackOff")
    ready(here, "deaf")
    here.kubectl("delete", "pod", "init-waits", "no-volume", "goes", "deaf", "--timeout=20s")
    here.kubectl("delete", "pod", "side-crashes", "--force", "--grace-period=0", "--timeout=20s")


def test_containers_outlive_the_kubelet(here: Namespace) -> None:
    """And whoever comes after a kubelet sees how they end."""
    ready(here, "stays", "ends-alone")
    nodes = {here.get("pod", name)["spec"]["nodeName"] for name in ("stays", "ends-alone")}
    before = here.status("stays")["containerStatuses"][0]["containerID"]
    for node in nodes:
        here.lab.lab.stop(f"kubelet-{node}", kill=True)
    for node in nodes:
        here.lab.lab.start_kubelet(node)
    here.until(lambda: here.run("exec", "ends-alone", "--", "touch", "/s/go").returncode == 0, "the new kubelet")
    ended(here, "ends-alone", "Failed")
    after = here.status("stays")["containerStatuses"][0]
    assert (after["containerID"], after["restartCount"], after["ready"]) == (before, 0, True)
