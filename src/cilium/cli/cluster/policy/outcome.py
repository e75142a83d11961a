"""How a command of cilium policy ends: its exit status, and its answer as JSON."""

from __future__ import annotations

import json
from typing import Any

import click

PASSES, DENIED, DIFFERENT = 0, 3, 4
"""Exit status of explain. 1: an error, 2: wrong options."""
CHANGES = 3
"""Exit status of diff if something would change."""


def print_json(document: Any) -> None:
    click.echo(json.dumps(document, indent=2, default=str))
