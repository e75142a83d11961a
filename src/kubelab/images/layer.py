"""The layer of files that containers see above the machine's: what images have and the machine lacks.

In: a directory on a tmpfs and the registry. Out: a directory to stack on the machine's root: commands at the paths
where images have them (`/agnhost`, `/bin/grpc_health_probe`, `/bin/ash`, busybox' applets), nginx' configuration as its
image has it, accounts, working directories. It is never changed: containers have it mounted.
"""

from __future__ import annotations

import compileall
import hashlib
import os
import shlex
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from kubelab.images.programs import STANDINS, find, standin_argv, standin_files
from kubelab.images.registry import Registry

COMMANDS = {
    "/agnhost": "agnhost",
    "/pause": "pause",
    "/usr/bin/pause": "pause",
    "/bin/grpc_health_probe": "grpc-health-probe",
}
"""Paths at which images have a command, and the stand-in that is started there where the machine has none."""

ACCOUNTS = {"nginx": 101, "redis": 999, "postgres": 999}

NGINX = """worker_processes 1;
error_log /dev/stderr notice;
pid /run/nginx.pid;
events { worker_connections 1024; }
http {
    include /etc/nginx/mime.types;
    default_type application/octet-stream;
    access_log /dev/stdout;
    sendfile on;
    keepalive_timeout 65;
    include /etc/nginx/conf.d/*.conf;
}
"""
NGINX_SITE = """server {
    listen 80;
    listen [::]:80;
    server_name localhost;
    location / { root /usr/share/nginx/html; index index.html index.htm; }
    error_page 500 502 503 504 /50x.html;
    location = /50x.html { root /usr/share/nginx/html; }
}
"""


@dataclass(frozen=True, slots=True)
class Layer:
    """A finished one."""

    root: Path

    def exists(self, command: str, path: str | None = None) -> bool:
        """Whether containers have a command, in the layer or on the machine."""
        if "/" in command:
            return (self.root / _real(command).lstrip("/")).is_file() or os.access(command, os.X_OK)
        directories = (path or os.environ.get("PATH", "/usr/bin:/bin")).split(":")
        return any(self.exists(f"{directory}/{command}") for directory in directories if directory)


def build(directory: Path, registry: Registry) -> Layer:
    """Makes the layer below ``directory``, or finds the same one. Raises OSError."""
    files = _files()
    directories = sorted({entry.working_dir for entry in registry.entries if entry.working_dir})
    digest = hashlib.sha256(repr((sorted(files.items()), directories)).encode()).hexdigest()[:16]
    root = directory / digest
    if root.exists():
        return Layer(root)
    fresh = directory / f"{digest}.new"
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    fresh.chmod(0o755)
    for name in directories:
        place = fresh / _real(name).lstrip("/")
        place.mkdir(parents=True, exist_ok=True)
        place.chmod(0o777)
    for name, (content, mode) in files.items():
        place = fresh / _real(name).lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        if mode:
            place.write_text(content)
            place.chmod(mode)
        elif not place.is_symlink():
            place.symlink_to(content)
    compileall.compile_dir(str(fresh / STANDINS.lstrip("/")), quiet=1, stripdir=str(fresh))
    fresh.rename(root)
    return Layer(root)


def _real(path: str) -> str:
    """With its directories' links resolved: on many machines /bin is one."""
    parent, _, name = path.rpartition("/")
    return f"{os.path.realpath(parent or '/').rstrip('/')}/{name}"


def _files() -> dict[str, tuple[str, int]]:
    """(content, mode) by path; mode 0 is a symbolic link."""
    files = {path: (_script(standin_argv(name)), 0o755) for path, name in COMMANDS.items() if not _has(path)}
    files |= {path: (source.read_text(), 0o644) for path, source in standin_files().items()}
    if not _has("/bin/ash"):
        files["/bin/ash"] = ("/bin/sh", 0)
    files.update(_applets())
    if redis := find("redis-check-rdb"):
        # One program by several names; as the image has it, it serves whoever reaches it.
        binary = "/usr/lib/kubelab/redis-server"
        files[binary] = (redis, 0)
        files["/usr/local/bin/redis-server"] = (
            f'#!/bin/sh\ncase "$1" in -v|--version|-h|--help) exec {binary} "$@";; esac\n'
            f'exec {binary} "$@" --protected-mode no\n', 0o755,
        )  # fmt: skip
    if find("nginx"):
        files["/etc/nginx/nginx.conf"] = (NGINX, 0o644)
        files["/etc/nginx/conf.d/default.conf"] = (NGINX_SITE, 0o644)
    accounts, groups = Path("/etc/passwd").read_text(), Path("/etc/group").read_text()
    for name, number in ACCOUNTS.items():
        if f"\n{name}:" not in accounts:
            accounts += f"{name}:x:{number}:{number}::/nonexistent:/usr/sbin/nologin\n"
        if f"\n{name}:" not in groups:
            groups += f"{name}:x:{number}:\n"
    return {**files, "/etc/passwd": (accounts, 0o644), "/etc/group": (groups, 0o644)}


def _applets() -> dict[str, tuple[str, int]]:
    """Busybox' commands of which the machine has no others."""
    busybox = find("busybox")
    if busybox is None:
        return {}
    done = subprocess.run([busybox, "--list"], capture_output=True, text=True, check=False)
    wanted = [name for name in done.stdout.split() if shutil.which(name) is None]
    return {f"/bin/{name}": (busybox, 0) for name in wanted}


def _has(path: str) -> bool:
    return os.access(path, os.X_OK) or (path.startswith("/bin/") and shutil.which(path[5:]) is not None)


def _script(argv: list[str]) -> str:
    return f'#!/bin/sh\nexec {shlex.join(argv)} "$@"\n'
