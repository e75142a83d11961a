"""Sets of completion indexes as the API writes them: `0-3,7`.

In and out: text and sets of numbers; pure functions.
"""

from __future__ import annotations

from collections.abc import Iterable

from kubelab.controllers.objects import Object, annotations_of

ANNOTATION = "batch.kubernetes.io/job-completion-index"


def read(text: str | None) -> set[int]:
    found: set[int] = set()
    for part in filter(None, (text or "").split(",")):
        first, _, last = part.partition("-")
        found.update(range(int(first), int(last or first) + 1))
    return found


def write(indexes: Iterable[int]) -> str:
    """Runs of three and more are written with a dash, two neighbours too."""
    parts: list[list[int]] = []
    for index in sorted(set(indexes)):
        if parts and parts[-1][-1] == index - 1:
            parts[-1] = [parts[-1][0], index]
        else:
            parts.append([index])
    return ",".join("-".join(map(str, part)) for part in parts)


def index_of(pod: Object) -> int | None:
    text = annotations_of(pod).get(ANNOTATION, "")
    return int(text) if text.isdecimal() else None
