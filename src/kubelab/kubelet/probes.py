"""Probes: startup, liveness, readiness by exec, httpGet, tcpSocket, grpc, from the node's network namespace.

In: a probe's spec and where the container is. Out: calls of ``outcome`` when the verdict changes by its thresholds.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Awaitable, Callable
from urllib.parse import urljoin, urlsplit

from kubelab import grpc_health
from kubelab.kubelet.config import Object

Exec = Callable[[list[str], float], Awaitable["tuple[int, str]"]]
"""(command, timeout) -> (exit code, output), inside the container."""

EAGER_MIN, EAGER_MAX, EAGER_FOR = 0.1, 1.0, 60.0
"""Seconds: the first and the longest pause before a first success, and for how long that goes on."""

MAX_REDIRECTS = 10
_REDIRECTS = (301, 302, 303, 307, 308)
_REPLY_LIMIT = 4096
TIMED_OUT = 124
UNUSABLE = (ValueError, OverflowError)
"""What asyncio and urllib raise for hosts and ports that cannot be, and for a line of an answer that does not end."""


class ProbeFailedError(Exception):
    """One attempt failed; the text is for the event."""


async def attempt(probe: Object, container: Object, ip: str, execute: Exec) -> None:
    """One try. Raises ProbeFailedError, in the words of Kubernetes."""
    timeout = float(probe.get("timeoutSeconds") or 1)
    if "exec" in probe:
        await _exec(probe["exec"]["command"], execute, timeout)
        return
    where = ""
    try:
        async with asyncio.timeout(timeout):
            if "httpGet" in probe:
                where = f'Get "{http_url(probe["httpGet"], container, ip)}": '
                await http_get(probe["httpGet"], container, ip)
            elif "tcpSocket" in probe:
                target = probe["tcpSocket"]
                host, port = target.get("host") or ip, port_number(target["port"], container)
                where = f"dial tcp {joined(host, port)}: "
                _, writer = await asyncio.open_connection(host, port)
                writer.close()
            elif "grpc" in probe:
                await _grpc(probe["grpc"], ip)
            else:
                raise ProbeFailedError("missing probe handler: want exec, httpGet, tcpSocket or grpc")
    except TimeoutError:
        if "grpc" in probe:
            raise _no_grpc(probe, ip, timeout) from None
        late = "context deadline exceeded (Client.Timeout exceeded while awaiting headers)"
        raise ProbeFailedError(where + (late if "httpGet" in probe else "i/o timeout")) from None
    except UNUSABLE as error:
        raise ProbeFailedError(f"{where}{error}") from error
    except OSError as error:
        if "grpc" in probe:  # a gRPC client tries to connect until its time is over
            raise _no_grpc(probe, ip, timeout) from error
        why = os.strerror(error.errno).lower() if error.errno else str(error)
        if "httpGet" in probe:  # the words of Go: first what was done, then to whom
            target = joined(*http_address(probe["httpGet"], container, ip))
            where += f"dial tcp {target}: "
        raise ProbeFailedError(f"{where}connect: {why}") from error


async def _exec(command: list[str], execute: Exec, timeout: float) -> None:
    """The runtime watches the time itself."""
    code, output = await execute(command, timeout)
    if code == TIMED_OUT and output.startswith("no result"):
        raise ProbeFailedError(f'command timed out: "{" ".join(command)}" timed out after {timeout:g}s')
    if code:
        raise ProbeFailedError(output.strip()[:_REPLY_LIMIT] or f"command exited with {code}")


def _no_grpc(probe: Object, ip: str, timeout: float) -> ProbeFailedError:
    target = joined(ip, int(probe["grpc"]["port"]))
    late = "context deadline exceeded"
    return ProbeFailedError(f'timeout: failed to connect service "{target}" within {timeout:g}s: {late}')


def joined(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def port_number(port: int | str, container: Object) -> int:
    """A number, or the name of one of the container's ports. Raises ProbeFailedError."""
    if isinstance(port, int) or port.isdigit():
        return int(port)
    for declared in container.get("ports") or []:
        if declared.get("name") == port:
            return int(declared["containerPort"])
    raise ProbeFailedError(f"port {port!r}: the container {container['name']} declares no port of that name")


def http_address(target: Object, container: Object, ip: str) -> tuple[str, int]:
    return target.get("host") or ip, port_number(target["port"], container)


def http_url(target: Object, container: Object, ip: str) -> str:
    scheme, path = (target.get("scheme") or "HTTP").lower(), target.get("path") or "/"
    address = joined(*http_address(target, container, ip))
    return f"{scheme}://{address}{path if path.startswith('/') else '/' + path}"


async def http_get(target: Object, container: Object, ip: str) -> None:
    """A GET, and those to which it is redirected on the same host; any last status from 200 to 399 is good.

    Raises ProbeFailedError, OSError, one of `UNUSABLE`.
    """
    url = first = http_url(target, container, ip)
    for _ in range(MAX_REDIRECTS + 1):
        status, location = await _get(url, target.get("httpHeaders") or [])
        if status not in _REDIRECTS:
            if not 200 <= status < 400:
                raise ProbeFailedError(f"HTTP probe failed with statuscode: {status}")
            return
        if location is None:
            raise ProbeFailedError(f'Get "{url}": {status} response missing Location header')
        url = urljoin(url, location)
        if urlsplit(url).hostname != urlsplit(first).hostname:
            return
    raise ProbeFailedError(f'Get "{url}": stopped after {MAX_REDIRECTS} redirects')


async def _get(url: str, headers: list[Object]) -> tuple[int, str | None]:
    """The status, and where it sends one. Raises ProbeFailedError, OSError, one of `UNUSABLE`."""
    at, context = urlsplit(url), None
    if at.scheme == "https":
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    port = at.port or (443 if context else 80)
    reader, writer = await asyncio.open_connection(at.hostname, port, ssl=context)
    try:
        sent = {"host": joined(at.hostname or "", port), "user-agent": "kube-probe/1.34", "accept": "*/*"}
        sent.update({header["name"].lower(): header["value"] for header in headers})
        sent["connection"] = "close"
        lines = [f"GET {at.path or '/'}{'?' + at.query if at.query else ''} HTTP/1.1"]
        lines += [f"{name.title()}: {value}" for name, value in sent.items()]
        writer.write("\r\n".join([*lines, "", ""]).encode())
        status, location = (await reader.readline()).split(), None
        if len(status) < 2 or not status[1].isdigit():
            raise ProbeFailedError(f'Get "{url}": malformed HTTP response')
        while (line := (await reader.readline()).strip()) and location is None:
            name, _, value = line.partition(b":")
            if name.lower() == b"location":
                location = value.strip().decode(errors="replace")
        return int(status[1]), location
    finally:
        writer.close()


async def _grpc(target: Object, ip: str) -> None:
    service = target.get("service") or ""
    try:
        status = await _health(ip, int(target["port"]), service)
    except grpc_health.NoHealthError as error:
        raise ProbeFailedError(f"error: {error}") from error
    if status != grpc_health.SERVING:
        name = grpc_health.STATUSES.get(status, str(status))
        raise ProbeFailedError(f'service unhealthy (responded with "{name}")')


async def _health(host: str, port: int, service: str) -> int:
    """The status number. Raises OSError, NoHealthError."""
    question = grpc_health.Question(joined(host, port), service, "kube-probe/1.34")
    reader, writer = await asyncio.open_connection(host, port)
    try:
        while question.status is None:
            unsent, question.output = question.output, b""
            writer.write(unsent)
            question.received(await reader.read(65536))
    finally:
        writer.close()
    return question.status


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
