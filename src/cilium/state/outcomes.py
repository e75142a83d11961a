"""Operations that write row by row: what fails is that row's error and nobody else's."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable, Iterable
from typing import TypeVar

R = TypeVar("R")


def each(rows: Iterable[R], *, key: Callable[[R], Hashable], call: Callable[[R], object]) -> dict[Hashable, Exception]:
    """Calls `call` for every row; the failures by key, as a reconciler wants them."""
    errors: dict[Hashable, Exception] = {}
    for row in rows:
        try:
            call(row)
        except Exception as error:
            errors[key(row)] = error
    return errors


async def each_async(
    rows: Iterable[R], *, key: Callable[[R], Hashable], call: Callable[[R], Awaitable[object]]
) -> dict[Hashable, Exception]:
    """The same for coroutines, one after the other."""
    errors: dict[Hashable, Exception] = {}
    for row in rows:
        try:
            await call(row)
        except Exception as error:
            errors[key(row)] = error
    return errors
