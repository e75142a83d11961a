"""What a container finds inside: volumes, environment, its own layer, probes, the stand-in."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from kernel.kubelab.conftest import KubeletUnderTest, eventually
from kernel.kubelab.test_pods import shell

pytestmark = pytest.mark.kernel
CONFIGMAPS = "/api/v1/namespaces/default/configmaps"
SECRETS = "/api/v1/namespaces/default/secrets"


def on_machine(path: str) -> bool:
    return Path(path).exists()


async def test_volumes_and_environment(kubelet: KubeletUnderTest) -> None:
    await kubelet.api.put(
        CONFIGMAPS, {"metadata": {"name": "settings", "namespace": "default"}, "data": {"a": "1", "b": "2"}}
    )
    secret = {"data": {"key": base64.b64encode(b"hush").decode()}}
    await kubelet.api.put(SECRETS, {"metadata": {"name": "secret", "namespace": "default"}, **secret})
    volumes = [
        {"name": "config", "configMap": {"name": "settings", "items": [{"key": "b", "path": "deep/b"}]}},
        {"name": "secret", "secret": {"secretName": "secret", "defaultMode": 0o400}},
        {"name": "info", "downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
        {"name": "none", "configMap": {"name": "absent", "optional": True}},
    ]
    mounts = [{"name": v["name"], "mountPath": f"/volumes/{v['name']}", "readOnly": True} for v in volumes]
    env = [
        {"name": "A", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "a"}}},
        {"name": "S", "valueFrom": {"secretKeyRef": {"name": "secret", "key": "key"}}},
        {"name": "N", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
        {"name": "X", "value": "$(A)-$(N)-$(missing)-$$(A)"},
    ]
    script = (
        "cd /volumes; cat config/deep/b secret/key info/labels; ls none; echo; echo $X $S $b;"
        "stat -L -c %a secret/key; touch config/x || echo readonly; cat $T/token $T/namespace"
    )
    container = shell(
        f"T=/var/run/secrets/kubernetes.io/serviceaccount; {script}",
        env=env, envFrom=[{"configMapRef": {"name": "settings"}}], volumeMounts=mounts,
    )  # fmt: skip
    spec = {"hostNetwork": True, "restartPolicy": "Never", "volumes": volumes, "containers": [container],
            "automountServiceAccountToken": True}  # fmt: skip
    await kubelet.api.pod("a", "node1", spec, labels={"app": "x"})
    await kubelet.until_phase("a", "Succeeded")
    log = await kubelet.logs("a")
    assert '2hushapp="x"\n' in log
    assert "1-node1-$(missing)-$(A) hush 2\n400\n" in log
    assert "readonly" in log
    assert log.endswith("a-tokendefault")


async def test_missing_config_map_is_told_and_waited_for(kubelet: KubeletUnderTest) -> None:
    env = [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "late", "key": "a"}}}]
    await kubelet.api.pod("a", "node1", {"hostNetwork": True, "containers": [shell("exec sleep 1000", env=env)]})

    def refused() -> bool:
        states = kubelet.status("a").get("containerStatuses") or [{}]
        return states[0].get("state", {}).get("waiting", {}).get("reason") == "CreateContainerConfigError"

    await kubelet.api.until(refused)
    assert '"late" not found' in kubelet.status("a")["containerStatuses"][0]["state"]["waiting"]["message"]
    await kubelet.api.put(CONFIGMAPS, {"metadata": {"name": "late", "namespace": "default"}, "data": {"a": "1"}})
    await kubelet.until_ready("a")


async def test_config_map_volume_follows_changes(kubelet: KubeletUnderTest) -> None:
    meta = {"name": "settings", "namespace": "default"}
    await kubelet.api.put(CONFIGMAPS, {"metadata": dict(meta), "data": {"a": "old"}})
    script = "cat /c/a; echo; until grep -q new /c/a; do sleep 0.05; done; cat /c/a"
    container = shell(script, volumeMounts=[{"name": "c", "mountPath": "/c"}])
    spec = {"hostNetwork": True, "restartPolicy": "Never", "containers": [container],
            "volumes": [{"name": "c", "configMap": {"name": "settings"}}]}  # fmt: skip
    await kubelet.api.pod("a", "node1", spec)
    await kubelet.until_ready("a")

    async def read() -> bool:
        return await kubelet.logs("a") == "old\n"

    await eventually(read)
    await kubelet.api.put(CONFIGMAPS, {"metadata": dict(meta), "data": {"a": "new"}})
    await kubelet.until_phase("a", "Succeeded")
    assert await kubelet.logs("a") == "old\nnew"


async def test_writes_stay_in_the_container(kubelet: KubeletUnderTest) -> None:
    marker = f"/etc/{kubelet.ground.name}"
    await kubelet.api.pod(
        "a", "node1", {"hostNetwork": True, "containers": [shell(f"touch {marker} && exec sleep 1000")]}
    )
    await kubelet.until_ready("a")
    assert (await kubelet.execute("a", "ls", marker)).code == 0
    assert not on_machine(marker)
    assert await kubelet.ground.sh(f"ls {marker} 2>/dev/null || echo no") == "no\n"


async def test_host_paths_are_the_nodes_and_mounts_propagate(kubelet: KubeletUnderTest) -> None:
    volumes = [{"name": "v", "hostPath": {"path": "/var/run/cilium/x", "type": "DirectoryOrCreate"}}]
    mounts = [{"name": "v", "mountPath": "/var/run/cilium/x", "mountPropagation": "Bidirectional"}]
    script = "cd /var/run/cilium/x && mkdir t && mount -t tmpfs none t && touch t/seen && exec sleep 1000"
    spec = {
        "hostNetwork": True,
        "volumes": volumes,
        "containers": [shell(script, volumeMounts=mounts, securityContext={"privileged": True})],
    }
    await kubelet.api.pod("a", "node1", spec)
    await kubelet.until_ready("a")
    await kubelet.ground.sh("until [ -e /run/cilium/x/t/seen ]; do sleep 0.02; done")
    other = [{"name": "v", "mountPath": "/v", "mountPropagation": "HostToContainer"}]
    spec = {"hostNetwork": True, "volumes": volumes, "containers": [shell("exec sleep 1000", volumeMounts=other)]}
    await kubelet.api.pod("b", "node1", spec)
    await kubelet.until_ready("b")
    await kubelet.ground.sh("mkdir /run/cilium/x/u; mount -t tmpfs none /run/cilium/x/u; touch /run/cilium/x/u/later")
    assert (await kubelet.execute("b", "ls", "/v/t/seen", "/v/u/later")).code == 0
    assert not on_machine("/run/cilium/x")


async def test_probes(kubelet: KubeletUnderTest) -> None:
    script = "mkdir /tmp/w; cd /tmp/w; exec python3 -m http.server 8099 --bind 127.0.0.1"
    get = {"path": "/ready", "port": "web", "host": "127.0.0.1"}
    container = shell(
        script,
        ports=[{"name": "web", "containerPort": 8099}],
        startupProbe={"tcpSocket": {"port": 8099, "host": "127.0.0.1"}, "periodSeconds": 1, "failureThreshold": 20},
        readinessProbe={"httpGet": get, "periodSeconds": 1, "failureThreshold": 1},
        livenessProbe={
            "exec": {"command": ["sh", "-c", "! test -e /tmp/w/dead"]},
            "periodSeconds": 1,
            "failureThreshold": 1,
        },
    )
    await kubelet.api.pod("a", "node1", {"hostNetwork": True, "containers": [container]})
    await kubelet.api.until(lambda: (kubelet.status("a").get("containerStatuses") or [{}])[0].get("started"))
    await kubelet.api.until(lambda: kubelet.api.events("Unhealthy"))
    assert "statuscode: 404" in kubelet.api.events("Unhealthy")[0]
    assert not kubelet.status("a")["containerStatuses"][0]["ready"]
    await kubelet.execute("a", "touch", "/tmp/w/ready")
    await kubelet.until_ready("a")
    await kubelet.execute("a", "touch", "/tmp/w/dead")
    await kubelet.api.until(lambda: kubelet.status("a")["containerStatuses"][0]["restartCount"] == 1)
    await kubelet.api.until(lambda: any("liveness" in message.lower() for message in kubelet.api.events("Killing")))


async def test_stand_in_answers_on_declared_ports(kubelet: KubeletUnderTest) -> None:
    await kubelet.ground.install_plugin()
    container = {"name": "c", "image": "example/web", "ports": [{"containerPort": 8080}],
                 "readinessProbe": {"httpGet": {"path": "/", "port": 8080}}}  # fmt: skip
    absent = {**container, "command": ["/no/such/server"], "args": ["--flag"]}
    for name, spec in (("a", container), ("b", absent)):
        await kubelet.api.pod(name, "node1", {"containers": [spec]})
        status = await kubelet.until_ready(name)
        for ip in (status["podIP"], f"[{status['podIPs'][1]['ip']}]"):
            answer = await kubelet.ground.sh(f"curl -sg --max-time 2 http://{ip}:8080/")
            assert f'"{name}"' in answer
            assert "node1" in answer
