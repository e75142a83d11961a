"""Images of a lab with containerd: waited for, loaded, named by digests, replaced, removed, refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from scenario.cluster import Cluster, addresses, client, curl
from scenario.containerd.world import NS, image, pod, state, waiting

pytestmark = pytest.mark.scenario
LATE = "registry.test/late:1"


def test_a_deployment_waits_for_its_image_and_serves_when_it_was_loaded(lab: Cluster, tars: Path) -> None:
    """Also: node status, list, Service, both families, exec, logs, port-forward, a process pod beside it."""
    versions = lab.get("nodes")["items"]
    assert all(node["status"]["nodeInfo"]["containerRuntimeVersion"].startswith("containerd://1.") for node in versions)
    template = pod("web", LATE, container={"readinessProbe": {"httpGet": {"port": 8080}, "periodSeconds": 1}})
    lab.apply(
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": NS},
         "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "web"}}, "template": {
             "metadata": {"labels": {"app": "web"}}, "spec": template["spec"]}}},
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": NS},
         "spec": {"selector": {"app": "web"}, "ipFamilyPolicy": "RequireDualStack",
                  "ports": [{"port": 80, "targetPort": 8080}]}},
    )  # fmt: skip
    name = lab.eventually(lambda: lab.get("-n", NS, "pods", "-l", "app=web")["items"][0]["metadata"]["name"], "a pod")
    assert "cilium lab image load" in waiting(lab, name, "ImagePullBackOff")

    assert image(lab, "load", tars / "web.tar", "--tag", LATE) == f"loaded {LATE}\n"
    lab.kubectl("-n", NS, "rollout", "status", "deployment/web", "--timeout=20s")
    row = next(line.split() for line in image(lab, "list").splitlines() if line.startswith(LATE))
    assert row[2:] == ["node1,", "node2"]
    found = lab.get("-n", NS, "pods", "-l", "app=web")["items"]
    assert {item["spec"]["nodeName"] for item in found} == {"node1", "node2"}
    status = found[0]["status"]["containerStatuses"][0]
    assert status["containerID"].startswith("containerd://")
    assert status["imageID"].startswith("registry.test/late@sha256:")
    reasons = {event["reason"] for event in lab.get("-n", NS, "events")["items"]}
    assert {"Failed", "BackOff", "Pulled", "Created", "Started"} <= reasons

    lab.apply({**client("process", "node1"), "metadata": {"name": "process", "namespace": NS, "labels": {"app": "p"}}})
    lab.kubectl("-n", NS, "wait", "pod/process", "--for=condition=Ready", "--timeout=20s")
    service = lab.get("-n", NS, "service", "web")["spec"]["clusterIPs"]
    for source in (found[0]["metadata"]["name"], "process"):
        for target in (*service, *addresses(found[0]).values(), *addresses(found[1]).values()):
            port = 80 if target in service else 8080
            lab.eventually(
                lambda target=target, port=port, source=source: (
                    lab.exec(NS, source, *curl(target, port), check=False) == "from an image\n"
                ),
                f"{source} reaches {target}",
            )


def test_images_by_digest_and_their_end(lab: Cluster, tars: Path) -> None:
    """A digest names exactly one image; a newer one takes the name, and the older one goes; rm takes both."""
    image(lab, "load", tars / "one.tar", "--tag", "registry.test/apart:1")
    digest = _digest(lab, "registry.test/apart:1")
    lab.apply(pod("exact", f"registry.test/apart@{digest}", nodeName="node1"))
    lab.kubectl("-n", NS, "wait", "pod/exact", "--for=condition=Ready", "--timeout=20s")
    assert state(lab, "exact")["imageID"] == f"registry.test/apart@{digest}"
    image(lab, "load", tars / "user.tar", "--tag", "registry.test/apart:1")
    assert _digest(lab, "registry.test/apart:1") != digest
    assert digest not in lab.node("node1", "ctr", "-n", "k8s.io", "images", "ls", "-q")
    assert lab.exec(NS, "exact", "echo", "goes on") == "goes on\n"
    lab.kubectl("-n", NS, "delete", "pod", "exact", "--grace-period=1")
    assert image(lab, "rm", "registry.test/apart:1") == "removed registry.test/apart:1\n"
    assert "apart" not in image(lab, "list")
    assert "apart" not in lab.node("node2", "ctr", "-n", "k8s.io", "images", "ls", "-q")
    assert "no node has the image" in image(lab, "rm", "registry.test/apart:1", check=False)


def _digest(cluster: Cluster, name: str) -> str:
    lines = cluster.node("node1", "ctr", "-n", "k8s.io", "images", "ls", f"name=={name}").splitlines()
    return lines[1].split()[2]


def test_tars_that_are_no_images_are_refused(lab: Cluster, tars: Path) -> None:
    nonsense = tars / "nonsense.tar"
    nonsense.write_bytes(b"no tar at all")
    told = image(lab, "load", nonsense, check=False)
    assert "nonsense.tar: not a tar" in told
    assert "docker save" in told
    assert "no such file" in image(lab, "load", tars / "absent.tar", check=False).lower()
