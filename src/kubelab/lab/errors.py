"""What can go wrong with a lab as a whole."""

from __future__ import annotations


def remedy(lab: str, words: str) -> str:
    """A command that helps in this lab, for the end of a message."""
    return f"cilium lab {words}" + ("" if lab == "lab" else f" --name {lab}")


class LabError(Exception):
    """The text names the object, the reason and the way out."""
