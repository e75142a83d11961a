"""A process in a cgroup and a network namespace of the tests' own, told on its stdin what to do with sockets.

Run as a program: `remote.py CGROUP`. In: one JSON object per line. Out: one JSON object per line, with `errno` when the
kernel refused. It joins the cgroup first, so that programs attached there see its sockets.
"""

import json
import os
import socket
import sys
from socket import SOL_SOCKET
from typing import Any

SO_COOKIE = 57
FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}
KINDS = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}


class Remote:
    def __init__(self) -> None:
        self.sockets: dict[int, socket.socket] = {}

    def open(self, family: int, kind: str) -> dict[str, Any]:
        made = socket.socket(FAMILIES[family], KINDS[kind])
        made.settimeout(5)
        self.sockets[made.fileno()] = made
        return {"socket": made.fileno()}

    def close(self, socket: int) -> dict[str, Any]:
        self.sockets.pop(socket).close()
        return {}

    def bind(self, socket: int, to: list[Any]) -> dict[str, Any]:
        self.sockets[socket].bind(tuple(to))
        return {"name": self.sockets[socket].getsockname()[:2]}

    def cookie(self, socket: int) -> dict[str, Any]:
        option = self.sockets[socket].getsockopt(SOL_SOCKET, SO_COOKIE, 8)
        return {"cookie": int.from_bytes(option, "little")}

    def connect(self, socket: int, to: list[Any]) -> dict[str, Any]:
        self.sockets[socket].connect(tuple(to))
        return {"peer": self.sockets[socket].getpeername()[:2]}

    def ask(self, socket: int) -> dict[str, Any]:
        """A word over a connected socket; the answer."""
        self.sockets[socket].sendall(b"hello")
        answer, sender = self.sockets[socket].recvfrom(100)
        return {"answer": answer.decode(), "from": sender[:2] if sender else None}

    def receive(self, socket: int) -> dict[str, Any]:
        return {"answer": self.sockets[socket].recv(100).decode()}

    def send(self, socket: int, to: list[Any]) -> dict[str, Any]:
        """A datagram over a socket that is not connected; the answer and who it came from."""
        self.sockets[socket].sendto(b"hello", tuple(to))
        answer, sender = self.sockets[socket].recvfrom(100)
        return {"answer": answer.decode(), "from": sender[:2]}

    def rush(self, family: int, to: list[Any], count: int) -> dict[str, Any]:
        """Connect, ask, close, again and again: answers counted, and every errno."""
        answers: dict[str, int] = {}
        for _ in range(count):
            with socket.socket(FAMILIES[family], socket.SOCK_STREAM) as one:
                one.settimeout(5)
                try:
                    one.connect(tuple(to))
                    one.sendall(b"hello")
                    word = one.recv(100).decode()
                except OSError as error:
                    word = f"errno {error.errno}"
            answers[word] = answers.get(word, 0) + 1
        return {"answers": answers}


def main(cgroup: str) -> None:
    with open(f"{cgroup}/cgroup.procs", "w") as procs:
        procs.write(str(os.getpid()))
    remote = Remote()
    print("{}", flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = getattr(remote, request.pop("do"))(**request)
        except OSError as error:
            answer = {"errno": error.errno}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
