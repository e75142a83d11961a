"""Volumes made on demand: a directory of the node that the claim's first pod runs on.

In: a claim, its class, a node. Out: the PersistentVolume that stands for the directory; the kubelet makes the directory
when it mounts it first, and `wipe` removes it with the volume.
"""

from __future__ import annotations

from collections.abc import Callable

from kubelab.controllers import objects
from kubelab.controllers.objects import Object

PROVISIONED_BY = "pv.kubernetes.io/provisioned-by"
HOSTNAME = "kubernetes.io/hostname"
Wipe = Callable[[str, str], None]
"""(node, path on the node): remove the directory, if it is there."""


class Provisioner:
    def __init__(self, name: str, directory: str, wipe: Wipe) -> None:
        """`name`: as StorageClasses say it. `directory`: on every node, below which volumes lie."""
        self.name, self._directory, self._wipe = name, directory, wipe

    def storage_class(self) -> Object:
        """The class that claims get which name none."""
        return {
            "apiVersion": "storage.k8s.io/v1",
            "kind": "StorageClass",
            "metadata": {
                "name": "standard",
                "annotations": {"storageclass.kubernetes.io/is-default-class": "true"},
            },
            "provisioner": self.name,
            "reclaimPolicy": "Delete",
            "volumeBindingMode": "WaitForFirstConsumer",
        }

    def volume(self, claim: Object, storage_class: Object, node: Object) -> Object:
        namespace, name = objects.key_of(claim)
        volume = f"pvc-{objects.uid_of(claim)}"
        host = objects.labels_of(node).get(HOSTNAME, node["metadata"]["name"])
        expression = {"key": HOSTNAME, "operator": "In", "values": [host]}
        return {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": volume, "annotations": {PROVISIONED_BY: self.name}},
            "spec": {
                "capacity": {"storage": claim["spec"]["resources"]["requests"]["storage"]},
                "accessModes": list(claim["spec"]["accessModes"]),
                "persistentVolumeReclaimPolicy": storage_class.get("reclaimPolicy", "Delete"),
                "storageClassName": storage_class["metadata"]["name"],
                "volumeMode": "Filesystem",
                "hostPath": {"path": f"{self._directory}/{volume}_{namespace}_{name}", "type": "DirectoryOrCreate"},
                "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}},
                "claimRef": {
                    "kind": "PersistentVolumeClaim",
                    "apiVersion": "v1",
                    "namespace": namespace,
                    "name": name,
                    "uid": objects.uid_of(claim),
                },
            },
        }

    def made(self, volume: Object) -> bool:
        return objects.annotations_of(volume).get(PROVISIONED_BY) == self.name

    def wipe(self, volume: Object) -> None:
        terms = volume["spec"]["nodeAffinity"]["required"]["nodeSelectorTerms"]
        self._wipe(terms[0]["matchExpressions"][0]["values"][0], volume["spec"]["hostPath"]["path"])
