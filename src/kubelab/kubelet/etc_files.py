"""/etc/hosts, /etc/hostname and /etc/resolv.conf of a pod.

In: the pod and its addresses. Out: files that its containers get mounted.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from kubelab.kubelet.config import KubeletConfig, Object

NAMES = ("hosts", "hostname", "resolv.conf")
NODE_RESOLVER = Path("/etc/resolv.conf")
CLUSTER_DOMAIN = "cluster.local"
MAX_NAME_SERVERS = 3
MAX_HOST_NAME = 64  # what Linux takes
MAX_SEARCHES, MAX_SEARCH_LENGTH = 32, 2048


@dataclass(frozen=True, slots=True)
class Resolver:
    """What a resolv.conf says; ``options`` as `name` or `name:value`."""

    nameservers: tuple[str, ...] = ()
    searches: tuple[str, ...] = ()
    options: tuple[str, ...] = ()

    def with_more(self, extra: Object) -> Resolver:
        """A pod's dnsConfig behind it; an option that it names again replaces the one that was there."""
        named = [_option(entry) for entry in extra.get("options") or []]
        again = {text.partition(":")[0] for text in named}
        kept = [text for text in self.options if text.partition(":")[0] not in again]
        return Resolver(
            _unique((*self.nameservers, *(extra.get("nameservers") or []))),
            _unique((*self.searches, *(extra.get("searches") or []))),
            (*kept, *named),
        )

    def text(self) -> str:
        """The file, within the limits of the C library."""
        searches: list[str] = []
        for search in self.searches[:MAX_SEARCHES]:
            if len(" ".join([*searches, search])) <= MAX_SEARCH_LENGTH:
                searches.append(search)
        lines = [f"search {' '.join(searches)}"] if searches else []
        lines += [f"nameserver {address}" for address in self.nameservers[:MAX_NAME_SERVERS]]
        lines += [f"options {' '.join(self.options)}"] if self.options else []
        return "".join(line + "\n" for line in lines)


def write(directory: Path, pod: Object, ips: tuple[str, ...], config: KubeletConfig) -> None:
    """Writes the three files; of a pod on the node's network, names and addresses are the node's."""
    directory.mkdir(parents=True, exist_ok=True)
    spec = pod["spec"]
    if spec.get("hostNetwork"):
        for file in ("hosts", "hostname"):
            shutil.copy(f"/etc/{file}", directory / file)
    else:
        (directory / "hosts").write_text(hosts(pod, ips))
        (directory / "hostname").write_text(hostname(pod) + "\n")
    (directory / "resolv.conf").write_text(resolver(pod, config, NODE_RESOLVER.read_text()).text())


def names(pod: Object) -> list[str]:
    """The full name of a pod with a subdomain, and its host name, at most 63 characters, as DNS wants it."""
    spec, meta = pod["spec"], pod["metadata"]
    name, domain = (spec.get("hostname") or meta["name"])[:63], spec.get("subdomain")
    return [f"{name}.{domain}.{meta['namespace']}.svc.{CLUSTER_DOMAIN}", name] if domain else [name]


def hostname(pod: Object) -> str:
    """What the pod's processes are told."""
    return names(pod)[0 if pod["spec"].get("setHostnameAsFQDN") else -1]


def refusal(pod: Object) -> str:
    """Why the pod cannot have its host name; empty when it can."""
    name = hostname(pod)
    if len(name) <= MAX_HOST_NAME:
        return ""
    return (
        f"failed to construct FQDN from pod hostname and cluster domain, FQDN {name} is too long "
        f"({MAX_HOST_NAME} characters is the max, {len(name)} characters requested)"
    )


def hosts(pod: Object, ips: tuple[str, ...]) -> str:
    """A pod with a subdomain knows its full name."""
    spec, known = pod["spec"], "\t".join(names(pod))
    lines = [
        "# Kubernetes-managed hosts file.",
        "127.0.0.1\tlocalhost",
        "::1\tlocalhost ip6-localhost ip6-loopback",
        "fe00::0\tip6-localnet",
        "fe00::0\tip6-mcastprefix",
        "fe00::1\tip6-allnodes",
        "fe00::2\tip6-allrouters",
        *(f"{ip}\t{known}" for ip in ips),
    ]
    if aliases := spec.get("hostAliases"):
        lines += ["", "# Entries added by HostAliases."]
        lines += ["\t".join([alias["ip"], *(alias.get("hostnames") or [])]) for alias in aliases]
    return "\n".join(lines) + "\n"


def resolver(pod: Object, config: KubeletConfig, node: str) -> Resolver:
    """By the pod's DNS policy; ``node`` is the node's own resolv.conf.

    `ClusterFirst` of a pod on the node's network means `Default`, and so does any without name servers in the cluster.
    """
    spec, namespace = pod["spec"], pod["metadata"]["namespace"]
    policy = spec.get("dnsPolicy") or "ClusterFirst"
    own = parse(node)
    in_cluster = policy == "ClusterFirstWithHostNet" or (policy == "ClusterFirst" and not spec.get("hostNetwork"))
    if policy == "None":
        base = Resolver()
    elif in_cluster and config.cluster_dns:
        searches = (f"{namespace}.svc.{CLUSTER_DOMAIN}", f"svc.{CLUSTER_DOMAIN}", CLUSTER_DOMAIN)
        base = Resolver(config.cluster_dns, _unique((*searches, *own.searches)), ("ndots:5",))
    else:
        base = own
    return base.with_more(spec.get("dnsConfig") or {})


def parse(text: str) -> Resolver:
    """A resolv.conf (resolv.conf(5)): the last `search` or `domain` holds, options add up."""
    nameservers, options = [], []
    searches: list[str] = []
    for words in filter(None, (line.split() for line in text.splitlines())):
        match words:
            case ["nameserver", address, *_]:
                nameservers.append(address)
            case ["search" | "domain", *domains]:
                searches = [domain for domain in domains if domain != "."]
            case ["options", *more]:
                options += more
    return Resolver(tuple(nameservers), tuple(searches), _unique(options))


def _option(entry: Object) -> str:
    return f"{entry['name']}:{entry['value']}" if entry.get("value") else str(entry["name"])


def _unique(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(values))
