"""Who asks and who is asked, as an expectations file writes it.

In: a word. Out: a `Place`. Nothing is looked up here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any

FORMS = (
    "write NAMESPACE/NAME of a pod, workload or Service, KIND/NAMESPACE/NAME, NAMESPACE/KEY=VALUE[,KEY=VALUE], "
    "world, host:NODE, an address or a CIDR"
)
KINDS = {
    **dict.fromkeys(("pod", "pods", "po"), "Pod"),
    **dict.fromkeys(("deployment", "deployments", "deploy"), "Deployment"),
    **dict.fromkeys(("statefulset", "statefulsets", "sts"), "StatefulSet"),
    **dict.fromkeys(("daemonset", "daemonsets", "ds"), "DaemonSet"),
    **dict.fromkeys(("replicaset", "replicasets", "rs"), "ReplicaSet"),
    **dict.fromkeys(("job", "jobs"), "Job"),
    **dict.fromkeys(("cronjob", "cronjobs", "cj"), "CronJob"),
    **dict.fromkeys(("service", "services", "svc"), "Service"),
}
"""As kubectl abbreviates them."""
_NAMESPACE = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")
_LABEL = re.compile(r"([a-zA-Z0-9.-]+/)?[A-Za-z0-9][-A-Za-z0-9_.]*=[-A-Za-z0-9_.]*")


class Form(Enum):
    NAMED = "named"
    SELECTED = "selected"
    WORLD = "world"
    HOST = "host"
    NETWORK = "network"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """`text` is what was written; the rest by form."""

    text: str
    form: Form
    namespace: str = ""
    kind: str = ""  # empty: pods and workloads first, then Services
    name: str = ""  # of a node, too
    labels: tuple[tuple[str, str], ...] = ()
    network: IPv4Network | IPv6Network | None = None

    def __str__(self) -> str:
        return self.text


def parse_place(word: Any) -> Place:
    """Raises ValueError, which says what can be written."""
    if not isinstance(word, str) or not word:
        raise ValueError(f"{word!r}: {FORMS}")
    if word == "world":
        return Place(text=word, form=Form.WORLD)
    if word.startswith("host:") and _NAME.fullmatch(word[5:]):
        return Place(text=word, form=Form.HOST, name=word[5:])
    if word[0].isdigit() or (":" in word and "/" not in word.partition(":")[0]):
        return _network(word)
    kind, rest = "", word
    if "=" not in word and word.count("/") == 2:
        kind, _, rest = word.partition("/")
        if kind.lower() not in KINDS:
            known = ", ".join(dict.fromkeys(KINDS.values()))
            raise ValueError(f"{word!r}: kind {kind!r}: write KIND/NAMESPACE/NAME with a kind of {known}")
    namespace, slash, name = rest.partition("/")
    if not slash or not _NAMESPACE.fullmatch(namespace):
        hint = "; names of the DNS are not probed, give an address" if "." in word and not slash else ""
        hint = "; in a list, several labels are written in quotes" if "=" in word else hint
        raise ValueError(f"{word!r}: {FORMS}{hint}")
    if "=" in name:
        return _selected(word, namespace, name)
    if not _NAME.fullmatch(name):
        raise ValueError(f"{word!r}: {FORMS}")
    return Place(text=word, form=Form.NAMED, namespace=namespace, kind=KINDS.get(kind.lower(), ""), name=name)


def _selected(word: str, namespace: str, labels: str) -> Place:
    terms = labels.split(",")
    if not all(_LABEL.fullmatch(term) for term in terms):
        raise ValueError(f"{word!r}: labels are KEY=VALUE, divided by commas")
    pairs = tuple((key, value) for key, _, value in (term.partition("=") for term in terms))
    return Place(text=word, form=Form.SELECTED, namespace=namespace, labels=pairs)


def _network(word: str) -> Place:
    try:
        return Place(text=word, form=Form.NETWORK, network=ip_network(word))
    except ValueError as error:
        if word[0].isdigit() and "/" in word and not word.split("/")[-1].isdecimal():
            return _digits(word)
        raise ValueError(f"{word!r}: no address and no CIDR: {error}") from None


def _digits(word: str) -> Place:
    """A namespace may begin with a digit."""
    namespace, _, name = word.partition("/")
    if not _NAMESPACE.fullmatch(namespace) or not _NAME.fullmatch(name):
        raise ValueError(f"{word!r}: {FORMS}")
    return Place(text=word, form=Form.NAMED, namespace=namespace, name=name)
