"""How hard property tests of policies try."""

from __future__ import annotations

import os

VARIABLE = "CILIUM_POLICY_EXAMPLES"


def examples(usual: int) -> int:
    """Examples of one test: `usual`, or what `pytest --policy-examples N` says."""
    return int(os.environ.get(VARIABLE) or usual)
