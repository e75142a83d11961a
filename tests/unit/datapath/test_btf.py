"""The BTF reader against what clang writes for types whose layout is known."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from cilium.datapath.errors import ObjectError
from cilium.datapath.libbpf.btf import Btf, BtfError, Kind
from cilium.datapath.libbpf.objects import parse_btf

SOURCE = """
typedef unsigned int u32;
typedef u32 be32;
enum small { SMALL_ONE = 1, SMALL_MINUS = -1 };
enum big { BIG = 1ULL << 40 };
struct inner { unsigned char bytes[6]; unsigned short tail; };
struct outer { be32 first; const struct inner *pointer; struct inner inner[2]; enum small small; u32 bits : 3; };
struct outer outer;
enum big big;
const volatile u32 config_one = 5;
const volatile unsigned char config_two[3] = { 1, 2, 3 };
"""


@pytest.fixture(scope="module")
def btf(tmp_path_factory: pytest.TempPathFactory) -> Btf:
    directory = tmp_path_factory.mktemp("btf")
    (directory / "types.c").write_text(SOURCE)
    command = ["clang-19", "-g", "-O2", "-target", "bpf", "-c", "types.c", "-o", "types.o"]
    subprocess.run(command, cwd=directory, check=True)
    return parse_btf(directory / "types.o")


def test_structs_with_their_offsets(btf: Btf) -> None:
    outer = btf.find(Kind.STRUCT, "outer")
    assert outer is not None
    assert [(m.name, m.offset) for m in outer.members] == [
        ("first", 0),
        ("pointer", 64),
        ("inner", 128),
        ("small", 256),
        ("bits", 288),
    ]
    assert (outer.size, btf.size_of(outer.members[1].type_id), btf.size_of(outer.members[2].type_id)) == (40, 8, 16)


def test_typedefs_are_seen_and_seen_through(btf: Btf) -> None:
    outer = btf.find(Kind.STRUCT, "outer")
    assert outer is not None
    first = outer.members[0].type_id
    assert list(btf.typedef_names(first)) == ["be32", "u32"]
    assert btf.resolve(first).kind is Kind.INT
    assert btf.resolve(outer.members[1].type_id).kind is Kind.PTR


def test_enums_of_both_widths(btf: Btf) -> None:
    small, big = btf.find(Kind.ENUM, "small"), btf.find(Kind.ENUM64, "big")
    assert small is not None
    assert big is not None
    assert small.enumerators == (("SMALL_ONE", 1), ("SMALL_MINUS", -1))
    assert big.enumerators == (("BIG", 1 << 40),)


def test_variables_of_a_section(btf: Btf) -> None:
    found = btf.variables(".rodata")
    assert {name: variable.size for name, variable in found.items()} == {"config_one": 4, "config_two": 3}
    assert btf.variables(".absent") == {}


@pytest.mark.parametrize("raw", [b"", b"\x9f\xeb", b"\xeb\x9f" + bytes(22)])
def test_what_is_no_btf(raw: bytes) -> None:
    with pytest.raises(BtfError):
        Btf(raw)


def test_a_file_without_btf(tmp_path: Path) -> None:
    (tmp_path / "empty.o").write_bytes(b"\x7fELF" + bytes(60))
    with pytest.raises(ObjectError, match="no BTF in it"):
        parse_btf(tmp_path / "empty.o")


@pytest.mark.skipif(not os.path.exists("/sys/kernel/btf/vmlinux"), reason="this kernel carries no BTF")
def test_every_kind_that_the_kernel_uses_is_understood() -> None:
    kernel = Btf(Path("/sys/kernel/btf/vmlinux").read_bytes())
    task = kernel.find(Kind.STRUCT, "task_struct")
    assert task is not None
    assert "comm" in {member.name for member in task.members}
