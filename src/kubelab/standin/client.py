"""Requests that stand-ins make themselves: HTTP GET, gRPC's health check, Redis commands.

In: a name or address with a port. Out: what came back; OSError (also for a time-out) when nothing did. Calls block:
they are short, and for programs with one client at a time.
"""

from __future__ import annotations

import _socket

from kubelab import grpc_health

TIMEOUT = 3.0
LIMIT = 1 << 20
_NUMERIC = _socket.AI_NUMERICHOST


def connect(host: str, port: int, timeout: float = TIMEOUT) -> _socket.socket:
    """To the first address that accepts. Raises OSError."""
    problem: OSError = OSError(f"{host}: no address")
    for family, kind, protocol, _, address in _socket.getaddrinfo(host, port, 0, _socket.SOCK_STREAM):
        sock = _socket.socket(family, kind, protocol)
        sock.settimeout(timeout)
        try:
            sock.connect(address)
            return sock
        except OSError as error:
            sock.close()
            problem = error
    raise problem


def split(place: str, port: int = 80) -> tuple[str, int]:
    """`host`, `host:port`, `[v6]:port`, `:port` to host and port."""
    host, separator, number = place.rpartition(":")
    if not separator or not number.isdecimal():
        return place.strip("[]"), port
    return host.strip("[]") or "localhost", int(number)


def get(
    host: str, port: int, path: str, headers: dict[str, str] | None = None, timeout: float = TIMEOUT
) -> tuple[int, bytes]:
    """(status, body). Raises OSError."""
    name = f"[{host}]" if ":" in host else host
    lines = [
        f"GET {path} HTTP/1.0",
        f"Host: {name}:{port}",
        *(f"{key}: {text}" for key, text in (headers or {}).items()),
    ]
    sock = connect(host, port, timeout)
    try:
        sock.sendall("\r\n".join([*lines, "", ""]).encode())
        data = b""
        while len(data) < LIMIT and (chunk := sock.recv(65536)):
            data += chunk
    finally:
        sock.close()
    head, _, body = data.partition(b"\r\n\r\n")
    words = head.split(None, 2)
    if len(words) < 2 or not words[1].isdigit():
        raise OSError(f"{host}:{port}: the answer is not HTTP")
    return int(words[1]), body


def healthy(host: str, port: int, service: str = "", timeout: float = TIMEOUT) -> bool:
    """Whether a gRPC server says that it, or one of its services, is SERVING. Raises OSError when it says nothing."""
    question = grpc_health.Question(host, service)
    sock = connect(host, port, timeout)
    try:
        while question.status is None:
            unsent, question.output = question.output, b""
            sock.sendall(unsent)
            question.received(sock.recv(65536))
    finally:
        sock.close()
    return question.status == grpc_health.SERVING


def redis(host: str, port: int, *words: str) -> str | None:
    """The answer to one command; None for none. Raises OSError, also when the server refuses the command."""
    command = f"*{len(words)}\r\n" + "".join(f"${len(word.encode())}\r\n{word}\r\n" for word in words)
    sock = connect(host, port)
    try:
        sock.sendall(command.encode())
        data = b""
        while chunk := sock.recv(65536):
            data += chunk
            first, separator, rest = data.partition(b"\r\n")
            if not separator:
                continue
            kind, text = first[:1], first[1:].decode(errors="replace")
            if kind == b"-":
                raise OSError(text)
            if kind != b"$":
                return text
            size = int(text)
            if size < 0:
                return None
            if len(rest) >= size + 2:
                return rest[:size].decode(errors="replace")
    finally:
        sock.close()
    raise OSError(f"{host}:{port}: the connection ended without an answer")
