"""Rows of the policy maps as the kernel holds them.

In: `PolicyEntry` and `PolicyClass` rows. Out: numpy arrays of keys and values, and back to what identifies a row.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from cilium.datapath.generated import POLICY_CLASS_KEY, POLICY_KEY, POLICY_VERDICT, VerdictFlags
from cilium.datapath.maps import Array
from cilium.features.policy.rows import PolicyClass, PolicyEntry

CLASS_BITS = 32
"""Bits of the class id, which come before protocol and port in a prefix."""


def entry_keys(numbers: Sequence[int]) -> Array:
    """Keys of cilium_policy from row keys (`policy << 32 | identity`)."""
    packed = np.array(numbers, dtype=np.uint64)
    keys = np.zeros(len(packed), dtype=POLICY_KEY)
    keys["policy"] = packed >> np.uint64(32)
    keys["identity"] = packed & np.uint64(0xFFFF_FFFF)
    return keys


def entry_numbers(keys: Array) -> list[int]:
    """The reverse of `entry_keys`."""
    packed = keys["policy"].astype(np.uint64) << np.uint64(32) | keys["identity"].astype(np.uint64)
    numbers: list[int] = packed.tolist()
    return numbers


def entry_values(rows: Sequence[PolicyEntry]) -> Array:
    return np.array([row.class_id for row in rows], dtype="<u4")


def class_rows(rows: Sequence[PolicyClass]) -> tuple[Array, Array]:
    """Keys and values of cilium_policy_class, the verdicts of all classes one after the other."""
    flat = [(row.id, v.prefix, v.protocol, v.port, v.cookie, v.deny, v.match) for row in rows for v in row.verdicts]
    columns = np.array(flat, dtype=np.uint64).reshape(len(flat), 7).T
    keys, values = np.zeros(len(flat), dtype=POLICY_CLASS_KEY), np.zeros(len(flat), dtype=POLICY_VERDICT)
    keys["class"], keys["protocol"] = columns[0], columns[2]
    keys["prefixlen"] = columns[1] + np.uint64(CLASS_BITS)
    keys["port"][:, 0], keys["port"][:, 1] = columns[3] >> np.uint64(8), columns[3] & np.uint64(0xFF)
    values["cookie"], values["match"] = columns[4], columns[6]
    values["flags"] = columns[5] * np.uint64(VerdictFlags.DENY)
    return keys, values


def whole(*columns: Array) -> list[Any]:
    """Every element of these columns as one hashable thing."""
    joined = np.hstack([_bytes(column) for column in columns])
    elements: list[Any] = np.ascontiguousarray(joined).view(f"V{joined.shape[1]}").ravel().tolist()
    return elements


def _bytes(array: Array) -> Array:
    return np.ascontiguousarray(array).view(np.uint8).reshape(len(array), array.dtype.itemsize)
