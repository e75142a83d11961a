"""Network namespaces of the tests' own, made with ip(8) so that they say nothing about the code under test."""

from __future__ import annotations

import os
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cilium.datapath.netlink.netns import open_netns


def ip(*arguments: str, netns: str = "") -> str:
    prefix = ["ip", "-n", netns] if netns else ["ip"]
    return subprocess.run([*prefix, *arguments], check=True, capture_output=True, text=True).stdout


@dataclass(frozen=True)
class Namespace:
    name: str
    fd: int

    @property
    def path(self) -> Path:
        return Path("/var/run/netns") / self.name

    def ip(self, *arguments: str) -> str:
        return ip(*arguments, netns=self.name)


@contextmanager
def namespace() -> Iterator[Namespace]:
    name = f"t{os.getpid()}-{uuid.uuid4().hex[:6]}"
    ip("netns", "add", name)
    fd = open_netns(f"/var/run/netns/{name}")
    try:
        ip("link", "set", "lo", "up", netns=name)
        yield Namespace(name, fd)
    finally:
        os.close(fd)
        subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)
