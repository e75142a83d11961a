"""The lab's control plane in one process: API server and controllers.

    python -m kubelab.lab.control_plane CONFIG DESCRIPTOR

In: a JSON file with data directory, addresses and the lab's options; the number of a descriptor. Out: an API server,
which serves when it has written so to that descriptor.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

from kubelab.apiserver.server import ApiServer
from kubelab.controllers.manager import ControllerManager, ControllerOptions
from kubelab.controllers.nodes.node_ipam import ClusterCIDR
from kubelab.controllers.storage.provisioner import Provisioner
from kubelab.controllers.upkeep.certificate_requests import Sign
from kubelab.controllers.upkeep.token_secrets import Issue
from kubelab.lab.options import LabOptions
from kubelab.logging import configure_logging
from kubelab.metrics.api import NodeMetrics, PodMetrics, ResourceMetrics
from kubelab.metrics.collector import Collector
from kubelab.underlay.node import KUBELET_DIRECTORY

JOB_BACKOFF = 1.0
"""Seconds before a Job's failed pod gets a successor."""
AUTOSCALER_PERIOD = 5.0
"""Seconds between two looks at a HorizontalPodAutoscaler."""
PROVISIONER = "kubelab.io/local-path"


async def serve(config: dict[str, Any], ready: int) -> None:
    """Runs until SIGTERM. Exits with a message naming an address that is taken."""
    lab = LabOptions.from_json(config["options"])
    server = ApiServer(
        data_dir=Path(config["data_dir"]),
        binds=[(address, int(config["port"])) for address in config["addresses"]],
        service_ranges=lab.service_ranges,
        default_toleration_seconds=lab.default_toleration_seconds,
    )
    collector = Collector(server.store, server.kubelets)
    server.computed.add(NodeMetrics(server.store, collector))
    server.computed.add(PodMetrics(server.store, collector))
    nodes = Path(config["data_dir"]).parent / "nodes"
    options = controller_options(
        lab,
        ca=server.authority.certificate,
        nodes=nodes,
        metrics=ResourceMetrics(server.store, collector),
        issue_token=server.tokens.issue_legacy,
        sign=server.authority.sign,
    )
    controllers = ControllerManager(server.store, options)
    try:
        await server.start()
    except RuntimeError as error:
        sys.exit(str(error))
    try:
        os.write(ready, b"ready")
        os.close(ready)
        task = asyncio.create_task(_run(controllers, collector))
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, task.cancel)
        with contextlib.suppress(asyncio.CancelledError):
            await task
    finally:
        await server.stop()


async def _run(controllers: ControllerManager, collector: Collector) -> None:
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(controllers.run(), name="controllers")
        tasks.create_task(collector.run(), name="metrics")


def controller_options(
    lab: LabOptions,
    *,
    ca: bytes,
    nodes: Path,
    metrics: ResourceMetrics | None = None,
    issue_token: Issue | None = None,
    sign: Sign | None = None,
) -> ControllerOptions:
    """What controllers are told of the lab. `nodes`: where the machine has the nodes' directories."""
    cidrs = tuple(ClusterCIDR(pool, length) for pool, length in lab.pod_ranges)

    def wipe(node: str, path: str) -> None:
        target = (nodes / node / "kubelet" / path.removeprefix(f"{KUBELET_DIRECTORY}/")).resolve()
        if target.is_relative_to((nodes / node / "kubelet").resolve()):
            shutil.rmtree(target, ignore_errors=True)

    return ControllerOptions(
        cluster_cidrs=cidrs,
        ca=ca.decode(),
        issue_token=issue_token,
        sign=sign,
        metrics=metrics,
        autoscaler_period=AUTOSCALER_PERIOD,
        node_grace=lab.node_monitor_grace_period,
        job_backoff=JOB_BACKOFF,
        provisioner=Provisioner(PROVISIONER, f"{KUBELET_DIRECTORY}/local-path", wipe),
    )


def main() -> int:
    configure_logging()
    config, ready = json.loads(Path(sys.argv[1]).read_text()), int(sys.argv[2])
    asyncio.run(serve(config, ready))
    return 0


if __name__ == "__main__":
    sys.exit(main())
