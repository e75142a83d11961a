"""What a container executes: its command where this machine has it, otherwise the stand-in.

In: the container's spec and environment. Out: an argument list and what to execute when its command does not exist.
There are no images here: a container is a command of the machine, or a server on the ports it declares.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import kubelab
from kubelab.kubelet.config import Object
from kubelab.kubelet.environment import expand


def command_line(container: Object, environment: dict[str, str]) -> tuple[list[str], list[str] | None]:
    """(argv, fallback). Containers without declared ports have no fallback when they name a command: a stand-in
    without ports would hide the mistake."""
    if not container.get("command") and image_name(container.get("image", "")) == "coredns":
        return [sys.executable, "-m", "kubelab.dns", *(container.get("args") or [])], None
    command = [expand(part, environment) for part in container.get("command") or []]
    arguments = [expand(part, environment) for part in container.get("args") or []]
    stand_in = stand_in_line(container)
    if command:
        return [*command, *arguments], stand_in if container.get("ports") else None
    if arguments:
        path = environment.get("PATH")
        if shutil.which(arguments[0], path=path):
            return arguments, stand_in
        image = image_name(container.get("image", ""))
        if image and shutil.which(image, path=path):
            return [image, *arguments], stand_in
    return stand_in, None


def image_name(image: str) -> str:
    """The last part of an image reference, without tag and digest."""
    return image.partition("@")[0].rpartition("/")[2].partition(":")[0]


def stand_in_line(container: Object) -> list[str]:
    """The stand-in's command line: one ``PORT/protocol`` per declared port."""
    server = Path(kubelab.__file__).parent / "standin" / "server.py"
    ports = [f"{port['containerPort']}/{port.get('protocol', 'TCP').lower()}" for port in container.get("ports") or []]
    return [sys.executable, "-S", "-E", "-I", str(server), *ports]


def identity(pod: Object, container: Object, node: str) -> dict[str, str]:
    """Variables by which the stand-in tells who it is."""
    meta = pod["metadata"]
    return {
        "KUBELAB_POD": meta["name"],
        "KUBELAB_NAMESPACE": meta["namespace"],
        "KUBELAB_NODE": node,
        "KUBELAB_CONTAINER": container["name"],
    }
