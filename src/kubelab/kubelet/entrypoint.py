"""What a container of the process runtime executes: its pod's words, resolved by the registry of stand-ins.

In: the pod, the container, its environment, the registry and the layer of commands. Out: an Invocation, and the
variables by which a stand-in tells who it is.
"""

from __future__ import annotations

import grp
import pwd

from kubelab.images.invocation import Invocation, resolve
from kubelab.images.layer import Layer
from kubelab.images.registry import Registry
from kubelab.kubelet.config import Object
from kubelab.kubelet.environment import expand


class UserError(Exception):
    """An image names a user that this machine does not have."""


def invocation(container: Object, environment: dict[str, str], registry: Registry, layer: Layer) -> Invocation:
    """Raises ProgramMissingError."""
    command = [expand(part, environment) for part in container.get("command") or []]
    arguments = [expand(part, environment) for part in container.get("args") or []]
    ports = [f"{port['containerPort']}/{port.get('protocol', 'TCP').lower()}" for port in container.get("ports") or []]
    path = environment.get("PATH")
    return resolve(
        registry, container.get("image", ""), command, arguments, ports, lambda word: layer.exists(word, path)
    )


def identity(pod: Object, container: Object, node: str, ports: tuple[str, ...]) -> dict[str, str]:
    """Variables by which a stand-in tells who it is and where it listens."""
    meta = pod["metadata"]
    return {
        "KUBELAB_POD": meta["name"],
        "KUBELAB_NAMESPACE": meta["namespace"],
        "KUBELAB_NODE": node,
        "KUBELAB_CONTAINER": container["name"],
        "KUBELAB_IMAGE": container.get("image", ""),
        "KUBELAB_PORTS": " ".join(ports),
    }


def user(security: Object, image: str) -> tuple[int, int]:
    """(uid, gid): the pod's, or those the image names; a name is one of this machine's. Raises UserError."""
    name, _, group = image.partition(":")
    try:
        account = pwd.getpwnam(name) if name and not name.isdecimal() else None
        group = str(grp.getgrnam(group).gr_gid) if group and not group.isdecimal() else group
    except KeyError:
        raise UserError(f"unable to find user {image}: this machine has none of that name") from None
    uid = account.pw_uid if account else int(name or 0)
    gid = int(group) if group.isdecimal() else account.pw_gid if account else 0
    wanted = security.get("runAsUser")
    if wanted is not None:
        uid, gid = int(wanted), gid if int(wanted) == uid else 0
    chosen = security.get("runAsGroup")
    return uid, gid if chosen is None else int(chosen)
