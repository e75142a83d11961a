"""Programs on pods' devices at once, and by the better way later.

Attaching a tcx link makes the kernel wait for an RCU grace period with the rtnl lock held: 8-16 ms each, one after
another, where a clsact filter takes 0.1 ms. A pod shall not wait for that. So its device gets a filter first; when
nothing has been attached for a while, `run` puts the pinned tcx link beside it and takes the filter away. The kernel
asks the link first, and a verdict other than TC_ACT_UNSPEC is final: no packet is judged twice or not at all.
"""

from __future__ import annotations

import asyncio
import time

import structlog

from cilium.datapath.clsact import ClsactLinks
from cilium.datapath.errors import DatapathError, KernelError
from cilium.datapath.hooks import Attachment, DeviceLinks, Direction
from cilium.datapath.libbpf.objects import Program
from cilium.datapath.names import POD_PREFIX

log = structlog.get_logger("links")
QUIET = 2.0
"""Seconds without a new attachment before links replace filters."""
PAUSE = 0.05
"""Seconds between two of them: others want the rtnl lock too."""

Hook = tuple[str, Direction]


class DeferredLinks:
    """`DeviceLinks`. Devices that do not begin with `prefix` go to `links` straight away."""

    def __init__(self, links: DeviceLinks, *, prefix: str = POD_PREFIX, quiet: float = QUIET) -> None:
        self._links, self._filters = links, ClsactLinks()
        self._prefix, self._quiet = prefix, quiet
        self._wanted: dict[Hook, tuple[int, Program]] = {}
        self._linked: set[Hook] = {(found.device, found.direction) for found in links.attached() if found.ifindex}
        for left in self._filters.attached():  # by one who crashed between the two steps
            if (left.device, left.direction) in self._linked:
                self._filters.detach(left.device, left.direction)
        self._waiting: dict[Hook, None] = {}
        self._news = asyncio.Event()
        self._last = 0.0

    def attach(self, device: str, ifindex: int, direction: Direction, program: Program) -> bool:
        """See DeviceLinks."""
        hook = (device, direction)
        # `settle` runs in a thread and reads these two in the other order: whoever comes second sees the first.
        self._wanted[hook] = (ifindex, program)
        if not device.startswith(self._prefix) or hook in self._linked:
            return self._links.attach(device, ifindex, direction, program)
        try:
            changed = self._filters.attach(device, ifindex, direction, program)
        except KernelError:  # no such device, or no clsact in this kernel: the link says which
            return self._links.attach(device, ifindex, direction, program)
        self._waiting[hook] = None
        self._last = time.monotonic()
        self._news.set()
        return changed

    def detach(self, device: str, direction: Direction) -> None:
        """See DeviceLinks."""
        hook = (device, direction)
        self._wanted.pop(hook, None)
        self._waiting.pop(hook, None)
        self._linked.discard(hook)
        self._links.detach(device, direction)
        if device.startswith(self._prefix):
            self._filters.detach(device, direction)

    def attached(self) -> list[Attachment]:
        """See DeviceLinks. Where both are, the link: it decides."""
        found = {(a.device, a.direction): a for a in self._filters.attached() if a.device.startswith(self._prefix)}
        return list((found | {(a.device, a.direction): a for a in self._links.attached()}).values())

    async def run(self) -> None:
        """Replace filters by links, in quiet times. Until cancelled."""
        while True:
            await self._news.wait()
            while self._waiting:
                rest = self._last + self._quiet - time.monotonic()
                if rest > 0:
                    await asyncio.sleep(rest)
                else:
                    await asyncio.to_thread(self.settle)
                    await asyncio.sleep(PAUSE)
            self._news.clear()

    def settle(self) -> bool:
        """Replace one filter; False when there is none to replace. May run beside the other methods."""
        try:
            hook = next(iter(self._waiting))
        except (StopIteration, RuntimeError):  # changed while it was looked at: the next call finds it
            return bool(self._waiting)
        self._waiting.pop(hook, None)
        device, direction = hook
        seen = self._wanted.get(hook)
        try:
            while seen is not None:
                self._links.attach(device, seen[0], direction, seen[1])
                self._linked.add(hook)
                if (now := self._wanted.get(hook)) is seen:
                    self._filters.detach(device, direction)
                    return True
                seen = now
            if hook not in self._wanted:  # taken away meanwhile
                self._linked.discard(hook)
                self._links.detach(device, direction)
        except DatapathError as error:
            self._linked.discard(hook)
            if hook in self._wanted:
                log.warning("no link, the filter stays", device=device, direction=str(direction), error=str(error))
        return True
