"""``python -m kubelab.kubelet CONFIG``: one kubelet, inside its node's namespaces."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from pathlib import Path

from kubelab.kubelet import kubelet
from kubelab.kubelet.config import KubeletConfig
from kubelab.logging import configure_logging


async def serve(config: KubeletConfig) -> None:
    """Runs the kubelet until SIGTERM or SIGINT; containers stay."""
    task = asyncio.create_task(kubelet.run(config))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, task.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await task


def main() -> int:
    if len(sys.argv) != 2:
        print("usage: python -m kubelab.kubelet CONFIG", file=sys.stderr)
        return 2
    configure_logging()
    if sys.version_info < (3, 12):
        # The default watcher starts a thread per process, and processes are forked here all the time.
        asyncio.set_child_watcher(asyncio.PidfdChildWatcher())
    asyncio.run(serve(KubeletConfig.read(Path(sys.argv[1]))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
