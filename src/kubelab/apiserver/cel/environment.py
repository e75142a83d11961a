"""CEL expressions.

Owns: the environments in which expressions are compiled, and compiled expressions. Comes in: source texts, values. Goes
out: results; `CelError` in the words of Kubernetes. The language is cel-expr-python's; what Kubernetes adds to it
stands beside this module. Types of variables are known at run time only.
"""

import re
from collections.abc import Mapping
from functools import cache, lru_cache
from typing import Any

from cel_expr_python import cel
from cel_expr_python.ext import ext_bindings, ext_encoders, ext_math, ext_optional, ext_strings

from kubelab.apiserver.cel import addresses, lists, numbers, rights
from kubelab.apiserver.cel.functions import declarations

RULES = ("self", "oldSelf")
"""What validation rules of CRDs see."""
ADMISSION = ("object", "oldObject", "request", "params", "namespaceObject", "variables", "authorizer")
"""What policies and match conditions see."""
_CODE = re.compile(r"^[A-Z_]+: ")
_MISSING_MACROS = re.compile(
    r"undeclared reference to '(all|exists|exists_one|existsOne|transformList|transformMap|transformMapEntry)'"
)
_WORDS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r'^Key not found in map : "?(.*?)"?$'), r"no such key: \1"),
    (re.compile(r"^Index error: index=(-?\d+) size=\d+$"), r"index out of bounds: \1"),
    (re.compile(r"^No matching overloads found : (.*)$"), r"no such overload: \1"),
    (re.compile(r"^divide by zero$"), "division by zero"),
    (re.compile(r"^(?:int64|integer) overflow$"), "integer overflow"),
)


class CelError(Exception):
    """An expression that cannot be compiled or evaluated."""


class UnsupportedError(CelError):
    """Kubernetes would take the expression: it uses comprehensions of two variables."""


class Program:
    """A compiled expression."""

    def __init__(self, source: str, expression: Any) -> None:
        self.source = source
        self._expression = expression

    @property
    def returns(self) -> str:
        """The name of its type: BOOL, STRING, …; DYN when that shows at run time only."""
        return str(self._expression.return_type())

    def evaluate(self, values: Mapping[str, Any]) -> Any:
        """Raises CelError."""
        result = self._expression.eval(data=values)
        if result.type() == cel.Type.ERROR:
            raise CelError(_told(str(result.value())))
        try:
            return result.value()
        except TypeError as error:
            raise CelError("the expression gives no value that can be shown") from error


@lru_cache(maxsize=4096)
def compiled(source: str, variables: tuple[str, ...]) -> Program:
    """Raises CelError for what cannot be compiled."""
    try:
        return Program(source, _environment(variables).compile(source))
    except RuntimeError as error:
        text = _CODE.sub("", str(error)).removesuffix(" [INVALID_ARGUMENT]")
        kind = UnsupportedError if _MISSING_MACROS.search(text) else CelError
        raise kind(f"compilation failed: {text}") from error


@cache
def _environment(variables: tuple[str, ...]) -> Any:
    return cel.NewEnv(
        variables=dict.fromkeys(variables, cel.Type.DYN),
        extensions=[
            ext_bindings.ExtBindings(),
            ext_strings.ExtStrings(),
            ext_math.ExtMath(),
            ext_optional.ExtOptional(),
            ext_encoders.ExtEncoders(),
        ],
        functions=declarations((*lists.FUNCTIONS, *numbers.FUNCTIONS, *addresses.FUNCTIONS, *rights.FUNCTIONS)),
    )


def _told(text: str) -> str:
    """What cel-cpp says, as cel-go says it."""
    text = _CODE.sub("", text)
    for pattern, words in _WORDS:
        if pattern.match(text):
            return pattern.sub(words, text)
    return text
