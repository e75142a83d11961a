"""The size gate: no file over 500 lines, no function over 60.

In: the files git tracks. Out: one line per offender and exit status 1. Generated code is exempt.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

MAX_FILE, MAX_FUNCTION = 500, 60
SUFFIXES = {".py", ".c", ".h", ".sh"}
GENERATED = ("_pb2", "/generated/", "vmlinux.h")


def tracked() -> list[Path]:
    out = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"], capture_output=True, text=True, check=True
    )
    paths = (Path(line) for line in out.stdout.splitlines())
    return [p for p in paths if p.suffix in SUFFIXES and p.exists() and not any(g in str(p) for g in GENERATED)]


def long_functions(path: Path, text: str) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(text, str(path))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > MAX_FUNCTION:
                found.append(f"{path}:{node.lineno}: function {node.name} has {length} lines (limit {MAX_FUNCTION})")
    return found


def main() -> int:
    offenders: list[str] = []
    for path in tracked():
        text = path.read_text()
        lines = text.count("\n")
        if lines > MAX_FILE:
            offenders.append(f"{path}: {lines} lines (limit {MAX_FILE})")
        if path.suffix == ".py":
            offenders += long_functions(path, text)
    print("\n".join(offenders), end="\n" if offenders else "")
    return 1 if offenders else 0


if __name__ == "__main__":
    sys.exit(main())
