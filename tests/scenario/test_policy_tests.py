"""`cilium lab test` as people run it: the examples, their mistake, a wrong test, a recorded one, a cancelled one."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

import pytest
from scenario.cluster import BIN, Cluster, lacks

pytestmark = [pytest.mark.scenario, pytest.mark.skipif(bool(lacks()), reason=lacks())]
EXAMPLES = Path(__file__).parents[2] / "examples" / "policy-tests"
SHOP = EXAMPLES / "shop"
POLICIES = ("-f", SHOP, "-f", SHOP / "01-default-deny", "-f", SHOP / "02-allow")


def lab_test(*words: object) -> tuple[int, str]:
    """Exit status and what it said."""
    argv = [str(BIN / "cilium"), "lab", "test", *map(str, words)]
    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=150, check=False)
    return done.returncode, done.stdout


def namespaces(cluster: Cluster) -> set[str]:
    return {item["metadata"]["name"] for item in cluster.get("namespaces")["items"]}


def own_lab(output: str) -> str:
    """The name of the lab that the command brought up."""
    return next(line for line in output.splitlines() if line.startswith("lab test-")).split()[1].rstrip(":")


def is_gone(name: str) -> bool:
    left = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout
    return not Path("/run/kubelab", name).exists() and f"kubelab-{name}-" not in left


def test_the_example_in_a_lab_of_its_own(tmp_path: Path) -> None:
    status, output = lab_test(SHOP, "--junit", tmp_path / "reports" / "junit.xml")
    assert status == 0, output
    assert "all 60 as expected" in output
    root = ElementTree.parse(tmp_path / "reports" / "junit.xml").getroot()
    assert (root.get("tests"), root.get("failures"), root.get("errors")) == ("60", "0", "0")
    assert [suite.get("name") for suite in root] == ["shop.shop", "shop.01-default-deny", "shop.02-allow"]
    assert is_gone(own_lab(output))


def test_a_wrong_expectation_is_shown_with_the_policies_that_decided(tunnel: Cluster, tmp_path: Path) -> None:
    before = namespaces(tunnel)
    report = tmp_path / "junit.xml"
    status, output = lab_test(EXAMPLES / "mistaken", *POLICIES, "--lab", tunnel.name, "--junit", report)
    assert status == 1, output
    assert "DIFFERS  shop/frontend -> shop/database 5432/TCP IPv4 IPv6" in output
    assert "mistaken/expectations.yaml:8)" in output
    assert "default deny of NetworkPolicy shop/default-deny, CiliumNetworkPolicy shop/frontend" in output
    assert len(ElementTree.parse(report).getroot().findall(".//failure")) == 2
    assert namespaces(tunnel) == before, "what the test made is gone"


WRONG = """
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: p, namespace: wrong}
spec: {endpointSelector: {}, ingress: [{fromEntities: [nobody]}]}
"""


def test_a_wrong_test_has_a_status_of_its_own_and_leaves_nothing(tunnel: Cluster, tmp_path: Path) -> None:
    before = namespaces(tunnel)
    (tmp_path / "p.yaml").write_text(WRONG)
    (tmp_path / "expectations.yaml").write_text("- {from: wrong/a, to: world, expect: denied}\n")
    status, output = lab_test(tmp_path, "--lab", tunnel.name, "--junit", tmp_path / "junit.xml")
    assert status == 2, output
    assert f"{tmp_path}/p.yaml:2: CiliumNetworkPolicy p: " in output
    assert "spec.ingress[0].fromEntities[0]" in output
    assert len(ElementTree.parse(tmp_path / "junit.xml").getroot().findall(".//error")) == 1
    assert namespaces(tunnel) == before
    with tunnel.namespace("wrong"):
        status, output = lab_test(tmp_path, "--lab", tunnel.name)
        assert status == 2
        assert "namespace wrong exists in the lab already, and is not touched" in output
        assert "wrong" in namespaces(tunnel)


def test_what_was_recorded_is_as_expected_and_the_same_again(tunnel: Cluster, tmp_path: Path) -> None:
    shutil.copy(SHOP / "app.yaml", tmp_path)
    for step in ("01-default-deny", "02-allow"):
        shutil.copy(SHOP / step / "policy.yaml", tmp_path / f"{step}.yaml")
    recorded = tmp_path / "expectations.yaml"
    status, output = lab_test(tmp_path, "--record", "--lab", tunnel.name)
    assert status == 0, output
    text = recorded.read_text()
    assert "- from: shop/backend\n  to: shop/database\n  ports: [5432/TCP]\n  expect: allowed  # by Cilium" in text
    status, output = lab_test(tmp_path, "--lab", tunnel.name)
    assert status == 0, output
    recorded.unlink()
    lab_test(tmp_path, "--record", "--lab", tunnel.name)
    assert recorded.read_text() == text


def test_a_cancelled_test_takes_its_lab_down() -> None:
    argv: Sequence[str] = [str(BIN / "cilium"), "lab", "test", str(SHOP), "--nodes", "1"]
    environment = {"PYTHONUNBUFFERED": "1", "PATH": f"{Path(sys.executable).parent}:/usr/sbin:/usr/bin:/sbin:/bin"}
    with subprocess.Popen(
        argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    ) as running:
        assert running.stdout is not None
        first = ""
        while not first.startswith("lab test-"):
            first = running.stdout.readline()
            assert first, "ended before its lab was up"
        running.send_signal(signal.SIGTERM)
        rest = running.stdout.read()
    assert running.returncode == 1, rest
    assert is_gone(own_lab(first))
