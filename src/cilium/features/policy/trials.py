"""Changes of what is enforced on the node itself are on trial: a node that loses its API server with one gets back
what it had before, for who cannot reach the API server hears of no remedy either.

In: the rules that are about this node, whether the API server answers. Out: `host-policy-trials`, each row after it
is in the state file: an agent that starts in the middle of a trial must know of it. Clock and contact are parameters.

What was rolled back is not tried again until it changes or another object takes its name. A removal that was rolled
back has nothing left that could change: it is tried again with the next change of any other.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from cilium.features.policy.rows import HostPolicyTrial, HostRules, TrialState
from cilium.tables.rules import PolicyObject


class Candidate(msgspec.Struct, frozen=True):
    """An object of which some rules are about this node (node_rules.rules_about)."""

    policy: PolicyObject
    rules: HostRules


class Trials:
    """`lost`: seconds without contact after which it is lost; `trial`: how long a change is watched. Times are passed
    in.
    """

    def __init__(self, *, lost: float, trial: float) -> None:
        self._lost, self._trial = lost, trial
        self._rows: dict[str, HostPolicyTrial] = {}
        self._until: dict[str, float] = {}
        """When a trial is over, by key."""
        self._begun: dict[str, float] = {}
        """When it was let in, likewise."""
        self._contact = 0.0
        """When there last was contact."""
        self._taken_back = 0.0
        """When something last was rolled back: time for contact to come back."""
        self.rollbacks = 0

    @property
    def rows(self) -> tuple[HostPolicyTrial, ...]:
        return tuple(self._rows.values())

    @property
    def trying(self) -> bool:
        return bool(self._until)

    def restore(self, rows: tuple[HostPolicyTrial, ...], now: float) -> None:
        """What the last agent knew. Its trials begin anew, as if there were contact now."""
        self._rows = {row.key: row for row in rows}
        self._contact = now
        self._until = {row.key: now + self._trial for row in rows if row.state is TrialState.TRYING}
        self._begun = dict.fromkeys(self._until, now)

    def pending(self, wanted: Mapping[str, Candidate]) -> list[str]:
        """Keys of what is to be tried, or to be taken over without: what differs from what was tried last."""
        return [key for key in dict.fromkeys([*self._rows, *wanted]) if self._differs(key, wanted.get(key))]

    def begin(self, wanted: Mapping[str, Candidate], now: float) -> bool:
        """Lets changes in; the API server must just have answered. Whether there were any."""
        keys = self.pending(wanted)
        if not keys:
            return False
        self._contact = now
        removals = [
            key for key, row in self._rows.items() if row.state is TrialState.ROLLED_BACK and not row.tried.rules
        ]
        for key in dict.fromkeys([*keys, *removals]):
            self._enter(key, wanted.get(key), now)
        return True

    def observe(self, contact: bool, now: float) -> bool:
        """Takes in whether the API server answers. Whether that changed anything."""
        if not self._until:
            return False
        if contact:
            self._contact = now
            over = [key for key, until in self._until.items() if until <= now]
            for key in over:
                self._settle(msgspec.structs.replace(self._rows[key], kept=self._rows[key].tried))
            return bool(over)
        if now - max(self._contact, self._taken_back) < self._lost:
            return False
        for key in self._suspects():
            self._rows[key] = msgspec.structs.replace(self._rows[key], state=TrialState.ROLLED_BACK)
            del self._until[key], self._begun[key]
        self._taken_back = now
        self.rollbacks += 1
        return True

    def _suspects(self) -> list[str]:
        """What is on trial and was never seen with contact; if that is nothing, or is not it, everything on trial."""
        unseen = [key for key in self._until if self._begun[key] >= self._contact]
        return unseen or list(self._until)

    def _differs(self, key: str, candidate: Candidate | None) -> bool:
        """From what was tried last; once that was rolled back, another object of its name differs whatever it says."""
        row, nothing = self._rows.get(key), HostRules()
        if (nothing if row is None else row.tried) != (nothing if candidate is None else candidate.rules):
            return True
        if row is None or candidate is None or row.state is not TrialState.ROLLED_BACK:
            return False
        return candidate.policy.uid != row.uid

    def _enter(self, key: str, candidate: Candidate | None, now: float) -> None:
        before = self._rows.get(key)
        rules = candidate.rules if candidate is not None else HostRules()
        kept = before.kept if before is not None else HostRules()
        about = candidate.policy if candidate is not None else before
        assert about is not None, "a change is of something"
        row = HostPolicyTrial(
            about.kind, about.namespace, about.name, about.generation, TrialState.TRYING, rules, kept, about.uid
        )
        if rules == kept:
            self._settle(row)
        else:
            self._rows[key] = row
            self._until[key] = now + self._trial
            self._begun[key] = now

    def _settle(self, row: HostPolicyTrial) -> None:
        """What was tried is what is kept."""
        self._until.pop(row.key, None)
        self._begun.pop(row.key, None)
        if row.tried.rules:
            self._rows[row.key] = msgspec.structs.replace(row, state=TrialState.KEPT)
        else:
            self._rows.pop(row.key, None)
