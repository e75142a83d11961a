"""How a run of the connectivity test is wanted: everything that a user may say."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum


class FlowValidation(Enum):
    """What a flow that should be there and is not, or the reverse, means."""

    DISABLED = "disabled"
    WARNING = "warning"
    STRICT = "strict"


@dataclass(frozen=True, slots=True, kw_only=True)
class Images:
    """Of the pods that are deployed."""

    curl: str = "quay.io/cilium/alpine-curl:v1.10.0"
    json_mock: str = "quay.io/cilium/json-mock:v1.3.8"
    dns_server: str = "registry.k8s.io/coredns/coredns:v1.12.1"


@dataclass(frozen=True, slots=True, kw_only=True)
class External:
    """Addresses outside of the cluster, of one family: two that answer, and a network in which both are."""

    ip: str
    other_ip: str
    cidr: str


OUTSIDE = {
    4: External(ip="1.1.1.1", other_ip="1.0.0.1", cidr="1.0.0.0/8"),
    6: External(ip="2606:4700:4700::1111", other_ip="2606:4700:4700::1001", cidr="2606:4700:4700::/96"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Seconds where there are times; a time of 0 is not given to the command."""

    namespace: str = "cilium-test-1"
    cilium_namespace: str = "kube-system"
    agents: str = "k8s-app=cilium"
    filters: tuple[str, ...] = ()
    single_node: bool = False
    force_deploy: bool = False
    unsafe: bool = False
    connect_timeout: float = 2.0
    request_timeout: float = 10.0
    curl_insecure: bool = False
    retry: int = 3
    retry_delay: float = 3.0
    target: str = "one.one.one.one."
    outside: dict[int, External] = field(default_factory=lambda: dict(OUTSIDE))
    images: Images = Images()
    hubble: bool = True
    flows: FlowValidation = FlowValidation.WARNING
    patience: float = 300.0
    """For each wait until the pods stand."""


class Filter:
    """`--test`: regular expressions for `test/scenario`; those with `!` exclude."""

    def __init__(self, words: Sequence[str]) -> None:
        """Raises ValueError for what is no regular expression."""
        self._wanted: list[re.Pattern[str]] = []
        self._unwanted: list[re.Pattern[str]] = []
        for word in words:
            try:
                (self._unwanted if word.startswith("!") else self._wanted).append(re.compile(word.removeprefix("!")))
            except re.error as error:
                raise ValueError(f"{word!r} is no regular expression: {error}") from None

    def takes(self, name: str) -> bool:
        if any(pattern.search(name) for pattern in self._unwanted):
            return False
        return not self._wanted or any(pattern.search(name) for pattern in self._wanted)
