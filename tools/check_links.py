"""Check that documents point at what exists: relative links with anchors, and paths of the repository in backticks.

In: the Markdown files that git tracks or would. Out: one line per dead link and exit status 1.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
PATH = re.compile(
    r"`((?:src|bpf|tests|tools|docs|examples|deploy|bench)/[\w./-]*\w\.\w+|(?:tests|bpf|tools)/[\w./-]*)`"
)
HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)


def documents() -> list[Path]:
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return [path for path in map(Path, out.splitlines()) if path.exists()]


def anchors(path: Path) -> set[str]:
    """The anchors of a page's headings, as forges make them."""
    headings = HEADING.findall(path.read_text(encoding="utf-8"))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def dead(document: Path) -> list[str]:
    text = document.read_text(encoding="utf-8")
    found = []
    for target in LINK.findall(text):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        path = document.parent / name if name else document
        if not path.exists():
            found.append(f"{document}: no such file: {target}")
        elif anchor and anchor not in anchors(path):
            found.append(f"{document}: no such heading: {target}")
    return found + [f"{document}: no such path: {path}" for path in PATH.findall(text) if not Path(path).exists()]


def main() -> int:
    found = [line for document in documents() for line in dead(document)]
    print("\n".join(found), end="\n" if found else "")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
