"""Stand-ins as processes of their own, on loopback ports that the kernel chose."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from kubelab.images.programs import OUTSIDE, standin_argv

TIMEOUT = 5


class Program:
    """One that has said where it listens."""

    def __init__(self, process: subprocess.Popen[str], ports: list[int]) -> None:
        self.process, self.ports = process, ports

    @property
    def port(self) -> int:
        return self.ports[0]

    def ask(
        self, path: str, method: str = "GET", body: str | bytes = b"", headers: Mapping[str, str] | None = None,
        address: str = "127.0.0.1",
    ) -> tuple[int, str]:  # fmt: skip
        connection = http.client.HTTPConnection(address, self.port, timeout=TIMEOUT)
        try:
            connection.request(method, path, body or None, dict(headers or {}))
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()

    def json(self, path: str, *words: Any, **more: Any) -> Any:
        return json.loads(self.ask(path, *words, **more)[1])


@contextmanager
def running(
    name: str, arguments: Sequence[str] = (), environment: Mapping[str, str] | None = None, *, listeners: int = 1
) -> Iterator[Program]:
    variables = {"PATH": os.environ["PATH"], **(environment or {})}
    process = subprocess.Popen(
        standin_argv(name, arguments, run=OUTSIDE), env=variables, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        lines = [process.stdout.readline() for _ in range(listeners)]
        assert all(line.startswith("listening on ") for line in lines), lines
        yield Program(process, [int(line.split()[-1].partition("/")[0]) for line in lines])
    finally:
        process.kill()
        process.communicate()
