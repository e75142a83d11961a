"""How the lab's daemons log: one event per line, key=value, the time first (`kubelab.lab.log_files` reads it)."""

from __future__ import annotations

import structlog


def configure_logging() -> None:
    """Sets structlog up for this process; called by entry points only."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.format_exc_info,
            structlog.processors.LogfmtRenderer(key_order=["timestamp", "level", "event"]),
        ],
        logger_factory=structlog.WriteLoggerFactory(),
    )
