"""The lab's API server: writes per second, and how long a list of many pods takes.

In: a server in a process of its own, spoken to over TLS as in a lab; the client is raw asyncio, which costs least. Out:
writes/s of one and of eight clients, milliseconds of a list of 10,000 pods.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from bench.figures import Figure, median
from bench.options import Options

PODS = "/api/v1/namespaces/default/pods"
MERGE = "application/merge-patch+json"
CROWD = 10_000


def pod(name: str) -> bytes:
    probe = {"httpGet": {"port": 80}}
    container = {"name": "c", "image": "nginx:1", "ports": [{"containerPort": 80}], "readinessProbe": probe}
    labels = {"app": "web", "tier": "front"}
    return json.dumps({"metadata": {"name": name, "labels": labels}, "spec": {"containers": [container]}}).encode()


class Client:
    """One connection, one request at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def send(self, method: str, path: str, body: bytes = b"", media: str = "application/json") -> bytes:
        head = f"{method} {path} HTTP/1.1\r\nHost: api\r\nContent-Type: {media}\r\nContent-Length: {len(body)}\r\n\r\n"
        self._writer.write(head.encode() + body)
        headers = (await self._reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        length = next(int(h.split(":")[1]) for h in headers if h.lower().startswith("content-length"))
        answer = await self._reader.readexactly(length)
        if headers[0].split()[1][0] != "2":
            raise RuntimeError(f"{method} {path}: {headers[0]}: {answer[:300].decode()}")
        return answer

    def close(self) -> None:
        self._writer.close()


@contextlib.contextmanager
def server() -> Iterator[tuple[int, Path]]:
    with tempfile.TemporaryDirectory() as directory, socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        arguments = ("-m", "kubelab.apiserver", "--data-dir", directory, "--bind", f"127.0.0.1:{port}")
        process = subprocess.Popen([sys.executable, *arguments], stdout=subprocess.DEVNULL, env={**os.environ})
        try:
            config = Path(directory, "admin.kubeconfig")
            deadline = time.monotonic() + 30
            while not config.exists():
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError("the API server did not become ready")
                time.sleep(0.05)
            yield port, config
        finally:
            process.kill()
            process.wait()


def identity(config: Path) -> ssl.SSLContext:
    content = yaml.safe_load(config.read_text())
    user, cluster = content["users"][0]["user"], content["clusters"][0]["cluster"]
    return _context(user, cluster, config.parent)


def _context(user: dict[str, Any], cluster: dict[str, Any], directory: Path) -> ssl.SSLContext:
    pem = {k: base64.b64decode(v) for k, v in {**user, **cluster}.items() if k.endswith("-data")}
    pair = directory / "bench.pem"
    pair.write_bytes(pem["client-certificate-data"] + pem["client-key-data"])
    context = ssl.create_default_context(cadata=pem["certificate-authority-data"].decode())
    context.load_cert_chain(pair)
    return context


async def measure(port: int, config: Path, crowd: int) -> list[Figure]:
    context = identity(config)
    clients = [Client(*await asyncio.open_connection("127.0.0.1", port, ssl=context, limit=1 << 27)) for _ in range(8)]

    async def create(client: Client, names: list[str]) -> None:
        for name in names:
            await client.send("POST", PODS, pod(name))

    async def label(client: Client, names: list[str]) -> None:
        for name in names:
            await client.send("PATCH", f"{PODS}/{name}", b'{"metadata":{"labels":{"a":"b"}}}', MERGE)

    async def report(client: Client, names: list[str]) -> None:
        for name in names:
            patch = b'{"status":{"phase":"Running","podIP":"10.0.0.1","conditions":[{"type":"Ready","status":"True"}]}}'
            await client.send("PATCH", f"{PODS}/{name}/status", patch, MERGE)

    names = [f"pod-{n}" for n in range(crowd)]

    async def rate(work: Any, chosen: list[str], among: list[Client]) -> float:
        started = time.perf_counter()
        await asyncio.gather(*(work(c, chosen[n :: len(among)]) for n, c in enumerate(among)))
        return len(chosen) / (time.perf_counter() - started)

    share = crowd // 5
    alone = await rate(create, names[:share], clients[:1])
    figures = [
        Figure(name="pods created, one client", value=alone, unit="/s", better="higher"),
        _writes("pods created, 8 clients", await rate(create, names[share:], clients)),
        _writes("labels patched, 8 clients", await rate(label, names[:share], clients)),
        _writes("statuses patched, 8 clients", await rate(report, names[:share], clients)),
    ]
    times = []
    for _ in range(5):
        started = time.perf_counter()
        answer = await clients[0].send("GET", "/api/v1/pods")
        times.append((time.perf_counter() - started) * 1000)
    figures.append(median(f"{crowd} pods listed, {len(answer) >> 20} MiB", times, unit="ms", target=1000))
    for client in clients:
        client.close()
    return figures


def _writes(name: str, value: float) -> Figure:
    return Figure(name=name, value=value, unit="/s", target=2000, better="higher")


def run(options: Options) -> Iterator[Figure]:
    with server() as (port, config):
        yield from asyncio.run(measure(port, config, CROWD))
