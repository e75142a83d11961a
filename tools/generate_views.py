"""Generate Python's view of the datapath's contract from BTF: numpy dtypes, enums, map specifications, constants.

In: bpf/maps/*.h, bpf/config/*.h, bpf/lib/common.h, bpf/lib/drop.h, laid out by clang. Out: the modules of
src/cilium/datapath/generated/. `--check` writes nothing and fails when a committed file differs.

The names of structs and enums are read from the headers' text, everything else from the BTF that clang makes of them:
a new struct needs no change here.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "src"))

from cilium.datapath.libbpf.btf import Btf, Kind, Type  # noqa: E402 - after the path is set

BPF = ROOT / "bpf"
TARGET = ROOT / "src/cilium/datapath/generated"
HEADERS = ["lib/common.h", "lib/drop.h", "maps/*.h", "config/*.h"]
# Of lib/ only the enums are for Python.
DEFINITION = re.compile(r"^(struct|union|enum)\s+(\w+)\s*\{", re.MULTILINE)
BIG_ENDIAN = {"__be16": ">u2", "__be32": ">u4", "__be64": ">u8"}
NOTICE = "Generated from {} by tools/generate_views.py: do not edit, run `make views`."


def headers() -> list[Path]:
    return [path for pattern in HEADERS for path in sorted(BPF.glob(pattern))]


def definitions() -> list[tuple[str, str]]:
    """(keyword, name) of every type that the headers define, in their order."""
    found = [(path.parent.name, *match) for path in headers() for match in DEFINITION.findall(path.read_text())]
    return [(keyword, name) for folder, keyword, name in found if keyword == "enum" or folder != "lib"]


def compile_btf() -> Btf:
    """BTF of a file that includes every header and holds one variable of every type: clang omits unused types."""
    lines = ['#include "lib/common.h"']
    lines += [f'#include "{path.relative_to(BPF)}"' for path in headers()]
    lines += [f"{keyword} {name} view_{keyword}_{name};" for keyword, name in definitions()]
    clang = os.environ.get("CLANG") or shutil.which("clang-19") or "clang"
    with tempfile.TemporaryDirectory() as directory:
        source, target = Path(directory) / "views.bpf.c", Path(directory) / "views.bpf.o"
        source.write_text("\n".join(lines) + "\n")
        include = [f"-I{BPF}", "-idirafter", f"/usr/include/{os.uname().machine}-linux-gnu"]
        flags = ["-g", "-O2", "-std=gnu11", "-target", "bpf"]
        subprocess.run([clang, *flags, *include, "-c", str(source), "-o", str(target)], check=True)
        section = Path(directory) / "views.btf"
        objcopy = os.environ.get("LLVM_OBJCOPY") or shutil.which("llvm-objcopy-19") or "llvm-objcopy"
        subprocess.run([objcopy, f"--dump-section=.BTF={section}", str(target), os.devnull], check=True)
        return Btf(section.read_bytes())


def field(btf: Btf, type_id: int) -> str:
    """The numpy format of a member, as source text."""
    for name in btf.typedef_names(type_id):
        if name in BIG_ENDIAN:
            return repr(BIG_ENDIAN[name])
    found = btf.resolve(type_id)
    match found.kind:
        case Kind.INT:
            code = "i" if found.signed else "u"
            return repr(f"{code}1" if found.size == 1 else f"<{code}{found.size}")
        case Kind.ENUM:
            return repr(f"<u{found.size}")
        case Kind.ARRAY:
            return f"{field(btf, found.target)}, ({found.length},)"
        case Kind.UNION:  # its first member is the form in which Python sees it
            return field(btf, found.members[0].type_id)
        case Kind.STRUCT:
            return found.name.upper()
        case _:
            raise SystemExit(f"{found.kind.name} {found.name}: no numpy format for it")


def struct_lines(btf: Btf, found: Type) -> list[str]:
    """One dtype, with the explicit gaps of the C layout refused: what is not named cannot be compared as bytes."""
    position, lines = 0, [f"{found.name.upper()}: Dtype = np.dtype(", "    ["]
    for member in found.members:
        if member.offset != position * 8:
            raise SystemExit(f"struct {found.name}: a hole before {member.name}; name the padding")
        lines.append(f"        ({member.name!r}, {field(btf, member.type_id)}),")
        position += btf.size_of(member.type_id)
    if position != found.size:
        raise SystemExit(f"struct {found.name}: {found.size - position} bytes of padding at its end; name them")
    return [*lines, "    ]", ")", f"assert {found.name.upper()}.itemsize == {found.size}"]


def structs(btf: Btf) -> str:
    lines = [
        f'"""Map keys, map values and event records as numpy dtypes. {NOTICE.format("bpf/maps")}"""',
        "import numpy as np",
        "",
        "Dtype = np.dtype[np.void]",
    ]
    for keyword, name in definitions():
        if keyword == "struct" and (found := btf.find(Kind.STRUCT, name)):
            lines += ["", *struct_lines(btf, found)]
    return "\n".join(lines) + "\n"


def prefix_of(name: str, members: list[str]) -> str:
    """What all members of an enum begin with, up to an underscore; a single member: the enum's first word."""
    if len(members) == 1:
        prefix = name.split("_")[0].upper() + "_"
        return prefix if members[0].startswith(prefix) else ""
    first, last = min(members), max(members)
    common = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first))
    prefix = first[: first.rfind("_", 0, common) + 1]
    return prefix if all(member[len(prefix) :].isidentifier() for member in members) else ""


def enums(btf: Btf) -> str:
    lines = [
        f'"""The datapath\'s enums; names without their C prefix. {NOTICE.format("bpf/")}"""',
        "from enum import IntEnum, IntFlag",
    ]
    for keyword, name in definitions():
        if keyword != "enum":
            continue
        found = btf.find(Kind.ENUM, name)
        assert found, name
        prefix = prefix_of(name, [member for member, _ in found.enumerators])
        base = "IntFlag" if name.endswith("_flags") else "IntEnum"
        lines += ["", "", f"class {name.title().replace('_', '')}({base}):", f'    """enum {name}."""', ""]
        lines += [f"    {member[len(prefix) :]} = {value}" for member, value in found.enumerators]
    return "\n".join(lines) + "\n"


def map_spec(btf: Btf, name: str, type_id: int) -> str:
    """The MapSpec of a map declared in BTF style: `__uint(x, n)` is a pointer to an array of n ints, the values of a
    map of maps are an array of pointers to such a declaration.
    """
    members = {member.name: btf.resolve(member.type_id) for member in btf.resolve(type_id).members}

    def number(key: str) -> int:
        return btf.resolve(members[key].target).length if key in members else 0

    def dtype(key: str) -> str:
        if key not in members:
            size = number(f"{key}_size") or (4 if key == "value" and inner else 0)
            return f"np.dtype('<u{size}')" if size else "None"
        found = btf.resolve(members[key].target)
        if found.kind is Kind.STRUCT:
            return f"structs.{found.name.upper()}"
        return f"np.dtype({field(btf, members[key].target)})"

    inner = ""
    if "values" in members:
        declared = btf.resolve(members["values"].target).target
        inner = f", {map_spec(btf, name, declared)}"
    return (
        f"MapSpec({name!r}, MapType({number('type')}), {dtype('key')}, {dtype('value')}, "
        f"{number('max_entries')}, {number('map_flags')}{inner})"
    )


def is_pinned(btf: Btf, type_id: int) -> bool:
    """Others are the datapath's own affair."""
    return any(member.name == "pinning" for member in btf.resolve(type_id).members)


def maps(btf: Btf) -> str:
    variables = btf.variables(".maps")
    pinned = sorted(name for name, variable in variables.items() if is_pinned(btf, variable.type_id))
    lines = [
        f'"""What each pinned map holds. {NOTICE.format("bpf/maps")}"""',
        "import numpy as np",
        "",
        "from cilium.datapath.generated import structs",
        "from cilium.datapath.mapspec import MapSpec, MapType",
        "",
        "MAPS: dict[str, MapSpec] = {",
        *(f"    {name!r}: {map_spec(btf, name, variables[name].type_id)}," for name in pinned),
        "}",
    ]
    return "\n".join(lines) + "\n"


def constants(btf: Btf) -> str:
    lines = [
        f'"""Load-time constants by name: bytes that each takes. {NOTICE.format("bpf/config")}"""',
        "CONSTANTS: dict[str, int] = {",
        *(f"    {name!r}: {variable.size}," for name, variable in btf.variables(".rodata").items()),
        "}",
    ]
    return "\n".join(lines) + "\n"


def package(btf: Btf) -> str:
    dtypes = sorted(n.upper() for k, n in definitions() if k == "struct" and btf.find(Kind.STRUCT, n))
    names = sorted(name.title().replace("_", "") for keyword, name in definitions() if keyword == "enum")
    lines = [
        f'"""What C defines, as Python reads it. {NOTICE.format("BTF")}"""',
        "from cilium.datapath.generated.constants import CONSTANTS",
        f"from cilium.datapath.generated.enums import {', '.join(names)}",
        f"from cilium.datapath.generated.structs import {', '.join(dtypes)}",
        "",
        f"__all__ = {sorted(['CONSTANTS', *names, *dtypes])!r}",
    ]
    return "\n".join(lines) + "\n"


MODULES: dict[str, Callable[[Btf], str]] = {
    "structs.py": structs,
    "enums.py": enums,
    "maps.py": maps,
    "constants.py": constants,
    "__init__.py": package,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="fail when a committed file differs")
    check = parser.parse_args().check
    btf, stale = compile_btf(), []
    for name, render in MODULES.items():
        path, text = TARGET / name, render(btf)
        if path.exists() and path.read_text() == text:
            continue
        stale.append(str(path.relative_to(ROOT)))
        if not check:
            path.write_text(text)
    if check and stale:
        print(f"differ from the headers in bpf/: {', '.join(stale)}; run `make views`", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
