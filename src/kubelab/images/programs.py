"""Command lines of the stand-ins that are shipped, and programs of the machine.

In: names. Out: argument lists, paths.
"""

from __future__ import annotations

import glob
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import kubelab

GENERIC = "server"
"""The stand-in for everything that the registry does not know; its arguments are the ports."""

GENERIC_IMAGE = "docker.io/kubelab/stand-in"
"""The image under which a pod gets the generic stand-in, whatever else the registry knows."""

_DIRECTORY = Path(kubelab.__file__).parent / "standin"
STANDINS = "/usr/lib/kubelab/python/kubelab"
"""Where containers have this package's stand-ins: no volume hides them, as it may hide the place of this package."""
INSIDE, OUTSIDE = f"{STANDINS}/standin/run.py", str(_DIRECTORY / "run.py")
"""What starts a stand-in, in containers and on the machine."""

_PARTS = {"__init__", "run", "conversation", "grpc", "client", "flags", "shop"}
"""Modules that are no programs."""


def standin_argv(name: str, arguments: Sequence[str] = (), *, run: str = INSIDE) -> list[str]:
    """A command line in containers, or with ``run=OUTSIDE`` on the machine."""
    return [os.path.realpath(sys.executable), "-S", "-E", "-I", run, name, *arguments]


def standin_files() -> dict[str, Path]:
    """What containers need of this package, by its path there."""
    found = {f"{STANDINS}/{name}": _DIRECTORY.parent / name for name in ("__init__.py", "grpc_health.py")}
    return found | {f"{STANDINS}/standin/{path.name}": path for path in sorted(_DIRECTORY.glob("*.py"))}


def is_standin(argv: Sequence[str]) -> bool:
    """Whether a command line is one of ``standin_argv``."""
    return INSIDE in argv


def standins() -> list[str]:
    """Names of all stand-ins."""
    found = (path.stem for path in _DIRECTORY.glob("*.py") if path.stem not in _PARTS)
    return sorted(name.replace("_", "-") for name in found)


def find(program: str, path: str | None = None) -> str | None:
    """Where a program of the machine is: a name, or a path that may have wildcards; the last that matches."""
    if "/" not in program:
        return shutil.which(program, path=path)
    return next((found for found in sorted(glob.glob(program), reverse=True) if os.access(found, os.X_OK)), None)
