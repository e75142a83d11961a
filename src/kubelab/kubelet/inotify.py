"""Waiting for changes of directories and files (inotify(7)) without polling.

In: paths. Out: wake-ups of asyncio tasks. One descriptor per process: machines allow few inotify instances.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import struct

_CLOSE_WRITE = 0x8
_MODIFY = 0x2
_MOVED = 0xC0
_CREATE_DELETE = 0x300
_SELF = 0xC00
_IGNORED = 0x8000
_HEADER = struct.Struct("=iIII")


class Subscription:
    """Somebody's interest in one path."""

    def __init__(self, owner: Inotify, watch: int) -> None:
        self._owner, self._watch = owner, watch
        self._event = asyncio.Event()

    async def changed(self) -> None:
        """Returns once something happened since the last call."""
        await self._event.wait()
        self._event.clear()

    def wake(self) -> None:
        self._event.set()

    def close(self) -> None:
        self._owner.forget(self._watch, self)


class Inotify:
    """All watches of a process; must be made inside the running loop."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd = self._libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
        self._subscriptions: dict[int, set[Subscription]] = {}
        asyncio.get_running_loop().add_reader(self._fd, self._read)

    def subscribe(self, path: str) -> Subscription:
        """Raises OSError when the path does not exist."""
        mask = _MODIFY | _CLOSE_WRITE | _MOVED | _CREATE_DELETE | _SELF
        watch = self._libc.inotify_add_watch(self._fd, os.fsencode(path), mask)
        if watch < 0:
            number = ctypes.get_errno()
            raise OSError(number, f"inotify on {path}: {os.strerror(number)}")
        subscription = Subscription(self, watch)
        self._subscriptions.setdefault(watch, set()).add(subscription)
        return subscription

    def forget(self, watch: int, subscription: Subscription) -> None:
        rest = self._subscriptions.get(watch)
        if rest is None:
            return
        rest.discard(subscription)
        if not rest:
            del self._subscriptions[watch]
            self._libc.inotify_rm_watch(self._fd, watch)

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._fd)
        os.close(self._fd)

    def _read(self) -> None:
        try:
            data = os.read(self._fd, 65536)
        except BlockingIOError:
            return
        offset = 0
        while offset < len(data):
            watch, mask, _, length = _HEADER.unpack_from(data, offset)
            offset += _HEADER.size + length
            for subscription in self._subscriptions.get(watch, ()):
                subscription.wake()
            if mask & _IGNORED:
                self._subscriptions.pop(watch, None)
