"""One question of the suite: who asks whom, by which command, and how its packets look to Hubble.

In: actors, options. Out: `Action`s with the command lines of curl and ping.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import ceil
from typing import Literal

from cilium.connectivity.suite.actors import Labels, Pod, family_of
from cilium.connectivity.suite.options import Options

Outside = Literal["", "ip", "other"]
WRITE_OUT = "%{local_ip}:%{local_port} -> %{remote_ip}:%{remote_port} = %{response_code}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """Who is asked. `address` may be a name, `port` is 0 for ping. `seen`: other ends that its flows may have.

    `outside`: which of the two external addresses it is, if it is one.
    """

    name: str
    address: str
    port: int = 0
    labels: Labels = field(default_factory=dict)
    scheme: str = "http"
    path: str = "/"
    seen: tuple[tuple[str, int], ...] = ()
    outside: Outside = ""

    @property
    def url(self) -> str:
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"{self.scheme}://{host}:{self.port}{self.path}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """`watched`: its flows are worth a look."""

    scenario: str
    name: str
    source: Pod
    target: Peer
    family: int = 0  # 0: the one that the command chooses
    command: tuple[str, ...]
    watched: bool = True

    @property
    def ping(self) -> bool:
        return not self.target.port

    @property
    def source_address(self) -> str:
        return self.source.addresses.get(self.family or 4) or next(iter(self.source.addresses.values()), "")

    def __str__(self) -> str:
        ends = f"{self.source} ({self.source_address}) -> {self.target.name} ({self.target.address}:{self.target.port})"
        return f"{self.scenario}:{self.name}: {ends}"


def curl(target: Peer, options: Options, *more: str) -> tuple[str, ...]:
    """curl that says who talked to whom, and fails for answers above 399."""
    words = ["curl", "-w", WRITE_OUT, "--silent", "--fail", "--show-error", "--output", "/dev/null"]
    for flag, seconds in (("--connect-timeout", options.connect_timeout), ("--max-time", options.request_timeout)):
        words += [flag, f"{seconds:g}"] if seconds else []
    words += ["--insecure"] if options.curl_insecure else []
    if target.address.endswith("."):  # a full name, for the resolver; no server knows itself by it
        words += ["-H", f"Host: {target.address.rstrip('.')}"]
    return (*words, *more, target.url)


def retrying(options: Options) -> tuple[str, ...]:
    """For what is far away: a lost packet there is nobody's fault here."""
    if not options.retry:
        return ()
    delay = ("--retry-delay", f"{options.retry_delay:g}") if options.retry_delay else ()
    return ("--retry", str(options.retry), "--retry-all-errors", *delay)


def ping(address: str, options: Options) -> tuple[str, ...]:
    words = ["ping", "-c", "1", *(["-6"] if family_of(address) == 6 else [])]
    if options.connect_timeout:  # -w is in whole seconds; it makes ping ask again, as TCP does
        words += ["-W", f"{options.connect_timeout:g}", "-w", str(ceil(options.connect_timeout))]
    return (*words, address)


def named(families: Mapping[int, str]) -> str:
    """For reports: the address people would look for."""
    return families.get(4) or next(iter(families.values()), "")
