"""Resource quantities: 100m, 1.5, 2Gi.

Comes in: text or numbers. Goes out: decimals, and decimals as the shortest exact text in the notation of an example.
Source: Kubernetes documentation "Resource units in Kubernetes".
"""

from decimal import Decimal, InvalidOperation

_DECIMAL = {"E": 18, "P": 15, "T": 12, "G": 9, "M": 6, "k": 3, "": 0, "m": -3, "u": -6, "n": -9}
_BINARY = {"Ei": 60, "Pi": 50, "Ti": 40, "Gi": 30, "Mi": 20, "Ki": 10}
_FACTORS = {
    **{suffix: Decimal(10) ** power for suffix, power in _DECIMAL.items()},
    **{suffix: Decimal(2) ** power for suffix, power in _BINARY.items()},
}
_LETTERS = "numkKMGTPEi"


def quantity(text: object) -> Decimal:
    """Raises ValueError."""
    words = str(text)
    number = words.rstrip(_LETTERS)
    try:
        return Decimal(number) * _FACTORS[words[len(number) :]]
    except (InvalidOperation, KeyError):
        raise ValueError(f"{words!r} is no resource quantity") from None


def quantity_text(amount: Decimal, *, binary: bool = False) -> str:
    """The largest suffix that leaves a whole number."""
    for suffix in (*_BINARY, "") if binary and amount == amount.to_integral_value() else _DECIMAL:
        scaled = amount / _FACTORS[suffix]
        if scaled == scaled.to_integral_value() and (scaled or not suffix):
            return f"{int(scaled)}{suffix}"
    return str(amount)
