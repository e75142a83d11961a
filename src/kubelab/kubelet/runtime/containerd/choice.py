"""Which of a containerd node's two runtimes a pod gets.

In: the pod, which images were imported, and which have a stand-in. Out: ``process`` or ``containerd``.

| pod | runtime |
|---|---|
| ``runtimeClassName`` is ``process`` | process |
| ``runtimeClassName`` is another one, such as ``runc`` | containerd, which has to know it |
| an image of it was imported | containerd |
| all images have a stand-in in the registry, or are Cilium's | process |
| other | containerd, where it waits for its images |
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from kubelab.kubelet.config import Object

PROCESS, CONTAINERD = "process", "containerd"
OWN = ("cilium", "quay.io/cilium/")
"""Images of what is installed on the machine, by the name alone or the beginning of it."""

Imported = Callable[[str], Awaitable[bool]]
StandsIn = Callable[[str], bool]


async def choose(pod: Object, imported: Imported, stands_in: StandsIn) -> str:
    spec = pod["spec"]
    if named := spec.get("runtimeClassName"):
        return PROCESS if named == PROCESS else CONTAINERD
    images = [str(container["image"]) for container in (*(spec.get("initContainers") or []), *spec["containers"])]
    for image in images:
        if await imported(image):
            return CONTAINERD
    return PROCESS if all(stands_in(image) or _own(image) for image in images) else CONTAINERD


def _own(image: str) -> bool:
    return any(image == name or (name.endswith("/") and image.startswith(name)) for name in OWN)
