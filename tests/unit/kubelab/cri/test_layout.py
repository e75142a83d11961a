"""Images made here, and the one of sandboxes."""

from __future__ import annotations

import platform
import shutil
import subprocess
from pathlib import Path

import pytest

from kubelab.cri import layout, pause

SOURCES = {
    "x86_64": """
  mov $17, %edi
  lea action(%rip), %rsi
  xor %edx, %edx
  mov $8, %r10d
  mov $13, %eax
  syscall
again:
  mov $34, %eax
  syscall
  jmp again
  .balign 8
action: .quad 1, 0, 0, 0
""",
    "aarch64": """
  mov x0, #17
  adr x1, action
  mov x2, #0
  mov x3, #8
  mov x8, #134
  svc #0
again:
  mov x0, #0
  mov x1, #0
  mov x2, #0
  mov x3, #0
  mov x8, #73
  svc #0
  b again
  .balign 8
action: .quad 1, 0, 0, 0
""",
}


@pytest.mark.parametrize("machine", sorted(SOURCES))
def test_the_program_is_what_an_assembler_makes(machine: str, tmp_path: Path) -> None:
    assert shutil.which("clang-19"), "make setup installs it"
    source, binary = tmp_path / "pause.S", tmp_path / "pause.bin"
    source.write_text(SOURCES[machine])
    subprocess.run(["clang-19", f"--target={machine}-linux-gnu", "-c", source, "-o", tmp_path / "pause.o"], check=True)
    extract = ["llvm-objcopy-19", "-O", "binary", "-j", ".text", tmp_path / "pause.o", binary]
    subprocess.run(extract, check=True)
    assert binary.read_bytes() == pause.CODE[machine]


def test_the_program_waits_for_ever_and_reaps(tmp_path: Path) -> None:
    path = tmp_path / "pause"
    path.write_bytes(pause.program(platform.machine()))
    path.chmod(0o755)
    with subprocess.Popen([path]) as process:
        try:
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(0.1)
            status = Path(f"/proc/{process.pid}/status").read_text()
            ignored = next(line.split()[1] for line in status.splitlines() if line.startswith("SigIgn:"))
            assert int(ignored, 16) >> 16 & 1, "SIGCHLD, 17, is ignored"
        finally:
            process.kill()


def test_the_same_contents_give_the_same_bytes(tmp_path: Path) -> None:
    contents = layout.Contents(files={"a/b/c": b"1", "a/d": b"2"}, links={"a/e": "d"}, user="1:1")
    for name in ("one", "two"):
        layout.write(contents, "x:1", tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
