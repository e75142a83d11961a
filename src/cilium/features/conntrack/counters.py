"""What dead connections did not tell their rules any more.

In: entries of cilium_ct that are about to be deleted. Out: rows of the agent's own in cilium_policy_counters: the
datapath adds to its rows all the time, and nobody else can add to them without losing what it adds meanwhile.
"""

from __future__ import annotations

import msgspec
import numpy as np

from cilium.datapath.generated import POLICY_COUNTER_KEY, PolicyCounterWriter
from cilium.datapath.maps import Array, BpfMap


class Leftovers(msgspec.Struct, frozen=True):
    """Packets and bytes by cookie: three columns of one length."""

    cookies: Array
    packets: Array
    bytes: Array


def uncounted(entries: Array) -> Leftovers:
    """Of these entries of cilium_ct, both directions and both rules.

    Nothing of what was being made another connection's while it was read: less has passed then than was told.
    """
    passed = (entries["packets"].astype(np.uint32) - entries["told_packets"]).astype(np.int32)
    passed_bytes = (entries["bytes"] - entries["told_bytes"]).astype(np.int64)
    sound = (passed >= 0) & (passed_bytes >= 0)
    packets = np.where(sound, passed, 0).sum(axis=1, dtype=np.uint64)
    sizes = np.where(sound, passed_bytes, 0).sum(axis=1, dtype=np.uint64)
    left = packets != 0
    cookies = np.concatenate([entries["egress_cookie"][left], entries["ingress_cookie"][left]])
    packets, sizes = np.tile(packets[left], 2), np.tile(sizes[left], 2)
    ruled = cookies != 0
    numbers, places = np.unique(cookies[ruled], return_inverse=True)
    totals = np.zeros((2, len(numbers)), np.uint64)
    np.add.at(totals[0], places, packets[ruled])
    np.add.at(totals[1], places, sizes[ruled])
    return Leftovers(numbers, totals[0], totals[1])


def add_leftovers(counters: BpfMap, left: Leftovers) -> None:
    """Adds them to the agent's rows; rules without a row of the datapath are gone or found no room."""
    if not len(left.cookies):
        return
    keys = np.zeros(len(left.cookies), POLICY_COUNTER_KEY)
    keys["cookie"] = left.cookies
    _, kept = counters.lookup(keys)
    keys = keys[kept]
    keys["writer"] = PolicyCounterWriter.AGENT
    values, _ = counters.lookup(keys)
    values["packets"][:, 0] += left.packets[kept]
    values["bytes"][:, 0] += left.bytes[kept]
    counters.update(keys, values)
