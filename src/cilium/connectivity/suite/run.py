"""The connectivity test from its first look at the cluster to its last policy.

In: a client, options, a listener. Out: what each test came to, as it comes and in the end.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import replace
from ipaddress import ip_address, ip_network

from cilium.connectivity.flows import Flow
from cilium.connectivity.suite.action import Action
from cilium.connectivity.suite.actors import Actors, family_of
from cilium.connectivity.suite.cluster import POLL, Cluster, Ran, SuiteError
from cilium.connectivity.suite.enforce import Enforcer
from cilium.connectivity.suite.events import Asked, Note, ScenarioSkipped, Started, Tell, TestResult
from cilium.connectivity.suite.expect import Expected, expected
from cilium.connectivity.suite.features import Features, detect, single_node
from cilium.connectivity.suite.hubble import Hubble, lacking, of_action
from cilium.connectivity.suite.judge import judge
from cilium.connectivity.suite.manifests import CCNP_NAMESPACES
from cilium.connectivity.suite.options import Filter, FlowValidation, Options
from cilium.connectivity.suite.scenarios import SCENARIOS
from cilium.connectivity.suite.stage import Stage, look
from cilium.connectivity.suite.table import Part, Test, load, manifests
from cilium.sources.kubernetes.client import Client
from cilium.sources.kubernetes.errors import ApiError, Unreachable

PARALLEL = 16
"""Commands that run at the same time; they wait for answers, most of the time."""
LATE = 3.0
"""Seconds in which an agent has told of all packets."""
_NEEDS = {"pod-to-hostport": "host-port"}
"""Features that scenarios need."""


async def run(client: Client, options: Options, tell: Tell) -> list[TestResult]:
    """Raises SuiteError, ApiError, Unreachable when no test can be run."""
    cluster = Cluster(client)
    bare = await look(cluster, options)
    features = await detect(cluster, bare.agents[0], options.cilium_namespace)
    tell(Note("ℹ️ ", f"Cilium version: {features.version}"))
    tell(Note("🐛", f"Features: {', '.join(sorted(features.enabled))}", debug=True))
    if not options.single_node and single_node(bare.nodes):
        tell(Note("ℹ️ ", "Single-node environment detected, enabling single-node connectivity test"))
        options = replace(options, single_node=True)
    tests = load()
    chosen = Filter(options.filters)
    reasons = [reason(test, options, features, chosen) for test in tests]
    parts = [part for test, skipped in zip(tests, reasons, strict=True) if not skipped for part in test.scenarios]
    ccnp = any(part.scenario == "ccnp-client-to-client" for part in parts)
    actors = await Stage(cluster, options, bare, tell).build(features, ccnp=ccnp)
    runner = Runner(cluster, options, features, actors, await _hubble(cluster, options, actors, tell), tell)
    tell(Note("🏃", f"Running {len(tests)} tests ..."))
    results = []
    for number, (test, skipped) in enumerate(zip(tests, reasons, strict=True), 1):
        result = TestResult(name=test.name, number=number, total=len(tests), reason=skipped)
        if not skipped:
            await runner.run(test, result)
        tell(result)
        results.append(result)
    return results


def reason(test: Test, options: Options, features: Features, chosen: Filter) -> str:
    """Why a test is skipped; empty: it is not."""
    names = [f"{test.name}/{part.scenario}" for part in test.scenarios] or [f"{test.name}/"]
    if not any(map(chosen.takes, names)):
        return "skipped by user"
    if test.absent:
        return test.absent
    if test.unsafe and not options.unsafe:
        return "unsafe test which can modify state of cluster nodes"
    lacking = features.lacking(test.requires)
    return f"Feature {lacking} is disabled" if lacking else ""


async def _hubble(cluster: Cluster, options: Options, actors: Actors, tell: Tell) -> Hubble | None:
    """Raises SuiteError where flows must be validated and cannot."""
    if not options.hubble or options.flows is FlowValidation.DISABLED:
        if options.flows is FlowValidation.STRICT:
            raise SuiteError("--flow-validation strict needs Hubble: leave out --hubble=false")
        return None
    tell(Note("🔭", "Enabling Hubble telescope..."))
    namespaces = [options.namespace, *(CCNP_NAMESPACES if actors.ccnp else ())]
    try:
        return await Hubble.reach(cluster, actors.agents, namespaces)
    except SuiteError as error:
        if options.flows is FlowValidation.STRICT:
            raise
        tell(Note("⚠️ ", f"Unable to contact Hubble, disabling flow validation: {error}"))
        return None


class Runner:
    """Runs tests, one after the other."""

    def __init__(
        self, cluster: Cluster, options: Options, features: Features, actors: Actors, hubble: Hubble | None, tell: Tell
    ) -> None:
        self._cluster, self._options, self._features, self._actors = cluster, options, features, actors
        self._hubble, self._tell = hubble, tell
        self._enforcer = Enforcer(cluster, actors.agents)
        self._filter = Filter(options.filters)
        self._turns = asyncio.Semaphore(PARALLEL)

    async def run(self, test: Test, result: TestResult) -> None:
        """What goes wrong with the test itself becomes a problem of its result; its policies go in any case."""
        started = time.monotonic()
        self._tell(Started(test.name, result.number, result.total))
        options = self._options
        policies = manifests(test, options.namespace, options.outside, networks(self._actors))
        try:
            async with self._enforcer.enforced(policies):
                await self._ask(test, self._planned(test, result), result)
        except (SuiteError, ApiError, Unreachable) as error:
            result.problems.append(str(error))
        result.seconds = time.monotonic() - started

    def _planned(self, test: Test, result: TestResult) -> list[Action]:
        actions: list[Action] = []
        for part in test.scenarios:
            skipped = self._skipped(test, part)
            if skipped:
                result.scenarios_skipped += 1
                self._tell(ScenarioSkipped(f"{test.name}/{part.scenario}", skipped))
            else:
                actions += SCENARIOS[part.scenario](self._actors, self._options, part)
        return actions

    def _skipped(self, test: Test, part: Part) -> str:
        if not self._filter.takes(f"{test.name}/{part.scenario}"):
            return "skipped by user"
        needed = _NEEDS.get(part.scenario, "")
        return f"Feature {needed} is disabled" if self._features.lacking([needed] if needed else []) else ""

    async def _ask(self, test: Test, actions: Sequence[Action], result: TestResult) -> None:
        """All actions, then the flows of all. Without an action, the test has nobody who could ask."""
        if not actions:
            return
        begin = time.time()
        done = await asyncio.gather(*map(self._run, actions))
        wanted = [expected(test, action) for action in actions]
        seen = await self._seen(begin, actions, wanted)
        for action, ran, should, flows in zip(actions, done, wanted, seen, strict=True):
            result.results.append(judge(action, should, ran, flows, self._options.flows))

    async def _seen(
        self, begin: float, actions: Sequence[Action], wanted: Sequence[Expected]
    ) -> Sequence[list[Flow] | None]:
        """The flows of each action; asked again for a while if some lack something, since an agent may be late."""
        nothing = [None] * len(actions)
        deadline = time.monotonic() + LATE
        while self._hubble is not None:
            try:
                flows = await self._hubble.since(begin)
            except SuiteError as error:
                if self._options.flows is FlowValidation.STRICT:
                    raise
                self._tell(Note("⚠️ ", f"flows are not validated: {error}"))
                return nothing
            found = [of_action(action, flows) for action in actions]
            rows = zip(actions, wanted, found, strict=True)
            if time.monotonic() >= deadline or not any(a.watched and lacking(should, own) for a, should, own in rows):
                return found
            await asyncio.sleep(POLL)
        return nothing

    async def _run(self, action: Action) -> Ran:
        async with self._turns:
            ran = await self._cluster.run(action.source, action.command)
        self._tell(Asked(action))
        return ran


def networks(actors: Actors) -> dict[int, str]:
    """By family, the smallest network with all nodes in it."""
    found: dict[int, str] = {}
    for family in actors.families:
        own = [address for node in actors.nodes for _, address in node.addresses if family_of(address) == family]
        numbers = [int(ip_address(address)) for address in own]
        if numbers:
            bits = max(number ^ numbers[0] for number in numbers).bit_length()
            length = ip_address(own[0]).max_prefixlen - bits
            found[family] = str(ip_network(f"{own[0]}/{length}", strict=False))
    return found
