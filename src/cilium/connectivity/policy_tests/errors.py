"""What is wrong with a test itself."""

from __future__ import annotations


class WrongTestError(Exception):
    """The test cannot be run as it is written; the text names file, path and reason, one problem per line."""


class RefusedError(Exception):
    """The API server refuses an object, in its words."""
