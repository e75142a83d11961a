"""x"""

from __future__ import annotations
from pathlib import Path
from cilium.datapath.libbpf.btf import Btf
from cilium.datapath.libbpf.errors import ObjectError
from cilium.datapath.libbpf.library import captured_log, ffi, library


def parse_btf(path: Path) -> Btf:
    """The BTF of an object file. Raises ObjectError."""
    handle = library().btf__parse(str(path).encode(), ffi.NULL)
    if handle == ffi.NULL:
        raise ObjectError(f"{path}: no BTF in it ({ffi.errno})")
    try:
        size = ffi.new("__u32 *")
        raw = library().btf__raw_data(handle, size)
        return Btf(bytes(ffi.buffer(raw, size[0])))
    finally:
        library().btf__free(handle)
