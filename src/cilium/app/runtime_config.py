"""The settings an agent runs with, in a file for upstream's tools, which look there for what a cluster can do.

In: the settings, after everything that changes them. Out: `state/agent-runtime-config.json` in the state directory,
with the names of upstream's DaemonConfig; only those that are read by others.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cilium.settings import Settings

NAME = "state/agent-runtime-config.json"


def document(settings: Settings) -> dict[str, Any]:
    """Flows are events of connections here, never of packets: upstream calls that aggregation `medium`."""
    return {
        "MonitorAggregation": "medium",
        "EnableICMPRules": True,
        "EnableHealthChecking": settings.health.checking,
        "EnableEndpointHealthChecking": settings.health.endpoint,
        "EncryptNode": False,
        "NodeEncryptionOptOutLabelsString": "",
        "EnableK8sNetworkPolicy": settings.policy.kubernetes,
    }


def write_runtime_config(state: Path, settings: Settings) -> None:
    """Raises OSError."""
    path = state / NAME
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps(document(settings), indent=2) + "\n")
    fresh.rename(path)
