"""What is dead is removed, what lives stays, and the next round comes in good time."""

from __future__ import annotations

import numpy as np
import pytest

from cilium.datapath.fakes import FakeMap
from cilium.datapath.generated import NatFlags
from cilium.features.conntrack.cell import Crowd
from cilium.features.conntrack.collect import (
    FIRST_INTERVAL,
    MAX_INTERVAL,
    MIN_INTERVAL,
    Collected,
    Lifetimes,
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
    ("protocol", "flags", "lifetime"),
    [
        (6, 0, 20),
        (6, NatFlags.FIN_OUT, 20),
        (6, NatFlags.REPLIED, 100),
        (6, NatFlags.REPLIED | NatFlags.FIN_IN, 100),
        (6, NatFlags.REPLIED | NatFlags.CLOSED, 5),
        (17, 0, 10),
        (58, NatFlags.REPLIED, 10),
        (1, 0, 10),
    ],
)
def test_mappings_live_as_long_as_a_connection_of_their_state(protocol: int, flags: int, lifetime: int) -> None:
    port = FakeMap("cilium_snat")
    assert port.spec.key is not None
    assert port.spec.value is not None
    keys, values = np.zeros(1, port.spec.key), np.zeros(1, port.spec.value)
    keys["protocol"], values["used"], values["flags"] = protocol, 1000 * SECOND, flags
    port.update(keys, values)
    lifetimes = Lifetimes(tcp=100, tcp_syn=20, tcp_fin=5, other=10)
    for silent, dead in ((lifetime - 1, 0), (lifetime + 1, 1)):
        assert collect(port, idle((1000 + silent) * SECOND, lifetimes)) == Collected(seen=1, deleted=dead)


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


def test_a_crowded_map_is_looked_at_soon_and_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert next_interval(MAX_INTERVAL, Collected(100, 0), crowded=True) == MIN_INTERVAL
    crowd = Crowd({"cilium_snat": 100})
    noted = [
        crowd.note("cilium_snat", Collected(seen, deleted)) for seen, deleted in ((70, 0), (80, 1), (90, 0), (90, 30))
    ]
    assert noted == [False, True, True, False]
    told = capsys.readouterr().out
    assert told.count("map is crowded") == 1
    assert told.count("no longer crowded") == 1
