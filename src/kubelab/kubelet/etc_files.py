"""/etc/hosts, /etc/hostname and /etc/resolv.conf of a pod.

In: the pod and its addresses. Out: files that its containers get mounted.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from kubelab.kubelet.config import KubeletConfig, Object

NAMES = ("hosts", "hostname", "resolv.conf")


def write(directory: Path, pod: Object, ips: tuple[str, ...], config: KubeletConfig) -> None:
    """Writes the three files; a pod on the node's network gets the node's."""
    directory.mkdir(parents=True, exist_ok=True)
    spec = pod["spec"]
    name = spec.get("hostname") or pod["metadata"]["name"]
    if spec.get("hostNetwork"):
        for file in NAMES:
            shutil.copy(f"/etc/{file}", directory / file)
        return
    lines = ["127.0.0.1 localhost", "::1 localhost ip6-localhost", *(f"{ip} {name}" for ip in ips)]
    lines += [f"{alias['ip']} {' '.join(alias.get('hostnames') or [])}" for alias in spec.get("hostAliases") or []]
    (directory / "hosts").write_text("\n".join(lines) + "\n")
    (directory / "hostname").write_text(name + "\n")
    (directory / "resolv.conf").write_text(resolver(pod, config))


def resolver(pod: Object, config: KubeletConfig) -> str:
    """The pod's resolv.conf, by its DNS policy."""
    spec, namespace = pod["spec"], pod["metadata"]["namespace"]
    extra = spec.get("dnsConfig") or {}
    nameservers, searches = [], []
    policy = spec.get("dnsPolicy") or "ClusterFirst"
    if policy == "ClusterFirst" and config.cluster_dns:
        nameservers = list(config.cluster_dns)
        searches = [f"{namespace}.svc.cluster.local", "svc.cluster.local", "cluster.local"]
    elif policy != "None":
        node = Path("/etc/resolv.conf").read_text().splitlines()
        nameservers = [line.split()[1] for line in node if line.startswith("nameserver")]
    nameservers += extra.get("nameservers") or []
    searches += extra.get("searches") or []
    options = [
        f"{option['name']}:{option['value']}" if option.get("value") else option["name"]
        for option in extra.get("options") or []
    ]
    if searches:
        options.append("ndots:5")
    lines = [f"nameserver {address}" for address in nameservers]
    lines += [f"search {' '.join(searches)}"] if searches else []
    lines += [f"options {' '.join(options)}"] if options else []
    return "\n".join(lines) + "\n"
