"""What is wrong with a policy object, and where.

In: the path of a field and a reason, or a decoding error of msgspec. Out: `spec.ingress[0].toPorts: …`.
"""

from __future__ import annotations

import re

import msgspec

_LOCATION = re.compile(r"^(?P<reason>.*?)(?: - at `(?P<path>.*)`)?$", re.DOTALL)


class PolicyError(ValueError):
    """`path` is that of the offending field, from `spec` on."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason


def from_decoder(error: msgspec.DecodeError) -> PolicyError:
    """The same error with a path as people write it."""
    match = _LOCATION.match(str(error))
    assert match is not None  # the pattern matches every text
    path = (match["path"] or "").removeprefix("$").removeprefix(".")
    return PolicyError(path or "object", match["reason"].replace("`", "'"))
