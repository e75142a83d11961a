#!/usr/bin/python3 -SEI
"""cilium-cni, the CNI plugin: hands a runtime's request to the agent and prints the agent's answer.

A pod starts no sooner than this program does, so it imports only what is compiled into the interpreter and forwards
bytes: environment and stdin go in as they are, the namespace goes along as a file descriptor, JSON comes back ready.
The agent installs this file as /opt/cni/bin/cilium-cni. Wire format: cilium.protocols.cni.

While the agent is away: ADD waits for it (an ADD in flight is sent again; the agent answers a repeated ADD with the
same endpoint), DEL is left in the delete queue, which the agent replays, and the rest say so with code 11 or 50.
"""

import posix
import sys
import time

import _socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

RUN = posix.environ.get(b"CILIUM_RUN_DIR", b"/var/run/cilium").decode()
SOCKET = RUN + "/cni.sock"
DELETE_QUEUE = RUN + "/deleteQueue"
PATIENCE = 30.0
"""Seconds an ADD waits for the agent; runtimes give up later than that."""
CHUNK = 65536
VERSIONS = b'{"cniVersion":"1.1.0","supportedVersions":["0.3.0","0.3.1","0.4.0","1.0.0","1.1.0"]}'


def read_all(fd: int) -> bytes:
    parts: list[bytes] = []
    while True:
        part = posix.read(fd, CHUNK)
        if not part:
            return b"".join(parts)
        parts.append(part)


def fail(code: int, message: str) -> "NoReturn":
    text = message.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ")
    posix.write(1, ('{"cniVersion":"1.0.0","code":%d,"msg":"%s"}' % (code, text)).encode())
    posix._exit(1)


def receive(sock: _socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        part = sock.recv(min(CHUNK, count - len(data)))
        if not part:
            raise ConnectionResetError("the agent closed the connection")
        data += part
    return data


def exchange(request: bytes, netns_fd: int | None) -> tuple[int, bytes]:
    """Sends the request and returns (exit status, stdout). Raises OSError."""
    sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM, 0)
    try:
        sock.connect(SOCKET)
        rights: list[tuple[int, int, bytes]] = []
        if netns_fd is not None:
            rights = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, netns_fd.to_bytes(4, sys.byteorder))]
        sent = sock.sendmsg([request], rights)
        if sent < len(request):  # sending nothing to an agent that has answered and hung up is a broken pipe
            sock.sendall(request[sent:])
        header = receive(sock, 5)
        return header[0], receive(sock, int.from_bytes(header[1:], "little"))
    finally:
        sock.close()


def enqueue(request: bytes, container_id: str) -> None:
    """Leaves a DEL for the agent. The name makes a repeated DEL one entry; the rename makes it whole."""
    try:
        posix.mkdir(DELETE_QUEUE, 0o700)
    except FileExistsError:
        pass
    path = DELETE_QUEUE + "/" + container_id + ".delete"
    fd = posix.open(path + ".part", posix.O_WRONLY | posix.O_CREAT | posix.O_TRUNC, 0o600)
    posix.write(fd, request)
    posix.close(fd)
    posix.rename(path + ".part", path)


def open_netns(command: str, path: str) -> int | None:
    if not path:
        return None
    try:
        return posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC)
    except OSError as error:
        if command == "DEL":
            return None  # a namespace that is gone takes its interface with it
        fail(
            4,
            "CNI_NETNS %s: %s; the runtime must create the namespace before %s" % (path, error.strerror, command),
        )


def main() -> None:
    environment = {}
    for name, value in posix.environ.items():
        if name.startswith(b"CNI_"):
            environment[name.decode()] = value
    command = environment.get("CNI_COMMAND", b"").decode()
    if command == "VERSION":
        posix.write(1, VERSIONS)
        posix._exit(0)
    stdin = read_all(0)
    body = b"".join(name.encode() + b"=" + value + b"\0" for name, value in environment.items()) + b"\0" + stdin
    request = len(body).to_bytes(4, "little") + body
    netns_fd = open_netns(command, environment.get("CNI_NETNS", b"").decode())
    deadline = time.monotonic() + (PATIENCE if command == "ADD" else 0)
    while True:
        try:
            status, stdout = exchange(request, netns_fd)
            posix.write(1, stdout)
            posix._exit(status)
        except OSError as error:
            if time.monotonic() < deadline:
                time.sleep(0.05)
                continue
            away = "the Cilium agent does not answer on %s: %s" % (SOCKET, error.strerror or error)
            if command == "DEL":
                enqueue(request, environment.get("CNI_CONTAINERID", b"unknown").decode().replace("/", "_"))
                posix._exit(0)
            fail(50 if command == "STATUS" else 11, away + "; try again when the agent is up")


if __name__ == "__main__":
    main()
