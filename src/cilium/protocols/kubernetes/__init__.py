"""Kubernetes' list and watch, sans-IO."""

from cilium.protocols.kubernetes.lines import LineSplitter
from cilium.protocols.kubernetes.messages import Meta, Page, Status, WatchEvent, parse_meta, parse_page, parse_status
from cilium.protocols.kubernetes.watch import (
    Action,
    Backoff,
    Event,
    List,
    Listing,
    Stage,
    Wait,
    Watch,
    Watcher,
    WatchError,
)

__all__ = [
    "Action",
    "Backoff",
    "Event",
    "LineSplitter",
    "List",
    "Listing",
    "Meta",
    "Page",
    "Stage",
    "Status",
    "Wait",
    "Watch",
    "WatchError",
    "WatchEvent",
    "Watcher",
    "parse_meta",
    "parse_page",
    "parse_status",
]
