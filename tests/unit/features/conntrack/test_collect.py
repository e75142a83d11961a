"""What is dead is removed, what lives stays, and the next round comes in good time."""

from __future__ import annotations

import numpy as np
import pytest

from cilium.datapath.fakes import FakeMap
from cilium.features.conntrack.collect import (
    FIRST_INTERVAL,
    MAX_INTERVAL,
    MIN_INTERVAL,
    Collected,
    collect,
    expired,
    idle,
    next_interval,
)

SECOND = 1_000_000_000


def test_expired_connections_are_removed() -> None:
    port = FakeMap("cilium_ct")
    assert port.spec.key is not None
    assert port.spec.value is not None
    keys, values = np.zeros(3, port.spec.key), np.zeros(3, port.spec.value)
    keys["low_port"] = [1, 2, 3]
    values["expires"] = [9 * SECOND, 10 * SECOND, 11 * SECOND]
    port.update(keys, values)
    assert collect(port, expired(10 * SECOND)) == Collected(seen=3, deleted=1)
    assert port.dump()[0]["low_port"].tolist() == [2, 3]
    assert collect(port, expired(10 * SECOND)) == Collected(seen=2, deleted=0)


@pytest.mark.parametrize(
    ("protocol", "silent", "dead"),
    [(6, 99, False), (6, 101, True), (17, 9, False), (17, 11, True), (58, 11, True), (1, 9, False)],
)
def test_mappings_live_as_long_as_a_connection_of_their_protocol(protocol: int, silent: int, dead: bool) -> None:
    port = FakeMap("cilium_snat")
    assert port.spec.key is not None
    assert port.spec.value is not None
    keys, values = np.zeros(1, port.spec.key), np.zeros(1, port.spec.value)
    keys["protocol"], values["used"] = protocol, 1000 * SECOND
    port.update(keys, values)
    found = collect(port, idle((1000 + silent) * SECOND, tcp=100, other=10))
    assert found == Collected(seen=1, deleted=int(dead))


def test_an_empty_map_is_no_work() -> None:
    assert collect(FakeMap("cilium_ct"), expired(SECOND)) == Collected()


@pytest.mark.parametrize(
    ("before", "found", "after"),
    [
        (FIRST_INTERVAL, Collected(), FIRST_INTERVAL * 1.5),
        (FIRST_INTERVAL, Collected(100, 4), FIRST_INTERVAL * 1.5),
        (FIRST_INTERVAL, Collected(100, 10), FIRST_INTERVAL),
        (FIRST_INTERVAL, Collected(100, 26), FIRST_INTERVAL / 2),
        (MIN_INTERVAL, Collected(100, 90), MIN_INTERVAL),
        (MAX_INTERVAL, Collected(100, 0), MAX_INTERVAL),
    ],
)
def test_the_more_dead_there_were_the_sooner(before: float, found: Collected, after: float) -> None:
    assert next_interval(before, found) == after
