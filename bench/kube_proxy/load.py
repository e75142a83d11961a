"""Rule sets into a namespace, with the tools that kube-proxy uses.

In: a namespace, services by IP version. Out: seconds that the tools took; what a former call made is replaced.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Mapping, Sequence

from bench.kube_proxy import iptables, nftables
from bench.kube_proxy.model import Node, ServicePort

MODES = ("iptables", "nftables")


class RulesRefusedError(Exception):
    """The kernel or the tool refused a rule set; the text is what it said."""


def load(mode: str, netns: str, services: Mapping[int, Sequence[ServicePort]], nodes: Mapping[int, Node]) -> float:
    """`netns`: as `ip netns` names it. Raises RulesRefusedError."""
    seconds = 0.0
    for version, ports in services.items():
        if mode == "iptables":
            argv, lines = [f"ip{'6' if version == 6 else ''}tables-restore"], iptables.rule_set(ports, nodes[version])
        else:
            argv, lines = ["nft", "-f", "-"], nftables.rule_set(ports, nodes[version])
        text = "\n".join(lines) + "\n"
        start = time.perf_counter()
        run(netns, argv, text)
        seconds += time.perf_counter() - start
    return seconds


def run(netns: str, argv: Sequence[str], text: str = "") -> str:
    """Raises RulesRefusedError."""
    done = subprocess.run(
        ["ip", "netns", "exec", netns, *argv], input=text, capture_output=True, text=True, check=False
    )
    if done.returncode:
        hint = "; `make bench` installs it" if "No such file" in done.stderr else ""
        raise RulesRefusedError(f"{' '.join(argv)}: {done.stderr.strip()[:500]}{hint}")
    return done.stdout


def version(mode: str) -> str:
    """Of the tool; iptables names the kernel's interface that it uses."""
    tool = "iptables" if mode == "iptables" else "nft"
    return subprocess.run([tool, "--version"], capture_output=True, text=True, check=True).stdout.strip()
