"""Pods of the kubelet: sandbox by CNI, containers, restart, deletion."""

from __future__ import annotations

import pytest
from kernel.kubelab.conftest import KubeletUnderTest, eventually

pytestmark = pytest.mark.kernel


def shell(script: str, **more: object) -> dict[str, object]:
    return {"name": "c", "image": "test", "command": ["sh", "-c", script], **more}


async def answers(kubelet: KubeletUnderTest, pod: str) -> bool:
    async with kubelet.http() as session, session.get(f"/containerLogs/default/{pod}/c") as response:
        return response.status == 200


async def test_host_network_pod_runs_without_a_plugin(kubelet: KubeletUnderTest) -> None:
    await kubelet.api.pod("host", "node1", {"hostNetwork": True, "containers": [shell("hostname; exec sleep 1000")]})
    status = await kubelet.until_phase("host", "Running")
    assert [ip["ip"] for ip in status["podIPs"]] == list(kubelet.ground.plan.node(1))
    node = kubelet.api.objects[("/api/v1/nodes", "node1")]
    ready = next(c for c in node["status"]["conditions"] if c["type"] == "Ready")
    assert ready["status"] == "False"
    assert "NetworkPluginNotReady" in ready["message"]


async def test_pod_gets_its_addresses_from_the_plugin(kubelet: KubeletUnderTest) -> None:
    container = shell("hostname; cat /etc/hosts; exec sleep 1000", resources={"limits": {"memory": "64Mi"}})
    await kubelet.api.pod("a", "node1", {"containers": [container], "shareProcessNamespace": True})
    await kubelet.api.until(lambda: kubelet.api.events("NetworkNotReady"))
    await kubelet.ground.install_plugin()
    status = await kubelet.until_ready("a")
    assert [ip["ip"] for ip in status["podIPs"]] == ["10.244.1.2", "fd00:10:244:1::2"]
    for ip in status["podIPs"]:
        await kubelet.ground.sh(f"ping -c1 -W2 {ip['ip']}")
    log = await kubelet.logs("a")
    assert log.splitlines()[0] == "a"
    assert "10.244.1.2\ta" in log
    await kubelet.api.delete("a")
    await kubelet.api.until(lambda: kubelet.api.get_pod("a") is None)
    left = "/run/netns/* /var/lib/cni/results/* /var/lib/kubelet/pods/* /sys/fs/cgroup/kubepods/pod*"
    left += " /run/kubelab/pods/* /run/kubelab/cgroup/*/kubepods/pod*"
    assert await kubelet.ground.sh(f"ls -d {left} 2>/dev/null || true") == ""
    calls = (await kubelet.ground.sh("cat /run/ptp.calls")).splitlines()
    assert [call.split()[0] for call in calls] == ["ADD", "DEL"]
    assert calls[1].split()[2] == "yes", "DEL must get the cached result"
    assert "K8S_POD_NAME=a" in calls[0]


async def test_failing_plugin_is_retried_and_its_words_are_told(kubelet: KubeletUnderTest) -> None:
    await kubelet.ground.sh("touch /run/ptp.fail")
    await kubelet.ground.install_plugin()
    await kubelet.api.pod("a", "node1", {"containers": [shell("exec sleep 1000")]})
    await kubelet.api.until(lambda: kubelet.api.events("FailedCreatePodSandBox"))
    assert "try again later: the network is not there yet" in kubelet.api.events("FailedCreatePodSandBox")[0]
    await kubelet.ground.sh("rm /run/ptp.fail")
    await kubelet.until_ready("a")
    calls = (await kubelet.ground.sh("cat /run/ptp.calls")).split()
    assert calls.count("DEL") == calls.count("ADD") - 1


async def test_init_containers_run_in_order_and_share_volumes(kubelet: KubeletUnderTest) -> None:
    mount = [{"name": "shared", "mountPath": "/shared"}]
    spec = {
        "hostNetwork": True,
        "restartPolicy": "Never",
        "volumes": [{"name": "shared", "emptyDir": {}}],
        "initContainers": [
            {**shell("echo one >> /shared/order", volumeMounts=mount), "name": "one"},
            {**shell("echo two >> /shared/order", volumeMounts=mount), "name": "two"},
        ],
        "containers": [shell("cat /shared/order; exit 3", volumeMounts=mount)],
    }
    await kubelet.api.pod("a", "node1", spec)
    status = await kubelet.until_phase("a", "Failed")
    assert status["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 3
    assert await kubelet.logs("a") == "one\ntwo\n"


async def test_completed_pod_stays_succeeded(kubelet: KubeletUnderTest) -> None:
    await kubelet.api.pod(
        "a", "node1", {"hostNetwork": True, "restartPolicy": "OnFailure", "containers": [shell("echo done")]}
    )
    status = await kubelet.until_phase("a", "Succeeded")
    assert status["containerStatuses"][0]["state"]["terminated"]["reason"] == "Completed"
    assert await kubelet.logs("a") == "done\n"


async def test_crashing_container_backs_off(kubelet: KubeletUnderTest) -> None:
    await kubelet.api.pod("a", "node1", {"hostNetwork": True, "containers": [shell("echo life; exit 7")]})

    def waiting() -> bool:
        states = kubelet.status("a").get("containerStatuses") or [{}]
        return states[0].get("state", {}).get("waiting", {}).get("reason") == "CrashLoopBackOff"

    await kubelet.api.until(waiting)
    container = kubelet.status("a")["containerStatuses"][0]
    assert container["lastState"]["terminated"]["exitCode"] == 7
    assert container["restartCount"] >= 1
    assert await kubelet.logs("a", previous="true") == "life\n"
    await kubelet.api.delete("a")
    await kubelet.api.until(lambda: kubelet.api.get_pod("a") is None)


async def test_missing_command_without_ports_is_a_start_error(kubelet: KubeletUnderTest) -> None:
    container = {"name": "c", "image": "x", "command": ["no-such-command"]}
    await kubelet.api.pod("a", "node1", {"hostNetwork": True, "restartPolicy": "Never", "containers": [container]})
    status = await kubelet.until_phase("a", "Failed")
    ended = status["containerStatuses"][0]["state"]["terminated"]
    assert ended["reason"] == "StartError"
    assert "no-such-command" in ended["message"]


async def test_kubelet_restart_adopts_running_pods_and_removes_deleted_ones(kubelet: KubeletUnderTest) -> None:
    await kubelet.ground.install_plugin()
    for name in ("stays", "goes", "ends"):
        await kubelet.api.pod(
            name,
            "node1",
            {
                "restartPolicy": "Never",
                "containers": [shell("echo up; while [ ! -e /tmp/end ]; do sleep 0.05; done; exit 9")],
            },
        )
        await kubelet.until_ready(name)
    before = kubelet.status("stays")
    await kubelet.stop(kill=True)
    goes = kubelet.api.get_pod("goes")
    assert goes is not None
    await kubelet.api._change("DELETED", "/api/v1/namespaces/default/pods", goes)
    await kubelet.start()
    await eventually(lambda: answers(kubelet, "ends"))
    await kubelet.execute("ends", "touch", "/tmp/end")
    status = await kubelet.until_phase("ends", "Failed")
    assert status["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 9, "known although not our child"
    assert (
        kubelet.status("stays")["containerStatuses"][0]["containerID"] == before["containerStatuses"][0]["containerID"]
    )

    async def detached() -> list[str]:
        calls = (await kubelet.ground.sh("cat /run/ptp.calls")).splitlines()
        return sorted(call.split("K8S_POD_NAME=")[1].split(";")[0] for call in calls if call.startswith("DEL"))

    async def both_gone() -> bool:
        return await detached() == ["ends", "goes"]

    await eventually(both_gone)
    await kubelet.api.delete("stays", grace=0)
    await kubelet.api.until(lambda: kubelet.api.get_pod("stays") is None)


async def test_what_others_say_of_a_silent_node_is_taken_back(kubelet: KubeletUnderTest) -> None:
    """A controller that did not hear a node for long writes Ready=Unknown, and that its pods are not ready."""

    def ready(collection: str, name: str) -> dict[str, str]:
        status = kubelet.api.objects[(collection, name)]["status"]
        return next(entry for entry in status["conditions"] if entry["type"] == "Ready")

    async def declare(collection: str, name: str, status: str) -> None:
        obj = kubelet.api.objects[(collection, name)]
        conditions = [*(entry for entry in obj["status"]["conditions"] if entry["type"] != "Ready")]
        conditions.append({**ready(collection, name), "status": status})
        await kubelet.api.put(collection, {**obj, "status": {**obj["status"], "conditions": conditions}})

    await kubelet.ground.install_plugin()
    await kubelet.api.pod("a", "node1", {"containers": [shell("exec sleep 1000")]})
    await kubelet.until_ready("a")
    await kubelet.api.until(lambda: ready("/api/v1/nodes", "node1")["status"] == "True")
    pods = "/api/v1/namespaces/default/pods"
    for collection, name, status in (("/api/v1/nodes", "node1", "Unknown"), (pods, "a", "False")):
        await declare(collection, name, status)
        assert ready(collection, name)["status"] == status
        await kubelet.api.until(lambda where=(collection, name): ready(*where)["status"] == "True")
