"""Pods and containers in the words of the Container Runtime Interface; pure functions.

In: objects of the API with references resolved. Out: PodSandboxConfig and ContainerConfig, as a kubelet writes them.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from kubelab.cri.proto import runtime_pb2 as cri
from kubelab.kubelet.config import Object
from kubelab.kubelet.environment import expand
from kubelab.kubelet.runtime.containerd.resources import resources
from kubelab.kubelet.runtime.contract import ContainerConfigError, ContainerSpec, Mount

UID = "io.kubernetes.pod.uid"
POD, NAMESPACE, CONTAINER = "io.kubernetes.pod.name", "io.kubernetes.pod.namespace", "io.kubernetes.container.name"

MASKED = ("/proc/asound", "/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
          "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware",
          "/sys/devices/virtual/powercap")  # fmt: skip
READONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
"""What an unprivileged container does not see, and what it does not write, of the kernel's files."""

_PROPAGATION = {
    "None": cri.PROPAGATION_PRIVATE,
    "HostToContainer": cri.PROPAGATION_HOST_TO_CONTAINER,
    "Bidirectional": cri.PROPAGATION_BIDIRECTIONAL,
}
_PROFILES = {
    "RuntimeDefault": cri.SecurityProfile.RuntimeDefault,
    "Unconfined": cri.SecurityProfile.Unconfined,
    "Localhost": cri.SecurityProfile.Localhost,
}
_SECCOMP_DIRECTORY = "/var/lib/kubelet/seccomp"


def sandbox_config(pod: Object, directory: Path, attempt: int) -> Any:
    """`directory`: the pod's own; its containers' logs lie below it."""
    meta, spec = pod["metadata"], pod["spec"]
    security = spec.get("securityContext") or {}
    return cri.PodSandboxConfig(
        metadata=cri.PodSandboxMetadata(
            name=meta["name"], uid=meta["uid"], namespace=meta["namespace"], attempt=attempt
        ),
        hostname="" if spec.get("hostNetwork") else spec.get("hostname") or meta["name"],
        log_directory=str(directory),
        port_mappings=[_port(port) for container in spec["containers"] for port in container.get("ports") or []],
        labels={**(meta.get("labels") or {}), **_pod_labels(pod)},
        annotations=meta.get("annotations") or {},
        linux=cri.LinuxPodSandboxConfig(
            cgroup_parent=cgroup(meta["uid"]),
            sysctls={entry["name"]: entry["value"] for entry in security.get("sysctls") or []},
            security_context=cri.LinuxSandboxSecurityContext(
                namespace_options=_namespaces(spec),
                privileged=any(_security(spec, container).get("privileged") for container in _all(spec)),
                supplemental_groups=_groups(spec),
                seccomp=cri.SecurityProfile(
                    profile_type=cri.SecurityProfile.RuntimeDefault
                ),  # its one program needs little
            ),
        ),
    )


def container_config(spec: ContainerSpec, image: Any, directory: Path) -> Any:
    """`image`: the one on the node; `directory`: the sandbox's. Raises ContainerConfigError."""
    container, variables = spec.container, spec.environment
    return cri.ContainerConfig(
        metadata=cri.ContainerMetadata(name=container["name"], attempt=spec.attempt),
        image=cri.ImageSpec(image=image.id),
        command=[expand(word, variables) for word in container.get("command") or []],
        args=[expand(word, variables) for word in container.get("args") or []],
        working_dir=container.get("workingDir") or "",
        envs=[cri.KeyValue(key=name, value=value) for name, value in variables.items()],
        mounts=[_mount(mount) for mount in spec.mounts],
        labels={**_pod_labels(spec.pod), CONTAINER: container["name"]},
        annotations={"io.kubernetes.container.restartCount": str(spec.attempt)},
        log_path=os.path.relpath(spec.log, directory),
        stdin=bool(container.get("stdin")),
        stdin_once=bool(container.get("stdinOnce")),
        tty=bool(container.get("tty")),
        linux=cri.LinuxContainerConfig(
            resources=resources(spec.pod, container),
            security_context=_security_context(spec.pod["spec"], container, image),
        ),
    )


def cgroup(uid: str) -> str:
    """Of a pod, where processes have theirs, too; seen from the node's root in every hierarchy."""
    return f"/kubepods/pod{uid}"


def _pod_labels(pod: Object) -> dict[str, str]:
    meta = pod["metadata"]
    return {POD: meta["name"], NAMESPACE: meta["namespace"], UID: meta["uid"]}


def _all(spec: Object) -> list[Object]:
    return [*(spec.get("initContainers") or []), *spec["containers"]]


def _port(port: Object) -> Any:
    return cri.PortMapping(
        protocol=cri.Protocol.Value(port.get("protocol") or "TCP"),
        container_port=port["containerPort"],
        host_port=port.get("hostPort") or 0,
        host_ip=port.get("hostIP") or "",
    )


def _mount(mount: Mount) -> Any:
    return cri.Mount(
        host_path=mount.source,
        container_path=mount.target,
        readonly=mount.readonly,
        propagation=_PROPAGATION[mount.propagation],
    )


def _namespaces(spec: Object) -> Any:
    shared = cri.POD if spec.get("shareProcessNamespace") else cri.CONTAINER
    return cri.NamespaceOption(
        network=cri.NODE if spec.get("hostNetwork") else cri.POD,
        pid=cri.NODE if spec.get("hostPID") else shared,
        ipc=cri.NODE if spec.get("hostIPC") else cri.POD,
    )


def _security(spec: Object, container: Object) -> Object:
    """The container's settings over those of its pod."""
    return {**(spec.get("securityContext") or {}), **(container.get("securityContext") or {})}


def _security_context(spec: Object, container: Object, image: Any) -> Any:
    security = _security(spec, container)
    _refuse_root(security, container, image)
    privileged = bool(security.get("privileged"))
    unmasked = privileged or security.get("procMount") == "Unmasked"
    capabilities = security.get("capabilities") or {}
    user = security.get("runAsUser")
    if user is None and security.get("runAsGroup") is not None:
        user = image.uid.value  # CRI takes a group beside a user only
    context = cri.LinuxContainerSecurityContext(
        privileged=privileged,
        capabilities=cri.Capability(
            add_capabilities=capabilities.get("add") or [], drop_capabilities=capabilities.get("drop") or []
        ),
        namespace_options=_namespaces(spec),
        readonly_rootfs=bool(security.get("readOnlyRootFilesystem")),
        no_new_privs=security.get("allowPrivilegeEscalation") is False,
        supplemental_groups=_groups(spec),
        masked_paths=() if unmasked else MASKED,
        readonly_paths=() if unmasked else READONLY,
        seccomp=_seccomp(security),
    )
    if (profile := security.get("appArmorProfile") or {}).get("type") == "Localhost":
        # The runtime's default is none: a lab does without AppArmor. For one by name it says so.
        context.apparmor.CopyFrom(_profile(profile))
    if user is not None:
        context.run_as_user.value = user
    elif image.username:
        context.run_as_username = image.username
    elif image.HasField("uid"):
        context.run_as_user.value = image.uid.value
    if security.get("runAsGroup") is not None:
        context.run_as_group.value = security["runAsGroup"]
    return context


def _refuse_root(security: Object, container: Object, image: Any) -> None:
    if not security.get("runAsNonRoot"):
        return
    user = security.get("runAsUser")
    name = container["name"]
    if user is None and image.username:
        raise ContainerConfigError(
            f"container has runAsNonRoot and image has non-numeric user ({image.username}), cannot verify user is "
            f'non-root (container: "{name}")'
        )
    if user == 0:
        raise ContainerConfigError(f'container\'s runAsUser breaks non-root policy (container: "{name}")')
    if user is None and image.uid.value == 0:
        raise ContainerConfigError(f'container has runAsNonRoot and image will run as root (container: "{name}")')


def _groups(spec: Object) -> list[int]:
    security = spec.get("securityContext") or {}
    groups = list(security.get("supplementalGroups") or [])
    return [*groups, security["fsGroup"]] if security.get("fsGroup") is not None else groups


def _seccomp(security: Object) -> Any:
    return _profile(security.get("seccompProfile") or {"type": "Unconfined"}, _SECCOMP_DIRECTORY)


def _profile(wanted: Object, directory: str = "") -> Any:
    local = os.path.join(directory, wanted["localhostProfile"]) if wanted["type"] == "Localhost" else ""
    return cri.SecurityProfile(profile_type=_PROFILES[wanted["type"]], localhost_ref=local)
