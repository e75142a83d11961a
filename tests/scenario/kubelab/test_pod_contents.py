"""What containers find inside, as kubectl's users see it: environment, volumes and their changes, identity, names."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from scenario.kubelab.small_lab import Namespace, SmallLab

pytestmark = pytest.mark.scenario
NAMESPACE = "pod-contents"
FOREVER = ["sh", "-c", "exec sleep 10000"]

Object = dict[str, Any]


def pod(name: str, *, container: Object, **spec: Any) -> Object:
    meta = {"name": name, "labels": {"app": "inside", "tier": "old"}, "annotations": {"note": '{"a": "b"}'}}
    main = {"name": "c", "image": "test", "command": FOREVER, **container}
    spec = {"terminationGracePeriodSeconds": 0, "containers": [main], **spec}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec}


def field(path: str) -> Object:
    return {"valueFrom": {"fieldRef": {"fieldPath": path}}}


ENV: list[Object] = [
    {"name": "KEY", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "a"}}},
    {"name": "HUSH", "valueFrom": {"secretKeyRef": {"name": "hidden", "key": "key"}}},
    {"name": "NOT", "valueFrom": {"secretKeyRef": {"name": "absent", "key": "key", "optional": True}}},
    {"name": "POD", **field("metadata.name")},
    {"name": "TIER", **field("metadata.labels['tier']")},
    {"name": "IP", **field("status.podIP")},
    {"name": "CPU", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}},
    {"name": "MEMORY", "valueFrom": {"resourceFieldRef": {"resource": "requests.memory", "divisor": "1Mi"}}},
    {"name": "BOTH", "value": "$(KEY)-$(POD)-$(missing)-$$(KEY)"},
]
TOKEN = {"serviceAccountToken": {"audience": "vault", "expirationSeconds": 600, "path": "token"}}
LABELS = {"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}
NOTES = {"path": "notes", "fieldRef": {"fieldPath": "metadata.annotations"}}
VOLUMES: list[Object] = [
    {"name": "map", "configMap": {"name": "settings"}},
    {"name": "info", "downwardAPI": {"items": [LABELS, NOTES]}},
    {"name": "all", "projected": {"sources": [
        TOKEN, {"secret": {"name": "hidden", "items": [{"key": "key", "path": "deep/key", "mode": 0o400}]}}]}},
    {"name": "fast", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
    {"name": "plain", "emptyDir": {}},
]  # fmt: skip
MOUNTS: list[Object] = [
    {"name": "map", "mountPath": "/v/map"}, {"name": "map", "mountPath": "/v/one.conf", "subPath": "a"},
    {"name": "info", "mountPath": "/v/info"}, {"name": "all", "mountPath": "/v/all", "readOnly": True},
    {"name": "fast", "mountPath": "/v/fast"}, {"name": "plain", "mountPath": "/v/plain"},
    {"name": "plain", "mountPath": "/v/mine", "subPathExpr": "logs/$(POD)"},
]  # fmt: skip
OBJECTS: list[Object] = [
    {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}, "data": {"a": "1", "b": "2"}},
    {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "hidden"}, "stringData": {"key": "hush"}},
    pod("environment", container={
        "env": ENV, "envFrom": [{"prefix": "CM_", "configMapRef": {"name": "settings"}}],
        "resources": {"limits": {"cpu": "1500m"}, "requests": {"memory": "64Mi"}}}),
    pod("volumes", volumes=VOLUMES, container={"volumeMounts": MOUNTS, "env": [
        {"name": "POD", **field("metadata.name")}]}),
    pod("user", volumes=[{"name": "s", "emptyDir": {}}], container={
        "volumeMounts": [{"name": "s", "mountPath": "/s"}],
        "securityContext": {"readOnlyRootFilesystem": True, "allowPrivilegeEscalation": False,
                            "capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]}}},
        securityContext={"runAsUser": 1234, "runAsGroup": 2345, "fsGroup": 3456, "supplementalGroups": [4567],
                         "runAsNonRoot": True}),
    pod("root", container={}),
    {**pod("talks", container={"command": ["sh", "-c", "seq -f 'line %g' 10; exec sleep 10000"]}, initContainers=[
        {"name": "first", "image": "test", "command": ["echo", "one"]},
        {"name": "side", "image": "test", "command": ["sh", "-c", "echo aside; exec sleep 10000"],
         "restartPolicy": "Always"}]), "metadata": {"name": "talks", "labels": {"app": "talks"}}},
    pod("named", container={}, hostname="me", subdomain="friends",
        hostAliases=[{"ip": "192.0.2.7", "hostnames": ["seven.test", "seven"]}]),
]  # fmt: skip


@pytest.fixture(scope="module")
def here(small_lab: SmallLab) -> Iterator[Namespace]:
    with small_lab.namespace(NAMESPACE) as made:
        made.apply(*OBJECTS)
        made.kubectl("wait", "--for=condition=Ready", "pod", "--all", "--timeout=40s")
        yield made


def inside(here: Namespace, name: str, script: str) -> str:
    return here.kubectl("exec", name, "--", "sh", "-c", script)


def test_environment(here: Namespace) -> None:
    seen = dict(line.split("=", 1) for line in inside(here, "environment", "env").splitlines() if "=" in line)
    wanted = {"KEY": "1", "HUSH": "hush", "POD": "environment", "TIER": "old", "CPU": "2", "MEMORY": "64",
              "BOTH": "1-environment-$(missing)-$(KEY)", "CM_a": "1", "CM_b": "2", "HOSTNAME": "environment",
              "IP": here.status("environment")["podIP"]}  # fmt: skip
    assert {name: seen.get(name) for name in wanted} == wanted
    assert "NOT" not in seen
    assert {"KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"} <= seen.keys()


def test_volumes_follow_what_they_show(here: Namespace) -> None:
    assert inside(here, "volumes", "cat /v/map/a /v/one.conf; ls /v/map") == "11a\nb\n"
    assert inside(here, "volumes", "cat /v/info/labels") == 'app="inside"\ntier="old"'
    assert 'note="{\\"a\\": \\"b\\"}"' in inside(here, "volumes", "cat /v/info/notes").splitlines()
    here.kubectl("label", "pod", "volumes", "tier=new", "--overwrite")
    here.kubectl("patch", "configmap", "settings", "-p", '{"data": {"a": "changed", "b": null, "c": "3"}}')
    here.until(lambda: inside(here, "volumes", "cat /v/map/a; ls /v/map") == "changeda\nc\n", "the ConfigMap's change")
    labels = 'app="inside"\ntier="new"'
    here.until(lambda: inside(here, "volumes", "cat /v/info/labels") == labels, "the new label")
    assert inside(here, "volumes", "cat /v/one.conf") == "1", "a subPath stays what it was"


def test_volumes_of_other_kinds(here: Namespace) -> None:
    assert inside(here, "volumes", "cat /v/all/deep/key; stat -L -c ' %a' /v/all/deep/key") == "hush 400\n"
    assert here.run("exec", "volumes", "--", "touch", "/v/all/x").returncode == 1
    payload = inside(here, "volumes", "cat /v/all/token").split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    assert claims["aud"] == ["vault"]
    assert claims["kubernetes.io"]["pod"]["name"] == "volumes"
    assert claims["sub"] == f"system:serviceaccount:{NAMESPACE}:default"
    assert inside(here, "volumes", "stat -f -c %T /v/fast; df -k --output=size /v/fast | tail -1").split() == [
        "tmpfs", "1024"]  # fmt: skip
    assert inside(here, "volumes", "echo x > /v/mine/log; cat /v/plain/logs/volumes/log") == "x\n"
    own = "/var/run/secrets/kubernetes.io/serviceaccount"
    assert inside(here, "volumes", f"cat {own}/namespace; ls {own}").endswith("ca.crt\nnamespace\ntoken\n")


def status_of(here: Namespace, name: str, process: str) -> dict[str, list[str]]:
    lines = inside(here, name, f"cat /proc/{process}/status").splitlines()
    return {key: value.split() for key, value in (line.split(":", 1) for line in lines)}


@pytest.mark.parametrize("process", ["1", "self"])
def test_identity(here: Namespace, process: str) -> None:
    """Of the container's process, and of a command that kubectl runs beside it."""
    user = status_of(here, "user", process)
    assert (user["Uid"], user["Gid"]) == (["1234"] * 4, ["2345"] * 4)
    assert sorted(user["Groups"]) == ["2345", "3456", "4567"]
    assert (user["CapBnd"], user["CapEff"]) == (["0000000000000400"], ["0000000000000000"])
    assert user["NoNewPrivs"] == ["1"]
    root = status_of(here, "root", process)
    assert root["Uid"] == ["0"] * 4
    assert root["CapEff"] == root["CapBnd"] == ["00000000a80425fb"], "what container runtimes leave"


def test_files_of_a_user(here: Namespace) -> None:
    assert inside(here, "user", "touch /s/x && stat -c '%u %g' /s/x") == "1234 3456\n"
    refused = here.kubectl("exec", "user", "--", "sh", "-c", "touch /tmp/x", check=False)
    assert "Read-only file system" in refused


def test_names(here: Namespace) -> None:
    full = f"me.friends.{NAMESPACE}.svc.cluster.local"
    assert inside(here, "named", "hostname; hostname -f; cat /etc/hostname; echo $HOSTNAME") == f"me\n{full}\nme\nme\n"
    hosts = [line.split() for line in inside(here, "named", "cat /etc/hosts").splitlines()]
    assert ["192.0.2.7", "seven.test", "seven"] in hosts
    assert [here.status("named")["podIP"], full, "me"] in hosts


def test_log_flags(here: Namespace) -> None:
    """What of a log is shown: lines, bytes, since when, whose, with which marks."""

    def logs(*words: str) -> list[str]:
        return here.kubectl("logs", *words).splitlines()

    assert logs("talks", "-c", "c", "--tail=2") == ["line 9", "line 10"]
    assert here.kubectl("logs", "talks", "-c", "c", "--limit-bytes=10") == "line 1\nlin"
    moment, line = logs("talks", "-c", "c", "--timestamps", "--tail=1")[0].split(" ", 1)
    assert line == "line 10"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z", moment)
    assert len(logs("talks", "-c", "c", f"--since-time={moment[:19]}Z")) == 10
    assert logs("talks", "-c", "c", "--since-time=2999-01-01T00:00:00Z") == []
    assert len(logs("talks", "-c", "c", "--since=1h")) == 10
    marked = logs("-l", "app=talks", "--all-containers", "--prefix", "--tail=1")
    assert sorted(marked) == ["[pod/talks/c] line 10", "[pod/talks/first] one", "[pod/talks/side] aside"]
    assert 'previous terminated container "c" in pod "talks" not found' in here.kubectl(
        "logs", "talks", "-c", "c", "--previous", check=False
    )
