"""The epoch that makes every connection be judged anew, and what else programs are told while they run."""

from __future__ import annotations

import numpy as np
import pytest

from cilium.datapath.fakes import FakeMap
from cilium.datapath.generated import RUNTIME, RuntimeFlags
from cilium.datapath.runtime import Runtime


@pytest.fixture
def port() -> FakeMap:
    return FakeMap("cilium_runtime")


def entry(port: FakeMap) -> np.void:
    values, _ = port.lookup(np.zeros(1, np.uint32))
    record: np.void = values[0]
    return record


def test_the_epoch_goes_on_where_the_last_agent_was(port: FakeMap) -> None:
    Runtime(port).advance()
    Runtime(port).advance()
    assert (Runtime(port).epoch, int(entry(port)["policy_epoch"])) == (3, 3)


@pytest.mark.parametrize(("before", "after"), [(0, 2), (1, 2), (0xFFFF_FFFE, 0xFFFF_FFFF), (0xFFFF_FFFF, 1)])
def test_no_epoch_is_zero_not_even_the_first(port: FakeMap, before: int, after: int) -> None:
    value = np.zeros(1, RUNTIME)
    value["policy_epoch"] = before
    port.update(np.zeros(1, np.uint32), value)
    runtime = Runtime(port)
    assert runtime.epoch
    runtime.advance()
    assert runtime.epoch == after


@pytest.mark.parametrize(
    ("events", "received", "flags"),
    [
        (True, True, 0),
        (True, False, RuntimeFlags.HIDE_RECEIVED),
        (False, True, RuntimeFlags.EVENTS_OFF),
        (False, False, RuntimeFlags.EVENTS_OFF | RuntimeFlags.HIDE_RECEIVED),
    ],
)
def test_configuration_leaves_the_epoch(port: FakeMap, events: bool, received: bool, flags: int) -> None:
    runtime = Runtime(port)
    runtime.advance()
    runtime.configure(aggregation=2.5, received=received, events=events)
    found = entry(port)
    assert (found["policy_epoch"], found["aggregation"], found["flags"]) == (2, 2_500_000_000, flags)
