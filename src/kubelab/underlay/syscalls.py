"""Linux calls that Python 3.11 does not offer: namespaces, mounts, exit status by pidfd.

In: paths, descriptors and flags. Out: nothing, or OSError naming the call and its object.
Sources: unshare(2), setns(2), mount(2), pivot_root(2), ioctl_pidfd(2).
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import struct

CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000
CLONE_PARENT = 0x00008000
SIGCHLD = 17

MS_RDONLY = 0x1
MS_NOSUID = 0x2
MS_NODEV = 0x4
MS_NOEXEC = 0x8
MS_REMOUNT = 0x20
MS_BIND = 0x1000
MS_REC = 0x4000
MS_PRIVATE = 0x40000
MS_SLAVE = 0x80000
MS_SHARED = 0x100000

MNT_DETACH = 0x2

_SYS_CLONE = {"x86_64": 56, "aarch64": 220}
_SYS_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
_PIDFD_GET_INFO = 0xC040FF0B  # _IOWR(0xFF, 11, 64 bytes)
_PIDFD_INFO_EXIT = 1 << 3

# PyDLL keeps the interpreter lock: a forked child must not wait for a thread that it no longer has.
_libc = ctypes.PyDLL(None, use_errno=True)


def _check(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def unshare(flags: int) -> None:
    """Moves the calling process into new namespaces (unshare(2))."""
    _check(_libc.unshare(ctypes.c_int(flags)), f"unshare({flags:#x})")


def setns(fd: int, kind: int = 0) -> None:
    """Enters the namespace that ``fd`` refers to (setns(2)); ``kind`` 0 accepts any."""
    _check(_libc.setns(ctypes.c_int(fd), ctypes.c_int(kind)), f"setns({fd})")


def enter(path: str, kind: int = 0) -> None:
    """Enters the namespace pinned at ``path``."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        setns(fd, kind)
    finally:
        os.close(fd)


def mount(source: str | None, target: str, kind: str | None, flags: int = 0, data: str | None = None) -> None:
    """mount(2); ``kind`` is the file system type, ``data`` its options."""

    def text(value: str | None) -> bytes | None:
        return None if value is None else os.fsencode(value)

    result = _libc.mount(text(source), text(target), text(kind), ctypes.c_ulong(flags), text(data))
    _check(result, f"mount {kind or 'flags'} {source or ''} on {target} ({flags:#x})")


def bind(source: str, target: str, *, recursive: bool = False, readonly: bool = False) -> None:
    """Bind mount; read-only needs a second call because mount(2) ignores MS_RDONLY on the first."""
    mount(source, target, None, MS_BIND | (MS_REC if recursive else 0))
    if readonly:
        mount(None, target, None, MS_BIND | MS_REMOUNT | MS_RDONLY)


def umount(target: str, flags: int = MNT_DETACH) -> None:
    """umount2(2), lazily unless told otherwise."""
    _check(_libc.umount2(os.fsencode(target), ctypes.c_int(flags)), f"umount {target}")


def pivot_root(new_root: str, put_old: str) -> None:
    """pivot_root(2) and a change of the working directory into the new root."""
    number = _SYS_PIVOT_ROOT[os.uname().machine]
    result = _libc.syscall(ctypes.c_long(number), os.fsencode(new_root), os.fsencode(put_old))
    _check(result, f"pivot_root({new_root})")
    os.chdir("/")


def sethostname(name: str) -> None:
    """sethostname(2) in the current UTS namespace."""
    raw = name.encode()
    _check(_libc.sethostname(raw, ctypes.c_size_t(len(raw))), f"sethostname({name})")


def fork_sibling() -> int:
    """Like fork(), but the child's parent is the caller's parent (CLONE_PARENT), who can then wait for it.

    Only for single-threaded processes about to exec or exit: the interpreter's fork hooks do not run.
    """
    number = _SYS_CLONE[os.uname().machine]
    zero = ctypes.c_long(0)
    flags = ctypes.c_ulong(CLONE_PARENT | SIGCHLD)
    return _check(_libc.syscall(ctypes.c_long(number), flags, zero, zero, zero, zero), "clone(CLONE_PARENT)")


_PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = 24, 38


def drop_capability(number: int) -> None:
    """Takes a capability from the caller and all it will execute (prctl(2), PR_CAPBSET_DROP)."""
    zero = ctypes.c_ulong(0)
    _check(_libc.prctl(_PR_CAPBSET_DROP, ctypes.c_ulong(number), zero, zero, zero), f"PR_CAPBSET_DROP({number})")


def no_new_privileges() -> None:
    """No program executed from here on gains anything (prctl(2), PR_SET_NO_NEW_PRIVS)."""
    zero = ctypes.c_ulong(0)
    _check(_libc.prctl(_PR_SET_NO_NEW_PRIVS, ctypes.c_ulong(1), zero, zero, zero), "PR_SET_NO_NEW_PRIVS")


def exit_status_by_pidfd(pidfd: int) -> int | None:
    """The wait status of an ended process that is not our child, None where the kernel (before 6.15) cannot tell."""
    request = bytearray(struct.pack("=QQ11Ii", _PIDFD_INFO_EXIT, *([0] * 13)))
    try:
        fcntl.ioctl(pidfd, _PIDFD_GET_INFO, request, True)
    except OSError:
        return None
    fields = struct.unpack("=QQ11Ii", request)
    return int(fields[-1]) if fields[0] & _PIDFD_INFO_EXIT else None


_SYS_OPEN_TREE, _SYS_MOVE_MOUNT, _SYS_MOUNT_SETATTR = 428, 429, 442  # the same on every architecture
_AT_FDCWD = -100
_AT_EMPTY_PATH = 0x1000
_AT_RECURSIVE = 0x8000
_OPEN_TREE_CLONE = 1
_MOVE_MOUNT_F_EMPTY_PATH = 4
_MOUNT_ATTR_RDONLY = 1


def clone_tree(path: str) -> int:
    """A detached copy of the mounts at ``path`` (open_tree(2)), to be attached later, even under another root."""
    flags = _OPEN_TREE_CLONE | _AT_RECURSIVE | os.O_CLOEXEC
    numbers = ctypes.c_long(_SYS_OPEN_TREE), ctypes.c_long(_AT_FDCWD)
    return _check(_libc.syscall(*numbers, os.fsencode(path), ctypes.c_ulong(flags)), f"open_tree({path})")


def attach_tree(fd: int, target: str) -> None:
    """Attaches what ``clone_tree`` gave at ``target`` (move_mount(2))."""
    numbers = ctypes.c_long(_SYS_MOVE_MOUNT), ctypes.c_long(fd)
    arguments = b"", ctypes.c_long(_AT_FDCWD), os.fsencode(target), ctypes.c_ulong(_MOVE_MOUNT_F_EMPTY_PATH)
    _check(_libc.syscall(*numbers, *arguments), f"move_mount to {target}")


def set_tree(fd: int, *, readonly: bool = False, propagation: int = 0) -> None:
    """Sets attributes of a whole tree of mounts (mount_setattr(2)); ``propagation`` is MS_PRIVATE, _SLAVE, _SHARED."""
    attributes = struct.pack("=QQQQ", _MOUNT_ATTR_RDONLY if readonly else 0, 0, propagation, 0)
    numbers = ctypes.c_long(_SYS_MOUNT_SETATTR), ctypes.c_long(fd)
    flags = ctypes.c_ulong(_AT_EMPTY_PATH | _AT_RECURSIVE)
    result = _libc.syscall(*numbers, b"", flags, attributes, ctypes.c_size_t(len(attributes)))
    _check(result, "mount_setattr")


_FALLOC_FL_KEEP_SIZE, _FALLOC_FL_PUNCH_HOLE = 1, 2


def punch_hole(fd: int, offset: int, length: int) -> None:
    """Gives the memory of a file's range back; the file keeps its size (fallocate(2))."""
    mode = ctypes.c_int(_FALLOC_FL_KEEP_SIZE | _FALLOC_FL_PUNCH_HOLE)
    result = _libc.fallocate(ctypes.c_int(fd), mode, ctypes.c_long(offset), ctypes.c_long(length))
    _check(result, f"fallocate({fd})")
