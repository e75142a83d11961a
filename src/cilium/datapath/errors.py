"""What can go wrong between us and the kernel.

DatapathError
  ObjectError            the object file is missing, damaged or lacks what was asked of it
  LoadError              libbpf or the verifier refused; carries the log's tail
  MapSpecMismatch        a pinned map differs from what the programs were compiled for
  MissingPrivilege       CAP_BPF, CAP_NET_ADMIN or the locked-memory limit
  MissingFeature         this kernel lacks it
  KernelError            a bpf(2) command failed otherwise; carries errno
    MapFull              no room for another entry
    NoSuchEntry          the key is not in the map
  XdpRefused             a device does not run XDP as it is asked to
  MapWriteError          some elements of a map were not written (maps)
  NetlinkError           the kernel refused a request; NetlinkBatchError: some of a batch (netlink/port)
  DeviceError            a device of the node cannot be brought to what it shall be (netlink/devices)
  EndpointError          a pod's interface cannot be made (netlink/endpoints)
  NamespaceError         no network namespace there, or it cannot be entered (netlink/netns)
  SysctlError            a parameter cannot be read or written (netlink/sysctl)
"""

from __future__ import annotations

import errno
import os
from typing import NoReturn


class DatapathError(Exception):
    """Base of everything that the datapath package raises."""


class ObjectError(DatapathError):
    """The object file is missing, damaged or lacks what was asked of it."""


class LoadError(DatapathError):
    """libbpf or the verifier refused an object. `log` is the tail of what they said."""

    def __init__(self, subject: str, reason: str, log: str = "") -> None:
        self.subject, self.log = subject, log
        super().__init__(f"{subject}: {reason}" + (f"\n{log}" if log else ""))


class MapSpecMismatch(DatapathError):  # noqa: N818 - named for what happened, as its siblings
    """A pinned map differs from what the programs were compiled for."""

    def __init__(self, name: str, path: str, pinned: str, wanted: str) -> None:
        self.name, self.path, self.pinned, self.wanted = name, path, pinned, wanted
        super().__init__(
            f"map {name}: the one pinned at {path} is ({pinned}) but the programs need ({wanted}); "
            f"run the version that made it, or remove {path} and restart: it starts empty then"
        )


class MissingPrivilege(DatapathError):  # noqa: N818
    """The process may not do this."""


class MissingFeature(DatapathError):  # noqa: N818
    """This kernel cannot do this."""


class XdpRefused(DatapathError):  # noqa: N818
    """A device does not run XDP as it is asked to."""

    def __init__(self, device: str, obstacle: str, remedy: str) -> None:
        self.device = device
        super().__init__(f"XDP on {device}: {obstacle}; {remedy}")


class KernelError(DatapathError):
    """A system call failed. `errno` is the kernel's."""

    def __init__(self, action: str, number: int) -> None:
        self.action, self.errno = action, number
        super().__init__(f"{action}: {os.strerror(number)} ({errno.errorcode.get(number, number)})")


class MapFull(KernelError):  # noqa: N818
    """No room for another entry."""


class NoSuchEntry(KernelError):  # noqa: N818
    """The key is not in the map."""


def raise_for(action: str, number: int) -> NoReturn:
    """Raise the error that errno `number` of the bpf(2) command `action` means."""
    if number in (errno.EPERM, errno.EACCES):
        raise MissingPrivilege(
            f"{action}: {os.strerror(number)}; the agent needs CAP_BPF and CAP_NET_ADMIN (or CAP_SYS_ADMIN)"
        )
    if number == errno.E2BIG:
        raise MapFull(action, number)
    if number == errno.ENOENT:
        raise NoSuchEntry(action, number)
    raise KernelError(action, number)
