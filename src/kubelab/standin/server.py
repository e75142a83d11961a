"""The generic stand-in: answers on every port that a container declares, and says who it is and who asked.

    run.py server 8080/tcp 5353/udp …      identity from KUBELAB_{POD,NAMESPACE,NODE,CONTAINER}
    run.py server 192.0.2.1:80/tcp [2001:db8::1]:53/udp …      at one address only

In: bytes on its ports, both address families on one socket. Out: what `conversation` says: JSON for an HTTP request, a
line per line of any other TCP conversation, a datagram per datagram; gRPC's health protocol. SIGTERM ends it.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # typeshed knows the Python half of signal only
import _socket
import _thread
import errno
import posix
import select

from kubelab.standin.conversation import MAX_SHOWN, Conversation, Identity, echo, plain_address, say, to_json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import NoReturn

    from kubelab.standin.conversation import Answer, Request, Response

CHUNK = 64 * 1024
BACKLOG = 1024


class Words:
    """What is said beside HTTP: to each datagram; to each TCP connection at once, which ends it; and whether a service
    is well that a gRPC health check names, which may take its time.
    """

    def __init__(
        self,
        datagram: Callable[[bytes, tuple[str, int]], bytes] | None = None,
        greeting: bytes = b"",
        check: Callable[[str], bool] | None = None,
    ) -> None:
        self.datagram, self.greeting, self.check = datagram, greeting, check


class Server:
    """All sockets of the process in one epoll loop."""

    def __init__(
        self, identity: Identity, answer: Answer = echo, words: Words | None = None, *, patient: bool = False
    ) -> None:
        """``patient``: answers wait for others, so each is made in a thread of its own."""
        self._identity, self._answer, self._patient = identity, answer, patient
        self._wake = posix.eventfd(0, posix.EFD_NONBLOCK | posix.EFD_CLOEXEC)
        self._checked: list[tuple[int, Conversation, int, bool]] = []
        self._answered: list[tuple[int, Conversation, Response]] = []
        self._words = words or Words()
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
        self._poll.register(self._wake, select.EPOLLIN)
        while True:
            for fd, _ in self._poll.poll():
                if fd == self._wake:
                    self._collect()
                elif fd in self._listeners:
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
        own = plain_address(sock.getsockname()[0])
        client = plain_address(peer[0]), peer[1]
        talk = Conversation(
            client, port, self._identity, self._answer, own, self._later(fd) if self._patient else None,
            self._checking(fd) if self._words.check is not None else None,
        )  # fmt: skip
        self._connections[fd] = sock, talk
        if self._words.greeting:
            talk.output, talk.closing = self._words.greeting, True
            self._poll.register(fd, select.EPOLLOUT)
            return
        self._poll.register(fd, select.EPOLLIN)

    def _later(self, fd: int) -> Callable[[Request], None]:
        def work(request: Request) -> None:
            self._answered.append((fd, request.talk, request.talk.response(request)))
            posix.eventfd_write(self._wake, 1)

        def begin(request: Request) -> None:
            _thread.start_new_thread(work, (request,))

        return begin

    def _checking(self, fd: int) -> Callable[[int, str], None]:
        def work(talk: Conversation, stream: int, service: str) -> None:
            assert self._words.check is not None
            self._checked.append((fd, talk, stream, self._words.check(service)))
            posix.eventfd_write(self._wake, 1)

        def begin(stream: int, service: str) -> None:
            _thread.start_new_thread(work, (self._connections[fd][1], stream, service))

        return begin

    def _collect(self) -> None:
        """Answers that threads have made; who has gone meanwhile gets none."""
        posix.eventfd_read(self._wake)
        while self._checked:
            fd, talk, stream, good = self._checked.pop(0)
            found = self._connections.get(fd)
            if found is not None and found[1] is talk:
                talk.checked(stream, good)
                self._transfer(fd, *found)
        while self._answered:
            fd, talk, response = self._answered.pop(0)
            found = self._connections.get(fd)
            if found is not None and found[1] is talk:
                talk.finish(response)
                self._transfer(fd, *found)

    def _datagram(self, sock: _socket.socket, port: int) -> None:
        try:
            data, control, _, peer = sock.recvmsg(65535, 256)
        except OSError:
            return
        if self._words.datagram is not None:
            answer = self._words.datagram(data, (plain_address(peer[0]), peer[1]))
        else:
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


def serve(
    places: Sequence[str], answer: Answer = echo, words: Words | None = None, *, patient: bool = False
) -> NoReturn:
    """Answers at `PORT/protocol` or `ADDRESS:PORT/protocol` until SIGTERM; a port that is taken ends the process."""
    heed()
    server = Server(Identity(posix.environ), answer, words, patient=patient)
    for place in places:
        where, _, protocol = place.partition("/")
        address, _, port = where.rpartition(":")
        protocol = protocol or "tcp"
        if not port.isdecimal() or int(port) > 65535 or protocol not in ("tcp", "udp"):
            say(f"{place}: not served; write PORT/tcp or PORT/udp")
            continue
        try:
            server.listen(int(port), protocol, address.strip("[]"))
        except OSError as error:
            posix.write(2, f"port {place}: {error.strerror}\n".encode())
            raise SystemExit(1) from None
    server.serve()


def heed() -> None:
    """SIGTERM and SIGINT end the process."""
    for number in (_signal.SIGTERM, _signal.SIGINT):
        _signal.signal(number, end)


def main(arguments: list[str]) -> NoReturn:
    serve(arguments)
