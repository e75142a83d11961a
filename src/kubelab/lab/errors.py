"""What can go wrong with a lab as a whole."""

from __future__ import annotations


class LabError(Exception):
    """The text names the object, the reason and the way out."""
