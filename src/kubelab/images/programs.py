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
_PARTS = {"__init__", "run", "conversation", "grpc", "client", "flags"}
"""Modules that are no programs."""


def standin_argv(name: str, arguments: Sequence[str] = ()) -> list[str]:
    """A command line; it works wherever this machine's files are seen."""
    return [sys.executable, "-S", "-E", "-I", str(_DIRECTORY / "run.py"), name, *arguments]


def is_standin(argv: Sequence[str]) -> bool:
    """Whether a command line is one of ``standin_argv``."""
    return str(_DIRECTORY / "run.py") in argv


def standins() -> list[str]:
    """Names of all stand-ins."""
    found = (path.stem for path in _DIRECTORY.glob("*.py") if path.stem not in _PARTS)
    return sorted(name.replace("_", "-") for name in found)


def find(program: str, path: str | None = None) -> str | None:
    """Where a program of the machine is: a name, or a path that may have wildcards; the last that matches."""
    if "/" not in program:
        return shutil.which(program, path=path)
    return next((found for found in sorted(glob.glob(program), reverse=True) if os.access(found, os.X_OK)), None)
