"""Servers in a network namespace, each on a thread of this process."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress

from cilium.datapath.netlink.netns import run_in_netns


class Servers:
    """They answer with their own address and port, until they are closed."""

    def __init__(self, netns: int) -> None:
        self._netns = netns
        self._sockets: list[socket.socket] = []

    def tcp(self, ip: str, port: int) -> None:
        listener = self._bind(ip, port, socket.SOCK_STREAM)
        listener.listen(128)
        threading.Thread(target=self._accept, args=(listener, f"{ip} {port}"), daemon=True).start()

    def udp(self, ip: str, port: int) -> None:
        bound = self._bind(ip, port, socket.SOCK_DGRAM)
        threading.Thread(target=self._echo, args=(bound, f"{ip} {port}"), daemon=True).start()

    def close(self) -> None:
        for each in self._sockets:
            with suppress(OSError):  # a datagram socket has nobody to shut down, and wakes all the same
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _bind(self, ip: str, port: int, kind: int) -> socket.socket:
        family = socket.AF_INET6 if ":" in ip else socket.AF_INET
        made = run_in_netns(self._netns, lambda: socket.socket(family, kind))
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((ip, port))
        self._sockets.append(made)
        return made

    def _accept(self, listener: socket.socket, name: str) -> None:
        try:
            while True:
                taken, _ = listener.accept()
                threading.Thread(target=self._answer, args=(taken, name), daemon=True).start()
        except OSError:
            return  # closed

    def _answer(self, taken: socket.socket, name: str) -> None:
        with taken, suppress(ConnectionResetError):
            while taken.recv(100):
                taken.sendall(name.encode())

    def _echo(self, bound: socket.socket, name: str) -> None:
        try:
            while True:
                _, sender = bound.recvfrom(100)
                if sender is None:
                    return
                bound.sendto(name.encode(), sender)
        except OSError:
            return
