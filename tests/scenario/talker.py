"""Asks servers again and again and tells of every question what became of it. A program: run in a pod's namespace.

    python talker.py RATE KIND,ADDRESS,PORT …      RATE: questions per second and stream

Kinds: `udp` one socket for ever, `udp-new` a socket per question, `tcp` one connection for as long as it lives,
`tcp-new` a connection per question. In: end of stdin means to ask no more. Out: a line per question, once it is
answered or PATIENCE has passed: stream, sent and answered in ns of CLOCK_MONOTONIC (answered 0: never), segments that
TCP had to send again. The last line is `end`.
"""

from __future__ import annotations

import heapq
import select
import socket
import struct
import sys
import time
from contextlib import suppress

PATIENCE = 2.0
NS = 1_000_000_000
RETRANSMITTED = struct.Struct("=100xI")
"""tcpi_total_retrans in struct tcp_info (linux/tcp.h)."""


class Question:
    """One that is on its way; `sock` None: it was sent on the stream's own socket."""

    def __init__(self, stream: Stream, number: int, sock: socket.socket | None) -> None:
        self.stream, self.number, self.sock = stream, number, sock
        self.sent = time.monotonic_ns()


class Stream:
    """One kind of traffic to one server."""

    def __init__(self, index: int, spec: str) -> None:
        self.index = index
        self.kind, address, port = spec.split(",")
        self.to = (address, int(port))
        self.family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self.number = 0
        self.open: dict[int, Question] = {}
        self.sock: socket.socket | None = None
        self.since = 0.0
        self.rest = b""

    @property
    def tcp(self) -> bool:
        return self.kind.startswith("tcp")

    def connect(self) -> socket.socket:
        sock = socket.socket(self.family, socket.SOCK_STREAM if self.tcp else socket.SOCK_DGRAM)
        sock.setblocking(False)
        if self.tcp:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with suppress(BlockingIOError):
            sock.connect(self.to)
        return sock


class Talker:
    """All streams in one loop."""

    def __init__(self, streams: list[Stream], rate: float) -> None:
        self._streams, self._pause = streams, 1 / rate
        self._poll = select.epoll()
        self._socks: dict[int, tuple[Stream, socket.socket, Question | None]] = {}
        self._waiting: list[tuple[int, int, Question]] = []
        self._order = 0

    def run(self) -> None:
        self._poll.register(0, select.EPOLLIN | select.EPOLLHUP)
        asking, due, flushed = True, time.monotonic(), 0.0
        while asking or self._waiting:
            now = time.monotonic()
            if asking and now >= due:
                for stream in self._streams:
                    self._ask(stream)
                due = max(due + self._pause, now)
            for fd, events in self._poll.poll(max(0.0, min(due - time.monotonic(), 0.05)) if asking else 0.05):
                if fd == 0:
                    asking = False
                    self._poll.unregister(0)
                elif fd in self._socks:
                    self._event(fd, events)
            self._give_up(time.monotonic_ns() - int(PATIENCE * NS))
            if now - flushed > 0.05:
                sys.stdout.flush()
                flushed = now
        print("end", flush=True)

    # -- asking ---------------------------------------------------------------------------------------------------

    def _ask(self, stream: Stream) -> None:
        if stream.kind.endswith("-new"):
            sock = stream.connect()
            question = self._question(stream, sock)
            self._watch(stream, sock, question, select.EPOLLOUT if stream.tcp else select.EPOLLIN)
            if not stream.tcp:
                self._send(sock, question)
            return
        if stream.sock is None:
            stream.sock, stream.since, stream.rest = stream.connect(), time.monotonic(), b""
            self._watch(stream, stream.sock, None, select.EPOLLIN)
        if stream.tcp and not self._connected(stream.sock):  # a question now would never be sent
            if time.monotonic() - stream.since > 1.0:
                self._lose(stream)
            return
        self._send(stream.sock, self._question(stream, None))

    def _question(self, stream: Stream, sock: socket.socket | None) -> Question:
        stream.number += 1
        question = stream.open[stream.number] = Question(stream, stream.number, sock)
        self._order += 1
        heapq.heappush(self._waiting, (question.sent, self._order, question))
        return question

    def _send(self, sock: socket.socket, question: Question) -> None:
        try:
            sock.send(f"q{question.number};\n".encode())
        except (BlockingIOError, ConnectionRefusedError):
            pass
        except OSError:
            if question.sock is None and question.stream.tcp:
                self._lose(question.stream)

    @staticmethod
    def _connected(sock: socket.socket) -> bool:
        try:
            sock.getpeername()
        except OSError:
            return False
        return True

    # -- answers --------------------------------------------------------------------------------------------------

    def _event(self, fd: int, events: int) -> None:
        stream, sock, question = self._socks[fd]
        if question is not None and stream.tcp and events & select.EPOLLOUT:
            self._poll.modify(fd, select.EPOLLIN)
            self._send(sock, question)
            return
        try:
            data = sock.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            if question is not None:
                self._drop(sock)
            elif stream.tcp:
                self._lose(stream)
            return
        now = time.monotonic_ns()
        stream.rest, numbers = _numbers(stream.rest if stream.tcp and question is None else b"", data)
        for number in numbers:
            if (found := stream.open.pop(number, None)) is not None:
                again = (
                    RETRANSMITTED.unpack(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104))[0]
                    if stream.tcp
                    else 0
                )
                self._tell(found, now, again)
                if question is not None:
                    self._drop(sock)

    def _tell(self, question: Question, answered: int, again: int = 0) -> None:
        sys.stdout.write(f"{question.stream.index} {question.sent} {answered} {again}\n")

    def _give_up(self, before: int) -> None:
        while self._waiting and self._waiting[0][0] < before:
            question = heapq.heappop(self._waiting)[2]
            if question.stream.open.pop(question.number, None) is not None:
                self._tell(question, 0)
                if question.sock is not None:
                    self._drop(question.sock)

    # -- sockets --------------------------------------------------------------------------------------------------

    def _watch(self, stream: Stream, sock: socket.socket, question: Question | None, events: int) -> None:
        self._socks[sock.fileno()] = stream, sock, question
        self._poll.register(sock.fileno(), events)

    def _drop(self, sock: socket.socket) -> None:
        if self._socks.pop(sock.fileno(), None) is not None:
            self._poll.unregister(sock.fileno())
        sock.close()

    def _lose(self, stream: Stream) -> None:
        if stream.sock is not None:
            self._drop(stream.sock)
        stream.sock = None


def _numbers(rest: bytes, data: bytes) -> tuple[bytes, list[int]]:
    """The numbers that the stand-in's answers repeat, and what is not complete yet."""
    *lines, rest = (rest + data).split(b"\n")
    found = []
    for line in lines:
        number = line.rpartition(b'"q')[2].partition(b";")[0]
        if number.isdigit():
            found.append(int(number))
    return rest, found


if __name__ == "__main__":
    Talker([Stream(index, spec) for index, spec in enumerate(sys.argv[2:])], float(sys.argv[1])).run()
