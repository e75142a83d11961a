"""CiliumNodeConfigs that select one node, read once: settings are those with which the agent starts.

In: the API. Out: overlays in the order of the objects' names, and what could not be read. Waits for an API server
that is away, and for the node's own object, which says which labels it has.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import msgspec
import structlog

from cilium.settings import Overlay, Problem
from cilium.sources.kubernetes.errors import ApiError, Unreachable
from cilium.sources.kubernetes.policies.errors import PolicyError, from_decoder
from cilium.sources.kubernetes.policies.selectors import LabelSelector, requirements
from cilium.sources.kubernetes.writes import Writes
from cilium.tables.labels import kubernetes_labels
from cilium.tables.matching import selects
from cilium.tables.rules import Selector

log = structlog.get_logger("kubernetes")

RETRY = 1.0
"""Seconds."""
PATH = "/apis/cilium.io/v2/namespaces/{}/ciliumnodeconfigs"


class _Spec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    defaults: dict[str, str] = {}
    nodeSelector: LabelSelector = LabelSelector()  # noqa: N815 - the API's name


class _Object(msgspec.Struct, frozen=True):
    spec: _Spec


async def read_overlays(api: Writes, *, node: str, namespace: str) -> tuple[list[Overlay], list[Problem]]:
    """Raises ApiError if the API server refuses for good."""
    while True:
        try:
            found = await api.find("/api/v1/nodes", node)
            if found is not None:
                return overlays(await _objects(api, namespace), found["metadata"].get("labels") or {})
            reason = f"Node {node} does not exist"
        except Unreachable as error:
            reason = str(error)
        except ApiError as error:
            if error.status < 500 and error.status != 429:
                raise
            reason = str(error)
        log.warning("settings of this node not read yet", reason=reason)
        await asyncio.sleep(RETRY)


async def _objects(api: Writes, namespace: str) -> list[Any]:
    """None before the operator has written the definition of the resource."""
    try:
        return await api.list(PATH.format(namespace))
    except ApiError as error:
        if error.status == 404:
            return []
        raise


def overlays(objects: list[Any], labels: Mapping[str, str]) -> tuple[list[Overlay], list[Problem]]:
    """Of the objects that select a node with these labels."""
    found: list[Overlay] = []
    problems: list[Problem] = []
    own = kubernetes_labels(labels)
    for item in sorted(objects, key=lambda item: str(item["metadata"]["name"])):
        source = f"CiliumNodeConfig {item['metadata']['namespace']}/{item['metadata']['name']}"
        try:
            spec = msgspec.convert(item, _Object).spec
            terms = requirements(spec.nodeSelector, "spec.nodeSelector", source="k8s")
        except (PolicyError, msgspec.ValidationError) as error:
            reason = error if isinstance(error, PolicyError) else from_decoder(error)
            problems.append(Problem(source, str(reason), "nothing of it is used"))
            continue
        if selects(Selector(terms), own):
            found.append(Overlay(source, spec.defaults))
    return found, problems
