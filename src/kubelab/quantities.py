"""Resource quantities: 100m, 1.5, 2Gi, 12e6.

Comes in: text or numbers. Goes out: exact decimals, whole numbers rounded up, and text in the canonical form: the
largest suffix that leaves a whole number, in the notation (powers of ten, of two, exponents) that was written. Nothing
is finer than a nano. Source: Kubernetes documentation of the type Quantity.
"""

import re
from decimal import ROUND_CEILING, ROUND_UP, Context, Decimal
from functools import lru_cache

_DECIMAL = {"E": 18, "P": 15, "T": 12, "G": 9, "M": 6, "k": 3, "": 0, "m": -3, "u": -6, "n": -9}
_BINARY = {"Ei": 60, "Pi": 50, "Ti": 40, "Gi": 30, "Mi": 20, "Ki": 10}
_FACTORS = {
    **{suffix: Decimal(10) ** power for suffix, power in _DECIMAL.items()},
    **{suffix: Decimal(2) ** power for suffix, power in _BINARY.items()},
}
_GRAMMAR = re.compile(r"([+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+))(?:([eE][+-]?[0-9]+)|([numkMGTPE]?|[KMGTPE]i))")
_EXACT = Context(prec=80)
_FORM = "^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$"


def fault(value: object) -> str:
    """What an API server says of it; empty when it is a quantity."""
    text = str(value).strip()
    if _GRAMMAR.fullmatch(text):
        return ""
    form = re.match(_FORM, text)
    if form is None:
        return f"quantities must match the regular expression '{_FORM}'"
    numeric = form[1].count(".") < 2 and form[1].strip("+-.")
    return "unable to parse quantity's suffix" if numeric else "unable to parse numeric part of quantity"


def quantity(value: object) -> Decimal:
    """Raises ValueError."""
    return _read(str(value).strip())[0]


def whole(value: object) -> int:
    """Rounded up. Raises ValueError."""
    return int(quantity(value).to_integral_value(ROUND_CEILING))


def thousandths(value: object) -> int:
    """As CPU is counted; rounded up. Raises ValueError."""
    return int((quantity(value) * 1000).to_integral_value(ROUND_CEILING))


def quantity_text(amount: Decimal, *, binary: bool = False) -> str:
    """The canonical form; powers of two only where they leave a whole number."""
    amount = _rounded(amount, -9)
    if not amount:
        return "0"
    if binary and abs(amount) >= 1024 and amount == amount.to_integral_value():
        suffixes = (*_BINARY, "")
    else:
        suffixes = tuple(_DECIMAL)
    for suffix in suffixes:
        scaled = _EXACT.divide(amount, _FACTORS[suffix])
        if scaled == scaled.to_integral_value():
            return f"{int(scaled)}{suffix}"
    raise ValueError(f"{amount} is finer than a nano")


@lru_cache(4096)
def canonical(value: object, *, finest: int = -9) -> str:
    """As it is stored; ``finest`` is the power of ten to which it is rounded up. Raises ValueError."""
    amount, notation = _read(str(value).strip())
    amount = _rounded(amount, finest)
    if notation != "e" or not amount:
        return quantity_text(amount, binary=notation == "i")
    power = amount.normalize(_EXACT).as_tuple().exponent
    assert isinstance(power, int)
    power -= power % 3
    return f"{int(_EXACT.scaleb(amount, -power))}" + (f"e{power}" if power else "")


@lru_cache(4096)
def _read(text: str) -> tuple[Decimal, str]:
    """And the notation: `i` for powers of two, `e` for exponents."""
    found = _GRAMMAR.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is no resource quantity")
    number, exponent, suffix = found.groups()
    if exponent:
        return Decimal(number + exponent), "e"
    return _EXACT.multiply(Decimal(number), _FACTORS[suffix]), suffix[1:]


def _rounded(amount: Decimal, finest: int) -> Decimal:
    """Away from zero, where it is finer than that power of ten."""
    power = amount.as_tuple().exponent
    if isinstance(power, int) and power >= finest:
        return amount
    return amount.quantize(Decimal(1).scaleb(finest), ROUND_UP, _EXACT)
