"""Servers in the world outside of the cluster, for as long as somebody needs them.

In: a lab that is up; addresses and ports. Out: stand-ins in the external namespace that answer there.
"""

from __future__ import annotations

import subprocess
from collections.abc import Collection, Iterator
from contextlib import contextmanager

from kubelab.images.programs import OUTSIDE, standin_argv
from kubelab.lab.errors import LabError
from kubelab.lab.lab import Lab
from kubelab.underlay.addresses import PUBLIC, WORLD_V4, WORLD_V6

Place = tuple[str, int, str]
"""Address, port (0: none, the address only), protocol `tcp` or `udp`."""


def served_already(place: Place) -> bool:
    """Whether every lab's world answers there by itself."""
    address, port, protocol = place
    if address in (WORLD_V4[2], WORLD_V6[2]):
        return port == 53
    return address in (*WORLD_V4, *WORLD_V6, *PUBLIC[4], *PUBLIC[6]) and port in (80, 443) and protocol == "tcp"


@contextmanager
def serving(lab: Lab, places: Collection[Place]) -> Iterator[None]:
    """Adds the addresses to the world, answers on the ports. Raises LabError when somebody else has one of them."""
    own = sorted({address for address, _, _ in places} - {*WORLD_V4, *WORLD_V6, *PUBLIC[4], *PUBLIC[6]})
    wanted = sorted(place for place in places if place[1] and not served_already(place))
    added: list[str] = []
    process: subprocess.Popen[str] | None = None
    try:
        for address in own:
            _address(lab, "add", address)
            added.append(address)
        if wanted:
            process = _start(lab, wanted)
        yield
    finally:
        if process is not None:
            process.kill()
            process.communicate()
        for address in added:
            _address(lab, "del", address)


def _address(lab: Lab, verb: str, address: str) -> None:
    length = "128" if ":" in address else "32"
    words = ["ip", "addr", verb, f"{address}/{length}", "dev", "lo"]
    words += ["nodad"] if verb == "add" and ":" in address else []
    done = subprocess.run(lab.node_argv("external", words), capture_output=True, text=True, check=False)
    if done.returncode and verb == "add":
        raise LabError(f"{address} cannot be an address of the world: {done.stderr.strip()}")


def _start(lab: Lab, places: list[Place]) -> subprocess.Popen[str]:
    ports = [
        f"[{address}]:{port}/{protocol}" if ":" in address else f"{address}:{port}/{protocol}"
        for address, port, protocol in places
    ]
    argv = lab.node_argv("external", standin_argv("server", ports, run=OUTSIDE))
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for _ in places:
        if not process.stdout.readline().startswith("listening"):
            process.kill()
            _, words = process.communicate()
            raise LabError(f"a server of the world does not start: {words.strip()}")
    return process
