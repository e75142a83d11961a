"""The agent killed and started anew on a node with 50 endpoints, under established connections; and what it costs idle.

Ready: every endpoint has its policy, no row of any reconciler is pending, the CNI socket is served. Counted from the
moment the new agent is executed, which follows the kill at once.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from bench.cluster import Cluster, until
from bench.figures import Figure, median
from bench.options import Options
from bench.same_node import enforce
from bench.tool import PORT, compiled
from cilium.datapath.generated import DropReason
from cilium.datapath.maps import PinnedMap
from cilium.datapath.paths import MAP_DIRECTORY

NODE = "node1"
ENDPOINTS = 50
CONNECTIONS = 100
"""A quarter each: to a pod of this node and of another one, by IPv4 and by IPv6."""
ROUNDS = 5
IDLE_SECONDS = 10.0
DIRECTIONS = 4
"""Indexes of cilium_metrics per reason."""
CHATTER = (DropReason.IGMP_HANDLED, DropReason.MULTICAST_HANDLED)


def run(options: Options) -> Iterator[Figure]:
    with options.cluster(nodes=2) as cluster, compiled() as tool, ExitStack() as stack:
        enforce(cluster)
        pods = cluster.attach(NODE, [f"pod-{n}" for n in range(ENDPOINTS)])
        client, server = pods[:2]
        (remote,) = cluster.attach("node2", ["remote"])
        for pod in (server, remote):
            stack.enter_context(tool.server(pod["netns"], cpu=-1))
        wait_ready(cluster)
        namespaces = [pod["netns"] for pod in (client, server, remote)]
        held = [
            stack.enter_context(tool.started(client["netns"], "hold", address, PORT + 2, CONNECTIONS // 4, cpu=-1))
            for pod in (server, remote)
            for address in pod["ips"].values()
        ]
        before = {node: dropped(cluster, node) for node in (NODE, "node2")}
        retransmitted = retransmissions(namespaces)
        times, processor = zip(*(restart(cluster) for _ in range(ROUNDS)), strict=True)
        results = [json.loads(process.communicate(timeout=20)[0]) for process in held]
        again = retransmissions(namespaces) - retransmitted
        yield median(f"restart: until {ENDPOINTS} endpoints are ready", times, unit="s", target=2)
        yield median(
            "restart: CPU time of the agent until then", processor, unit="s", note="what a busy machine stretches"
        )
        lost = sum(result["lost"] for result in results)
        what = "on the node and across, IPv4 and IPv6"
        yield Figure(name=f"restart: lost of {CONNECTIONS} connections", value=lost, target=0, note=what)
        drops = sum(dropped(cluster, node) - count for node, count in before.items())
        yield Figure(name="restart: packets dropped by the datapath", value=drops, target=0)
        yield Figure(name="restart: TCP segments sent again", value=again, note="one may come from a busy machine")
        yield from idle(cluster)


def restart(cluster: Cluster) -> tuple[float, float]:
    """Seconds until all is ready, and of CPU time."""
    cluster.kill_agent(NODE)
    start = time.perf_counter()
    cluster.start_agent(NODE)
    wait_ready(cluster)
    return time.perf_counter() - start, cpu_seconds(cluster.agent_pid(NODE))


def wait_ready(cluster: Cluster) -> None:
    until(lambda: is_ready(cluster), f"{ENDPOINTS} ready endpoints", 30)


def is_ready(cluster: Cluster) -> bool:
    try:
        status = cluster.ask_agent(NODE, "/v1/healthz")
        if status["cilium"]["state"] != "Ok" or any(set(r["rows"]) - {"Done"} for r in status["reconcilers"]):
            return False
        endpoints = cluster.ask_agent(NODE, "/v1/endpoint")
    except OSError:
        return False
    return len(endpoints) > ENDPOINTS and all(entry["status"]["state"] == "ready" for entry in endpoints)


def idle(cluster: Cluster) -> Iterator[Figure]:
    pid = cluster.agent_pid(NODE)
    before = cpu_seconds(pid)
    time.sleep(IDLE_SECONDS)
    share = (cpu_seconds(pid) - before) / IDLE_SECONDS
    yield Figure(name=f"idle agent, {ENDPOINTS} endpoints: CPU", value=share * 100, unit="% of a core", target=1)
    status = Path(f"/proc/{pid}/status").read_text()
    resident = int(status.partition("VmRSS:")[2].split()[0]) / 1024
    yield Figure(name=f"idle agent, {ENDPOINTS} endpoints: RSS", value=resident, unit="MB", target=120)


def cpu_seconds(pid: int) -> float:
    """Of all threads so far."""
    threads = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(path.read_text().split()[0]) for path in threads) / 1e9


def dropped(cluster: Cluster, node: str) -> int:
    """Packets that a node's datapath dropped so far, other than chatter that nobody forwards."""
    maps = Path(f"/proc/{cluster.runtime(node).pid}/root/{MAP_DIRECTORY}")
    with PinnedMap("cilium_metrics", maps) as metrics:
        keys, values = metrics.dump()
    reasons = keys // DIRECTIONS
    drops = (reasons >= DropReason.INVALID_SOURCE_MAC) & ~np.isin(reasons, CHATTER)
    return int(values["packets"][drops].sum())


def retransmissions(namespaces: Sequence[str]) -> int:
    """TCP segments that were sent again, so far."""
    total = 0
    for netns in namespaces:
        text = subprocess.run(
            ["nsenter", f"--net={netns}", "cat", "/proc/net/snmp"], capture_output=True, text=True, check=True
        ).stdout
        names, values = (line.split() for line in text.splitlines() if line.startswith("Tcp:"))
        total += int(dict(zip(names, values, strict=True))["RetransSegs"])
    return total
