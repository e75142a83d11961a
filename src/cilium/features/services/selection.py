"""Which endpoints of a service's slices stand behind an address, and which of them get new connections.

In: slices, the port as the Service names it, the family, who this node is. Out: backends in a stable order. An
endpoint that gets no new connections is a backend with weight 0, because the connections that it has go on: it is not
ready for a moment, it leaves and serves no longer, its slice has weight 0, or traffic stays near and others are nearer.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from cilium.tables.services import Backend, EndpointSlice, ServicePort, SliceEndpoint

MAX_SLOTS = 256
"""Of one backend among others: weights that differ by more than this are rounded."""

Place = tuple[int, int]
"""Address as a number, and port: of one family."""


class Candidate(NamedTuple):
    endpoint: SliceEndpoint
    weight: int


Candidates = dict[Place, Candidate]


def candidates(slices: Iterable[EndpointSlice], port: ServicePort, version: int) -> Candidates:
    """Endpoints by where they listen. Slices name the ports of their endpoints as the Service does; the same name may
    mean another number in each. An endpoint that is in two slices for a moment counts once, the better one.
    """
    found: Candidates = {}
    for each in slices:
        numbers = [known.port for known in each.ports if known.name == port.name and known.protocol == port.protocol]
        for endpoint in each.endpoints if numbers else ():
            if endpoint.address.version != version:
                continue
            for number in numbers:
                place = (int(endpoint.address), number)
                known = found.get(place)
                if known is None or _condition(endpoint) > _condition(known.endpoint):
                    found[place] = Candidate(endpoint, each.weight)
    return found


def local(found: Candidates, node: str) -> Candidates:
    """Those of this node."""
    return {place: candidate for place, candidate in found.items() if candidate.endpoint.node == node}


def usable(found: Candidates) -> bool:
    """Somebody may get new connections."""
    return any(candidate.weight and _condition(candidate.endpoint) for candidate in found.values())


def backends(found: Candidates, near: frozenset[Place] | None = None) -> tuple[Backend, ...]:
    """Everybody, in a stable order; `near`: of those that are ready, only these get new connections."""
    places = sorted(found)
    slots = _slots([_weight(found[place], near is None or place in near) for place in places])
    rows = []
    for place, number in zip(places, slots, strict=True):
        endpoint = found[place].endpoint
        leaves = endpoint.terminating and not endpoint.ready  # both: publishNotReadyAddresses, so it is ready
        rows.append(Backend(endpoint.address, place[1], leaves, endpoint.node, number))
    return tuple(rows)


def nearest(found: Candidates, *, node: str, zone: str) -> frozenset[Place] | None:
    """Those that hints mean for this node, else for its zone; None: hints say nothing here. They count only if every
    ready endpoint has them: slices that are half written would lead everybody to a few (KEP-2433, KEP-4444).
    """
    ready = {place: candidate.endpoint for place, candidate in found.items() if candidate.endpoint.ready}
    for who, hints in (
        (node, {place: endpoint.for_nodes for place, endpoint in ready.items()}),
        (zone, {place: endpoint.for_zones for place, endpoint in ready.items()}),
    ):
        chosen = _hinted(who, hints)
        if chosen:
            return chosen
    return None


def _hinted(who: str, hints: Mapping[Place, Sequence[str]]) -> frozenset[Place]:
    if not who or not all(hints.values()):
        return frozenset()
    return frozenset(place for place, names in hints.items() if who in names)


def _condition(endpoint: SliceEndpoint) -> int:
    """2: ready; 1: leaves and still serves; 0: neither."""
    if endpoint.ready:
        return 2
    return int(endpoint.serving and endpoint.terminating)


def _weight(candidate: Candidate, near: bool) -> int:
    endpoint = candidate.endpoint
    able = near if endpoint.ready else endpoint.serving and endpoint.terminating
    return candidate.weight if able else 0


def _slots(weights: Sequence[int]) -> list[int]:
    """Numbers of slots in the same proportion, as few as there can be; nobody who has a weight loses it."""
    divisor = math.gcd(*weights)
    if divisor == 0:
        return list(weights)  # all zero
    most = max(weights)
    if most // divisor <= MAX_SLOTS:
        return [weight // divisor for weight in weights]
    return [max(1, round(weight * MAX_SLOTS / most)) if weight else 0 for weight in weights]
