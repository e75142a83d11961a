"""`python -m kubelab.apiserver`: the API server alone, without controllers.

Comes in: flags. Goes out: a running server until SIGTERM or SIGINT; `<data-dir>/admin.kubeconfig` once it serves.
"""

import asyncio
import signal
import sys
from pathlib import Path

import click

from kubelab.apiserver.server import Address, ApiServer


def _address(text: str) -> Address:
    """`127.0.0.1:6443`, `[::1]:6443`."""
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdigit() or int(port) > 65535:
        raise click.BadParameter(f"{text!r}: want ADDRESS:PORT, IPv6 addresses in brackets: [::1]:6443")
    return host.strip("[]"), int(port)


@click.command()
@click.option(
    "--data-dir", type=click.Path(path_type=Path), required=True, help="Objects, CA and kubeconfig live here."
)
@click.option("--bind", "binds", multiple=True, default=("127.0.0.1:6443",), help="ADDRESS:PORT; may be repeated.")
@click.option("--tls-san", "names", multiple=True, help="Further name or address for the certificate; may be repeated.")
def main(data_dir: Path, binds: tuple[str, ...], names: tuple[str, ...]) -> None:
    """Serve a kube-compatible API."""
    try:
        asyncio.run(_serve(data_dir, [_address(b) for b in binds], list(names)))
    except RuntimeError as error:
        print(f"apiserver: {error}", file=sys.stderr)
        sys.exit(1)


async def _serve(data_dir: Path, binds: list[Address], names: list[str]) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with ApiServer(data_dir=data_dir, binds=binds, tls_names=names) as server:
        server.write_kubeconfig(data_dir / "admin.kubeconfig", user="kubernetes-admin", groups=["system:masters"])
        await stop.wait()


if __name__ == "__main__":
    main()
