"""A byte stream cut into lines.

In: chunks as the network delivers them. Out: whole lines. An object of the API can be megabytes long and arrives in
many chunks, so what is incomplete is kept in pieces and joined once.
"""

from __future__ import annotations


class LineSplitter:
    """Yields lines without their newline; empty lines are left out."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def feed(self, chunk: bytes) -> list[bytes]:
        head, newline, rest = chunk.partition(b"\n")
        if not newline:
            if chunk:
                self._pieces.append(chunk)
            return []
        lines = [b"".join([*self._pieces, head]), *rest.split(b"\n")]
        last = lines.pop()
        self._pieces = [last] if last else []
        return [line for line in lines if line.strip()]

    @property
    def rest(self) -> bytes:
        """What is incomplete."""
        return b"".join(self._pieces)
