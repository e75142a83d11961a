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
    if spec.get("hostNetwork"):
        for file in NAMES:
            shutil.copy(f"/etc/{file}", directory / file)
        return
    (directory / "hosts").write_text(hosts(pod, ips))
    (directory / "hostname").write_text(hostname(pod) + "\n")
    (directory / "resolv.conf").write_text(resolver(pod, config))


def names(pod: Object) -> list[str]:
    """The fully qualified name of a pod with a subdomain, and its host name."""
    spec, meta = pod["spec"], pod["metadata"]
    name = (spec.get("hostname") or meta["name"])[:63]
    domain = spec.get("subdomain")
    return [f"{name}.{domain}.{meta['namespace']}.svc.cluster.local", name] if domain else [name]


def hostname(pod: Object) -> str:
    """What the pod's processes are told; at most 63 characters, as Linux and DNS want it."""
    return names(pod)[0] if pod["spec"].get("setHostnameAsFQDN") else names(pod)[-1]


def hosts(pod: Object, ips: tuple[str, ...]) -> str:
    lines = ["# Kubernetes-managed hosts file.", "127.0.0.1\tlocalhost", "::1\tlocalhost ip6-localhost ip6-loopback",
             "fe00::0\tip6-localnet", "fe00::0\tip6-mcastprefix", "fe00::1\tip6-allnodes",
             "fe00::2\tip6-allrouters"]  # fmt: skip
    known = "\t".join(names(pod))
    lines += [f"{ip}\t{known}" for ip in ips]
    aliases = pod["spec"].get("hostAliases") or []
    if aliases:
        lines += ["", "# Entries added by HostAliases."]
        lines += [f"{alias['ip']}\t" + "\t".join(alias.get("hostnames") or []) for alias in aliases]
    return "\n".join(lines) + "\n"


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
