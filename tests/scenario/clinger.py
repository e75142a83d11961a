"""A client that holds on to whom it reached, and comes back when that ends. A program: run in a pod's namespace.

    python clinger.py KIND ADDRESS PORT      KIND: tcp or udp

Out: a line with the pod's name that answered, then `ended ERRNO` when the socket ends while it waits, then the name of
the pod that answers now.
"""

import json
import socket
import sys


def reach(kind: str, address: str, port: int) -> tuple[socket.socket, str]:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM)
    sock.settimeout(60)
    sock.connect((address, port))
    sock.sendall(b"hello\n" if kind == "udp" else b"GET / HTTP/1.1\r\nHost: web\r\n\r\n")
    text = sock.recv(10_000).decode().partition("{")[2]
    return sock, str(json.loads("{" + text)["pod"])


def main(kind: str, address: str, port: str) -> None:
    sock, name = reach(kind, address, int(port))
    print(name, flush=True)
    try:
        sock.recv(1000)
        print("ended by the other side", flush=True)
    except OSError as error:
        print(f"ended {error.errno}", flush=True)
    _, name = reach(kind, address, int(port))
    print(name, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
