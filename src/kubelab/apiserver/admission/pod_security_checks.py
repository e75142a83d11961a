"""The checks of the Pod Security Standards.

Comes in: a level (baseline, restricted), metadata and spec of a pod. Goes out: one text per violated check, in the
words of the real server. Source: Kubernetes documentation "Pod Security Standards".
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

Object = dict[str, Any]
Check = Callable[[Object, Object], Iterator[str]]

_ADDABLE = {
    "AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE", "SETFCAP",
    "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT",
}  # fmt: skip
_SAFE_SYSCTLS = {
    "kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.tcp_syncookies", "net.ipv4.ping_group_range", "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time", "net.ipv4.tcp_fin_timeout", "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes", "net.ipv4.tcp_rmem", "net.ipv4.tcp_wmem",
}  # fmt: skip
_SELINUX = {"", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"}
_VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
_SECCOMP = ("RuntimeDefault", "Localhost")


def violations(level: str, metadata: Object, spec: Object) -> list[str]:
    checks = (*_BASELINE, *(_RESTRICTED if level == "restricted" else ()))
    found = [text for check in checks for text in check(metadata, spec)]
    if level == "restricted":  # it says the same of capabilities more strictly
        found = [text for text in found if not text.startswith("non-default capabilities")]
    return found


def _containers(spec: Object) -> Iterator[Object]:
    for kind in ("initContainers", "containers", "ephemeralContainers"):
        yield from spec.get(kind) or ()


def _security(holder: Object) -> Object:
    return holder.get("securityContext") or {}


def _named(names: Sequence[str]) -> str:
    listed = ", ".join(f'"{name}"' for name in names)
    return f"container{'s' if len(names) > 1 else ''} {listed}"


def _host_namespaces(_: Object, spec: Object) -> Iterator[str]:
    found = [f"{field}=true" for field in ("hostNetwork", "hostPID", "hostIPC") if spec.get(field)]
    if found:
        yield f"host namespaces ({', '.join(found)})"


def _host_ports(_: Object, spec: Object) -> Iterator[str]:
    ports = {c["name"]: [p["hostPort"] for p in c.get("ports") or () if p.get("hostPort")] for c in _containers(spec)}
    names = [name for name, used in ports.items() if used]
    if names:
        used = sorted({port for name in names for port in ports[name]})
        uses = "uses" if len(names) == 1 else "use"
        plural = "s" if len(used) > 1 else ""
        yield f"hostPort ({_named(names)} {uses} hostPort{plural} {', '.join(map(str, used))})"


def _host_paths(_: Object, spec: Object) -> Iterator[str]:
    names = [volume["name"] for volume in spec.get("volumes") or () if "hostPath" in volume]
    if names:
        listed = ", ".join(f'"{name}"' for name in names)
        yield f"hostPath volumes (volume{'s' if len(names) > 1 else ''} {listed})"


def _privileged(_: Object, spec: Object) -> Iterator[str]:
    names = [c["name"] for c in _containers(spec) if _security(c).get("privileged")]
    if names:
        yield f"privileged ({_named(names)} must not set securityContext.privileged=true)"


def _capabilities(_: Object, spec: Object) -> Iterator[str]:
    names, added = [], set()
    for container in _containers(spec):
        wrong = set((_security(container).get("capabilities") or {}).get("add") or ()) - _ADDABLE
        if wrong:
            names.append(container["name"])
            added |= wrong
    if names:
        listed = ", ".join(f'"{name}"' for name in sorted(added))
        what = f"must not include {listed} in securityContext.capabilities.add"
        yield f"non-default capabilities ({_named(names)} {what})"


def _proc_mount(_: Object, spec: Object) -> Iterator[str]:
    names = [c["name"] for c in _containers(spec) if _security(c).get("procMount") not in (None, "Default")]
    if names:
        wrong = sorted({_security(c)["procMount"] for c in _containers(spec) if c["name"] in names})
        listed = ", ".join(f'"{value}"' for value in wrong)
        yield f"procMount ({_named(names)} must not set securityContext.procMount to {listed})"


def _seccomp_unconfined(_: Object, spec: Object) -> Iterator[str]:
    wrong = [
        subject
        for subject, holder in (("pod", spec), *((_named([c["name"]]), c) for c in _containers(spec)))
        if (_security(holder).get("seccompProfile") or {}).get("type") == "Unconfined"
    ]
    if wrong:
        yield f'seccompProfile ({" and ".join(wrong)} must not set securityContext.seccompProfile.type to "Unconfined")'


def _selinux(_: Object, spec: Object) -> Iterator[str]:
    for subject, holder in (("pod", spec), *((_named([c["name"]]), c) for c in _containers(spec))):
        options = _security(holder).get("seLinuxOptions") or {}
        forbidden = f"seLinuxOptions ({subject} set forbidden securityContext.seLinuxOptions:"
        if options.get("type", "") not in _SELINUX:
            yield f'{forbidden} type "{options["type"]}")'
        elif options.get("user") or options.get("role"):
            yield f"{forbidden} user or role may not be set)"


def _sysctls(_: Object, spec: Object) -> Iterator[str]:
    wrong = [s["name"] for s in _security(spec).get("sysctls") or () if s["name"] not in _SAFE_SYSCTLS]
    if wrong:
        yield f"forbidden sysctls ({', '.join(wrong)})"


def _volume_types(_: Object, spec: Object) -> Iterator[str]:
    wrong = {v["name"]: k for v in spec.get("volumes") or () for k in v if k != "name" and k not in _VOLUMES}
    if wrong:
        listed = ", ".join(f'"{name}"' for name in wrong)
        kinds = ", ".join(f'"{kind}"' for kind in sorted(set(wrong.values())))
        uses = (
            f"volumes {listed} use restricted volume types"
            if len(wrong) > 1
            else f"volume {listed} uses restricted volume type"
        )
        yield f"restricted volume types ({uses} {kinds})"


def _no_escalation(_: Object, spec: Object) -> Iterator[str]:
    names = [c["name"] for c in _containers(spec) if _security(c).get("allowPrivilegeEscalation") is not False]
    if names:
        yield (
            f"allowPrivilegeEscalation != false ({_named(names)} must set "
            "securityContext.allowPrivilegeEscalation=false)"
        )


def _restricted_capabilities(_: Object, spec: Object) -> Iterator[str]:
    keeping, adding, added = [], [], set()
    for container in _containers(spec):
        capabilities = _security(container).get("capabilities") or {}
        if "ALL" not in (capabilities.get("drop") or ()):
            keeping.append(container["name"])
        wrong = set(capabilities.get("add") or ()) - {"NET_BIND_SERVICE"}
        if wrong:
            adding.append(container["name"])
            added |= wrong
    faults = []
    if keeping:
        faults.append(f'{_named(keeping)} must set securityContext.capabilities.drop=["ALL"]')
    if adding:
        listed = ", ".join(f'"{name}"' for name in sorted(added))
        faults.append(f"{_named(adding)} must not include {listed} in securityContext.capabilities.add")
    if faults:
        yield f"unrestricted capabilities ({'; '.join(faults)})"


def _non_root(_: Object, spec: Object) -> Iterator[str]:
    """A container's own word counts before the pod's."""
    pod = _security(spec).get("runAsNonRoot")
    denying = [c["name"] for c in _containers(spec) if _security(c).get("runAsNonRoot") is False]
    silent = [c["name"] for c in _containers(spec) if _security(c).get("runAsNonRoot") is None]
    faults = []
    if pod is False:
        faults.append("pod must not set securityContext.runAsNonRoot=false")
    if denying:
        faults.append(f"{_named(denying)} must not set securityContext.runAsNonRoot=false")
    if not faults and silent and pod is None:
        faults.append(f"pod or {_named(silent)} must set securityContext.runAsNonRoot=true")
    if faults:
        yield f"runAsNonRoot != true ({'; '.join(faults)})"


def _run_as_user(_: Object, spec: Object) -> Iterator[str]:
    faults = ["pod"] if _security(spec).get("runAsUser") == 0 else []
    names = [c["name"] for c in _containers(spec) if _security(c).get("runAsUser") == 0]
    if names:
        faults.append(_named(names))
    if faults:
        yield f"runAsUser=0 ({' and '.join(faults)} must not set runAsUser=0)"


def _seccomp(_: Object, spec: Object) -> Iterator[str]:
    pod = (_security(spec).get("seccompProfile") or {}).get("type")
    names = [
        c["name"]
        for c in _containers(spec)
        if ((_security(c).get("seccompProfile") or {}).get("type") or pod) not in (*_SECCOMP, "Unconfined")
    ]
    if names:
        yield (
            f"seccompProfile (pod or {_named(names)} must set securityContext.seccompProfile.type to "
            '"RuntimeDefault" or "Localhost")'
        )


_BASELINE: tuple[Check, ...] = (
    _host_namespaces,
    _host_paths,
    _host_ports,
    _privileged,
    _capabilities,
    _proc_mount,
    _seccomp_unconfined,
    _selinux,
    _sysctls,
)
_RESTRICTED: tuple[Check, ...] = (
    _no_escalation,
    _restricted_capabilities,
    _volume_types,
    _non_root,
    _run_as_user,
    _seccomp,
)
