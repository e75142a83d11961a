"""What is wrong with a policy object, and where.

In: the path of a field and a reason, or a decoding error of msgspec. Out: `spec.ingress[0].toPorts: …`.
"""

from __future__ import annotations

import msgspec

_LOCATION = " - at `"


class PolicyError(ValueError):
    """`path` is that of the offending field, from `spec` on."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason


def from_decoder(error: msgspec.DecodeError) -> PolicyError:
    """The same error with a path as people write it."""
    reason, location, path = str(error).rpartition(_LOCATION)
    if not location:
        reason, path = path, ""
    path = path.removesuffix("`").removeprefix("$").removeprefix(".")
    return PolicyError(path or "object", reason.replace("`", "'"))
