"""`loadBalancer.acceleration` on a lab whose nodes have devices that XDP can send on: services turn back in the driver;
a device that cannot is named, and tc goes on; restarts and the setting itself, switched off."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from scenario.cluster import Cluster, lacks, server, url
from scenario.node import LabNode

from kubelab.underlay import network

pytestmark = pytest.mark.scenario
NS = "xdp"
VALUES = """
kubeProxyReplacement: true
loadBalancer: {acceleration: native}
ipam: {mode: kubernetes}
routingMode: native
autoDirectNodeRoutes: true
ipv4NativeRoutingCIDR: 10.244.0.0/16
ipv6NativeRoutingCIDR: fd00:10:244::/48
"""
ASKED = 10
both = pytest.mark.parametrize("version", [4, 6])


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    if reason := lacks():
        pytest.skip(reason)
    values = tmp_path_factory.mktemp("values") / "xdp.yaml"
    values.write_text(VALUES)
    made = Cluster(f"t{os.getpid()}-x")
    try:
        made.up("--xdp", nodes=2, values=values)
        publish(made)
        yield made
    finally:
        made.down()


def publish(cluster: Cluster) -> None:
    """A server on the second node, asked at the first one."""
    pod = server("far", "node2")
    pod["metadata"]["namespace"] = NS
    spec = {"ipFamilyPolicy": "RequireDualStack", "type": "NodePort", "selector": {"app": "far"}}
    service = {
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "far", "namespace": NS},
        "spec": {**spec, "ports": [{"port": 80, "targetPort": 8080}]},
    }  # fmt: skip
    cluster.kubectl("create", "namespace", NS)
    cluster.apply(pod, service)
    cluster.wait_ready(NS)
    for version in (4, 6):
        cluster.eventually(lambda version=version: visits(cluster, version, 1) == ["far"], f"IPv{version} is served")


def visits(cluster: Cluster, version: int, count: int) -> list[str]:
    """Who answered a client outside at the first node's port."""
    listed = cluster.get("node", "node1")["status"]["addresses"]
    ip = next(str(each["address"]) for each in listed if (":" in each["address"]) == (version == 6))
    port = cluster.get("-n", NS, "service", "far")["spec"]["ports"][0]["nodePort"]
    loop = f"for i in $(seq {count}); do curl -gsS -m 2 {url(ip, port)} || echo '{{}}'; echo; done"
    text = cluster.node("external", "sh", "-c", loop, timeout=count * 3 + 10)
    return [json.loads(line).get("pod", "nobody") for line in text.splitlines() if line.startswith("{")]


def sent(cluster: Cluster) -> int:
    """What XDP on the first node's eth0 sent, as the kernel counts it."""
    text = cluster.node("node1", "ethtool", "-S", "eth0")
    lines = (line.partition(":") for line in text.splitlines())
    return sum(int(value) for name, _, value in lines if name.endswith(("_xdp_redirect", "_xdp_tx")))


def status(cluster: Cluster, node: str = "node1") -> dict[str, Any]:
    found: dict[str, Any] = json.loads(cluster.dbg(node, "status", "-o", "json"))
    return found


def mode(cluster: Cluster, node: str = "node1") -> str:
    (device,) = status(cluster, node)["kube-proxy-replacement"]["deviceList"]
    return str(device.get("xdp", "none"))


def takes_frames(cluster: Cluster, port: str, on: bool) -> None:
    """The cable's other end: whether what XDP sends is taken."""
    inside = f"--net={network.netns(cluster.name, 'underlay')}"
    subprocess.run(["nsenter", inside, "ethtool", "-K", port, "gro", "on" if on else "off"], check=True)


@both
def test_services_turn_back_in_the_driver(cluster: Cluster, version: int) -> None:
    cluster.eventually(lambda: mode(cluster) == "native", "XDP is attached")
    before = sent(cluster)
    assert visits(cluster, version, ASKED) == ["far"] * ASKED
    assert sent(cluster) - before >= 4 * ASKED  # of each connection some of both directions
    assert "(XDP native)" in cluster.dbg("node1", "status", "--verbose")


def test_a_connection_outlives_the_agent(cluster: Cluster) -> None:
    node, before = LabNode(cluster, "node1"), sent(cluster)
    node.kill_agent()
    assert visits(cluster, 4, ASKED) == ["far"] * ASKED
    node.await_agent()
    assert mode(cluster) == "native"
    assert visits(cluster, 6, ASKED) == ["far"] * ASKED
    assert sent(cluster) - before >= 8 * ASKED


def test_a_device_that_cannot_is_named_and_tc_goes_on(cluster: Cluster) -> None:
    node = LabNode(cluster, "node1")
    takes_frames(cluster, "node1", False)
    try:
        node.kill_agent()
        node.await_agent()
        cluster.eventually(
            lambda: any("XDP on eth0" in error and "ethtool -K" in error for error in status(cluster)["errors"]),
            "the error, with its remedy",
        )
        assert mode(cluster) == "none"
        before = sent(cluster)
        for version in (4, 6):
            assert visits(cluster, version, ASKED) == ["far"] * ASKED
        assert sent(cluster) == before
    finally:
        takes_frames(cluster, "node1", True)
    cluster.eventually(lambda: mode(cluster) == "native", "it heals by itself", 60)
    assert not status(cluster)["errors"]


def test_switched_off_the_program_goes(cluster: Cluster) -> None:
    node = LabNode(cluster, "node2")
    assert mode(cluster, "node2") == "native"
    cluster.kubectl(
        "-n", "kube-system", "patch", "configmap", "cilium-config", "--type=merge",
        "-p", json.dumps({"data": {"bpf-lb-acceleration": "disabled"}}),
    )  # fmt: skip

    def off() -> bool:
        """The mounted configuration follows the API a moment later, so one start may still see the old one."""
        if "xdp" not in json.loads(cluster.node("node2", "ip", "-j", "link", "show", "eth0"))[0]:
            return True
        features = status(cluster, "node2")["kube-proxy-replacement"]["features"]
        if features["nodePort"]["acceleration"] != "Disabled":
            node.kill_agent()
            node.await_agent()
        return False

    cluster.eventually(off, "the program is gone", 60)
    assert "-xdp" not in cluster.node("node2", "ls", "/sys/fs/bpf/cilium/links")
    for version in (4, 6):
        assert visits(cluster, version, ASKED) == ["far"] * ASKED
