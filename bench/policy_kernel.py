"""What policies cost from a changed row until the kernel has it, and what they take there.

In: a generated cluster, without an API server, on maps of the running kernel. Out: CPU time of single changes; map
elements and kernel memory over sizes, beside one element per policy, identity and port; memory of the engine.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import msgspec

from bench.figures import Figure, distribution
from bench.options import Options
from bench.policy_compile import Cluster, labels, large, rule
from bench.service_sync import resident
from cilium.datapath.loader import load
from cilium.datapath.maps import PinnedMap
from cilium.datapath.paths import BPF_FILESYSTEM, OBJECT_DIRECTORY
from cilium.features.policy.ops import PolicyMapOps
from cilium.sources.kubernetes.policies import decode_cnp
from cilium.tables.identities import IdentityRow
from cilium.tables.rules import PolicyObject
from cilium.tables.types import Identity

ENTRIES, CLASSES, ENDPOINTS = "cilium_policy", "cilium_policy_class", "cilium_lxc"
CHANGES = 20
FEWER = 5
"""How many times fewer elements than one per identity and port."""


class NoEpoch:
    """Nobody has connections here."""

    def advance(self) -> None:
        """Nothing is judged anew."""


class Kernel:
    """Maps of their own behind a cluster's policies."""

    def __init__(self, cluster: Cluster, pins: Path) -> None:
        self.cluster = cluster
        self._maps = {name: PinnedMap(name, pins) for name in (ENTRIES, CLASSES, ENDPOINTS)}
        self._pins = pins
        self._changes = cluster.rows.changes()
        self._operations = PolicyMapOps(
            entries=self._maps[ENTRIES], classes=self._maps[CLASSES], endpoints=self._maps[ENDPOINTS],
            epoch=NoEpoch(), wanted=set,
        )  # fmt: skip

    def settle(self) -> float:
        """Milliseconds of CPU until the kernel has what the tables say."""
        start = time.process_time()
        self.cluster.step()
        changes = self._changes.pop()
        errors = self._operations.update([change.new for change in changes if change.new is not None])
        self._operations.delete([change.old for change in changes if change.new is None and change.old is not None])
        assert not errors, next(iter(errors.values()))
        return (time.process_time() - start) * 1000

    def elements(self) -> int:
        """Of both maps."""
        return sum(len(self._maps[name].dump()[0]) for name in (ENTRIES, CLASSES))

    def memory(self) -> float:
        """Megabytes that the kernel counts for both maps."""
        return sum(_memory(self._pins / name) for name in (ENTRIES, CLASSES)) / 1e6


def _memory(pin: Path) -> int:
    """Bytes, as /proc shows them for a map's descriptor."""
    with PinnedMap(pin.name, pin.parent) as opened:
        text = Path(f"/proc/self/fdinfo/{opened.fd}").read_text()
    found = re.search(r"memlock:\s+(\d+)", text)
    assert found is not None, text
    return int(found[1])


@contextmanager
def kernel(cluster: Cluster) -> Iterator[Kernel]:
    pins = BPF_FILESYSTEM / f"bench-policies-{os.getpid()}"
    try:
        with load(OBJECT_DIRECTORY / "lxc.bpf.o", pin_dir=pins, programs=()):
            yield Kernel(cluster, pins)
    finally:
        shutil.rmtree(pins, ignore_errors=True)


def run(options: Options) -> Iterator[Figure]:
    yield from changes()
    yield from sizes()
    yield from memory()


def changes() -> Iterator[Figure]:
    """10,000 rules between 10,000 identities, 100 endpoints; then one thing changes."""
    with kernel(large()) as node:
        yield Figure(name="policies: 10,000 rules x 10,000 identities into the kernel", value=node.settle() / 1000,
                     unit="s of CPU", target=5)  # fmt: skip
        times = []
        for number in range(CHANGES):
            node.cluster.write["policies"].upsert(rule("rule-17", {"app": "app-17"}, 9000 + number, "app-119"))
            times.append(node.settle())
        yield from distribution("policies: one rule of 10,000 changed", times, unit="ms of CPU", target=20)
    with kernel(Cluster()) as node:
        for number in range(100):
            node.cluster.endpoint(1000 + number, labels(app=f"app-{number}", tier="all"))
            node.cluster.write["policies"].upsert(rule(f"own-{number}", {"app": f"app-{number}"}, 1, "nobody"))
        node.cluster.write["policies"].commit(
            rule(f"rule-{number}", {"tier": "all"}, 1000 + number, "newcomer", f"other-{number}")
            for number in range(1000)
        )
        node.settle()
        times = []
        for number in range(5000, 5000 + CHANGES):
            node.cluster.identity(number, labels(app="newcomer", version=str(number)))
            times.append(node.settle())
        name = "policies: one identity that 1,000 rules of each of 100 endpoints select"
        yield from distribution(name, times, unit="ms of CPU", target=5)


@dataclass(frozen=True)
class Shape:
    """`policies` that each select `selected` of `identities`, on `ports` ports; every endpoint has `policies/endpoints`
    of them. `scattered`: each policy picks its identities on its own; otherwise by one label that they share."""

    policies: int
    ports: int
    selected: int
    identities: int
    endpoints: int
    scattered: bool = True

    def __str__(self) -> str:
        of = f" of {self.identities:,}" if self.scattered and self.selected < self.identities else ""
        alike = "" if self.scattered else ", the same for all"
        return (
            f"{self.policies} policies x {self.ports} ports x {self.selected:,}{of} identities{alike}, "
            f"{self.endpoints} endpoints"
        )

    @property
    def plain(self) -> int:
        """One element per policy, identity and port."""
        return self.policies * self.ports * self.selected


SHAPES = (
    (Shape(1, 10, 10_000, 10_000, 1), FEWER),
    (Shape(1, 100, 10_000, 10_000, 1), None),
    (Shape(500, 10, 2_000, 2_000, 500, scattered=False), FEWER),
    (Shape(500, 1, 2_000, 2_000, 500, scattered=False), None),
    (Shape(500, 10, 2_000, 10_000, 100), FEWER),
    (Shape(100, 10, 2_000, 10_000, 100), None),
    (Shape(100, 10, 4_000, 20_000, 100), None),
    (Shape(500, 10, 20, 10_000, 100), None),
    (Shape(500, 10, 200, 10_000, 100), None),
    (Shape(1_000, 10, 200, 10_000, 100), None),
)


def sizes() -> Iterator[Figure]:
    """Growth: elements and kernel memory."""
    for shape, target in SHAPES:
        with kernel(populated(shape)) as node:
            node.settle()
            elements = node.elements()
            yield Figure(
                name=f"policies: {shape}, times fewer elements", value=shape.plain / elements, target=target,
                better="higher", note=f"{elements:,} elements, {node.memory():.1f} MB; one each: {shape.plain:,}",
            )  # fmt: skip


def populated(shape: Shape) -> Cluster:
    """Identities wear one label `in-N` for every policy N that selects them."""
    chance = random.Random(1)
    groups: list[list[str]] = [[] for _ in range(shape.identities)]
    for policy in range(shape.policies if shape.scattered else 1):
        for number in chance.sample(range(shape.identities), shape.selected):
            groups[number].append(f"in-{policy}")
    cluster = Cluster()
    cluster.write["identities"].commit(
        IdentityRow(Identity(10_000 + number), labels(number=str(number), **dict.fromkeys(names, "1")), "cluster")
        for number, names in enumerate(groups)
    )
    for number in range(shape.endpoints):
        cluster.endpoint(1000 + number, labels(app=f"app-{number}"))
    cluster.write["policies"].commit(
        broad(number, f"app-{number % shape.endpoints}", shape.ports, f"in-{number if shape.scattered else 0}")
        for number in range(shape.policies)
    )
    return cluster


def broad(number: int, subject: str, ports: int, label: str) -> PolicyObject:
    """One policy, a rule per port."""
    elements = [
        {
            "fromEndpoints": [{"matchLabels": {label: "1"}}],
            "toPorts": [{"ports": [{"port": str(1000 + number % 7 * 1000 + port), "protocol": "TCP"}]}],
        }
        for port in range(ports)
    ]
    metadata = {"name": f"broad-{number}", "namespace": "shop", "uid": str(number)}
    spec = {"endpointSelector": {"matchLabels": {"app": subject}}, "ingress": elements}
    return decode_cnp(msgspec.json.encode({"metadata": metadata, "spec": spec}))


def memory() -> Iterator[Figure]:
    """Of the engine and its tables, in a process of its own: what this one has freed would hide it."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as fresh:
        identities, rules = fresh.submit(grown).result()
    yield Figure(name="policies: memory of the engine per 1,000 identities", value=identities / 10, unit="MB")
    yield Figure(name="policies: memory of the engine per 1,000 rules", value=rules / 10, unit="MB")


def grown() -> tuple[float, float]:
    """Megabytes of 10,000 identities, and of 10,000 rules about them."""
    cluster, empty = Cluster(), resident()
    cluster.write["identities"].commit(
        IdentityRow(Identity(1000 + n), labels(app=f"app-{n % 1000}", version=str(n // 1000)), "cluster")
        for n in range(10_000)
    )
    cluster.step()
    identities = resident() - empty
    cluster.write["policies"].commit(
        rule(f"rule-{n}", {"app": f"app-{n % 100}"}, 80 + n % 10, f"app-{n * 7 % 1000}") for n in range(10_000)
    )
    for number in range(100):
        cluster.endpoint(1000 + number, labels(app=f"app-{number}", version="0"))
    cluster.step()
    return identities, resident() - empty - identities
