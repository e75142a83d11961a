"""Labs for scenario tests. Each has a name of its own, so it lives beside others, and goes even when tests fail."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from scenario.cluster import Cluster, lacks

TUNNEL = """
prometheus: {enabled: true}
kubeProxyReplacement: true
localRedirectPolicies: {enabled: true}
hostFirewall: {enabled: true, rollbackAfter: 3s, trialTime: 4s}
"""
NATIVE = """
prometheus: {enabled: true}
kubeProxyReplacement: true
loadBalancer: {algorithm: maglev, mode: hybrid, acceleration: best-effort}
localRedirectPolicies: {enabled: true}
hostFirewall: {enabled: true, rollbackAfter: 3s, trialTime: 4s}
ipam: {mode: kubernetes}
routingMode: native
autoDirectNodeRoutes: true
ipv4NativeRoutingCIDR: 10.244.0.0/16
ipv6NativeRoutingCIDR: fd00:10:244::/48
"""
PACKETS = """
kubeProxyReplacement: true
socketLB: {hostNamespaceOnly: true}
policyDenyResponse: icmp
bpf: {policyMapMax: 1024}
localRedirectPolicies: {enabled: true}
policyCIDRMatchMode: [nodes]
nodeSelectorLabels: true
"""
VALUES = {"tunnel": TUNNEL, "native": NATIVE, "packets": PACKETS}
MODES = ("tunnel", "native")
"""What most scenarios run in."""


PATIENT = ("--node-monitor-grace-period", "100")
"""Tests take kubelets away for a while, and no pod shall be moved meanwhile."""


class Labs:
    """One lab per mode, up when the first test wants it."""

    def __init__(self, directory: Path) -> None:
        self._directory, self._up = directory, dict[str, Cluster]()

    def get(self, mode: str, *, nodes: int = 3) -> Cluster:
        if reason := lacks():
            pytest.skip(reason)
        if mode not in self._up:
            values = self._directory / f"{mode}.yaml"
            values.write_text(VALUES[mode])
            self._up[mode] = Cluster(f"t{os.getpid()}-{mode[0]}")
            self._up[mode].up(*PATIENT, nodes=nodes, values=values)
        return self._up[mode]

    def down(self) -> None:
        for cluster in self._up.values():
            cluster.down()


@pytest.fixture(scope="session")
def labs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Labs]:
    made = Labs(tmp_path_factory.mktemp("values"))
    try:
        yield made
    finally:
        made.down()


@pytest.fixture(scope="session", params=MODES)
def cluster(request: pytest.FixtureRequest, labs: Labs) -> Cluster:
    """Three nodes, once per routing mode; tunnel comes with cluster-pool IPAM, native with that of Kubernetes."""
    return labs.get(request.param)


@pytest.fixture(scope="session")
def tunnel(labs: Labs) -> Cluster:
    """For what does not depend on the routing mode."""
    return labs.get("tunnel")


@pytest.fixture(scope="session")
def packets(labs: Labs) -> Cluster:
    """Services of pods are translated in packets, not in sockets; policies tell nodes apart."""
    return labs.get("packets", nodes=2)
