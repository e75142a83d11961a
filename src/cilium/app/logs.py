"""Structured logs: one event per line, a fixed message, key=value fields."""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog


class NamedLogger(structlog.WriteLogger):
    """Remembers the name that `structlog.get_logger(name)` was called with."""

    def __init__(self, name: str = "") -> None:
        super().__init__(sys.stderr)
        self.name = name


def add_name(logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    if logger.name:
        event["subsys"] = logger.name
    return event


def configure(*, debug: bool, format: str) -> None:  # noqa: A002 - the setting's name
    """`format`: text (logfmt) or json. To stderr, where container runtimes look."""
    renderer: Any = structlog.processors.JSONRenderer()
    if format != "json":
        renderer = structlog.processors.LogfmtRenderer(
            key_order=["timestamp", "level", "subsys", "event"], drop_missing=True, bool_as_flag=False
        )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            add_name,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG if debug else logging.INFO),
        logger_factory=NamedLogger,
        cache_logger_on_first_use=False,
    )
