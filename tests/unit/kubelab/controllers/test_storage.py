"""Claims and volumes: binding, provisioning where the pod runs, release, protection."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from unit.kubelab.controllers.cluster import Cluster, Object

from kubelab.controllers.storage.provisioner import Provisioner

CLAIMS, VOLUMES, CLASSES = "persistentvolumeclaims", "persistentvolumes", "storageclasses.storage.k8s.io"
wiped: list[tuple[str, str]] = []


@pytest.fixture
async def disks() -> AsyncIterator[Cluster]:
    """Two nodes and the class `standard`, which makes directories of nodes."""
    wiped.clear()
    made = Cluster(provisioner=Provisioner("lab.io/path", "/volumes", lambda node, path: wiped.append((node, path))))
    await made.store.create("namespaces", {"metadata": {"name": "default"}})
    await made.manager.provide()
    await made.node("n1")
    await made.node("n2")
    yield made
    for controller in made.manager.controllers:
        controller.queue.close()


async def claim(cluster: Cluster, name: str = "data", storage: str = "1Gi", **spec: Any) -> Object:
    body = {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": storage}},
        "storageClassName": "standard",
    }
    body |= spec
    made = await cluster.store.create(CLAIMS, {"metadata": {"name": name}, "spec": body}, namespace="default")
    await cluster.settle()
    return made


async def user(cluster: Cluster, name: str = "user", claimed: str = "data", **spec: Any) -> Object:
    """A pod that mounts the claim."""
    volume = {"name": "v", "persistentVolumeClaim": {"claimName": claimed}}
    body = {"containers": [{"name": "main", "image": "none"}], "volumes": [volume], **spec}
    await cluster.store.create("pods", {"metadata": {"name": name}, "spec": body}, namespace="default")
    await cluster.settle()
    return cluster.store.peek("pods", name, namespace="default") or {}


async def volume(cluster: Cluster, name: str, storage: str, storage_class: str = "", **spec: Any) -> None:
    body = {
        "capacity": {"storage": storage},
        "accessModes": ["ReadWriteOnce"],
        "hostPath": {"path": "/x"},
        "storageClassName": storage_class,
        **spec,
    }
    await cluster.store.create(VOLUMES, {"metadata": {"name": name}, "spec": body})
    await cluster.settle()


def phase(cluster: Cluster, resource: str, name: str) -> str:
    found = cluster.store.peek(resource, name, namespace="default" if resource == CLAIMS else "")
    return str((found or {"status": {"phase": "gone"}})["status"]["phase"])


def reasons(cluster: Cluster) -> set[str]:
    return {event["reason"] for event in cluster.store.peek_all("events")}


async def test_a_volume_is_made_where_the_first_pod_runs(disks: Cluster) -> None:
    await claim(disks)
    assert phase(disks, CLAIMS, "data") == "Pending"
    assert "WaitForFirstConsumer" in reasons(disks)
    pod = await user(disks, nodeSelector={"kubernetes.io/hostname": "n2"})
    assert pod["spec"]["nodeName"] == "n2"
    bound = disks.store.peek(CLAIMS, "data", namespace="default") or {}
    assert bound["status"] == {"phase": "Bound", "accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}}
    made = disks.store.peek(VOLUMES, bound["spec"]["volumeName"]) or {}
    assert made["status"]["phase"] == "Bound"
    assert {"Provisioning", "ProvisioningSucceeded"} <= reasons(disks)
    # Another pod must follow the volume.
    again = await user(disks, "again")
    assert again["spec"]["nodeName"] == "n2"
    lost = await user(disks, "lost", nodeSelector={"kubernetes.io/hostname": "n1"})
    text = lost["status"]["conditions"][0]["message"]
    assert "1 node(s) didn't match PersistentVolume's node affinity" in text


async def test_a_claim_in_use_stays_and_its_volume_goes_with_it(disks: Cluster) -> None:
    await claim(disks)
    await user(disks)
    bound = disks.store.peek(CLAIMS, "data", namespace="default") or {}
    await disks.store.delete(CLAIMS, "data", namespace="default")
    await disks.settle()
    assert phase(disks, CLAIMS, "data") == "Bound"
    await disks.store.delete("pods", "user", namespace="default", grace_seconds=0)
    await disks.settle()
    name = bound["spec"]["volumeName"]
    assert (phase(disks, CLAIMS, "data"), phase(disks, VOLUMES, name)) == ("gone", "gone")
    assert wiped == [("n1", f"/volumes/{name}_default_data")]


async def test_written_volumes_are_bound_by_size_and_released(disks: Cluster) -> None:
    await volume(disks, "large", "10Gi")
    await volume(disks, "small", "2Gi")
    await volume(disks, "tiny", "1Mi")
    await claim(disks, storageClassName="")
    bound = disks.store.peek(CLAIMS, "data", namespace="default") or {}
    assert bound["spec"]["volumeName"] == "small"
    assert [phase(disks, VOLUMES, name) for name in ("large", "small")] == ["Available", "Bound"]
    await disks.store.delete(VOLUMES, "small")
    await disks.settle()
    assert phase(disks, VOLUMES, "small") == "Bound"  # protected
    await disks.store.delete(CLAIMS, "data", namespace="default")
    await disks.settle()
    await claim(disks, "second", "20Gi", storageClassName="")
    assert phase(disks, CLAIMS, "second") == "Pending"
    assert "FailedBinding" in reasons(disks)
    await volume(disks, "huge", "30Gi")
    assert phase(disks, CLAIMS, "second") == "Bound"
    await disks.store.delete(CLAIMS, "second", namespace="default")
    await disks.settle()
    assert phase(disks, VOLUMES, "huge") == "Released"  # kept: Retain


async def test_local_volumes_are_chosen_with_the_node(disks: Cluster) -> None:
    local = {"metadata": {"name": "local"}, "provisioner": "kubernetes.io/no-provisioner"}
    await disks.store.create(CLASSES, {**local, "volumeBindingMode": "WaitForFirstConsumer"})
    await claim(disks, storageClassName="local")
    pod = await user(disks)
    assert "didn't find available persistent volumes to bind" in pod["status"]["conditions"][0]["message"]
    expression = {"key": "kubernetes.io/hostname", "operator": "In", "values": ["n2"]}
    affinity = {"required": {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}}
    await volume(disks, "disk", "1Gi", "local", nodeAffinity=affinity)
    placed = disks.store.peek("pods", "user", namespace="default") or {}
    assert placed["spec"]["nodeName"] == "n2"
    assert phase(disks, CLAIMS, "data") == "Bound"


async def test_pods_wait_for_claims_and_claims_for_their_provisioner(disks: Cluster) -> None:
    pod = await user(disks)
    assert 'persistentvolumeclaim "data" not found' in pod["status"]["conditions"][0]["message"]
    await disks.store.create(CLASSES, {"metadata": {"name": "cloud"}, "provisioner": "example.com/disk"})
    await claim(disks, storageClassName="cloud")
    assert "ExternalProvisioning" in reasons(disks)
    waiting = disks.store.peek("pods", "user", namespace="default") or {}
    assert "pod has unbound immediate PersistentVolumeClaims" in waiting["status"]["conditions"][0]["message"]
    await volume(disks, "manual", "1Gi", "cloud")
    placed = disks.store.peek("pods", "user", namespace="default") or {}
    assert placed["spec"].get("nodeName")


async def test_ephemeral_volumes_come_and_go_with_their_pod(disks: Cluster) -> None:
    resources = {"requests": {"storage": "1Gi"}}
    spec = {"accessModes": ["ReadWriteOnce"], "resources": resources, "storageClassName": "standard"}
    volumes = [{"name": "scratch", "ephemeral": {"volumeClaimTemplate": {"spec": spec}}}]
    pod = await user(disks, volumes=volumes)
    assert pod["spec"].get("nodeName")
    assert phase(disks, CLAIMS, "user-scratch") == "Bound"
    await disks.store.delete("pods", "user", namespace="default", grace_seconds=0)
    await disks.settle()
    assert phase(disks, CLAIMS, "user-scratch") == "gone"
