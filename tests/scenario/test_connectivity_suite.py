"""`cilium connectivity test` as people run it: it passes where all is well, finds a hole and a wall, and tidies up."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from scenario.cluster import BIN, Cluster

from cilium.connectivity.suite.manifests import CCNP_NAMESPACES
from cilium.connectivity.suite.table import load

pytestmark = pytest.mark.scenario
NAMESPACE = "cilium-test-1"
QUICK = ("--curl-insecure", "--connect-timeout", "1s", "--flow-validation", "strict")
TESTS = (
    "no-policies", "no-policies-extra", "pod-to-itself-via-service", "allow-all-except-world", "client-ingress",
    "all-ingress-deny", "echo-ingress-knp", "client-egress-to-echo-service-account-deny", "to-entities-world",
    "client-egress-to-cidrgroup-deny", "ingress-from-specific-namespace-ccnp", "health",
)  # fmt: skip
"""Every scenario, drops of both directions and both reasons. All tests are run by way of their policies:
test_policy_connectivity.py."""


@pytest.fixture(scope="module")
def staged(tunnel: Cluster) -> Iterator[Cluster]:
    """A lab in which the pods of the test may stay until its tests are done."""
    try:
        yield tunnel
    finally:
        tunnel.kubectl("delete", "namespace", "--ignore-not-found", NAMESPACE, *CCNP_NAMESPACES, timeout=90)


def command(*words: object) -> list[str]:
    return [str(BIN / "cilium"), "connectivity", "test", *QUICK, *map(str, words)]


def run(cluster: Cluster, *words: object) -> tuple[int, str]:
    """Exit status and what it said."""
    done = subprocess.run(
        command(*words), env=cluster.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        timeout=170, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout


def policies(cluster: Cluster) -> list[str]:
    kinds = "networkpolicies,ciliumnetworkpolicies,ciliumclusterwidenetworkpolicies,ciliumcidrgroups"
    return [item["metadata"]["name"] for item in cluster.get("-A", kinds)["items"]]


def test_a_sound_cluster_passes(staged: Cluster, tmp_path: Path) -> None:
    before, report = policies(staged), tmp_path / "junit.xml"
    filters = [word for name in TESTS for word in ("--test", f"^{name}/")]
    status, output = run(staged, *filters, "--junit-file", report)
    assert status == 0, output
    assert f"\n✅ All {len(TESTS)} tests (" in output
    assert f"{len(load()) - len(TESTS)} tests skipped, 0 scenarios skipped." in output
    for name in TESTS:
        assert f"[=] Test [{name}] [" in output
    root = ElementTree.parse(report).getroot()
    assert [root.get(key) for key in ("tests", "failures", "errors")] == [str(len(load())), "0", "0"]
    assert policies(staged) == before, "what the tests applied is gone"


WALL: dict[str, Any] = {
    "apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy", "metadata": {"name": "wall", "namespace": NAMESPACE},
    "spec": {
        "endpointSelector": {"matchLabels": {"name": "echo-same-node"}},
        "enableDefaultDeny": {"ingress": False},
        "ingressDeny": [
            {
                "fromEndpoints": [{"matchLabels": {"name": "client2"}}],
                "toPorts": [{"ports": [{"port": "8080", "protocol": "TCP"}]}],
            }
        ],
    },
}  # fmt: skip


def test_a_wall_is_found_and_named(staged: Cluster, tmp_path: Path) -> None:
    """Somebody's deny rule stands between a client and a server that a test expects to be connected."""
    report = tmp_path / "junit.xml"
    staged.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}, WALL)
    try:
        status, output = run(staged, "--test", "^client-egress/", "--test", "^client-ingress/", "--junit-file", report)
    finally:
        staged.kubectl("-n", NAMESPACE, "delete", "cnp", "wall")
    assert status == 1, output
    assert "❌ 1/2 tests failed (2/" in output, "once per family"
    assert "client-egress/pod-to-pod:curl-ipv4-" in output
    assert "client-egress/pod-to-pod:curl-ipv6-" in output
    assert "failed: exit code 28" in output
    assert f"a deny rule of CiliumNetworkPolicy {NAMESPACE}/wall" in output
    assert "Error: connectivity test failed: 1 tests failed" in output
    failure = ElementTree.parse(report).getroot().find(".//failure")
    assert failure is not None
    assert f"{NAMESPACE}/wall" in str(failure.text)
    assert "client-egress-to-echo" not in policies(staged)


def test_an_interrupt_leaves_no_policy(staged: Cluster) -> None:
    before = policies(staged)
    argv = command("--test", "^all-egress-deny/", "--connect-timeout", "20s", "--request-timeout", "20s")
    with subprocess.Popen(
        argv, env={**staged.environment, "PYTHONUNBUFFERED": "1"}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True,
    ) as running:  # fmt: skip
        staged.eventually(lambda: "deny-all-egress" in policies(staged), "the policy of the test is there", 60)
        running.send_signal(signal.SIGINT)
        output, _ = running.communicate(timeout=60)
    assert running.returncode == 1, output
    assert "Error: cancelled after" in output
    assert policies(staged) == before
