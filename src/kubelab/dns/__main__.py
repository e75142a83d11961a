"""`python -m kubelab.dns [-conf FILE] [-dns.port PORT]`: answers until SIGTERM; SIGUSR1 reads the Corefile again."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from kubelab.dns import VERSION
from kubelab.dns.corefile import CorefileError
from kubelab.dns.listeners import BindError
from kubelab.dns.server import Server


async def run(path: Path, port: int) -> None:
    """Raises CorefileError, BindError, OSError."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with Server(path, port=port) as server:
        tasks: set[asyncio.Task[bool]] = set()

        def reload() -> None:
            tasks.add(task := asyncio.ensure_future(server.reload()))
            task.add_done_callback(tasks.discard)

        loop.add_signal_handler(signal.SIGUSR1, reload)
        print(" ".join(f"[{address}]:{number}" for address, number in server.places), flush=True)
        print(f"CoreDNS-{VERSION}, kubelab.dns, python{sys.version_info[0]}.{sys.version_info[1]}", flush=True)
        await stop.wait()
        await server.lame()


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m kubelab.dns", description="A stand-in for CoreDNS.")
    parser.add_argument("-conf", type=Path, default=Path("Corefile"), help="the Corefile")
    parser.add_argument("-dns.port", "-p", dest="port", type=int, default=53, help="port of zones that name none")
    parser.add_argument("-version", action="version", version=f"CoreDNS-{VERSION} (kubelab.dns)")
    parser.add_argument("-quiet", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    try:
        asyncio.run(run(arguments.conf, arguments.port))
    except CorefileError as error:
        print(error, file=sys.stderr)
        return 1
    except (BindError, OSError) as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
