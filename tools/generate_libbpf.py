"""Compile libbpf/abi.h into cffi's out-of-line ABI form, which imports in milliseconds and needs no compiler.

In: src/cilium/datapath/libbpf/abi.h. Out: src/cilium/datapath/generated/libbpf.py. `--check` writes nothing and fails
when the committed file differs.
"""

from __future__ import annotations

import argparse
import io
import sys
import tempfile
from contextlib import redirect_stdout
from pathlib import Path

import cffi

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src/cilium/datapath/libbpf/abi.h"
TARGET = ROOT / "src/cilium/datapath/generated/libbpf.py"


def render() -> str:
    ffi = cffi.FFI()
    ffi.cdef(SOURCE.read_text())
    ffi.set_source("cilium.datapath.generated.libbpf", None)
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "libbpf.py"
        with redirect_stdout(io.StringIO()):  # it reports what it does
            ffi.emit_python_code(str(path))
        return path.read_text()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="fail when the committed file differs")
    check = parser.parse_args().check
    text = render()
    if TARGET.exists() and TARGET.read_text() == text:
        return 0
    if check:
        print(f"{TARGET.relative_to(ROOT)} differs from libbpf/abi.h: run `make views`", file=sys.stderr)
        return 1
    TARGET.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
