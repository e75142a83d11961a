"""The stand-in: answers HTTP, TCP and UDP on every port that a container declares, and says who it is and who asked.

    python -S -E -I server.py 8080/tcp 5353/udp …      identity from KUBELAB_{POD,NAMESPACE,NODE,CONTAINER}
    python -S -E -I server.py 192.0.2.1:80/tcp [2001:db8::1]:53/udp …      at one address only

In: bytes on its ports, both address families on one socket. Out: JSON: an HTTP response per request, a line per line
of any other TCP conversation, a datagram per datagram. `GET /bytes/N` answers with N bytes. SIGTERM ends it.

It is started hundreds of times on one machine, so it imports only modules written in C (20 ms and 9 MB instead of 80
and 20) and is one file: its directory is not importable in isolated mode.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # typeshed knows the Python half of signal only
import _socket
import errno
import posix
import select
import sys
from _json import encode_basestring_ascii as quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

MAX_HEAD = 64 * 1024
MAX_SHOWN = 4096
CHUNK = 64 * 1024
MAX_BYTES = 64 * 1024 * 1024
MAX_BODY = 1024 * 1024
BACKLOG = 1024
NAMESPACE_FILE = "/var/run/secrets/kubernetes.io/serviceaccount/namespace"
METHODS = (b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS", b"TRACE", b"CONNECT")


def to_json(fields: dict[str, str | int | dict[str, str]]) -> bytes:
    """One JSON object; the module json would cost a third of the start-up time."""
    parts = []
    for key, value in fields.items():
        if isinstance(value, dict):
            inner = ", ".join(f"{quoted(name)}: {quoted(text)}" for name, text in value.items())
            parts.append(f"{quoted(key)}: {{{inner}}}")
        else:
            parts.append(f"{quoted(key)}: {value if isinstance(value, int) else quoted(value)}")
    return f"{{{', '.join(parts)}}}\n".encode()


def plain_address(address: str) -> str:
    """Without the mapping that a socket of both families puts around IPv4, and without a zone."""
    return address.removeprefix("::ffff:").partition("%")[0]


def say(text: str) -> None:
    posix.write(1, f"{text}\n".encode())


class Identity:
    """Who answers."""

    def __init__(self, environment: dict[bytes, bytes]) -> None:
        def variable(*names: str) -> str:
            found = (environment.get(name.encode(), b"").decode(errors="replace") for name in names)
            return next(filter(None, found), "")

        self.fields: dict[str, str | int | dict[str, str]] = {
            "pod": variable("KUBELAB_POD", "POD_NAME", "HOSTNAME"),
            "namespace": variable("KUBELAB_NAMESPACE", "POD_NAMESPACE") or self._namespace(),
            "node": variable("KUBELAB_NODE", "NODE_NAME"),
            "container": variable("KUBELAB_CONTAINER"),
        }

    @staticmethod
    def _namespace() -> str:
        try:
            with open(NAMESPACE_FILE) as file:
                return file.read().strip()
        except OSError:
            return ""


class Conversation:
    """One TCP connection without its socket: HTTP if it begins like a request, otherwise lines.

    Bytes go in by `received`; `output` is to be sent, and when `closing` is set as well, nothing follows it.
    """

    def __init__(self, peer: tuple[str, int], port: int, identity: Identity) -> None:
        self.output = b""
        self.closing = False
        self._peer, self._port, self._identity = peer, port, identity
        self._input = b""
        self._http: bool | None = None
        self._continued = False
        self._told = False

    def fields(self, protocol: str) -> dict[str, str | int | dict[str, str]]:
        return {
            **self._identity.fields,
            "protocol": protocol,
            "port": self._port,
            "client": self._peer[0],
            "clientPort": self._peer[1],
        }

    def received(self, data: bytes) -> None:
        """Bytes came; none: the peer has finished sending."""
        self._input += data
        if self._http is None:
            self._http = self._looks_like_http(bool(data))
        if self._http:
            while not self.closing and self._request():
                pass
        elif self._http is False:
            self._lines(finished=not data)
        if not data:
            self.closing = True

    def _looks_like_http(self, more: bool) -> bool | None:
        """None as long as the first word is not complete."""
        word, separator, _ = self._input[:16].partition(b" ")
        if separator:
            return word in METHODS
        undecided = any(method.startswith(word) for method in METHODS) and more
        return None if undecided else False

    def _lines(self, *, finished: bool) -> None:
        *lines, rest = self._input.split(b"\n")
        if rest and (finished or len(rest) > MAX_HEAD):
            lines, rest = [*lines, rest], b""
        if finished and not lines and not self._told:
            lines = [b""]  # who says nothing is still told who was there
        self._input = rest
        self._told = self._told or bool(lines)
        for line in lines:
            said = line.rstrip(b"\r")[:MAX_SHOWN].decode("utf-8", "replace")
            self.output += to_json({**self.fields("TCP"), "received": said})

    def _request(self) -> bool:
        """Answer the next request if it is complete; whether there may be another."""
        head, separator, rest = self._input.partition(b"\r\n\r\n")
        if not separator:
            if len(head) > MAX_HEAD:
                self._respond(b"HTTP/1.1", "431 Request Header Fields Too Large", b"", close=True)
            return False
        first, *lines = head.split(b"\r\n")
        words = first.split(b" ")
        if len(words) != 3 or not words[1] or not words[2].startswith(b"HTTP/1."):
            self._respond(b"HTTP/1.1", "400 Bad Request", b"", close=True)
            return False
        headers = {
            name.strip().decode("latin-1").lower(): value.strip().decode("latin-1")
            for name, _, value in (line.partition(b":") for line in lines)
        }
        body = self._body(headers, rest)
        if body is None:
            if headers.get("expect", "").lower() == "100-continue" and not self._continued:
                self._continued = True
                self.output += b"HTTP/1.1 100 Continue\r\n\r\n"
            return False
        content, self._input = body
        self._continued = False
        self._answer(words[0], words[1], words[2], headers, content)
        return bool(self._input)

    def _body(self, headers: dict[str, str], rest: bytes) -> tuple[bytes, bytes] | None:
        """(body, what follows), None while it is incomplete."""
        if "chunked" in headers.get("transfer-encoding", "").lower():
            return self._chunks(rest)
        length = headers.get("content-length", "0")
        size = int(length) if length.isdecimal() else -1
        if not 0 <= size <= MAX_BODY:
            self._respond(b"HTTP/1.1", "413 Content Too Large", b"", close=True)
            return None
        return (rest[:size], rest[size:]) if len(rest) >= size else None

    def _chunks(self, rest: bytes) -> tuple[bytes, bytes] | None:
        body = b""
        while True:
            line, separator, after = rest.partition(b"\r\n")
            if not separator:
                return None
            try:
                size = int(line.partition(b";")[0], 16)
            except ValueError:
                size = -1
            if not 0 <= size <= MAX_BODY - len(body):
                self._respond(b"HTTP/1.1", "400 Bad Request", b"", close=True)
                return None
            if len(after) < size + 2:
                return None
            body, rest = body + after[:size], after[size + 2 :]
            if size == 0:
                return body, rest

    def _answer(self, method: bytes, target: bytes, version: bytes, headers: dict[str, str], body: bytes) -> None:
        wanted = headers.get("connection", "").lower()
        close = "close" in wanted if version == b"HTTP/1.1" else "keep-alive" not in wanted
        path = target.decode("latin-1")
        say(f"{self._peer[0]} {method.decode('latin-1')} {path}")
        size = path.removeprefix("/bytes/")
        if size != path and size.isdecimal() and int(size) <= MAX_BYTES:
            content = b"x" * int(size)
        else:
            content = to_json(
                {
                    **self.fields("HTTP"),
                    "method": method.decode("latin-1"),
                    "path": path,
                    "headers": headers,
                    "body": body[:MAX_SHOWN].decode("utf-8", "replace"),
                }
            )
        self._respond(version, "200 OK", content, close=close, head=method == b"HEAD")

    def _respond(self, version: bytes, status: str, content: bytes, *, close: bool, head: bool = False) -> None:
        lines = [f"{version.decode()} {status}", f"Content-Length: {len(content)}", "Content-Type: application/json"]
        lines.append(f"Connection: {'close' if close else 'keep-alive'}")
        self.output += "\r\n".join([*lines, "", ""]).encode() + (b"" if head else content)
        self.closing = self.closing or close


class Server:
    """All sockets of the process in one epoll loop."""

    def __init__(self, identity: Identity) -> None:
        self._identity = identity
        self._poll = select.epoll()
        self._listeners: dict[int, tuple[_socket.socket, int]] = {}
        self._datagrams: dict[int, tuple[_socket.socket, int]] = {}
        self._connections: dict[int, tuple[_socket.socket, Conversation]] = {}

    def listen(self, port: int, protocol: str, address: str = "") -> None:
        """At every address, or at one. Raises OSError, e.g. when somebody else has the port."""
        kind = _socket.SOCK_STREAM if protocol == "tcp" else _socket.SOCK_DGRAM
        try:
            sock = _socket.socket(_socket.AF_INET6, kind | _socket.SOCK_NONBLOCK | _socket.SOCK_CLOEXEC)
            sock.setsockopt(_socket.IPPROTO_IPV6, _socket.IPV6_V6ONLY, 0)
            family = _socket.AF_INET6
        except OSError as error:
            if error.errno != errno.EAFNOSUPPORT:
                raise
            sock = _socket.socket(_socket.AF_INET, kind | _socket.SOCK_NONBLOCK | _socket.SOCK_CLOEXEC)
            family = _socket.AF_INET
        if protocol == "tcp":
            sock.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 1)
        elif family == _socket.AF_INET6:
            # Answers leave from the address that was asked, whichever of the node's it is.
            sock.setsockopt(_socket.IPPROTO_IPV6, _socket.IPV6_RECVPKTINFO, 1)
        if address and ":" not in address and family == _socket.AF_INET6:
            address = f"::ffff:{address}"
        sock.bind((address or ("::" if family == _socket.AF_INET6 else "0.0.0.0"), port))
        if protocol == "tcp":
            sock.listen(BACKLOG)
        (self._listeners if protocol == "tcp" else self._datagrams)[sock.fileno()] = (sock, sock.getsockname()[1])
        self._poll.register(sock.fileno(), select.EPOLLIN)
        say(f"listening on {sock.getsockname()[1]}/{protocol}")

    def serve(self) -> NoReturn:
        while True:
            for fd, _ in self._poll.poll():
                if fd in self._listeners:
                    self._accept(*self._listeners[fd])
                elif fd in self._datagrams:
                    self._datagram(*self._datagrams[fd])
                elif fd in self._connections:
                    self._transfer(fd, *self._connections[fd])

    def _accept(self, listener: _socket.socket, port: int) -> None:
        try:
            fd, peer = listener._accept()  # type: ignore[attr-defined]  # what socket.accept is made of
        except OSError:
            return  # the peer has given up, or there are no descriptors left: the backlog keeps the others
        sock = _socket.socket(fileno=fd)
        sock.setblocking(False)
        self._connections[fd] = sock, Conversation((plain_address(peer[0]), peer[1]), port, self._identity)
        self._poll.register(fd, select.EPOLLIN)

    def _datagram(self, sock: _socket.socket, port: int) -> None:
        try:
            data, control, _, peer = sock.recvmsg(65535, 256)
        except OSError:
            return
        fields = {**self._identity.fields, "protocol": "UDP", "port": port, "client": plain_address(peer[0])}
        answer = to_json({**fields, "clientPort": peer[1], "received": data[:MAX_SHOWN].decode("utf-8", "replace")})
        source = [
            # The interface is left to routing: only the address is kept.
            (level, kind, value[:16] + b"\0\0\0\0")
            for level, kind, value in control
            if (level, kind) == (_socket.IPPROTO_IPV6, _socket.IPV6_PKTINFO)
        ]
        try:
            sock.sendmsg([answer], source, 0, peer)
        except OSError as error:
            say(f"{plain_address(peer[0])} UDP answer not sent: {error}")

    def _transfer(self, fd: int, sock: _socket.socket, talk: Conversation) -> None:
        try:
            if not talk.closing and not talk.output:
                talk.received(sock.recv(CHUNK))
            if talk.output:
                sent = sock.send(talk.output)
                talk.output = talk.output[sent:]
        except BlockingIOError:
            pass
        except OSError:
            talk.closing, talk.output = True, b""
        if talk.output:
            self._poll.modify(fd, select.EPOLLOUT)
        elif talk.closing:
            self._poll.unregister(fd)
            del self._connections[fd]
            sock.close()
        else:
            self._poll.modify(fd, select.EPOLLIN)


def end(number: int, frame: object) -> NoReturn:
    raise SystemExit(0)


def main(arguments: list[str]) -> NoReturn:
    for number in (_signal.SIGTERM, _signal.SIGINT):
        _signal.signal(number, end)
    server = Server(Identity(posix.environ))
    for argument in arguments:
        place, _, protocol = argument.partition("/")
        address, _, port = place.rpartition(":")
        protocol = protocol or "tcp"
        if not port.isdecimal() or int(port) > 65535 or protocol not in ("tcp", "udp"):
            say(f"{argument}: not served; write PORT/tcp or PORT/udp")
            continue
        try:
            server.listen(int(port), protocol, address.strip("[]"))
        except OSError as error:
            posix.write(2, f"port {argument}: {error.strerror}\n".encode())
            raise SystemExit(1) from None
    server.serve()


if __name__ == "__main__":
    main(sys.argv[1:])
