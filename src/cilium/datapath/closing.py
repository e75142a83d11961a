"""What holds something of the kernel and gives it up by `close`: usable in a `with` statement."""

from __future__ import annotations

from types import TracebackType
from typing import Self


class Closing:
    """Base of classes with a `close` that may be called twice."""

    __slots__ = ()

    def close(self) -> None:
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
