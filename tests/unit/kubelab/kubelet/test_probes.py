"""When probes give their verdicts."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import grpc
import pytest

from kubelab.kubelet import lifecycle, probes


async def verdicts(results: list[bool], **probe: object) -> list[tuple[bool, int]]:
    """(verdict, tries so far) for a probe whose tries end as told; ends with the list."""
    tries = 0
    said: list[tuple[bool, int]] = []
    over = asyncio.Event()

    async def attempt() -> None:
        nonlocal tries
        if tries == len(results):
            over.set()
            await asyncio.Event().wait()
        tries += 1
        if not results[tries - 1]:
            raise probes.ProbeFailedError("no")

    task = asyncio.create_task(
        probes.watch({"periodSeconds": 0.001, **probe}, attempt, lambda good, _: said.append((good, tries)))
    )
    await asyncio.wait_for(over.wait(), 5)
    task.cancel()
    return said


async def test_failure_threshold() -> None:
    assert await verdicts([True, False, False, True], failureThreshold=2) == [(True, 1), (False, 3), (True, 4)]


async def test_success_threshold() -> None:
    assert await verdicts([True, False, True, True], successThreshold=2, failureThreshold=9) == [(True, 4)]


async def test_until_success_returns() -> None:
    async def good() -> None:
        return

    said: list[bool] = []
    await asyncio.wait_for(probes.watch({}, good, lambda verdict, _: said.append(verdict), until_success=True), 5)
    assert said == [True]


async def test_young_container_is_asked_often_but_failures_count_once_per_period() -> None:
    tries = 0

    async def attempt() -> None:
        nonlocal tries
        tries += 1
        if tries < 4:
            raise probes.ProbeFailedError("not yet")

    said: list[bool] = []
    probe = {"periodSeconds": 600, "failureThreshold": 1}
    await asyncio.wait_for(probes.watch(probe, attempt, lambda good, _: said.append(good), until_success=True), 5)
    assert said == [True]


@pytest.mark.parametrize(("port", "number"), [(80, 80), ("80", 80), ("web", 8080)])
def test_ports(port: int | str, number: int) -> None:
    container = {"name": "c", "ports": [{"name": "web", "containerPort": 8080}]}
    assert probes.port_number(port, container) == number


def test_unknown_port_name() -> None:
    with pytest.raises(probes.ProbeFailedError, match="'web': the container c declares no port"):
        probes.port_number("web", {"name": "c"})


async def refuse(*_: object) -> tuple[int, str]:
    return 3, "said no"


async def test_attempts_against_real_sockets() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if line := await reader.readline():  # a TCP probe asks nothing
            path = line.split()[1]
            code = {b"/ok?a=b": 204, b"/moved": 302, b"/away": 307, b"/lost": 301, b"/bad": 500}.get(path, 302)
            to = {b"/moved": b"ok?a=b", b"/away": b"http://192.0.2.1/bad", b"/to-bad": b"/bad", b"/round": b"/round"}
            moved = b"Location: %s\r\n" % to[path] if path in to else b""
            writer.write(b"HTTP/1.1 %d X\r\nServer: x\r\n%s\r\nbroken" % (code, moved))
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    container = {"name": "c"}
    async with server:
        for path in ("/ok?a=b", "moved", "/away"):
            await probes.attempt({"httpGet": {"path": path, "port": port}}, container, "127.0.0.1", refuse)
        for path, words in (
            ("/bad", "statuscode: 500$"), ("/to-bad", "statuscode: 500$"),
            ("/round", "/round.: stopped after 10 redirects$"), ("/lost", "301 response missing Location header$"),
        ):  # fmt: skip
            with pytest.raises(probes.ProbeFailedError, match=words):
                await probes.attempt({"httpGet": {"path": path, "port": port}}, container, "127.0.0.1", refuse)
        await probes.attempt({"tcpSocket": {"port": port}}, container, "127.0.0.1", refuse)
    with pytest.raises(probes.ProbeFailedError, match=r"dial tcp 127.0.0.1:\d+: connect: connection refused"):
        await probes.attempt({"tcpSocket": {"port": port}}, container, "127.0.0.1", refuse)
    with pytest.raises(probes.ProbeFailedError, match="said no"):
        await probes.attempt({"exec": {"command": ["x"]}}, container, "127.0.0.1", refuse)
    with pytest.raises(probes.ProbeFailedError, match=r"Get .http://127.0.0.1:\d+/.: dial tcp .*: connection refused"):
        await probes.attempt({"httpGet": {"port": port}}, container, "127.0.0.1", refuse)


async def test_grpc_health_of_a_real_server() -> None:
    answers = {b"": b"\x08\x01", b"\x0a\x03bad": b"\x08\x02"}

    async def check(request: bytes, context: Any) -> bytes:
        if request not in answers:
            await context.abort(grpc.StatusCode.NOT_FOUND, "unknown service")
        return answers[request]

    handlers = {"Check": grpc.unary_unary_rpc_method_handler(check)}
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("grpc.health.v1.Health", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        for service, words in (("", ""), ("bad", 'responded with "NOT_SERVING"'), ("none", "does not implement")):
            probe = {"grpc": {"port": port, "service": service}, "timeoutSeconds": 5}
            failure = contextlib.nullcontext() if not words else pytest.raises(probes.ProbeFailedError, match=words)
            with failure:
                await probes.attempt(probe, {"name": "c"}, "127.0.0.1", refuse)
    finally:
        await server.stop(None)
    with pytest.raises(probes.ProbeFailedError, match="timeout: failed to connect service"):
        await probes.attempt({"grpc": {"port": port}}, {"name": "c"}, "127.0.0.1", refuse)


async def answering(text: bytes) -> asyncio.Server:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            await reader.readline()
            writer.write(text)
            await writer.drain()
        writer.close()

    return await asyncio.start_server(serve, "127.0.0.1", 0)


@pytest.mark.parametrize(
    ("said", "port"), [(b"x" * 200_000, 0), (b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:99999/\r\n\r\n", 0),
                       (b"", 99999)]
)  # fmt: skip
async def test_an_answer_that_makes_no_sense_is_a_failure(said: bytes, port: int) -> None:
    """Of a probe, which goes on; and of a hook, after which the pod goes."""
    async with await answering(said) as server:
        target = {"port": port or server.sockets[0].getsockname()[1]}
        with pytest.raises(probes.ProbeFailedError):
            await probes.attempt({"httpGet": target}, {"name": "c"}, "127.0.0.1", no_exec)
        with pytest.raises(lifecycle.HookError):
            await lifecycle.run({"httpGet": target}, {"name": "c"}, "127.0.0.1", no_exec, 5)


async def no_exec(command: list[str], timeout: float) -> tuple[int, str]:
    raise AssertionError("nobody executes anything")
