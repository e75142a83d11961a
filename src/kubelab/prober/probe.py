"""Asks addresses and ports, many at once, and says of each what came back and from which address it was asked.

    python -S -E -I probe.py < {"timeout": 1.0, "probes": [{"address": "10.0.0.1", "protocol": "TCP", "port": 80}, …]}

In: probes as JSON; `protocol` is TCP, UDP or ICMP (echo of the address' family); `path` asks a TCP port by HTTP; `bind`
is the address to ask from. Out: a JSON list, one object per probe in the order of the input: `outcome` (answered,
refused, unreachable, timeout, error), `detail`, `source` and `source_port`, `seconds`.

It is one file and imports the standard library only: it runs inside of containers, which have this machine's root.
"""

from __future__ import annotations

import errno
import json
import os
import selectors
import socket
import struct
import sys
import time

IN_FLIGHT = 256
DNS_QUERY = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x03web\x05world\x04test\x00\x00\x01\x00\x01"
PAYLOAD = b"kubelab prober\n"
REPEATS = 4
"""How often a datagram is sent within the time of a probe."""

_REFUSED = {errno.ECONNREFUSED, errno.ECONNRESET, errno.EPIPE}
_UNREACHABLE = {errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EACCES, errno.EPERM, errno.EHOSTDOWN, errno.EADDRNOTAVAIL}


class Probe:
    """One question. `begin` asks; `ready` takes what the socket has; `outcome` is empty as long as nobody answered."""

    def __init__(self, asked: dict[str, object]) -> None:
        self.address, self.protocol = str(asked["address"]), str(asked["protocol"])
        self.port, self.path = int(str(asked.get("port", 0))), str(asked.get("path", ""))
        self.bind = str(asked.get("bind", ""))
        self.outcome = self.detail = self.source = ""
        self.source_port = 0
        self.began = self.ended = 0.0
        self.sock: socket.socket | None = None
        self.events = selectors.EVENT_READ
        self.number = 0
        self.sent = 1
        self._read = b""

    def begin(self, number: int) -> None:
        self.began = time.monotonic()
        six = ":" in self.address
        family = socket.AF_INET6 if six else socket.AF_INET
        try:
            if self.protocol == "ICMP":
                raw = socket.IPPROTO_ICMPV6 if six else socket.IPPROTO_ICMP
                self.sock = socket.socket(family, socket.SOCK_RAW, raw)
            else:
                kind = socket.SOCK_STREAM if self.protocol == "TCP" else socket.SOCK_DGRAM
                self.sock = socket.socket(family, kind)
            self.sock.setblocking(False)
            if self.bind:
                self.sock.bind((self.bind, 0))
            self._connect(number)
        except OSError as error:
            self._failed(error)

    def _connect(self, number: int) -> None:
        assert self.sock is not None
        code = self.sock.connect_ex((self.address, self.port))
        if code not in (0, errno.EINPROGRESS):
            raise OSError(code, os.strerror(code))
        self._note_source()
        if self.protocol == "TCP":
            self.events = selectors.EVENT_WRITE
            return
        self.number = number & 0xFFFF
        self.send()

    def _note_source(self) -> None:
        assert self.sock is not None
        self.source, port = self.sock.getsockname()[:2]
        self.source_port = port if self.protocol != "ICMP" else 0

    def send(self) -> None:
        """A datagram, again after a while: the first may meet a neighbour that is not known yet."""
        if self.sock is None or self.protocol == "TCP":
            return
        datagram = DNS_QUERY if self.port == 53 else PAYLOAD
        try:
            self.sock.send(datagram if self.protocol == "UDP" else self._echo())
        except OSError as error:
            if error.errno != errno.EAGAIN:
                self._failed(error)

    def _echo(self) -> bytes:
        identifier = os.getpid() & 0xFFFF
        if ":" in self.address:  # the kernel computes the checksum of ICMPv6
            return struct.pack("!BBHHH", 128, 0, 0, identifier, self.number) + PAYLOAD
        packet = struct.pack("!BBHHH", 8, 0, 0, identifier, self.number) + PAYLOAD
        packet += b"\0" * (len(packet) % 2)
        total = sum(struct.unpack(f"!{len(packet) // 2}H", packet))
        total = (total & 0xFFFF) + (total >> 16)
        total = ~(total + (total >> 16)) & 0xFFFF
        return packet[:2] + struct.pack("!H", total) + packet[4:]

    def ready(self) -> None:
        try:
            if self.protocol == "TCP" and self.events == selectors.EVENT_WRITE:
                self._connected()
            elif self.protocol == "TCP":
                self._http()
            else:
                self._datagram()
        except BlockingIOError:
            pass
        except OSError as error:
            self._failed(error)

    def _connected(self) -> None:
        assert self.sock is not None
        code = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise OSError(code, os.strerror(code))
        self._note_source()
        if not self.path:
            self._done("answered", "connected")
            return
        host = f"[{self.address}]" if ":" in self.address else self.address
        request = f"GET {self.path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: kubelab-prober\r\nConnection: close\r\n\r\n"
        self.sock.send(request.encode())
        self.events = selectors.EVENT_READ

    def _http(self) -> None:
        assert self.sock is not None
        data = self.sock.recv(4096)
        self._read += data
        line, found, _ = self._read.partition(b"\r\n")
        if found and line.startswith(b"HTTP/"):
            self._done("answered", line.decode("latin-1"))
        elif found or not data or len(self._read) > 4096:
            self._done("error", "the connection was answered, but not by HTTP")

    def _datagram(self) -> None:
        assert self.sock is not None
        data = self.sock.recv(4096)
        if self.protocol == "UDP":
            self._done("answered", f"{len(data)} bytes")
            return
        if ":" not in self.address:
            data = data[(data[0] & 15) * 4 :]
        if len(data) >= 8:
            kind, _, _, identifier, number = struct.unpack("!BBHHH", data[:8])
            if kind in (0, 129) and identifier == os.getpid() & 0xFFFF and number == self.number:
                self._done("answered", "echo reply")

    def _failed(self, error: OSError) -> None:
        kind = "refused" if error.errno in _REFUSED else "unreachable" if error.errno in _UNREACHABLE else "error"
        self._done(kind, error.strerror or str(error))

    def _done(self, outcome: str, detail: str) -> None:
        if not self.outcome:
            self.outcome, self.detail, self.ended = outcome, detail, time.monotonic()

    def result(self, timeout: float) -> dict[str, object]:
        """Closes the socket. Silence until now is the outcome `timeout`."""
        self._done("timeout", f"no answer within {timeout:g} s")
        if self.sock is not None:
            self.sock.close()
        return {
            "outcome": self.outcome,
            "detail": self.detail,
            "source": self.source,
            "source_port": self.source_port,
            "seconds": round(self.ended - self.began, 4),
        }


def run(probes: list[Probe], timeout: float) -> list[dict[str, object]]:
    """All outcomes, in order; at most IN_FLIGHT at a time."""
    waiting = list(enumerate(probes))[::-1]
    flying: dict[int, Probe] = {}
    results: dict[int, dict[str, object]] = {}
    with selectors.DefaultSelector() as poll:
        while waiting or flying:
            while waiting and len(flying) < IN_FLIGHT:
                number, probe = waiting.pop()
                probe.begin(number)
                flying[number] = probe
                if not probe.outcome and probe.sock is not None:
                    poll.register(probe.sock, probe.events, number)
            for key, _ in poll.select(timeout / REPEATS / 4 if not _finished(flying) else 0):
                probe = flying[key.data]
                probe.ready()
                poll.modify(key.fd, probe.events, key.data)
            _repeat(flying, timeout)
            for number in [n for n, probe in flying.items() if _over(probe, timeout)]:
                probe = flying.pop(number)
                if probe.sock is not None and probe.sock.fileno() in poll.get_map():
                    poll.unregister(probe.sock)
                results[number] = probe.result(timeout)
    return [results[number] for number in range(len(probes))]


def _over(probe: Probe, timeout: float) -> bool:
    return bool(probe.outcome) or time.monotonic() - probe.began >= timeout


def _finished(flying: dict[int, Probe]) -> bool:
    return any(probe.outcome for probe in flying.values())


def _repeat(flying: dict[int, Probe], timeout: float) -> None:
    for probe in flying.values():
        due = 1 + int((time.monotonic() - probe.began) / timeout * REPEATS)
        if not probe.outcome and due > probe.sent:
            probe.sent = due
            probe.send()


if __name__ == "__main__":
    order = json.load(sys.stdin)
    json.dump(run([Probe(asked) for asked in order["probes"]], order["timeout"]), sys.stdout)
