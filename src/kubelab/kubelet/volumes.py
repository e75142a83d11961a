"""Volumes of a pod: directories below its own, filled from the API, or paths of the node.

In: the pod's spec, ConfigMaps, Secrets, service account tokens. Out: mounts for its containers.
What comes from the API is written when the pod starts and again by ``refresh``: when it changes, when the pod's labels
or annotations do, before a token expires.
"""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from kubelab import quantities
from kubelab.kubelet import environment, projections, resources
from kubelab.kubelet.config import KubeletConfig, Object
from kubelab.kubelet.environment import Fetch, MissingReferenceError
from kubelab.kubelet.projections import File
from kubelab.kubelet.runtime.contract import Mount
from kubelab.underlay import syscalls

TOKEN_PATH = "/var/run/secrets/kubernetes.io/serviceaccount"
TOKEN_SECONDS, OWN_TOKEN_SECONDS = 3600, 3607
RENEW_AT = 0.8
"""Of a token's life, after which it is replaced; Kubernetes does so, and after a day at the latest."""

Token = Callable[[Object, "str | None", int], Awaitable[str]]
"""(pod, audience, seconds) -> a service account token. Raises MissingReferenceError without the account."""

Claimed = Callable[[str, str], Awaitable[Object]]
"""(namespace, claim) -> the PersistentVolume that is bound to it. Raises VolumeError while there is none."""
Services = Callable[[Object], Awaitable[list[Object]]]
"""Those of which a pod's containers are told, as far as they are known; of two of one name the last holds."""

_FROM_API = {"configMap", "secret", "projected", "downwardAPI"}


class VolumeError(Exception):
    """A volume cannot be set up; the text names it and the reason."""


@dataclass(frozen=True, slots=True)
class Sources:
    """Where volume contents come from."""

    fetch: Fetch
    token: Token
    config: KubeletConfig
    claimed: Claimed
    services: Services


class Volumes:
    """The volumes of one pod."""

    def __init__(self, pod: Object, directory: Path, sources: Sources) -> None:
        self._pod, self._directory, self._sources = pod, directory, sources
        self._paths: dict[str, str] = {}
        self._readonly = {
            volume["name"]
            for volume in pod["spec"].get("volumes") or []
            if (volume.get("persistentVolumeClaim") or {}).get("readOnly") or _FROM_API & volume.keys()
        }
        self._renew = float("inf")
        self.ready = False

    async def prepare(self, ips: list[str]) -> None:
        """Makes all volumes. Raises VolumeError in the words of a kubelet's event, OSError."""
        for volume in self._all():
            try:
                self._paths[volume["name"]] = await self._make(volume, ips)
            except MissingReferenceError as error:
                name = volume["name"]
                raise VolumeError(f'MountVolume.SetUp failed for volume "{name}" : {error}') from error
        self.ready = True

    def mounts(self, container: Object, variables: dict[str, str]) -> list[Mount]:
        """The container's mounts. Raises VolumeError for a mount of an unknown volume."""
        result = []
        for entry in container.get("volumeMounts") or []:
            path = self._paths.get(entry["name"])
            if path is None:
                raise VolumeError(f"container {container['name']}: volumeMounts: no volume {entry['name']!r}")
            sub = entry.get("subPath") or environment.expand(entry.get("subPathExpr") or "", variables)
            if sub:
                path = _below(path, sub, container["name"])
            readonly = bool(entry.get("readOnly")) or entry["name"] in self._readonly
            result.append(Mount(path, entry["mountPath"], readonly, entry.get("mountPropagation") or "None"))
        if "kube-api-access" in self._paths and not any(m.target.startswith(TOKEN_PATH) for m in result):
            result.append(Mount(self._paths["kube-api-access"], TOKEN_PATH, readonly=True))
        # A mount below another one must come after it.
        return sorted(result, key=lambda mount: mount.target.count("/"))

    def uses(self, kind: str, name: str) -> bool:
        """Whether a volume shows the ConfigMap (``configmaps``) or Secret (``secrets``)."""
        key, field = ("configMap", "name") if kind == "configmaps" else ("secret", "secretName")
        for volume in self._all():
            projected = (volume.get("projected") or {}).get("sources") or []
            if (volume.get(key) or {}).get(field) == name or any(
                (source.get(key) or {}).get("name") == name for source in projected
            ):
                return True
        return False

    def expiring(self) -> bool:
        """Whether a token has to be replaced."""
        return time.time() >= self._renew

    async def refresh(self, pod: Object, ips: list[str]) -> None:
        """Writes volumes from the API again, each that can be. Raises VolumeError, MissingReferenceError for one that
        could not; what it shows stays, and tokens are asked for again."""
        self._pod = pod
        failed, renew = None, self._renew
        self._renew = float("inf")
        for volume in self._all():
            if _FROM_API & volume.keys():
                try:
                    await self._make(volume, ips)
                except (VolumeError, MissingReferenceError, OSError) as error:
                    failed = error
                    if "projected" in volume:  # its token, perhaps
                        self._renew = min(self._renew, renew)
        if failed is not None:
            raise failed

    def remove(self) -> None:
        """Before the pod's directory goes."""
        unmount_below(self._directory.parent)

    # -- one volume ---------------------------------------------------------------------------------------------

    def _all(self) -> list[Object]:
        """The pod's, and its token's where nobody mounts one."""
        spec = self._pod["spec"]
        volumes = list(spec.get("volumes") or [])
        if not self._has_token() and spec.get("automountServiceAccountToken") is not False:
            sources = [
                {"serviceAccountToken": {"path": "token", "expirationSeconds": OWN_TOKEN_SECONDS}},
                {"configMap": {"name": "kube-root-ca.crt", "optional": True,
                               "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
                {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}]}},
            ]  # fmt: skip
            volumes.append({"name": "kube-api-access", "projected": {"sources": sources}})
        return volumes

    def _has_token(self) -> bool:
        containers = [*(self._pod["spec"].get("initContainers") or []), *self._pod["spec"]["containers"]]
        mounts = [mount for container in containers for mount in container.get("volumeMounts") or []]
        return any(mount["mountPath"].rstrip("/") == TOKEN_PATH for mount in mounts)

    async def _make(self, volume: Object, ips: list[str]) -> str:
        name, path = volume["name"], self._directory / volume["name"]
        if "hostPath" in volume:
            return host_path(name, volume["hostPath"])
        if "persistentVolumeClaim" in volume or "ephemeral" in volume:
            return await self._claimed(volume)
        if "emptyDir" in volume:
            _empty_directory(path, volume["emptyDir"] or {}, self._group)
            return str(path)
        if "projected" in volume:
            wanted = volume["projected"]
        elif "configMap" in volume:
            wanted = {**volume["configMap"], "sources": [{"configMap": volume["configMap"]}]}
        elif "secret" in volume:
            secret = {**volume["secret"], "name": volume["secret"]["secretName"]}
            wanted = {**volume["secret"], "sources": [{"secret": secret}]}
        elif "downwardAPI" in volume:
            wanted = {**volume["downwardAPI"], "sources": [{"downwardAPI": volume["downwardAPI"]}]}
        else:
            kinds = ", ".join(sorted(volume.keys() - {"name"})) or "nothing"
            known = "hostPath, emptyDir, configMap, secret, projected, downwardAPI, persistentVolumeClaim, ephemeral"
            raise VolumeError(f"volume {name}: {kinds}: the kubelet knows {known}")
        default = int(wanted.get("defaultMode") or 0o644)
        files: dict[str, File] = {}
        for source in wanted.get("sources") or []:
            files.update(await self._source(source, ips, default))
        if name == "kube-api-access" and "ca.crt" not in files:
            files["ca.crt"] = File(_content(self._sources.config.ca), default)
        projections.write(path, files, self._group)
        return str(path)

    async def _claimed(self, volume: Object) -> str:
        """The directory of a PersistentVolume; one that is made on demand appears here, open to any user."""
        name, metadata = volume["name"], self._pod["metadata"]
        claim = (volume.get("persistentVolumeClaim") or {}).get("claimName") or f"{metadata['name']}-{name}"
        found = await self._sources.claimed(metadata["namespace"], claim)
        return persistent_path(name, found)

    @property
    def _group(self) -> int | None:
        group = (self._pod["spec"].get("securityContext") or {}).get("fsGroup")
        return None if group is None else int(group)

    async def _source(self, source: Object, ips: list[str], mode: int) -> dict[str, File]:
        if "serviceAccountToken" in source:
            wanted = source["serviceAccountToken"]
            seconds = int(wanted.get("expirationSeconds") or TOKEN_SECONDS)
            token = await self._sources.token(self._pod, wanted.get("audience"), seconds)
            self._renew = min(self._renew, time.time() + min(seconds * RENEW_AT, 86400.0))
            return {wanted["path"]: File(token.encode(), mode)}
        if "downwardAPI" in source:
            items = source["downwardAPI"].get("items") or []
            return {item["path"]: File(self._shown(item, ips), int(item.get("mode") or mode)) for item in items}
        for kind, key in (("configmaps", "configMap"), ("secrets", "secret")):
            if key in source:
                data = await self._sources.fetch(kind, self._pod["metadata"]["namespace"], source[key]["name"])
                return projections.select(kind, source[key], data, mode)
        raise VolumeError(f"projected volume: unknown source {sorted(source)}")

    def _shown(self, item: Object, ips: list[str]) -> bytes:
        pod = self._pod
        if "fieldRef" in item:
            return environment.field(pod, item["fieldRef"]["fieldPath"], self._sources.config, ips).encode()
        reference = item["resourceFieldRef"]
        for container in pod["spec"]["containers"]:
            if container["name"] == reference.get("containerName"):
                return resources.shown(reference, container).encode()
        raise MissingReferenceError(f"resourceFieldRef: no container {reference.get('containerName')!r}")


def _content(path: str) -> bytes:
    return Path(path).read_bytes()


def unmount_below(directory: Path) -> None:
    """Of a pod's directory: unmounts the volumes that are file systems of their own."""
    for path in directory.glob("volumes/*"):
        if os.path.ismount(path):
            syscalls.umount(str(path))


def _below(path: str, sub: str, container: str) -> str:
    """A path inside a volume. Raises VolumeError for one that leads out of it, by a link too, or cannot be made."""
    failed = f'failed to prepare subPath for volumeMount of container "{container}": '
    inside = os.path.realpath(os.path.join(path, sub))
    if os.path.isabs(sub) or ".." in Path(sub).parts or not Path(inside).is_relative_to(os.path.realpath(path)):
        raise VolumeError(f"{failed}{sub!r} leaves it")
    try:
        if not os.path.exists(inside):
            os.makedirs(inside)
            os.chmod(inside, os.stat(path).st_mode & 0o7777)  # whoever may write to the volume may write here
    except OSError as error:
        raise VolumeError(f"{failed}{sub!r}: {error.strerror}") from error
    return inside


_CHECKS: dict[str, tuple[Callable[[str], bool], str]] = {
    "Directory": (os.path.isdir, "a directory"),
    "DirectoryOrCreate": (os.path.isdir, "a directory"),
    "File": (os.path.isfile, "a file"),
    "FileOrCreate": (os.path.isfile, "a file"),
    "Socket": (lambda path: Path(path).is_socket(), "a socket file"),
    "CharDevice": (lambda path: Path(path).is_char_device(), "a character device"),
    "BlockDevice": (lambda path: Path(path).is_block_device(), "a block device"),
}


def host_path(name: str, source: Object) -> str:
    """Checks or makes a hostPath by its type. Raises VolumeError."""
    path, kind = str(source["path"]), source.get("type") or ""
    if kind == "DirectoryOrCreate" or (kind == "" and not os.path.exists(path)):
        os.makedirs(path, exist_ok=True)
    elif kind == "FileOrCreate" and not os.path.exists(path):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        Path(path).touch(0o644)
    good, what = _CHECKS.get(kind, (os.path.exists, "there"))
    if not good(path):
        why = f"hostPath type check failed: {path} is not {what}"
        raise VolumeError(f'MountVolume.SetUp failed for volume "{name}" : {why}')
    return path


def _empty_directory(path: Path, source: Object, group: int | None) -> None:
    """A directory for anybody; in memory, a file system of its own, and writing more than its limit fails."""
    path.mkdir(parents=True, exist_ok=True)
    limit = quantities.whole(source.get("sizeLimit") or 0)
    if source.get("medium") == "Memory" and not os.path.ismount(path):
        syscalls.mount("tmpfs", str(path), "tmpfs", syscalls.MS_NOSUID, f"size={limit}" if limit else None)
    path.chmod(0o777 if group is None else 0o2777)  # containers may run as any user
    if group is not None:
        os.chown(path, -1, group)


def persistent_path(name: str, volume: Object) -> str:
    """The directory of a PersistentVolume. Raises VolumeError."""
    spec = volume["spec"]
    if "local" in spec:
        return host_path(name, {"path": spec["local"]["path"], "type": "Directory"})
    if "hostPath" not in spec:
        raise VolumeError(f"volume {name}: PersistentVolume {volume['metadata']['name']}: want hostPath or local")
    path = Path(spec["hostPath"]["path"])
    if spec["hostPath"].get("type") == "DirectoryOrCreate" and not path.exists():
        _empty_directory(path, {}, None)
    return host_path(name, spec["hostPath"])
