"""A name server that queries are forwarded to: asked, and looked after once it failed.

In: messages. Out: its answers; whether it counts as down, which probes decide that go on until it answers again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import dns.asyncquery
import dns.exception
import dns.flags
import dns.message
import dns.name
from dns.rdatatype import RdataType

FAILURES = (TimeoutError, OSError, EOFError, dns.exception.DNSException)
"""What asking raises when there is no answer."""
PROBE = 1.0
"""Seconds for a probe's answer."""


@dataclass(slots=True)
class HealthCheck:
    """How upstreams are probed: how often, after how many failures one is down (0: never), and for what."""

    interval: float = 0.5
    max_fails: int = 2
    recursion: bool = True
    domain: dns.name.Name = dns.name.root

    def query(self) -> dns.message.Message:
        message = dns.message.make_query(self.domain, RdataType.NS)
        if not self.recursion:
            message.flags &= ~dns.flags.RD
        return message


class Upstream:
    """One server. Its probes end with `close`."""

    def __init__(self, address: str, port: int, check: HealthCheck, failed: Callable[[str], None]) -> None:
        """``failed`` is told of each failed probe, with the server's name."""
        self.address, self.port, self._check, self._failed = address, port, check, failed
        self._fails = 0
        self._probing: asyncio.Task[None] | None = None

    def __str__(self) -> str:
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"

    @property
    def down(self) -> bool:
        return 0 < self._check.max_fails < self._fails

    async def ask(self, message: dns.message.Message, *, tcp: bool, timeout: float) -> dns.message.Message:
        """Over UDP and, when the answer was cut, over TCP. Raises one of `FAILURES`."""
        if tcp:
            return await dns.asyncquery.tcp(message, self.address, timeout, self.port)
        answer, _ = await dns.asyncquery.udp_with_fallback(
            message, self.address, timeout, self.port, ignore_unexpected=True
        )
        return answer

    def suspect(self) -> None:
        """It did not answer: from now on it is probed, until it does."""
        if self._check.max_fails and self._probing is None:
            self._probing = asyncio.ensure_future(self._probe())

    def close(self) -> None:
        if self._probing is not None:
            self._probing.cancel()

    async def _probe(self) -> None:
        while True:
            try:
                await self.ask(self._check.query(), tcp=False, timeout=PROBE)
            except FAILURES:
                self._fails += 1
                self._failed(str(self))
                await asyncio.sleep(self._check.interval)
            else:
                break
        self._fails, self._probing = 0, None
