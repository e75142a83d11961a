"""gRPC's health protocol on HTTP/2, in frames made by hand: a gRPC library would be larger than those who use this.

Owns: frames, header literals, the client's question. In: a service's name; bytes of the answer. Out: bytes to send; the
serving status. No I/O, and nothing but the language: stand-ins start with it.
Sources: gRPC health checking protocol; RFC 9113 sections 4, 6; RFC 7541 section 6.2 (literals that enter no table).
"""

from __future__ import annotations

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
CHECK = b"/grpc.health.v1.Health/Check"
SERVING = 1
STATUSES = {0: "UNKNOWN", 1: "SERVING", 2: "NOT_SERVING", 3: "SERVICE_UNKNOWN"}
MAX_FRAME = 1 << 20

DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
ACK = END_STREAM = 1
END_HEADERS, PADDED = 4, 8


class NoHealthError(OSError):
    """The server is there, and does not answer the question."""


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def literal(name: bytes, value: bytes) -> bytes:
    """A header that enters no table."""
    return b"\0" + _text(name) + _text(value)


class Frames:
    """Cuts a stream of bytes. Raises NoHealthError for what is larger than any frame of this protocol."""

    def __init__(self) -> None:
        self._input = b""

    def of(self, data: bytes) -> list[tuple[int, int, int, bytes]]:
        """(kind, flags, stream, payload) of every frame that is complete now."""
        self._input += data
        found = []
        while len(self._input) >= 9:
            end = 9 + int.from_bytes(self._input[:3], "big")
            if end > MAX_FRAME:
                raise NoHealthError("the answer is not HTTP/2")
            if len(self._input) < end:
                break
            head, payload, self._input = self._input[:9], self._input[9:end], self._input[end:]
            found.append((head[3], head[4], int.from_bytes(head[5:], "big") & 0x7FFFFFFF, payload))
        return found


class Question:
    """One check: send ``output``, give what comes to ``received`` until ``status`` is known."""

    def __init__(self, authority: str, service: str = "", agent: str = "") -> None:
        self.status: int | None = None
        name = service.encode()
        message = b"\x0a" + _varint(len(name)) + name if name else b""
        headers = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", CHECK), (b":authority", authority.encode()),
                   (b"content-type", b"application/grpc"), (b"te", b"trailers")]  # fmt: skip
        if agent:
            headers.append((b"user-agent", agent.encode()))
        body = b"\0" + len(message).to_bytes(4, "big") + message
        self.output = (
            PREFACE + frame(SETTINGS, 0, 0)
            + frame(HEADERS, END_HEADERS, 1, b"".join(literal(*header) for header in headers))
            + frame(DATA, END_STREAM, 1, body)
        )  # fmt: skip
        self._frames, self._body = Frames(), b""

    def received(self, data: bytes) -> None:
        """An empty chunk is the end. Raises NoHealthError."""
        if not data:
            raise NoHealthError("the server closed the connection: it does not speak gRPC")
        for kind, flags, stream, payload in self._frames.of(data):
            if kind in (SETTINGS, PING) and not flags & ACK:
                self.output += frame(kind, ACK, 0, payload if kind == PING else b"")
            elif kind == GOAWAY or (kind == RST_STREAM and stream == 1):
                raise NoHealthError("the server refused the request")
            elif stream == 1 and kind in (DATA, HEADERS):
                if kind == DATA:
                    self._body += payload[1 : len(payload) - payload[0]] if flags & PADDED else payload
                if self._complete or flags & END_STREAM:
                    self.status = self._read()
                    return

    @property
    def _complete(self) -> bool:
        return len(self._body) >= 5 and len(self._body) >= 5 + int.from_bytes(self._body[1:5], "big")

    def _read(self) -> int:
        if not self._complete:
            raise NoHealthError("this server does not implement the grpc health protocol (grpc.health.v1.Health)")
        message = self._body[5:]
        return message[1] if message[:1] == b"\x08" else 0


def _text(raw: bytes) -> bytes:
    if len(raw) < 127:
        return bytes([len(raw)]) + raw
    return b"\x7f" + _varint(len(raw) - 127) + raw


def _varint(number: int) -> bytes:
    """Seven bits a byte, the lowest first: as protobuf and HPACK (behind its prefix) write integers."""
    out = b""
    while number > 127:
        out += bytes([number & 127 | 128])
        number >>= 7
    return out + bytes([number])
