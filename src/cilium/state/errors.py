"""What can go wrong in the state engine.

    StateError            the base: catch this one
      TableError          a table was declared or asked wrongly (unknown index, missing key, bad key function)
      WriterError         a second writer, an initializer after the fact
      DerivationError     a compute function failed or returned something that is not its outputs

All of them are mistakes of the program, not of the world: failures of the world (a kernel that refuses a
write) never travel as exceptions through the engine, they become the row's status.
"""

from __future__ import annotations


class StateError(Exception):
    """Base of the state engine's errors."""


class TableError(StateError):
    """A table was declared or asked wrongly."""


class WriterError(StateError):
    """The rule of one writer per table, or the life cycle of its initializers, was broken."""


class DerivationError(StateError):
    """A derivation's compute function failed; names the derivation, the cause is chained."""
