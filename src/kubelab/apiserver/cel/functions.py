"""How a Python function becomes one of CEL.

Values of types that CEL does not have (quantities, addresses) are maps with one entry that says what they are.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from cel_expr_python import cel

STRING, BOOL, INT, DOUBLE, DYN = cel.Type.STRING, cel.Type.BOOL, cel.Type.INT, cel.Type.DOUBLE, cel.Type.DYN
LIST = cel.Type.List(DYN)
OPAQUE = cel.Type.Map(STRING, DYN)

Overload = tuple[Sequence[Any], Any, Callable[..., Any]]
"""Types of the parameters, type of the result, implementation."""


Row = tuple[str, list[Any]]
"""A name and what it means for some types."""


def function(name: str, *overloads: Overload) -> Row:
    """`name(x)`."""
    return name, _made(name, overloads, member=False)


def method(name: str, *overloads: Overload) -> Row:
    """`x.name()`."""
    return name, _made(name, overloads, member=True)


def declarations(rows: Iterable[Row]) -> list[Any]:
    """Each name once, with all its meanings."""
    meanings: dict[str, list[Any]] = {}
    for name, overloads in rows:
        meanings.setdefault(name, []).extend(overloads)
    return [cel.FunctionDecl(name, overloads) for name, overloads in meanings.items()]


def _made(name: str, overloads: Sequence[Overload], *, member: bool) -> list[Any]:
    return [
        cel.Overload(
            f"{'method' if member else 'function'}_{name.replace('.', '_')}_{place}",
            result,
            list(parameters),
            is_member=member,
            impl=impl,
        )
        for place, (parameters, result, impl) in enumerate(overloads)
    ]
