"""Holds the stdin or the terminal of one container, so that a kubelet may come and go: a process of its own.

In: argv: a descriptor (the write end of a pipe, or a terminal's primary side), ``pipe`` or ``terminal``, ``once`` or
``always``, the log, the socket to listen on, a cgroup to live in. Out: the descriptor, to everybody who connects; what
a terminal says, to the log. With ``once``, a pipe is given to the first who asks and its end is theirs (stdinOnce).
Ends with the container. Standard library only: it runs without site-packages.
"""

import os
import select
import socket
import sys


def serve(fd: int, *, terminal: bool, once: bool, log: int, listener: socket.socket) -> None:
    """Until the container has closed its side."""
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    poll.register(fd, select.POLLIN if terminal else 0)  # a pipe's errors are told unasked
    while True:
        for ready, _ in poll.poll():
            if ready == listener.fileno():
                peer, _ = listener.accept()
                with peer:
                    socket.send_fds(peer, [b"."], [fd])
                if once and not terminal:
                    return
            elif not terminal or not copy(fd, log):
                return


def copy(fd: int, log: int) -> bool:
    """What the terminal says now; False when its last user has left (EIO)."""
    try:
        data = os.read(fd, 1 << 16)
    except OSError:
        return False
    os.write(log, data)
    return bool(data)


def main() -> int:
    fd, kind, times, log, path, cgroup = sys.argv[1:]
    try:
        with open(os.path.join(cgroup, "cgroup.procs"), "w") as procs:
            procs.write("0")
    except OSError:
        return 1  # the pod went meanwhile
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    out = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.write(1, b".")  # the kubelet waits for it before it starts the container
    os.close(1)
    serve(int(fd), terminal=kind == "terminal", once=times == "once", log=out, listener=listener)
    return 0


if __name__ == "__main__":
    sys.exit(main())
