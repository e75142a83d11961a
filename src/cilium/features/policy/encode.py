"""Rows of the policy maps as the kernel holds them.

In: groups of identities, `PolicyClass` rows. Out: numpy arrays of keys and values, and groups back from them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from pyroaring import BitMap

from cilium.datapath.generated import POLICY_CLASS_KEY, POLICY_KEY, POLICY_VERDICT, VerdictFlags
from cilium.datapath.maps import Array
from cilium.features.policy.rows import PolicyClass, Verdict

_DENY, _AUDIT, _DEFAULT = int(VerdictFlags.DENY), int(VerdictFlags.AUDIT), int(VerdictFlags.DEFAULT)
CLASS_BITS = 32
"""Bits of the class id, which come before protocol and port in a prefix."""


def entry_rows(groups: Sequence[tuple[int, int, BitMap]]) -> tuple[Array, Array]:
    """Keys and values of cilium_policy for (policy, class, identities), one group after the other."""
    sizes = [len(identities) for _, _, identities in groups]
    keys = np.zeros(sum(sizes), dtype=POLICY_KEY)
    if groups:
        keys["policy"] = np.repeat(np.array([policy for policy, _, _ in groups], dtype=np.uint32), sizes)
        keys["identity"] = np.concatenate([np.frombuffer(group.to_array(), dtype=np.uint32) for *_, group in groups])
    return keys, np.repeat(np.array([class_id for _, class_id, _ in groups], dtype="<u4"), sizes)


def groups_of(keys: Array, values: Array) -> dict[int, dict[int, BitMap]]:
    """The reverse: identities by policy and class."""
    groups: dict[int, dict[int, BitMap]] = {}
    if not len(keys):
        return groups
    order = np.lexsort((values, keys["policy"]))
    keys, values = keys[order], values[order]
    borders = np.flatnonzero((np.diff(keys["policy"]) != 0) | (np.diff(values) != 0)) + 1
    for start, end in zip([0, *borders.tolist()], [*borders.tolist(), len(keys)], strict=True):
        identities = BitMap(keys["identity"][start:end].tolist())
        groups.setdefault(int(keys["policy"][start]), {})[int(values[start])] = identities
    return groups


def class_rows(rows: Sequence[PolicyClass]) -> tuple[Array, Array]:
    """Keys and values of cilium_policy_class, the verdicts of all classes one after the other."""
    flat = [(row.id, v.prefix, v.protocol, v.port, v.cookie, _flags(v), v.match) for row in rows for v in row.verdicts]
    columns = np.array(flat, dtype=np.uint64).reshape(len(flat), 7).T
    keys, values = np.zeros(len(flat), dtype=POLICY_CLASS_KEY), np.zeros(len(flat), dtype=POLICY_VERDICT)
    keys["class"], keys["protocol"] = columns[0], columns[2]
    keys["prefixlen"] = columns[1] + np.uint64(CLASS_BITS)
    keys["port"][:, 0], keys["port"][:, 1] = columns[3] >> np.uint64(8), columns[3] & np.uint64(0xFF)
    values["cookie"], values["match"] = columns[4], columns[6]
    values["flags"] = columns[5]
    return keys, values


def _flags(verdict: Verdict) -> int:
    if not verdict.deny:
        return 0
    return _DENY | _AUDIT * verdict.audit | _DEFAULT * verdict.default


def whole(*columns: Array) -> list[Any]:
    """Every element of these columns as one hashable thing."""
    joined = np.hstack([_bytes(column) for column in columns])
    elements: list[Any] = np.ascontiguousarray(joined).view(f"V{joined.shape[1]}").ravel().tolist()
    return elements


def _bytes(array: Array) -> Array:
    return np.ascontiguousarray(array).view(np.uint8).reshape(len(array), array.dtype.itemsize)
