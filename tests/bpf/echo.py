"""A server and a client in one program, for namespaces: who answers, and whom it believes to talk to.

python echo.py serve NAME PORT [ADDRESS]  TCP and UDP until it is killed, both families without an address;
                                          prints "ready"
python echo.py ask tcp|udp ADDRESS PORT [BYTES] [SOURCE_PORT] [COUNT]
                                          prints one line per question: NAME CLIENT-IP CLIENT-PORT BYTES, or the error
"""

from __future__ import annotations

import errno
import ipaddress
import os
import select
import socket
import sys
import threading

PATIENCE = float(os.environ.get("ECHO_PATIENCE", "2"))
"""Seconds."""


def plain(address: str) -> str:
    found = ipaddress.ip_address(address.partition("%")[0])
    return str(getattr(found, "ipv4_mapped", None) or found)


def serve(name: str, port: int, address: str = "") -> None:
    family = socket.AF_INET if "." in address else socket.AF_INET6
    listener = socket.create_server((address, port), family=family, dualstack_ipv6=not address, backlog=128)
    datagrams = socket.socket(family, socket.SOCK_DGRAM)
    if not address:
        datagrams.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    datagrams.bind((address, port))
    print("ready", flush=True)
    while True:
        for ready in select.select([listener, datagrams], [], [])[0]:
            if ready is datagrams:
                data, sender = datagrams.recvfrom(65535)
                datagrams.sendto(f"{name} {plain(sender[0])} {sender[1]} {len(data)}".encode(), sender)
            else:
                threading.Thread(target=answer, args=(name, *listener.accept()), daemon=True).start()


def answer(name: str, taken: socket.socket, sender: tuple[str, int]) -> None:
    """Once per message; a message ends with a newline."""
    with taken:
        while True:
            length = 0
            while not (data := taken.recv(65536)).endswith(b"\n"):
                if not data:
                    return
                length += len(data)
            taken.sendall(f"{name} {plain(sender[0])} {sender[1]} {length + len(data) - 1}".encode())


def ask(protocol: str, address: str, port: int, size: int, source: int) -> str:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
    with socket.socket(family, kind) as sock:
        sock.settimeout(PATIENCE)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if source:
            sock.bind(("", source))
        try:
            sock.connect((address, port))
            sock.sendall(b"x" * size + (b"\n" if protocol == "tcp" else b""))
            return sock.recv(1000).decode()
        except TimeoutError:
            return "TIMEOUT"
        except OSError as error:
            return errno.errorcode.get(error.errno or 0, str(error))


if __name__ == "__main__":
    what, *rest = sys.argv[1:]
    if what == "serve":
        serve(rest[0], int(rest[1]), *rest[2:])
    size, source, count = (int(given) for given in (*rest[3:], *("10", "0", "1")[len(rest) - 3 :]))
    for _ in range(count):
        print(ask(rest[0], rest[1], int(rest[2]), size, source), flush=True)
