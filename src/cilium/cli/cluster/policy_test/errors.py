"""What is wrong with a test itself."""

from __future__ import annotations


class WrongTestError(Exception):
    """The test cannot be run as it is written; the text names file, path and reason, one problem per line."""
