"""A pod's sandbox: its network namespace and its attachment by the CNI plugin; kept on disk across restarts.

In: the pod. Out: addresses. A failed attachment is undone before it is tried again.
"""

from __future__ import annotations

import json
import uuid
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import structlog

from kubelab.kubelet import cni
from kubelab.kubelet.admission import sysctls
from kubelab.kubelet.config import Object
from kubelab.kubelet.runtime.contract import Sandbox
from kubelab.underlay import namespaces

log = structlog.get_logger(__name__)

NETNS_DIRECTORY = Path("/run/netns")


def read(path: Path) -> Sandbox | None:
    """The one an earlier kubelet made, if it still is there."""
    if not path.exists():
        return None
    raw = json.loads(path.read_text())
    return Sandbox(raw["container_id"], raw["netns"], tuple(raw["ips"])) if Path(raw["netns"]).exists() else None


def _write(path: Path, sandbox: Sandbox) -> None:
    path.write_text(json.dumps(asdict(sandbox)))


def attachment(pod: Object, container_id: str, netns: str) -> cni.Attachment:
    meta = pod["metadata"]
    ports = [
        {"hostPort": port["hostPort"], "containerPort": port["containerPort"],
         "protocol": port.get("protocol", "TCP").lower(), "hostIP": port.get("hostIP", "")}
        for container in pod["spec"]["containers"]
        for port in container.get("ports") or []
        if port.get("hostPort")
    ]  # fmt: skip
    return cni.Attachment(
        container_id=container_id,
        netns=netns,
        namespace=meta["namespace"],
        pod=meta["name"],
        uid=meta["uid"],
        capabilities={"portMappings": ports} if ports else {},
    )


async def create(pod: Object, plugins: cni.Cni, record: Path) -> Sandbox:
    """A fresh namespace, attached. Raises CniError; nothing is left then."""
    container_id = uuid.uuid4().hex
    netns = NETNS_DIRECTORY / f"cni-{uuid.UUID(container_id)}"
    namespaces.create_network(netns, sysctls(pod, "net."))
    place = attachment(pod, container_id, str(netns))
    try:
        result = await plugins.add(place)
        ips = cni.addresses(result)
        if not ips:
            raise cni.CniError("the plugin's result holds no address for the pod")
    except BaseException:
        await undo(plugins, place)
        raise
    sandbox = Sandbox(container_id, str(netns), tuple(ips))
    _write(record, sandbox)
    return sandbox


async def undo(plugins: cni.Cni, place: cni.Attachment) -> bool:
    """DEL and the namespace's end; True when the plugins agreed. Otherwise the cache keeps what has to be replayed."""
    try:
        await plugins.delete(place)
        done = True
    except cni.CniError as error:
        log.warning("sandbox not detached", pod=f"{place.namespace}/{place.pod}", error=str(error))
        done = False
    with suppress(OSError):
        namespaces.unpin(Path(place.netns))
    return done
