"""A test from its first step to its last.

In: what was loaded, a ground. Out: results per step as they come; with `record`, expectations files are written
where there are none.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from cilium.connectivity.policy_tests import record
from cilium.connectivity.policy_tests.cluster import Cluster, State
from cilium.connectivity.policy_tests.errors import WrongTestError
from cilium.connectivity.policy_tests.ground import Ground
from cilium.connectivity.policy_tests.judge import CaseResult
from cilium.connectivity.policy_tests.load import Manifest, Step, Test
from cilium.connectivity.policy_tests.plan import Case, places_outside, plan
from cilium.connectivity.policy_tests.reduce import reduced, unrolled, wanted
from cilium.connectivity.policy_tests.report import StepResult
from cilium.connectivity.policy_tests.resolve import Resolver
from cilium.connectivity.policy_tests.rounds import Rounds


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How a test is run. `as_is`: containers run what the manifests say, not stand-ins."""

    patience: float = 60.0
    timeout: float = 1.0
    as_is: bool = False
    record: bool = False
    shared: bool = False  # the cluster is not the test's own


def check(test: Test, options: Options) -> None:
    """What can be said without a lab. Raises WrongTestError."""
    if not test.steps:
        raise WrongTestError(f"{test.directory}: no manifests (*.yaml) and no expectations.yaml")
    written = [step.file for step in test.steps if step.file is not None]
    if options.record and written:
        files = ", ".join(map(str, written))
        raise WrongTestError(f"{files}: exists: move it away to record a new one")
    if not options.record and not any(step.expectations for step in test.steps):
        raise WrongTestError(f"{test.directory}: no expectations.yaml expects anything: write one, or use --record")


def run(test: Test, ground: Ground, options: Options) -> Iterator[StepResult]:
    """Each step once it is done. In a shared cluster, what was made goes at the end, also when a step fails.

    Raises WrongTestError.
    """
    cluster = Cluster(ground, options.patience)
    if options.shared:
        cluster.refuse_existing(_applied((one for step in test.steps for one in step.manifests), ground, options))
    rounds = Rounds(ground, options.timeout)
    try:
        for step in test.steps:
            started = time.monotonic()
            cluster.apply(_applied(step.manifests, ground, options))
            if not step.expectations and not options.record:
                continue  # the next step's waits are for these objects, too
            state = cluster.settle()
            cases = _ask(ground, rounds, _plan(step, state, ground, recording=options.record))
            if options.record:
                step.record.write_text(record.text(cases))
            yield StepResult(step.name, step.file or step.record, cases, time.monotonic() - started, state.notes)
    finally:
        if options.shared:
            cluster.remove()


def _applied(manifests: Iterable[Manifest], ground: Ground, options: Options) -> list[Manifest]:
    pods = [one for manifest in manifests if wanted(manifest) for one in unrolled(manifest)]
    return pods if options.as_is else [reduced(one, ground.image) for one in pods]


def _plan(step: Step, state: State, ground: Ground, *, recording: bool) -> list[Case]:
    resolver = Resolver(state, ground.networks)
    expectations = record.questions(state) if recording else step.expectations
    return plan(step.file or Path(step.record), expectations, resolver)


def _ask(ground: Ground, rounds: Rounds, cases: list[Case]) -> tuple[CaseResult, ...]:
    with ground.serving(places_outside(cases)):
        explained = {probe for case in cases if case.expectation.decided_by for probe in case.probes}
        outcomes = rounds.run([probe for case in cases for probe in case.probes], explained)
    return tuple(CaseResult(case, tuple(outcomes[probe] for probe in case.probes)) for case in cases)
