"""An agent that starts in the middle of a trial, before it could hear of any policy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from unit.features.policy.hosts import EVERY, FROM_WORLD, ccnp

from cilium.app.host_firewall import audit_node, let_node_out, rescue
from cilium.datapath.fakes import FakeMap
from cilium.datapath.generated import ENDPOINT, ENDPOINT_KEY, EndpointFlags
from cilium.features.policy.rows import HostPolicyTrial, HostRules, TrialState
from cilium.features.policy.trial_file import TrialFile

POLICY = ccnp("hosts", 2, EVERY | FROM_WORLD)
TRYING = HostPolicyTrial(
    POLICY.kind, "", POLICY.name, 2, TrialState.TRYING, HostRules(POLICY.rules), HostRules(), POLICY.uid
)


class Start:
    """A start of an agent; the API server answers as `answers` says, then as its last element does."""

    def __init__(self, path: Path, *answers: bool, taken_over_at: float = 1e9) -> None:
        self.file = TrialFile(path)
        self.now, self.asked, self.opened = 0.0, 0, 0
        self._answers, self._taken_over_at = answers, taken_over_at

    async def contact(self) -> bool:
        self.now += 1
        self.asked += 1
        return self._answers[min(self.asked, len(self._answers)) - 1]

    def _open(self) -> None:
        assert all(row.state is not TrialState.TRYING for row in self.file.load()), "written down first"
        self.opened += 1

    async def run(self) -> None:
        await rescue(
            self.file, contact=self.contact, lost=10, taken_over=lambda: self.now >= self._taken_over_at,
            let_out=self._open, clock=lambda: self.now, pause=0,
        )  # fmt: skip


async def test_without_an_api_server_an_unfinished_trial_is_rolled_back(tmp_path: Path) -> None:
    start = Start(tmp_path / "trials", True, False)
    start.file.save((TRYING,))
    await start.run()
    assert (start.opened, start.now) == (1, 11)
    (row,) = start.file.load()
    assert (row.state, row.in_force) == (TrialState.ROLLED_BACK, HostRules())


async def test_with_contact_the_trial_is_left_to_the_engine(tmp_path: Path) -> None:
    start = Start(tmp_path / "trials", False, False, True, taken_over_at=30)
    start.file.save((TRYING,))
    await start.run()
    assert start.opened == 0
    assert start.file.load() == (TRYING,)


@pytest.mark.parametrize("state", [None, TrialState.KEPT, TrialState.ROLLED_BACK])
async def test_what_is_no_trial_stays_closed(tmp_path: Path, state: TrialState | None) -> None:
    """An API server that is down is no reason to open anything."""
    start = Start(tmp_path / "trials", False)
    if state is not None:
        rules = HostRules(POLICY.rules)
        start.file.save((HostPolicyTrial(POLICY.kind, "", POLICY.name, 2, state, rules, rules),))
    await start.run()
    assert (start.asked, start.opened) == (0, 0)


def test_only_the_node_is_let_out() -> None:
    class Epoch:
        advanced = 0

        def advance(self) -> None:
            self.advanced += 1

    endpoints, epoch = FakeMap("cilium_lxc"), Epoch()
    keys, values = np.zeros(2, ENDPOINT_KEY), np.zeros(2, ENDPOINT)
    keys["address"][1] = 1
    values["flags"] = [EndpointFlags.HOST, EndpointFlags.HEALTH]
    values["ingress_policy"] = 7
    endpoints.update(keys, values)
    audit_node(endpoints, epoch)
    found, _ = endpoints.lookup(keys)
    assert found["flags"].tolist() == [EndpointFlags.HOST | EndpointFlags.AUDIT, EndpointFlags.HEALTH]
    assert found["ingress_policy"].tolist() == [7, 7]
    assert epoch.advanced == 1


def test_nothing_pinned_is_nothing_to_open(tmp_path: Path) -> None:
    let_node_out(tmp_path)
