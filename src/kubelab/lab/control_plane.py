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
import signal
import sys
from pathlib import Path
from typing import Any

from kubelab.apiserver.server import ApiServer
from kubelab.controllers.manager import ControllerManager, ControllerOptions
from kubelab.controllers.nodes.node_ipam import ClusterCIDR
from kubelab.lab.logging import configure_logging
from kubelab.lab.options import LabOptions


async def serve(config: dict[str, Any], ready: int) -> None:
    """Runs until SIGTERM. Exits with a message naming an address that is taken."""
    lab = LabOptions.from_json(config["options"])
    server = ApiServer(
        data_dir=Path(config["data_dir"]),
        binds=[(address, int(config["port"])) for address in config["addresses"]],
        service_ranges=lab.service_ranges,
        default_toleration_seconds=lab.default_toleration_seconds,
    )
    controllers = ControllerManager(server.store, controller_options(lab, ca=server.authority.certificate))
    try:
        await server.start()
    except RuntimeError as error:
        sys.exit(str(error))
    try:
        os.write(ready, b"ready")
        os.close(ready)
        task = asyncio.create_task(controllers.run())
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, task.cancel)
        with contextlib.suppress(asyncio.CancelledError):
            await task
    finally:
        await server.stop()


def controller_options(lab: LabOptions, *, ca: bytes) -> ControllerOptions:
    """What controllers are told of the lab."""
    cidrs = tuple(ClusterCIDR(pool, length) for pool, length in lab.pod_ranges)
    return ControllerOptions(cluster_cidrs=cidrs, ca=ca.decode(), node_grace=lab.node_monitor_grace_period)


def main() -> int:
    configure_logging()
    config, ready = json.loads(Path(sys.argv[1]).read_text()), int(sys.argv[2])
    asyncio.run(serve(config, ready))
    return 0


if __name__ == "__main__":
    sys.exit(main())
