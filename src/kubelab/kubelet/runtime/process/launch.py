"""Starts a container: a process in its own mount and PID namespaces, on an overlay of the machine's root.

In: a frozen description. Out: the process, a child of the caller. No byte of the node's or the machine's files is
written by the container except through its volumes.

Two forks: the first enters cgroups and namespaces and makes the second a sibling (CLONE_PARENT), which is process 1 of
the PID namespace unless that is shared, builds its mounts and executes the command. Errors travel through a pipe that
exec closes.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import signal
import termios
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from kubelab.kubelet.runtime.contract import LaunchError, Mount
from kubelab.kubelet.runtime.process.processes import Process, readable
from kubelab.kubelet.security import Security
from kubelab.underlay import cgroups, namespaces, syscalls
from kubelab.underlay.node import LOWER

_DEVICES = ("null", "zero", "full", "random", "urandom", "tty", "ptmx", "pts")
_LINKS = {
    "fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2",
}  # fmt: skip
_PROPAGATION = {"None": syscalls.MS_PRIVATE, "HostToContainer": syscalls.MS_SLAVE, "Bidirectional": 0}


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """Everything that the two forks need to know."""

    argv: list[str]
    fallback: list[str] | None  # executed when argv[0] does not exist on this machine
    environment: dict[str, str]
    directory: Path  # on a tmpfs: holds the container's layer
    groups: tuple[Path, ...]  # which its processes join
    log: Path
    mounts: tuple[Mount, ...] = ()
    netns: str | None = None  # None: the node's
    hostname: str | None = None  # None: the node's
    ipc: Path | None = None  # where its namespace is, or will be, pinned; None: the node's
    sysctls: dict[str, str] = field(default_factory=dict)  # of the IPC namespace, by dotted name
    pids: str | None = None  # a PID namespace to enter; None: one of its own
    host_pid: bool = False
    shm: str = "/dev/shm"
    oom_score: int = 0
    cwd: str = "/"
    security: Security = field(default_factory=Security)
    privileged: bool = False  # sees all devices
    stdio: int | None = None  # becomes stdin; with ``tty`` it is a terminal and becomes all three
    tty: bool = False
    layer: str = ""  # a directory of files above the machine's
    notice: str = ""  # what to tell of argv, and of the fallback
    fallback_notice: str = ""


async def launch(spec: Launch) -> Process:
    """Starts the container. Raises LaunchError when any step up to exec fails. When cancelled, it has ended."""
    starting = asyncio.ensure_future(_launch(spec))
    try:
        return await asyncio.shield(starting)
    except asyncio.CancelledError:
        with suppress(LaunchError):
            process = await starting
            process.signal(signal.SIGKILL)
            await process.wait()
        raise


async def _launch(spec: Launch) -> Process:
    for part in ("upper", "work", "root"):
        (spec.directory / part).mkdir(parents=True, exist_ok=True)
    errors, write_errors = os.pipe()
    pids, write_pid = os.pipe()
    first = os.fork()
    if first == 0:
        _first(spec, write_errors, write_pid)
    os.close(write_errors)
    os.close(write_pid)
    try:
        error = (await _read_all(errors)).decode(errors="replace")
        pid = await _read_all(pids)
    finally:
        os.close(errors)
        os.close(pids)
    _reap(first)
    if not pid:
        raise LaunchError(error or "the container's first process died without a word")
    process = Process.child(int(pid))
    if error:
        await process.wait()
        raise LaunchError(error)
    return process


def _reap(pid: int) -> None:
    os.waitpid(pid, 0)  # at once: it has exited, or its pipes would still be open


async def _read_all(fd: int) -> bytes:
    data = b""
    while True:
        await readable(fd)
        chunk = os.read(fd, 65536)
        if not chunk:
            return data
        data += chunk


def _first(spec: Launch, errors: int, pids: int) -> NoReturn:
    try:
        for group in spec.groups:
            cgroups.join(group)
        if spec.netns is not None:
            syscalls.enter(spec.netns, syscalls.CLONE_NEWNET)
        if spec.ipc is not None:
            namespaces.enter_or_make(spec.ipc, "ipc", syscalls.CLONE_NEWIPC)
            for name, value in spec.sysctls.items():
                namespaces.write_sysctl(name.replace(".", "/"), value)
        flags = syscalls.CLONE_NEWNS
        if spec.hostname is not None:
            flags |= syscalls.CLONE_NEWUTS
        if spec.pids is not None:
            syscalls.enter(spec.pids, syscalls.CLONE_NEWPID)
        elif not spec.host_pid:
            flags |= syscalls.CLONE_NEWPID
        syscalls.unshare(flags)
        if spec.hostname is not None:
            syscalls.sethostname(spec.hostname)
        pid = syscalls.fork_sibling()
        if pid == 0:
            _second(spec, errors)
        os.write(pids, b"%d" % pid)
    except BaseException as error:
        os.write(errors, _text(error))
    os._exit(0)


def _second(spec: Launch, errors: int) -> NoReturn:
    step = "log"
    try:
        _attach_output(spec)
        step = "mounts"
        build_root(spec)
        step = "exec"
        os.setsid()
        if spec.tty:
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        _reset_signals()
        os.umask(0o022)
        os.chdir(spec.cwd)
        with suppress(OSError):  # to be killed later than others is a privilege
            Path("/proc/self/oom_score_adj").write_text(str(spec.oom_score))
        _drop_privileges(spec.security)
        execute(spec)
    except BaseException as error:
        os.write(errors, step.encode() + b": " + _text(error))
    os._exit(127)


def _drop_privileges(security: Security) -> None:
    for number in security.dropped:
        syscalls.drop_capability(number)
    os.setgroups(security.groups)
    if security.gid:
        os.setgid(security.gid)
    if security.uid:
        os.setuid(security.uid)
    if security.no_new_privileges:
        syscalls.no_new_privileges()


def execute(spec: Launch) -> NoReturn:
    """Replaces the process. Raises FileNotFoundError when neither command nor fallback exists."""
    try:
        os.execvpe(spec.argv[0], spec.argv, spec.environment)
    except (FileNotFoundError, NotADirectoryError):
        if spec.fallback is None:
            raise FileNotFoundError(errno.ENOENT, "no such command on this machine", spec.argv[0]) from None
        os.write(2, f"kubelab: {spec.argv[0]}: not on this machine, the stand-in takes its place\n".encode())
        os.execve(spec.fallback[0], spec.fallback, spec.environment)


def build_root(spec: Launch) -> None:
    """Makes the container's mount tree and moves into it."""
    mounts = (*devices(spec.privileged), *system_mounts(), Mount(spec.shm, "/dev/shm"), *spec.mounts)
    clones = [(mount, _clone(mount)) for mount in mounts]
    # From here on nothing we do reaches the node; the detached copies keep their own propagation.
    syscalls.mount(None, "/", None, syscalls.MS_REC | syscalls.MS_PRIVATE)
    root = str(spec.directory / "root")
    lower = f"{spec.layer}:{LOWER}" if spec.layer else LOWER
    layers = f"lowerdir={lower},upperdir={spec.directory}/upper,workdir={spec.directory}/work"
    syscalls.mount("overlay", root, "overlay", 0, layers)
    syscalls.mount("proc", root + "/proc", "proc", syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC)
    syscalls.mount("sysfs", root + "/sys", "sysfs")
    syscalls.mount("tmpfs", root + "/run", "tmpfs", syscalls.MS_NOSUID | syscalls.MS_NODEV, "mode=755")
    os.mkdir(root + "/run/lock", 0o1777)
    syscalls.mount("tmpfs", root + "/dev", "tmpfs", syscalls.MS_NOSUID, "mode=755")
    os.mkdir(root + "/dev/mqueue")
    with suppress(OSError):  # not every kernel has them
        syscalls.mount("mqueue", root + "/dev/mqueue", "mqueue")
    for name, target in _LINKS.items():
        os.symlink(target, f"{root}/dev/{name}")
    os.chdir(root)
    syscalls.pivot_root(".", ".")  # the old root now lies on top of the new one (pivot_root(2), NOTES)
    syscalls.umount(".")
    os.chdir("/")
    for mount, fd in clones:
        place(mount.target, is_directory=os.path.isdir(f"/proc/self/fd/{fd}"))
        syscalls.attach_tree(fd, mount.target)
        os.close(fd)
    os.makedirs(spec.cwd, exist_ok=True)
    if spec.security.readonly_root:
        syscalls.mount(None, "/", None, syscalls.MS_REMOUNT | syscalls.MS_BIND | syscalls.MS_RDONLY)


def devices(privileged: bool) -> list[Mount]:
    """The devices of every container; those of a privileged one are all of the node's."""
    names = os.listdir("/dev") if privileged else _DEVICES
    taken = {*_LINKS, "shm", "mqueue"}
    paths = [f"/dev/{name}" for name in names if name not in taken and not os.path.islink(f"/dev/{name}")]
    return [Mount(path, path, propagation="HostToContainer") for path in paths if os.path.exists(path)]


def system_mounts() -> list[Mount]:
    """What every container sees of its node: its cgroups, file systems beside the root."""
    outside = Path("/run/kubelab/mounts").read_text().splitlines()
    return [
        Mount("/sys/fs/cgroup", "/sys/fs/cgroup"),
        *(Mount(path, path, readonly=True) for path in outside),
    ]


def _clone(mount: Mount) -> int:
    fd = syscalls.clone_tree(mount.source)
    syscalls.set_tree(fd, readonly=mount.readonly, propagation=_PROPAGATION[mount.propagation])
    return fd


def place(target: str, *, is_directory: bool) -> None:
    """Makes the mount point."""
    if is_directory:
        os.makedirs(target, exist_ok=True)
        return
    os.makedirs(os.path.dirname(target), exist_ok=True)
    if os.path.islink(target):
        os.unlink(target)  # /etc/resolv.conf is a link on many machines
    with suppress(FileExistsError):
        os.close(os.open(target, os.O_CREAT | os.O_EXCL, 0o644))


def _attach_output(spec: Launch) -> None:
    os.dup2(os.open("/dev/null", os.O_RDONLY) if spec.stdio is None else spec.stdio, 0)
    out = os.open(spec.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644) if not spec.tty else 0
    os.dup2(out, 1)
    os.dup2(out, 2)


def _reset_signals() -> None:
    # The interpreter ignores SIGPIPE and SIGXFSZ; a command must find the defaults.
    for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])


def _text(error: BaseException) -> bytes:
    return str(error).encode(errors="replace")[:4000] or repr(error).encode()
