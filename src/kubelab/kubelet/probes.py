"""Probes: startup, liveness, readiness, executed from the node's network namespace.

In: a probe's spec and where the container is. Out: calls of ``outcome`` when the verdict changes by its thresholds.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Awaitable, Callable

from kubelab.kubelet.config import Object

Exec = Callable[[list[str], float], Awaitable["tuple[int, str]"]]
"""(command, timeout) -> (exit code, output), inside the container."""

EAGER_MIN, EAGER_MAX, EAGER_FOR = 0.1, 1.0, 60.0
"""Seconds: the first and the longest pause before a first success, and for how long that goes on."""

_REPLY_LIMIT = 4096


class ProbeFailedError(Exception):
    """One attempt failed; the text is for the event."""


async def attempt(probe: Object, container: Object, ip: str, execute: Exec) -> None:
    """One try. Raises ProbeFailedError."""
    timeout = float(probe.get("timeoutSeconds") or 1)
    try:
        async with asyncio.timeout(timeout):
            if "httpGet" in probe:
                await _http(probe["httpGet"], container, ip)
            elif "tcpSocket" in probe:
                target = probe["tcpSocket"]
                port = port_number(target["port"], container)
                _, writer = await asyncio.open_connection(target.get("host") or ip, port)
                writer.close()
            elif "exec" in probe:
                code, output = await execute(probe["exec"]["command"], timeout)
                if code:
                    raise ProbeFailedError(f"exit status {code}: {output.strip()[:200]}")
            else:
                raise ProbeFailedError("the kubelet knows httpGet, tcpSocket and exec probes")
    except TimeoutError:
        raise ProbeFailedError(f"no answer within {timeout:g} s") from None
    except OSError as error:
        # asyncio's text names its own function; the system's names the reason.
        raise ProbeFailedError(os.strerror(error.errno) if error.errno else str(error)) from error


def port_number(port: int | str, container: Object) -> int:
    """A number, or the name of one of the container's ports. Raises ProbeFailedError."""
    if isinstance(port, int) or port.isdigit():
        return int(port)
    for declared in container.get("ports") or []:
        if declared.get("name") == port:
            return int(declared["containerPort"])
    raise ProbeFailedError(f"port {port!r}: the container {container['name']} declares no port of that name")


async def _http(target: Object, container: Object, ip: str) -> None:
    host, port = target.get("host") or ip, port_number(target["port"], container)
    context = None
    if target.get("scheme", "HTTP").upper() == "HTTPS":
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    reader, writer = await asyncio.open_connection(host, port, ssl=context)
    try:
        headers = {"Host": f"[{host}]:{port}" if ":" in host else f"{host}:{port}",
                   "User-Agent": "kube-probe/1", "Accept": "*/*", "Connection": "close"}  # fmt: skip
        headers.update({header["name"]: header["value"] for header in target.get("httpHeaders") or []})
        path = target.get("path") or "/"
        lines = [f"GET {path if path.startswith('/') else '/' + path} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        writer.write("\r\n".join([*lines, "", ""]).encode())
        status = (await reader.readline()).split()
        if len(status) < 2 or not status[1].isdigit():
            raise ProbeFailedError("the answer is not HTTP")
        if not 200 <= int(status[1]) < 400:
            body = await reader.read(_REPLY_LIMIT)
            text = body.partition(b"\r\n\r\n")[2].decode(errors="replace").strip()[:200]
            raise ProbeFailedError(f"HTTP probe failed with statuscode: {int(status[1])} {text}".rstrip())
    finally:
        writer.close()


async def watch(
    probe: Object,
    try_once: Callable[[], Awaitable[None]],
    outcome: Callable[[bool, str], None],
    *,
    until_success: bool = False,
) -> None:
    """Probes for ever; ``outcome(verdict, text)`` is called each time a threshold is reached.

    ``until_success``: returns after the first success (startup probes).
    """
    period = float(probe.get("periodSeconds") or 10)
    needed = int(probe.get("successThreshold") or 1), int(probe.get("failureThreshold") or 3)
    await asyncio.sleep(float(probe.get("initialDelaySeconds") or 0))
    now = asyncio.get_running_loop().time
    born = now()
    successes = failures = 0
    # What is ready early should be seen early: until the first success, a young container is asked more often than
    # its period says. Such failures count once per period, so that thresholds keep their meaning.
    eager, counted = min(EAGER_MIN, period), born
    while True:
        text = ""
        try:
            await try_once()
            successes, failures, eager = successes + 1, 0, period
        except ProbeFailedError as error:
            text, successes = str(error), 0
            if eager >= period or now() - counted >= period:
                failures, counted = failures + 1, now()
        if successes >= needed[0]:
            outcome(True, text)
            if until_success:
                return
        elif failures >= needed[1]:
            outcome(False, text)
        await asyncio.sleep(eager)
        young = now() - born < EAGER_FOR and eager < period
        eager = min(eager * 1.5, EAGER_MAX, period) if young else period
