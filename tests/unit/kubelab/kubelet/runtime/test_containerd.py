"""The containerd runtime without containerd: choice, descriptions, outcomes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kubelab.cri.proto import runtime_pb2 as cri
from kubelab.kubelet.runtime.containerd import describe
from kubelab.kubelet.runtime.containerd.choice import choose
from kubelab.kubelet.runtime.containerd.resources import resources
from kubelab.kubelet.runtime.containerd.session import exit_code
from kubelab.kubelet.runtime.contract import ContainerConfigError, ContainerSpec, LaunchError, Mount, Sandbox
from kubelab.kubelet.streaming.channels import exited, failed

DIRECTORY = Path("/var/lib/kubelet/pods/u")


def pod(*images: str, **spec: Any) -> dict[str, Any]:
    containers = [{"name": f"c{number}", "image": image} for number, image in enumerate(images)]
    return {"metadata": {"name": "p", "namespace": "n", "uid": "u", "labels": {"app": "x"}, "annotations": {"k": "v"}},
            "spec": {"containers": containers, **spec}}  # fmt: skip


@pytest.mark.parametrize(
    ("wanted", "runtime"),
    [
        (pod("mine:1"), "containerd"),
        (pod("mine:1", "nginx"), "containerd"),
        (pod("nginx"), "process"),
        (pod("cilium"), "process"),
        (pod("quay.io/cilium/operator:v1"), "process"),
        (pod("ciliumlike"), "containerd"),
        (pod("unknown:1"), "containerd"),
        (pod("mine:1", runtimeClassName="process"), "process"),
        (pod("nginx", runtimeClassName="runc"), "containerd"),
        (pod("nginx", initContainers=[{"name": "i", "image": "mine:1"}]), "containerd"),
    ],
)
async def test_which_runtime_a_pod_gets(wanted: dict[str, Any], runtime: str) -> None:
    async def imported(image: str) -> bool:
        return image == "mine:1"

    assert await choose(wanted, imported, lambda image: image == "nginx") == runtime


def test_a_sandbox() -> None:
    port = {"containerPort": 80, "hostPort": 8080, "protocol": "UDP", "hostIP": "::1"}
    described = pod("a", hostname="h", shareProcessNamespace=True)
    described["spec"]["containers"][0] |= {"ports": [port], "securityContext": {"privileged": True}}
    config = describe.sandbox_config(described, DIRECTORY, 3)
    assert (config.metadata.uid, config.metadata.attempt, config.hostname) == ("u", 3, "h")
    assert config.labels["app"] == "x"
    assert config.labels[describe.UID] == "u"
    assert config.annotations["k"] == "v"
    assert (config.port_mappings[0].protocol, config.port_mappings[0].host_port) == (cri.UDP, 8080)
    security = config.linux.security_context
    assert security.privileged
    assert security.namespace_options.pid == cri.POD
    host = describe.sandbox_config(pod("a", hostNetwork=True, hostPID=True), DIRECTORY, 0)
    assert host.hostname == ""
    options = host.linux.security_context.namespace_options
    assert (options.network, options.pid, options.ipc) == (cri.NODE, cri.NODE, cri.POD)


def container(image: Any = None, **fields: Any) -> Any:
    described = pod("a", securityContext={"fsGroup": 7, "supplementalGroups": [5], **fields.pop("pod", {})})
    spec = ContainerSpec(
        pod=described,
        container={"name": "c0", "image": "a", **fields},
        attempt=2,
        sandbox=Sandbox("s", "/netns", ("10.0.0.1",)),
        environment={"WHO": "me"},
        directory=DIRECTORY,
        log=DIRECTORY / "containers/c0/2.log",
        mounts=(Mount("/from", "/to", readonly=True, propagation="HostToContainer"),),
    )
    return describe.container_config(spec, image or cri.Image(id="sha256:1"), DIRECTORY)


def test_a_container() -> None:
    config = container(command=["echo", "$(WHO)", "$$(WHO)"], args=["$(NOBODY)"], tty=True)
    assert list(config.command) == ["echo", "me", "$(WHO)"]
    assert list(config.args) == ["$(NOBODY)"]
    assert config.image.image == "sha256:1"
    assert config.log_path == "containers/c0/2.log"
    assert config.mounts[0].propagation == cri.PROPAGATION_HOST_TO_CONTAINER
    assert config.tty
    security = config.linux.security_context
    assert list(security.supplemental_groups) == [5, 7]
    assert "/proc/kcore" in security.masked_paths
    assert security.seccomp.profile_type == cri.SecurityProfile.Unconfined
    assert not security.HasField("run_as_user")


def test_security_of_container_over_that_of_pod_over_that_of_image() -> None:
    image = cri.Image(id="sha256:1", uid=cri.Int64Value(value=100))
    assert container(image).linux.security_context.run_as_user.value == 100
    assert container(image, pod={"runAsUser": 3}).linux.security_context.run_as_user.value == 3
    both = container(image, pod={"runAsUser": 3}, securityContext={"runAsUser": 4, "capabilities": {"drop": ["ALL"]}})
    assert both.linux.security_context.run_as_user.value == 4
    assert list(both.linux.security_context.capabilities.drop_capabilities) == ["ALL"]
    group = container(pod={"runAsGroup": 9}).linux.security_context
    assert (group.run_as_user.value, group.run_as_group.value) == (0, 9)
    assert list(container(securityContext={"privileged": True}).linux.security_context.masked_paths) == []


@pytest.mark.parametrize(
    ("image", "security", "words"),
    [
        (cri.Image(id="1"), {}, "image will run as root"),
        (cri.Image(id="1", username="web"), {}, r"non-numeric user \(web\)"),
        (cri.Image(id="1", uid=cri.Int64Value(value=5)), {"runAsUser": 0}, "breaks non-root policy"),
    ],
)
def test_run_as_non_root(image: Any, security: dict[str, Any], words: str) -> None:
    with pytest.raises(ContainerConfigError, match=words):
        container(image, securityContext={"runAsNonRoot": True, **security})
    container(cri.Image(id="1", uid=cri.Int64Value(value=5)), securityContext={"runAsNonRoot": True})


def test_how_a_streamed_command_ended() -> None:
    assert exit_code(json.dumps(exited(0)).encode()) == 0
    assert exit_code(json.dumps(exited(7)).encode()) == 7
    assert exit_code(b"") == 1
    with pytest.raises(LaunchError, match="no such file"):
        exit_code(json.dumps(failed("no such file")).encode())


@pytest.mark.parametrize(
    ("quality", "requests", "limits", "expected"),
    [
        ("Guaranteed", {}, {"cpu": "500m", "memory": "64Mi"}, (512, 50000, 64 << 20, -997)),
        ("BestEffort", {}, {}, (2, 0, 0, 1000)),
        ("Burstable", {"cpu": "1m"}, {"cpu": "1m"}, (2, 1000, 0, 999)),
        ("Burstable", {"cpu": "2"}, {"memory": "1G"}, (2048, 0, 10**9, 999)),
    ],
)
def test_resources(quality: str, requests: dict[str, str], limits: dict[str, str], expected: tuple[int, ...]) -> None:
    wanted = resources({"status": {"qosClass": quality}}, {"resources": {"requests": requests, "limits": limits}})
    found = (wanted.cpu_shares, wanted.cpu_quota, wanted.memory_limit_in_bytes)
    assert found == expected[:3]
    # A limit of memory is a request, too: the score falls by its share of the machine's memory.
    assert wanted.oom_score_adj == expected[3] or (quality == "Burstable" and 3 <= wanted.oom_score_adj < expected[3])
