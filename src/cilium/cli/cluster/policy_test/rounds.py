"""Probes run: one prober per source, all at once, then the flows that Hubble has of them.

In: probes, a lab. Out: one `Outcome` per probe. What was neither answered nor denied is asked again with more patience,
a few times: a packet may be lost on a busy machine, a Service may be a moment old.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cilium.cli.cluster.policy_test.cluster import BIN
from cilium.cli.cluster.policy_test.errors import WrongTestError
from cilium.cli.cluster.policy_test.judge import Actual, Answer, Flow, Outcome, judge
from cilium.cli.cluster.policy_test.plan import Probe
from cilium.cli.cluster.policy_test.resolve import Asker

if TYPE_CHECKING:
    from kubelab.lab.lab import Lab

ATTEMPTS = 3
PARALLEL = 16
_FIELDS = (
    "verdict", "drop_reason_desc", "traffic_direction", "is_reply", "IP", "l4", "node_name", "event_type",
    "source.namespace", "source.pod_name", "source.labels", "destination.namespace", "destination.pod_name",
    "destination.labels", "egress_allowed_by", "ingress_allowed_by", "egress_denied_by", "ingress_denied_by",
)  # fmt: skip


class Rounds:
    """`timeout`: seconds of silence after which a probe counts as not answered, the first time."""

    def __init__(self, lab: Lab, nodes: Sequence[str], timeout: float) -> None:
        self._lab, self._nodes, self._timeout = lab, nodes, timeout

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
            flows = [flow for found in pool.map(lambda node: self._flows(node, since), self._nodes) for flow in found]
        by_port: dict[int, list[Flow]] = {}
        for flow in flows:
            by_port.setdefault(_source_port(flow), []).append(flow)
        return [
            Outcome(probe, answer, judge(probe, answer, flows if probe.behind else by_port.get(answer.source_port, [])))
            for asked, found in answered
            for probe, answer in zip(asked, found, strict=True)
        ]

    def _ask(self, asker: Asker, probes: Sequence[Probe], timeout: float) -> list[Answer]:
        import kubelab.prober

        program = Path(kubelab.prober.__file__).with_name("probe.py")
        command = [sys.executable, "-S", "-E", "-I", str(program)]
        order = {
            "timeout": timeout,
            "probes": [
                {"address": p.address, "protocol": p.protocol, "port": p.port, "path": p.path, "bind": p.bind}
                for p in probes
            ],
        }
        if asker.uid:
            argv = self._lab.container_argv(asker.node, asker.uid, asker.container, command)
        else:
            argv = self._lab.node_argv(asker.node, command)
        done = subprocess.run(argv, input=json.dumps(order), capture_output=True, text=True, check=False)
        if done.returncode:
            raise WrongTestError(f"{asker.name} cannot ask: {done.stderr.strip()[-500:]}")
        fields = ("outcome", "detail", "source", "source_port", "seconds")
        return [Answer(*(each[name] for name in fields)) for each in json.loads(done.stdout)]

    def _flows(self, node: str, since: str) -> list[Flow]:
        """New connections and drops that a node has seen since then."""
        masks = [word for field in _FIELDS for word in ("--field-mask", field)]
        command = [str(BIN / "hubble"), "observe", "--since", since, "--type", "policy-verdict", "--type", "drop",
                   "-o", "json", *masks]  # fmt: skip
        done = subprocess.run(self._lab.node_argv(node, command), capture_output=True, text=True, check=False)
        if done.returncode:
            raise WrongTestError(
                f"{node}: hubble observe: {done.stderr.strip()[-500:]}: is Hubble on in the lab's values?"
            )
        documents: list[dict[str, Any]] = [json.loads(line) for line in done.stdout.splitlines() if line]
        return [document["flow"] for document in documents if "flow" in document]


def _source_port(flow: Flow) -> int:
    """0 for what has no ports, as the prober says it."""
    layer = flow.get("l4") or {}
    ports = layer.get("TCP") or layer.get("UDP") or {}
    return int(ports.get("source_port", 0))
