"""Requests that stand-ins make themselves: HTTP GET, gRPC's health check, Redis commands.

In: a name or address with a port. Out: what came back; OSError (also for a time-out) when nothing did. Calls block:
they are short, and for programs with one client at a time.
"""

from __future__ import annotations

import _socket

from kubelab.standin import grpc

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
    name = service.encode()
    message = b"\x0a" + bytes([len(name)]) + name if name else b""
    headers = [(b":path", b"/grpc.health.v1.Health/Check"), (b":authority", host.encode()[:120]), (b"te", b"trailers"),
               (b"content-type", b"application/grpc")]  # fmt: skip
    block = b"\x83\x86" + b"".join(grpc.literal(*header) for header in headers)  # POST, http
    request = (
        grpc.PREFACE + grpc.frame(4, 0, 0) + grpc.frame(1, 4, 1, block)
        + grpc.frame(0, 1, 1, b"\0" + len(message).to_bytes(4, "big") + message)
    )  # fmt: skip
    sock = connect(host, port, timeout)
    try:
        sock.sendall(request)
        data = b""
        while chunk := sock.recv(65536):
            data += chunk
            for kind, flags, stream, payload in _frames(data):
                if stream == 1 and kind == 0 and len(payload) >= 5:
                    return payload[5:] == b"\x08\x01"
                if stream == 1 and ((kind == 1 and flags & 1) or kind == 3):
                    return False
    finally:
        sock.close()
    raise OSError(f"{host}:{port}: the connection ended without an answer")


def _frames(data: bytes) -> list[tuple[int, int, int, bytes]]:
    found = []
    while len(data) >= 9 and len(data) >= 9 + (size := int.from_bytes(data[:3], "big")):
        found.append((data[3], data[4], int.from_bytes(data[5:9], "big") & 0x7FFFFFFF, data[9 : 9 + size]))
        data = data[9 + size :]
    return found


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
