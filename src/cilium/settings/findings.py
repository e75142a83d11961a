"""What a check across settings finds."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """Something contradictory. `key` is the setting to blame; `{other-key}` in texts stands for that
    setting's name.
    """

    key: str
    message: str
    remedy: str
