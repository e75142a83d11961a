"""Traffic that goes on while components are killed, and its account.

As a program, in a pod's network namespace: to every address one connection that stays, with a line sent and answered
every PERIOD, and one new connection after another. On end of stdin it prints what came of it as JSON; a number there
says how many exchanges and connections it must have seen before, unless something went wrong.

    python traffic.py PORT ADDRESS...

For tests: `Traffic` runs the program and reads the account.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

PERIOD = 0.02
PATIENCE = 5.0
"""Seconds until an answer counts as lost: the kernel sends a lost segment again several times within them."""


@dataclass
class Account:
    """What came of the traffic to one address."""

    exchanges: int = 0
    longest: float = 0.0  # seconds between a line and its answer on the lasting connection
    broken: str = ""
    opened: int = 0
    slowest: float = 0.0  # seconds a new connection took, with its one exchange
    failed: list[str] = field(default_factory=list)

    @property
    def wrong(self) -> bool:
        return bool(self.broken or self.failed)


async def exchange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"how are you\n")
    await writer.drain()
    if not (await reader.readline()).endswith(b"\n"):
        raise EOFError("the connection ended")


async def lasting(address: str, port: int, account: Account) -> None:
    reader, writer = await asyncio.open_connection(address, port)
    while True:
        started = time.monotonic()
        async with asyncio.timeout(PATIENCE):
            await exchange(reader, writer)
        account.longest = max(account.longest, time.monotonic() - started)
        account.exchanges += 1
        await asyncio.sleep(PERIOD)


async def one_lasting(address: str, port: int, account: Account) -> None:
    try:
        await lasting(address, port, account)
    except (OSError, EOFError) as error:  # TimeoutError is an OSError
        account.broken = f"{type(error).__name__}: {error}"


async def fresh(address: str, port: int, account: Account) -> None:
    while True:
        started = time.monotonic()
        try:
            async with asyncio.timeout(PATIENCE):
                reader, writer = await asyncio.open_connection(address, port)
                await exchange(reader, writer)
                writer.close()
        except (OSError, EOFError) as error:
            account.failed.append(f"{type(error).__name__}: {error}")
        else:
            account.opened += 1
            account.slowest = max(account.slowest, time.monotonic() - started)
        await asyncio.sleep(PERIOD)


async def serve(port: int, addresses: Sequence[str]) -> dict[str, Account]:
    accounts = {address: Account() for address in addresses}
    tasks = [
        asyncio.create_task(work(address, port, account))
        for address, account in accounts.items()
        for work in (one_lasting, fresh)
    ]
    print("started", flush=True)
    enough = int(await asyncio.to_thread(sys.stdin.read) or 0)
    while any(  # noqa: ASYNC110 - twenty tasks change what is asked for
        min(account.exchanges, account.opened) < enough and not account.wrong for account in accounts.values()
    ):
        await asyncio.sleep(PERIOD)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return accounts


class Traffic:
    """The program under way: `argv` is the command line that runs it where the traffic shall start."""

    def __init__(self, argv: Sequence[str]) -> None:
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(argv, stdin=pipe, stdout=pipe, text=True)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "started\n"

    def end(self, *, enough: int = 0) -> dict[str, Account]:
        out, _ = self._process.communicate(str(enough), timeout=PATIENCE + 30)
        raw: dict[str, dict[str, Any]] = json.loads(out)
        return {address: Account(**fields) for address, fields in raw.items()}

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


if __name__ == "__main__":
    finished = asyncio.run(serve(int(sys.argv[1]), sys.argv[2:]))
    print(json.dumps({address: asdict(account) for address, account in finished.items()}))
