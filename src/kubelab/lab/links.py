"""Links between members of the underlay: broken and mended on purpose.

In: two ends: nodes, `external` (the world), `control-plane` (the API server). Out: what is cut, in the lab's state and
in the bridge: no frame passes between the two, in either direction, of any family; all else goes on.
"""

from __future__ import annotations

from dataclasses import replace

from kubelab.lab.daemons import CONTROL_PLANE, EXTERNAL
from kubelab.lab.errors import LabError
from kubelab.lab.state import LabPaths, LabState, Link
from kubelab.underlay import network

PORTS = {CONTROL_PLANE: network.HOST_PORT}
"""The bridge's port of an end, where it is not named like it."""


def link(state: LabState, one: str, other: str) -> Link:
    """The link between two ends, whichever is named first. Raises LabError for ends that the lab does not have."""
    known = [*(record.name for record in state.nodes), EXTERNAL, CONTROL_PLANE]
    for end in (one, other):
        if end not in known:
            raise LabError(f"{end}: lab {state.name} has {', '.join(known)}")
    if one == other:
        raise LabError(f"{one}: a link has two ends")
    first, second = sorted((one, other), key=known.index)
    return first, second


def cut(paths: LabPaths, one: str, other: str) -> bool:
    """False when it was cut already. Raises LabError, NetworkError."""
    wanted = link(paths.require(), one, other)
    before = paths.require().cuts
    _apply(paths, (*(cut for cut in before if cut != wanted), wanted))
    return wanted not in before


def heal(paths: LabPaths, one: str = "", other: str = "") -> tuple[Link, ...]:
    """Mends one link, or all; those that were cut. Raises LabError, NetworkError."""
    before = paths.require().cuts
    mended = before if not one else tuple(cut for cut in before if cut == link(paths.require(), one, other))
    _apply(paths, tuple(cut for cut in before if cut not in mended))
    return mended


def _apply(paths: LabPaths, cuts: tuple[Link, ...]) -> None:
    """What a crash in between leaves unrecorded, the next `heal` takes away."""
    network.separate(paths.name, [(PORTS.get(one, one), PORTS.get(other, other)) for one, other in cuts])
    paths.change(lambda state: replace(state, cuts=cuts))


def forget(paths: LabPaths, end: str) -> None:
    """An end that goes leaves no cut. Raises LabError, NetworkError."""
    before = paths.require().cuts
    kept = tuple(cut for cut in before if end not in cut)
    if kept != before:
        _apply(paths, kept)
