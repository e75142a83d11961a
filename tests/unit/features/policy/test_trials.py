"""Trials of host policies: a fake clock, a contact that can be cut, and what is in force at every moment."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

import msgspec
import pytest
from unit.features.policy.hosts import EVERY, FROM_CIDR, FROM_WORLD, TO_CLUSTER, ccnp

from cilium.features.policy.rows import HostPolicyTrial, TrialState
from cilium.features.policy.trial_events import TrialEvents
from cilium.features.policy.trial_file import TrialFile
from cilium.features.policy.trial_run import TrialRun
from cilium.features.policy.trials import Trials
from cilium.state import Table
from cilium.tables.kubernetes import KubeNode
from cilium.tables.rules import PolicyObject

KEY = "CiliumClusterwideNetworkPolicy//hosts"
OPEN = ccnp("hosts", 1, EVERY | FROM_WORLD)
SHUT = ccnp("hosts", 2, EVERY | FROM_CIDR)


@dataclass
class Life:
    """One life of an agent on a node; `path` outlives it."""

    path: Path
    now: float = 100.0
    contact: bool = True
    audit: bool = False
    rollbacks: int = 0
    asked: int = 0
    tables: dict[str, Table[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("policies", "nodes"):
            self.tables[name] = Table(name, key=lambda row: getattr(row, "key", row.name))
        self.rows: Table[str, HostPolicyTrial] = Table("host-policy-trials", key=lambda row: row.key)
        self._policies, self._nodes = (self.tables[name].writer("test") for name in ("policies", "nodes"))
        self.label(zone="a")
        self.trials = Trials(lost=10, trial=60)
        self.trials.restore(TrialFile(self.path).load(), self.now)
        self.run = TrialRun(
            trials=self.trials, file=TrialFile(self.path), contact=self._answers, node="node1",
            policies=self.tables["policies"], kube_nodes=self.tables["nodes"], writer=self.rows.writer("policy"),
            begun=lambda: None, rolled_back=self._count, audit=self.audit, clock=lambda: self.now,
        )  # fmt: skip

    async def _answers(self) -> bool:
        self.asked += 1
        return self.contact

    def _count(self) -> None:
        self.rollbacks += 1

    def label(self, **labels: str) -> None:
        self._nodes.upsert(KubeNode("node1", labels, {}))

    def apply(self, *policies: PolicyObject) -> None:
        self._policies.commit(policies)

    def delete(self, key: str = KEY) -> None:
        self._policies.delete(key)

    def after(self, seconds: float, *, step: float = 1.0) -> None:
        """One round per second, as the task does it."""
        end = self.now + seconds
        asyncio.run(self.run.step())
        while self.now < end:
            self.now += step
            asyncio.run(self.run.step())

    def state(self, key: str = KEY) -> str:
        row = self.rows.snapshot().get(key)
        return "" if row is None else f"{row.state.value} {row.generation}"

    def in_force(self, key: str = KEY) -> Any:
        row = self.rows.snapshot().get(key)
        return () if row is None else row.in_force.rules


@pytest.fixture
def life(tmp_path: Path) -> Life:
    return Life(tmp_path / "state" / "trials.json")


def kept(life: Life, *policies: PolicyObject) -> None:
    life.apply(*policies)
    life.after(61)


def test_with_contact_a_change_is_kept_when_its_time_is_over(life: Life) -> None:
    life.apply(OPEN)
    life.after(59)
    assert (life.state(), life.in_force()) == ("trying 1", OPEN.rules)
    life.after(2)
    assert (life.state(), life.in_force()) == ("kept 1", OPEN.rules)


def test_another_object_of_the_same_name_is_tried_though_it_says_the_same(life: Life) -> None:
    kept(life, OPEN)
    life.apply(SHUT)
    life.after(1)
    life.contact = False
    life.after(11)
    assert life.state() == "rolled-back 2"
    life.delete()
    life.apply(msgspec.structs.replace(SHUT, uid="another", generation=1))  # seen in one round
    life.contact = True
    life.after(1)
    assert (life.state(), life.in_force()) == ("trying 1", SHUT.rules)


def test_without_contact_the_rules_before_come_back(life: Life) -> None:
    kept(life, OPEN)
    life.apply(SHUT)
    life.after(5)
    assert (life.state(), life.in_force()) == ("trying 2", SHUT.rules)
    life.contact = False
    life.after(9)
    assert life.in_force() == SHUT.rules
    life.after(1)
    assert (life.state(), life.in_force(), life.rollbacks) == ("rolled-back 2", OPEN.rules, 1)
    life.contact = True
    life.after(600, step=30)
    assert (life.state(), life.in_force()) == ("rolled-back 2", OPEN.rules), "not tried again"


def test_a_short_silence_is_no_loss(life: Life) -> None:
    life.apply(OPEN)
    life.after(0)
    for _ in range(6):
        life.contact = False
        life.after(9)
        life.contact = True
        life.after(1)
    life.after(2)
    assert life.state() == "kept 1"


def test_contact_lost_in_the_last_seconds_counts(life: Life) -> None:
    life.apply(OPEN)
    life.after(58)
    life.contact = False
    life.after(10)
    assert (life.state(), life.in_force()) == ("rolled-back 1", ())


def test_loss_after_the_trial_changes_nothing(life: Life) -> None:
    kept(life, OPEN)
    life.contact = False
    life.after(600, step=30)
    assert (life.state(), life.in_force()) == ("kept 1", OPEN.rules)


def test_a_change_waits_for_contact(life: Life) -> None:
    life.contact = False
    life.apply(OPEN)
    life.after(30)
    assert life.state() == ""
    life.contact = True
    life.after(1)
    assert life.state() == "trying 1"


def test_the_next_generation_is_tried_against_what_was_kept(life: Life) -> None:
    kept(life, OPEN)
    life.apply(SHUT)
    life.after(1)
    life.contact = False
    life.after(11)
    third = ccnp("hosts", 3, EVERY | TO_CLUSTER)
    life.apply(third)
    life.contact = True
    life.after(1)
    assert (life.state(), life.in_force()) == ("trying 3", third.rules)
    life.contact = False
    life.after(11)
    assert (life.state(), life.in_force()) == ("rolled-back 3", OPEN.rules)
    life.contact = True
    life.apply(ccnp("hosts", 4, EVERY | FROM_WORLD))
    life.after(1)
    assert (life.state(), life.in_force()) == ("kept 4", OPEN.rules), "that is what is enforced already"


def test_only_what_is_on_trial_is_rolled_back(life: Life) -> None:
    other = ccnp("other", 1, EVERY | TO_CLUSTER)
    kept(life, OPEN)
    life.apply(other)
    life.after(1)
    life.contact = False
    life.after(11)
    assert (life.state(), life.state(other.key)) == ("kept 1", "rolled-back 1")
    life.contact = True
    life.apply(ccnp("third", 1, EVERY | FROM_CIDR))
    life.after(1)
    assert life.state(other.key) == "rolled-back 1", "another object is no reason to try it again"


def test_who_was_seen_with_contact_is_suspected_last(life: Life) -> None:
    other = ccnp("other", 1, EVERY | TO_CLUSTER)
    life.apply(OPEN)
    life.after(20)
    life.apply(other)
    life.after(0)
    life.contact = False
    life.after(10)
    assert (life.state(), life.state(other.key)) == ("trying 1", "rolled-back 1")
    life.after(9)
    assert life.state() == "trying 1", "contact has time to come back"
    life.after(1)
    assert (life.state(), life.rollbacks) == ("rolled-back 1", 2)


def test_who_was_not_it_is_kept(life: Life) -> None:
    other = ccnp("other", 1, EVERY | TO_CLUSTER)
    life.apply(OPEN)
    life.after(20)
    life.apply(other)
    life.after(0)
    life.contact = False
    life.after(10)
    life.contact = True
    life.after(40)
    assert (life.state(), life.state(other.key)) == ("kept 1", "rolled-back 1")


def test_a_removal_is_a_change_too(life: Life) -> None:
    kept(life, OPEN, ccnp("other", 1, EVERY | TO_CLUSTER))
    life.delete()
    life.after(1)
    assert (life.state(), life.in_force()) == ("trying 1", ())
    life.contact = False
    life.after(11)
    assert (life.state(), life.in_force()) == ("rolled-back 1", OPEN.rules)
    life.contact = True
    life.after(120, step=30)
    assert life.in_force() == OPEN.rules
    life.delete("CiliumClusterwideNetworkPolicy//other")
    life.after(1)
    assert (life.state(), life.in_force()) == ("trying 1", ()), "with the next change of another"
    life.after(61)
    assert len(life.rows) == 0


def test_labels_of_the_node_decide_at_run_time(life: Life) -> None:
    life.apply(ccnp("hosts", 1, {"nodeSelector": {"matchLabels": {"zone": "b"}}} | FROM_WORLD))
    life.after(61)
    assert life.state() == ""
    life.label(zone="b")
    life.after(1)
    assert life.state() == "trying 1"
    life.contact = False
    life.after(11)
    assert (life.state(), life.in_force()) == ("rolled-back 1", ())
    life.label(zone="a")
    life.contact = True
    life.after(1)
    assert life.state() == ""


def test_audit_mode_off_is_a_change(life: Life) -> None:
    kept(life, msgspec.structs.replace(SHUT, audit=True))
    life.apply(SHUT)
    life.after(1)
    assert life.state() == "trying 2"
    life.contact = False
    life.after(11)
    assert life.rows.snapshot()[KEY].in_force.audit


def test_to_leave_the_dry_run_of_the_node_is_a_change(life: Life) -> None:
    dry = Life(life.path, audit=True)
    kept(dry, SHUT)
    assert dry.state() == "kept 2"
    wet = Life(life.path)
    wet.apply(SHUT)
    wet.after(1)
    assert (wet.state(), wet.rows.snapshot()[KEY].in_force.audit) == ("trying 2", False)
    wet.contact = False
    wet.after(11)
    assert (wet.state(), wet.rows.snapshot()[KEY].in_force.audit) == ("rolled-back 2", True)


def test_other_changes_are_no_reason_to_ask_more_often(life: Life) -> None:
    life.apply(OPEN)
    life.after(0)
    for number in range(50):
        life.apply(ccnp("pods", number, {"endpointSelector": {}} | FROM_WORLD))
        life.after(0.1, step=0.1)
    assert life.asked <= 1 + 11, "in five seconds"
    life.after(60)
    asked = life.asked
    life.after(60)
    assert (life.state(), life.asked) == ("kept 1", asked), "nothing is watched when nothing is on trial"


def test_policies_about_pods_are_nobodys_trial(life: Life) -> None:
    life.apply(ccnp("hosts", 1, {"endpointSelector": {}} | FROM_WORLD))
    life.after(1)
    assert life.state() == ""


# ------------------------------------------------------------------------------------------------------- restarts


def test_a_trial_goes_on_in_the_next_life(life: Life) -> None:
    kept(life, OPEN)
    life.apply(SHUT)
    life.after(1)
    second = Life(life.path)
    second.apply(SHUT)
    second.after(0)
    assert (second.state(), second.in_force()) == ("trying 2", SHUT.rules)
    second.contact = False
    second.after(10)
    assert (second.state(), second.in_force()) == ("rolled-back 2", OPEN.rules)
    third = Life(life.path)
    third.apply(SHUT)
    third.after(61)
    assert (third.state(), third.in_force()) == ("rolled-back 2", OPEN.rules)


def test_the_file_is_written_before_anybody_is_told(life: Life, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    save = TrialFile.save

    def spy(file: TrialFile, rows: Any) -> None:
        seen.append(life.state())
        save(file, rows)

    monkeypatch.setattr(TrialFile, "save", spy)
    life.apply(OPEN)
    life.after(1)
    assert seen == [""]


def test_what_cannot_be_written_down_is_let_in_later(life: Life, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(file: TrialFile, rows: Any) -> None:
        raise OSError("no space left")

    with monkeypatch.context() as patched:
        patched.setattr(TrialFile, "save", full)
        life.apply(OPEN)
        life.after(3)
        assert life.state() == ""
    life.after(1)
    assert life.state() == "trying 1"


def test_rows_come_back_as_they_were(life: Life) -> None:
    everything = ccnp("hosts", 1, EVERY | FROM_WORLD, EVERY | FROM_CIDR, EVERY | TO_CLUSTER)
    life.apply(everything)
    life.after(1)
    assert TrialFile(life.path).load() == tuple(life.rows.snapshot())


def leaves(kind: Any, seen: set[Any]) -> Iterator[Any]:
    """What rows of this kind are made of in the end."""
    if get_origin(kind) is tuple:
        assert get_args(kind)[1] is Ellipsis, f"{kind}: teach trial_file.build of it"
        yield from leaves(get_args(kind)[0], seen)
    elif get_origin(kind) is not None:
        for member in get_args(kind):
            yield from leaves(member, seen)
    elif issubclass(kind, msgspec.Struct):
        if kind not in seen:
            seen.add(kind)
            for hint in get_type_hints(kind).values():
                yield from leaves(hint, seen)
    elif not issubclass(kind, Enum):
        yield kind


def test_every_field_of_a_rule_can_be_read_back() -> None:
    """A field of another kind would make every state file unreadable."""
    assert set(leaves(HostPolicyTrial, set())) <= {str, int, bool, NoneType, IPv4Network, IPv6Network}


@pytest.mark.parametrize("content", ["", "[", "[3]", '[{"kind": 3}]', '[{"name": "x"}]', '[{"surprise": true}]'])
def test_an_unreadable_file_is_as_none(tmp_path: Path, content: str) -> None:
    (tmp_path / "trials.json").write_text(content)
    assert TrialFile(tmp_path / "trials.json").load() == ()


# --------------------------------------------------------------------------------------------------------- Events


def test_an_event_for_every_roll_back(life: Life) -> None:
    class Writes:
        def __init__(self) -> None:
            self.events: list[tuple[str, Any]] = []
            self.fails = True

        async def create_event(self, namespace: str, body: Any, /) -> None:
            if self.fails:
                raise OSError("no contact yet")
            self.events.append((namespace, body))

    life.apply(OPEN)
    life.after(1)
    life.contact = False
    life.after(11)
    (row,) = life.rows.snapshot()
    assert row.state is TrialState.ROLLED_BACK
    writes = Writes()
    events = TrialEvents(writes=writes, node="node1")
    assert asyncio.run(events.update([row])) is not None
    writes.fails = False
    for _ in range(2):
        asyncio.run(events.update([row]))
    ((namespace, body),) = writes.events
    assert (namespace, body["reason"], body["involvedObject"]["name"]) == ("default", "HostPolicyRolledBack", "hosts")
    assert "generation 1" in body["message"]
