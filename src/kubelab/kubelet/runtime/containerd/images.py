"""Which image a container gets: one that was imported, for no registry can be reached from a node.

In: the image's name and pull policy. Out: the image as the runtime knows it, or ImageError with the way out.
"""

from __future__ import annotations

from typing import Any

from kubelab.cri.client import CriClient, CriError
from kubelab.kubelet.config import Object
from kubelab.kubelet.runtime.contract import ImageError

REMEDY = "images of this node are imported from files: cilium lab image load TAR"


async def image_of(client: CriClient, pod: Object, container: Object) -> Any:
    """The container's image. Raises ImageError.

    Policy Always means, where nothing can be pulled, the last one imported under the name: the one there is.
    """
    name = container["image"]
    try:
        image = await client.image(name)
    except CriError as error:
        if error.unavailable:
            raise ImageError(f'Failed to inspect image "{name}": {error}', "ImageInspectError") from error
        raise ImageError(f'Failed to apply default image tag "{name}": {error}', "InvalidImageName") from error
    if image is not None:
        return image
    if container.get("imagePullPolicy") == "Never":
        message = f'Container image "{name}" is not present with pull policy of Never; {REMEDY}'
        raise ImageError(message, "ErrImageNeverPull")
    secrets = ", ".join(entry["name"] for entry in pod["spec"].get("imagePullSecrets") or [])
    unused = f" (no registry is asked: the pull secrets {secrets} are not used)" if secrets else ""
    raise ImageError(f'Failed to pull image "{name}": not found; {REMEDY}{unused}')


def listed(images: list[Any]) -> list[Object]:
    """As a node's status lists them, the largest first."""
    entries = [{"names": [*image.repo_digests, *image.repo_tags], "sizeBytes": int(image.size)} for image in images]
    return sorted((entry for entry in entries if entry["names"]), key=lambda entry: -entry["sizeBytes"])
