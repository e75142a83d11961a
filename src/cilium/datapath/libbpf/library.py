"""The binding itself: libbpf.so.1 and the C library, opened once, with libbpf's messages captured.

Out: `ffi`, `library()`, `libc()`, and `captured_log()`, which collects what libbpf prints while it works.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from cilium.datapath.errors import MissingFeature
from cilium.datapath.generated.libbpf import ffi

__all__ = ["captured_log", "ffi", "libc", "library", "text"]

_LINE = 8192
_lines = threading.local()


@cache
def libc() -> Any:
    """The C library of this process."""
    return ffi.dlopen(None)


@cache
def library() -> Any:
    """libbpf. Raises MissingFeature when it is not installed or older than 1.0."""
    try:
        handle = ffi.dlopen("libbpf.so.1")
    except OSError as error:
        raise MissingFeature(f"libbpf 1.x is not installed ({error}); install the package libbpf1") from None
    handle.libbpf_set_print(_printer())
    return handle


@cache
def _printer() -> Any:
    """The C form of `_print`, kept alive for as long as libbpf may call it."""
    return ffi.callback("libbpf_print_fn_t", _print)


def _print(level: int, template: Any, arguments: Any) -> int:
    lines = getattr(_lines, "collected", None)
    if lines is None or level > 1:  # LIBBPF_DEBUG
        return 0
    buffer = ffi.new("char[]", _LINE)
    length = libc().vsnprintf(buffer, _LINE, template, arguments)
    lines.append(ffi.string(buffer).decode(errors="replace").rstrip("\n"))
    return int(length)


@contextmanager
def captured_log() -> Iterator[list[str]]:
    """Collect what libbpf says in this thread, warnings and notes, one string per message."""
    _lines.collected = []
    try:
        yield _lines.collected
    finally:
        del _lines.collected


def text(pointer: Any) -> str:
    """A C string as str; the empty string for NULL."""
    return "" if pointer == ffi.NULL else ffi.string(pointer).decode()
