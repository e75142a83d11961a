"""Which of a containerd node's two runtimes a pod gets.

In: the pod, and which images were imported. Out: ``process`` or ``containerd``.

| pod | runtime |
|---|---|
| ``runtimeClassName`` names one | that one |
| an image of it was imported | containerd |
| all images are the lab's own: of Cilium, of the cluster's name servers | process |
| other | containerd, where it waits for its images |
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from kubelab.kubelet.config import Object

PROCESS, CONTAINERD = "process", "containerd"
OWN = ("cilium", "quay.io/cilium/", "registry.k8s.io/coredns/", "kubelab.io/")
"""Images that exist nowhere: what they name is installed on the machine."""

Imported = Callable[[str], Awaitable[bool]]


async def choose(pod: Object, imported: Imported) -> str:
    spec = pod["spec"]
    if (named := spec.get("runtimeClassName")) in (PROCESS, CONTAINERD):
        return str(named)
    images = [str(container["image"]) for container in (*(spec.get("initContainers") or []), *spec["containers"])]
    for image in images:
        if await imported(image):
            return CONTAINERD
    return PROCESS if all(image.startswith(OWN) for image in images) else CONTAINERD
