"""What a Service and its EndpointSlices ask for in annotations and source ranges.

In: metadata and lists as the API serves them. Out: typed values. A value that cannot be read is a flaw with its field,
and counts as not given: nothing else of the object is disturbed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from ipaddress import ip_network
from typing import TypeVar

from cilium.sources.kubernetes.decoders.label_selector import parse_selector
from cilium.tables.problems import Reason
from cilium.tables.services import DEFAULT_WEIGHT, Flaw, LabelTerm
from cilium.tables.types import IPNetwork

E = TypeVar("E", bound=StrEnum)
Annotations = Mapping[str, str]

ALGORITHM = "service.cilium.io/lb-algorithm"
FORWARDING = "service.cilium.io/forwarding-mode"
NODE = "service.cilium.io/node"
NODE_SELECTOR = "service.cilium.io/node-selector"
RANGES_POLICY = "service.cilium.io/src-ranges-policy"
TYPE = "service.cilium.io/type"
WEIGHT = "service.cilium.io/weight"
TOPOLOGY_HINTS = "service.kubernetes.io/topology-aware-hints"
TOPOLOGY_MODE = "service.kubernetes.io/topology-mode"
NEAR = ("PreferClose", "PreferSameZone", "PreferSameNode")
MAX_WEIGHT = 65535
SOURCE_RANGES = "spec.loadBalancerSourceRanges"


class RangesPolicy(StrEnum):
    ALLOW = "allow"
    DENY = "deny"


class ExposedType(StrEnum):
    CLUSTER_IP = "ClusterIP"
    NODE_PORT = "NodePort"
    LOAD_BALANCER = "LoadBalancer"


def annotation(key: str) -> str:
    """The field in which an annotation stands."""
    return f"metadata.annotations[{key}]"


def _flaw(key: str, message: str) -> Flaw:
    return Flaw(Reason.ANNOTATION, annotation(key), message)


def choice(annotations: Annotations, key: str, among: type[E], flaws: list[Flaw]) -> E | None:
    """The member that an annotation names, in letters of any case."""
    given = annotations.get(key)
    if given is None:
        return None
    for member in among:
        if member.value.lower() == given.strip().lower():
            return member
    flaws.append(_flaw(key, f"'{given}' is not valid; write one of {', '.join(member.value for member in among)}"))
    return None


def wants_to_stay_near(annotations: Annotations, distribution: str | None) -> bool:
    """The older annotation is the stronger one; the API server knows which distributions there are."""
    mode = annotations.get(TOPOLOGY_HINTS, annotations.get(TOPOLOGY_MODE, ""))
    return mode.lower() not in ("", "disabled") or distribution in NEAR


def nodes(annotations: Annotations, flaws: list[Flaw]) -> tuple[LabelTerm, ...]:
    """The selector is the stronger one of the two."""
    if NODE_SELECTOR in annotations:
        try:
            return parse_selector(annotations[NODE_SELECTOR])
        except ValueError as error:
            remedy = "write a label selector such as 'zone in (a, b),!legacy'; until then every node serves it"
            flaws.append(_flaw(NODE_SELECTOR, f"{error}; {remedy}"))
            return ()
    return (LabelTerm(NODE, "in", (annotations[NODE],)),) if NODE in annotations else ()


def source_ranges(texts: Sequence[str], flaws: list[Flaw]) -> tuple[IPNetwork, ...]:
    found: list[IPNetwork] = []
    bad: list[Flaw] = []
    for index, text in enumerate(texts):
        try:
            found.append(ip_network(text.strip(), strict=False))
        except ValueError:
            message = f"'{text}' is no CIDR; write one such as 192.0.2.0/24"
            bad.append(Flaw(Reason.SOURCE_RANGE, f"{SOURCE_RANGES}[{index}]", message))
    if bad and not found:
        bad.append(Flaw(Reason.SOURCE_RANGE, SOURCE_RANGES, "none can be read; nobody outside may ask until one can"))
    flaws += bad
    return tuple(found)


def weight(annotations: Annotations, flaws: list[Flaw]) -> int:
    given = annotations.get(WEIGHT)
    if given is None:
        return DEFAULT_WEIGHT
    text = given.strip()
    if text.isascii() and text.isdecimal() and int(text) <= MAX_WEIGHT:
        return int(text)
    remedy = f"write a whole number up to {MAX_WEIGHT}; until then it is {DEFAULT_WEIGHT}"
    flaws.append(_flaw(WEIGHT, f"'{given}' is no weight; {remedy}"))
    return DEFAULT_WEIGHT
