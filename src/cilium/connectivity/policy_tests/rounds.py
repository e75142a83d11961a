"""Probes run: one prober per source, all at once, then the flows that Hubble has of them.

In: probes, a ground. Out: one `Outcome` per probe. What was neither answered nor denied is asked again with more
patience, a few times: a packet may be lost on a busy machine, a Service may be a moment old.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

from cilium.connectivity.flows import Flow
from cilium.connectivity.policy_tests.ground import Asker, Ground
from cilium.connectivity.policy_tests.judge import Actual, Answer, Outcome, judge
from cilium.connectivity.policy_tests.plan import Probe

ATTEMPTS = 3
PARALLEL = 16
FIELDS = (
    "verdict", "drop_reason_desc", "traffic_direction", "is_reply", "IP", "l4", "node_name", "event_type",
    "source.namespace", "source.pod_name", "source.labels", "destination.namespace", "destination.pod_name",
    "destination.labels", "egress_allowed_by", "ingress_allowed_by", "egress_denied_by", "ingress_denied_by",
)  # fmt: skip


class Rounds:
    """`timeout`: seconds of silence after which a probe counts as not answered, the first time."""

    def __init__(self, ground: Ground, timeout: float) -> None:
        self._ground, self._timeout = ground, timeout

    def run(self, probes: Sequence[Probe], explained: Collection[Probe] = ()) -> dict[Probe, Outcome]:
        """`explained`: probes of which it matters who decided. Raises WrongTestError when a source cannot ask."""
        outcomes: dict[Probe, Outcome] = {}
        left = list(dict.fromkeys(probes))
        for attempt in range(1, ATTEMPTS + 1):
            for outcome in self._round(left, self._timeout * attempt):
                outcomes[outcome.probe] = outcome
            verdicts = [(probe, outcomes[probe].verdict) for probe in left]
            left = [
                probe
                for probe, verdict in verdicts
                if verdict.actual is Actual.ERROR or (probe in explained and not verdict.policies)
            ]
            if not left:
                break
        return outcomes

    def _round(self, probes: Sequence[Probe], timeout: float) -> list[Outcome]:
        by_asker: dict[Asker, list[Probe]] = {}
        for probe in probes:
            by_asker.setdefault(probe.asker, []).append(probe)
        since = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        with ThreadPoolExecutor(PARALLEL) as pool:
            answers = pool.map(lambda asker: self._ask(asker, by_asker[asker], timeout), by_asker)
            answered = list(zip(by_asker.values(), answers, strict=True))
            seen = pool.map(lambda node: self._ground.flows(node, since, FIELDS), self._ground.nodes)
            flows = [flow for found in seen for flow in found]
        by_port: dict[int, list[Flow]] = {}
        for flow in flows:
            by_port.setdefault(_source_port(flow), []).append(flow)
        return [
            Outcome(probe, answer, judge(probe, answer, flows if probe.behind else by_port.get(answer.source_port, [])))
            for asked, found in answered
            for probe, answer in zip(asked, found, strict=True)
        ]

    def _ask(self, asker: Asker, probes: Sequence[Probe], timeout: float) -> list[Answer]:
        order = {
            "timeout": timeout,
            "probes": [
                {"address": p.address, "protocol": p.protocol, "port": p.port, "path": p.path, "bind": p.bind}
                for p in probes
            ],
        }
        fields = ("outcome", "detail", "source", "source_port", "seconds")
        return [Answer(*(each[name] for name in fields)) for each in self._ground.ask(asker, order)]


def _source_port(flow: Flow) -> int:
    """0 for what has no ports, as the prober says it."""
    layer = flow.get("l4") or {}
    ports = layer.get("TCP") or layer.get("UDP") or {}
    return int(ports.get("source_port", 0))
