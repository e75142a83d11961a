"""Trees for terminals and pipes: lines with what belongs to them drawn below."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass
class Tree:
    text: str
    """May have several lines."""
    children: list[Tree] = field(default_factory=list)

    def add(self, text: str) -> Tree:
        """Returns the new child."""
        self.children.append(Tree(text))
        return self.children[-1]

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def lines(self) -> Iterable[str]:
        yield from self.text.splitlines()
        for number, child in enumerate(self.children):
            last = number == len(self.children) - 1
            for line, text in enumerate(child.lines()):
                head = ("└─ " if last else "├─ ") if line == 0 else ("   " if last else "│  ")
                yield head + text
