"""Image references and patterns of them.

In: what a pod's `image` says. Out: its repository with the registry's name, and its tag. In a pattern `*` stands for
any characters but a slash, `**` for any; without a tag it matches every tag. Digests are ignored: there is no content
here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

DOCKER_HUB = "docker.io"
_PATTERN = re.compile(r"[A-Za-z0-9._*:/-]+")


@dataclass(frozen=True, slots=True)
class Reference:
    """`docker.io/library/redis` and `alpine`; no tag is `latest`."""

    repository: str
    tag: str


def parse(text: str) -> Reference:
    """As container runtimes read it: Docker Hub is left out, and so is `library/` there."""
    name = text.partition("@")[0]
    path, separator, tag = name.rpartition(":")
    if not separator or "/" in tag:
        path, tag = name, ""
    return Reference(_full(path), tag or "latest")


def _full(path: str) -> str:
    first, separator, rest = path.partition("/")
    if not separator:
        return path if path.startswith("**") else f"{DOCKER_HUB}/library/{path}"
    if first in ("index.docker.io", "registry-1.docker.io"):
        return _full(f"{DOCKER_HUB}/{rest}")
    if first == DOCKER_HUB and "/" not in rest:
        return f"{DOCKER_HUB}/library/{rest}"
    if "." in first or ":" in first or first == "localhost" or "*" in first:
        return path
    return f"{DOCKER_HUB}/{path}"


@cache
def _expression(pattern: str) -> tuple[re.Pattern[str], re.Pattern[str] | None]:
    path, separator, tag = pattern.rpartition(":")
    if not separator or "/" in tag:
        path, tag = pattern, ""
    return _glob(_full(path)), _glob(tag) if tag else None


def _glob(text: str) -> re.Pattern[str]:
    parts = re.split(r"(\*\*/?|\*)", text)
    meaning = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*"}
    return re.compile("".join(meaning.get(part, re.escape(part)) for part in parts))


def matches(pattern: str, reference: Reference) -> bool:
    repository, tag = _expression(pattern)
    return bool(repository.fullmatch(reference.repository) and (tag is None or tag.fullmatch(reference.tag)))


def valid(pattern: str) -> bool:
    """Whether a text can be a pattern."""
    return bool(_PATTERN.fullmatch(pattern)) and "***" not in pattern
