"""Runs the trials: asks whether the API server answers, once a second and only while there is something on trial.

In: `resolved-policies`, the labels of this node, `contact`. Out: `host-policy-trials`, and the state file before it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import structlog

from cilium.features.policy.node_rules import rules_about
from cilium.features.policy.rows import HostPolicyTrial, HostRules, TrialState
from cilium.features.policy.trial_file import TrialFile
from cilium.features.policy.trials import Candidate, Trials
from cilium.state import Table, Writer
from cilium.tables.kubernetes import KubeNode
from cilium.tables.labels import kubernetes_labels
from cilium.tables.rules import PolicyObject
from cilium.tables.types import Labels

PAUSE = 1.0
"""Seconds between two questions."""

log = structlog.get_logger("policy")

Contact = Callable[[], Awaitable[bool]]


class TrialRun:
    """`run` is the task. `begun` is called when the state file is read: from here on, it is this task's alone."""

    def __init__(
        self,
        *,
        trials: Trials,
        file: TrialFile,
        contact: Contact,
        node: str,
        policies: Table[str, PolicyObject],
        kube_nodes: Table[str, KubeNode],
        writer: Writer[str, HostPolicyTrial],
        begun: Callable[[], None],
        rolled_back: Callable[[], None],
        audit: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._trials, self._file, self._contact, self._clock = trials, file, contact, clock
        self._node, self._begun, self._rolled_back, self._audit = node, begun, rolled_back, audit
        self._tables = (policies, kube_nodes)
        self._wake = asyncio.Event()
        self._policies, self._nodes = policies.changes(wake=self._wake), kube_nodes.changes(wake=self._wake)
        self._writer = writer
        self._done = writer.initializer("trials")
        self._labels: Labels = ()
        self._about_nodes: dict[str, PolicyObject] = {}
        self._wanted: dict[str, Candidate] = {}
        self._told: dict[str, HostPolicyTrial] = {}
        self._unsaved = False
        self._asked = float("-inf")

    async def run(self) -> None:
        """Never returns."""
        for table in self._tables:
            await table.wait_initialized()
        self._trials.restore(self._file.load(), self._clock())
        self._begun()
        while True:
            self._wake.clear()
            watching = await self.step()
            self._done()
            try:
                async with asyncio.timeout(PAUSE if watching else None):
                    await self._wake.wait()
            except TimeoutError:
                pass

    async def step(self) -> bool:
        """One round; whether there is something to watch."""
        self._take_changes()
        pending = bool(self._trials.pending(self._wanted))
        if pending or (self._trials.trying and self._clock() - self._asked >= PAUSE / 2):
            contact = await self._contact()
            self._asked = now = self._clock()
            before = self._trials.rollbacks
            if self._trials.observe(contact, now) or (contact and self._trials.begin(self._wanted, now)):
                self._unsaved = True
            if self._trials.rollbacks != before:
                self._rolled_back()
        self._save()
        self._tell()
        return self._unsaved or self._trials.trying or bool(self._trials.pending(self._wanted))

    def _take_changes(self) -> None:
        moved = [change.new for change in self._nodes.pop() if change.key == self._node]
        labels = kubernetes_labels(moved[-1].labels) if moved and moved[-1] is not None else self._labels
        keys = set(self._about_nodes) if labels != self._labels else set()
        self._labels = labels
        for change in self._policies.pop():
            keys.add(change.key)
            if change.new is not None and any(rule.node_subject for rule in change.new.rules):
                self._about_nodes[change.key] = change.new
            else:
                self._about_nodes.pop(change.key, None)
        for key in keys:
            policy = self._about_nodes.get(key)
            about = rules_about(policy, labels, audit=self._audit) if policy is not None else HostRules()
            if policy is not None and about.rules:
                self._wanted[key] = Candidate(policy, about)
            else:
                self._wanted.pop(key, None)

    def _save(self) -> None:
        if not self._unsaved:
            return
        try:
            self._file.save(self._trials.rows)
        except OSError as error:
            log.error("host policies wait: their trial cannot be written down", error=str(error))
        else:
            self._unsaved = False

    def _tell(self) -> None:
        """What is not written down yet lets nothing in; what takes something back does not wait for that."""
        rows = {row.key: row for row in self._trials.rows if not self._unsaved or row.state is TrialState.ROLLED_BACK}
        if self._unsaved:
            rows = self._told | rows
        changed = [row for key, row in rows.items() if self._told.get(key) != row]
        gone = [key for key in self._told if key not in rows]
        self._writer.commit(upserts=changed, deletes=gone)
        self._told = rows
        for row in changed:
            tell = log.warning if row.state is TrialState.ROLLED_BACK else log.info
            tell("host policy", object=row.key, generation=row.generation, state=row.state.value)
