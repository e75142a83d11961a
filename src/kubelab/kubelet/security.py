"""What a container may: users, groups, capabilities, by the security contexts of its pod and its own.

In: pod and container. Out: ``Security``; ContainerConfigError for what contradicts itself.
"""

from __future__ import annotations

from dataclasses import dataclass

from kubelab.kubelet.config import Object
from kubelab.kubelet.runtime.contract import ContainerConfigError

_ALL = """
CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE
NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN
SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE
MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE
"""
_KEPT = """
CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP SETPCAP NET_BIND_SERVICE SYS_CHROOT KILL
AUDIT_WRITE
"""
CAPABILITIES = tuple(_ALL.split())
"""By number (capabilities(7))."""

DEFAULT = frozenset(_KEPT.split())
"""What container runtimes leave to a container that says nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Security:
    """``capabilities`` None: all there are."""

    uid: int = 0
    gid: int = 0
    groups: tuple[int, ...] = ()
    capabilities: frozenset[str] | None = None
    no_new_privileges: bool = False
    readonly_root: bool = False

    @property
    def dropped(self) -> tuple[int, ...]:
        """Numbers of the capabilities that it must not have."""
        kept = self.capabilities
        return () if kept is None else tuple(n for n, name in enumerate(CAPABILITIES) if name not in kept)


def security(pod: Object, container: Object, user: tuple[int, int]) -> Security:
    """``user``: uid and gid, the pod's or the image's. Raises ContainerConfigError."""
    shared, own = pod["spec"].get("securityContext") or {}, container.get("securityContext") or {}
    merged = {**shared, **own}
    uid, gid = user
    if merged.get("runAsNonRoot") and uid == 0:
        meta = pod["metadata"]
        where = f'(pod: "{meta["name"]}_{meta["namespace"]}({meta["uid"]})", container: {container["name"]})'
        if "runAsUser" in merged:
            raise ContainerConfigError(f"container's runAsUser breaks non-root policy {where}")
        raise ContainerConfigError(f"container has runAsNonRoot and image will run as root {where}")
    groups = [gid, *(shared.get("supplementalGroups") or [])]
    if shared.get("fsGroup") is not None:
        groups.append(int(shared["fsGroup"]))
    return Security(
        uid=uid,
        gid=gid,
        groups=tuple(dict.fromkeys(int(group) for group in groups)),
        capabilities=None if own.get("privileged") else _capabilities(own.get("capabilities") or {}),
        no_new_privileges=own.get("allowPrivilegeEscalation") is False,
        readonly_root=bool(own.get("readOnlyRootFilesystem")),
    )


def _capabilities(wanted: Object) -> frozenset[str]:
    add = {name.upper().removeprefix("CAP_") for name in wanted.get("add") or []}
    drop = {name.upper().removeprefix("CAP_") for name in wanted.get("drop") or []}
    if unknown := sorted((add | drop) - {*CAPABILITIES, "ALL"}):
        raise ContainerConfigError(f"securityContext.capabilities: unknown capability {unknown[0]!r}")
    kept = set(CAPABILITIES) if "ALL" in add else set() if "ALL" in drop else set(DEFAULT)
    return frozenset((kept - drop) | (add - {"ALL"}))
