"""Asks many peers at once whether they answer. A program: run in the network namespace of who asks.

In, a line each: `ask ID KIND ADDRESS PORT` (kinds: tcp, udp, icmp; the port of icmp says nothing), `go WANTED SECONDS`
asks all of them, `get PATH` reads from the agent's API on this node. Out, a line each: `ID ANSWER`, and `end`; or the
document on one line. Answers: `yes`, `no` (nothing came), `refused` (told so by a reset or an ICMP error).

`WANTED` is how many are expected to answer: once they have, the others get SECONDS more; without them, PATIENCE.
"""

from __future__ import annotations

import http.client
import select
import socket
import struct
import sys
import time

PATIENCE = 1.5
TRAFFIC = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM, "icmp": socket.SOCK_RAW}
ECHO = {socket.AF_INET: (8, 0, socket.IPPROTO_ICMP), socket.AF_INET6: (128, 129, socket.IPPROTO_ICMPV6)}
AGENT = "/var/run/cilium/cilium.sock"


class Question:
    """One that is on its way."""

    def __init__(self, name: str, kind: str, address: str, port: str, serial: int) -> None:
        self.name, self.kind, self.serial = name, kind, serial
        self.answer = ""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self.request, self.reply, protocol = ECHO[family]
        self.sock = socket.socket(family, TRAFFIC[kind], protocol if kind == "icmp" else 0)
        self.sock.setblocking(False)
        try:
            self.sock.connect((address, 0 if kind == "icmp" else int(port)))
        except BlockingIOError:
            pass
        except OSError:
            self.answer = "refused"

    def send(self) -> None:
        data = b"GET / HTTP/1.0\r\n\r\n"
        if self.kind == "icmp":
            data = _checked(struct.pack(">BBHHH", self.request, 0, 0, self.serial, 1) + data)
        self.sock.send(data)

    def event(self, events: int) -> bool:
        """Whether it may now wait for input."""
        try:
            if self.kind == "tcp" and events & select.EPOLLOUT:
                self.send()
                return True
            data = self.sock.recv(4096)
        except BlockingIOError:
            return False
        except OSError:
            self.answer = "refused"
            return False
        if self.kind == "icmp":
            data = data[20:] if self.sock.family == socket.AF_INET else data
            if data[0] != self.reply or data[4:6] != struct.pack(">H", self.serial):
                return False
        self.answer = "yes" if data else "refused"
        return False


def _checked(packet: bytes) -> bytes:
    """With the checksum of ICMP; that of ICMPv6 is the kernel's work."""
    if packet[0] != 8:
        return packet
    total = sum(struct.unpack(f">{len(packet) // 2}H", packet))
    total = (total >> 16) + (total & 0xFFFF)
    return packet[:2] + struct.pack(">H", ~(total + (total >> 16)) & 0xFFFF) + packet[4:]


def go(questions: list[Question], wanted: int, seconds: float) -> None:
    poll = select.epoll()
    waiting = {question.sock.fileno(): question for question in questions if not question.answer}
    for fd, question in waiting.items():
        if question.kind != "tcp":
            try:
                question.send()
            except OSError:
                question.answer = "refused"
        poll.register(fd, select.EPOLLOUT if question.kind == "tcp" else select.EPOLLIN)
    begin = time.monotonic()
    answered = 0
    while answered < len(questions):
        answered = sum(question.answer != "" for question in questions)
        yes = sum(question.answer == "yes" for question in questions)
        limit = begin + (seconds if yes >= wanted else PATIENCE)
        if time.monotonic() > limit:
            break
        for fd, events in poll.poll(max(0.0, min(limit - time.monotonic(), 0.02))):
            question = waiting[fd]
            if question.event(events):
                poll.modify(fd, select.EPOLLIN)
            if question.answer:
                poll.unregister(fd)
    poll.close()
    for question in questions:
        question.sock.close()
        print(question.name, question.answer or "no")
    print("end", flush=True)


def get(path: str) -> str:
    connection = http.client.HTTPConnection("agent", timeout=5)
    connection.sock = socket.socket(socket.AF_UNIX)
    try:
        connection.sock.connect(AGENT)
        connection.request("GET", path)
        return connection.getresponse().read().decode().replace("\n", " ")
    except (OSError, http.client.HTTPException):
        return "null"
    finally:
        connection.close()


def main() -> None:
    questions: list[Question] = []
    for serial, line in enumerate(sys.stdin):
        command, *words = line.split()
        if command == "ask":
            questions.append(Question(*words, serial=serial % 65536))  # type: ignore[misc]  # four words, four fields
        elif command == "go":
            go(questions, int(words[0]), float(words[1]))
            questions = []
        else:
            print(get(words[0]), flush=True)


if __name__ == "__main__":
    main()
