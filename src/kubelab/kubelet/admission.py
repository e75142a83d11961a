"""What a kubelet refuses to run although it was placed here.

In: a pod. Out: reason and message of its failed status, in the words of a kubelet; None for a pod that may run.
Source: Kubernetes documentation, "Using sysctls in a Kubernetes Cluster".
"""

from __future__ import annotations

from kubelab.kubelet.config import Object

SAFE = frozenset(
    {
        "kernel.shm_rmid_forced",
        "net.ipv4.ip_local_port_range",
        "net.ipv4.ip_local_reserved_ports",
        "net.ipv4.ip_unprivileged_port_start",
        "net.ipv4.ping_group_range",
        "net.ipv4.tcp_fin_timeout",
        "net.ipv4.tcp_keepalive_intvl",
        "net.ipv4.tcp_keepalive_probes",
        "net.ipv4.tcp_keepalive_time",
        "net.ipv4.tcp_rmem",
        "net.ipv4.tcp_syncookies",
        "net.ipv4.tcp_wmem",
    }
)
"""Sysctls that are a pod's own and take nothing from others."""


def refusal(pod: Object) -> tuple[str, str] | None:
    spec = pod["spec"]
    for name in sysctls(pod):
        if name not in SAFE:
            return "SysctlForbidden", f'Pod was rejected: forbidden sysctl: "{name}" not allowlisted'
        for field, prefix, what in (("hostNetwork", "net.", "net"), ("hostIPC", "kernel.", "ipc")):
            if spec.get(field) and name.startswith(prefix):
                return "SysctlForbidden", f'Pod was rejected: sysctl "{name}" not allowed with host {what} enabled'
    return None


def sysctls(pod: Object, prefix: str = "") -> dict[str, str]:
    """By dotted name."""
    wanted = (pod["spec"].get("securityContext") or {}).get("sysctls") or []
    found = {entry["name"].replace("/", "."): str(entry["value"]) for entry in wanted}
    return {name: value for name, value in found.items() if name.startswith(prefix)}
