"""Volumes of a pod: directories below its own, filled from the API, or paths of the node.

In: the pod's spec, ConfigMaps, Secrets, service account tokens. Out: mounts for its containers.
ConfigMaps and Secrets are written when the pod starts and again by ``refresh`` when they change.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from kubelab.kubelet import environment
from kubelab.kubelet.config import KubeletConfig, Object
from kubelab.kubelet.environment import Fetch, MissingReferenceError
from kubelab.kubelet.runtime.contract import Mount

TOKEN_PATH = "/var/run/secrets/kubernetes.io/serviceaccount"

Token = Callable[[Object, "str | None", int], Awaitable[str]]
"""(pod, audience, seconds) -> a service account token."""


Claimed = Callable[[str, str], Awaitable[Object]]
"""(namespace, claim) -> the PersistentVolume that is bound to it. Raises VolumeError while there is none."""


class VolumeError(Exception):
    """A volume cannot be set up; the text names it and the reason."""


@dataclass(frozen=True, slots=True)
class Sources:
    """Where volume contents come from."""

    fetch: Fetch
    token: Token
    config: KubeletConfig
    claimed: Claimed


class Volumes:
    """The volumes of one pod."""

    def __init__(self, pod: Object, directory: Path, sources: Sources) -> None:
        self._pod, self._directory, self._sources = pod, directory, sources
        self._paths: dict[str, str] = {}
        self._readonly = {
            volume["name"]
            for volume in pod["spec"].get("volumes") or []
            if (volume.get("persistentVolumeClaim") or {}).get("readOnly")
        }

    async def prepare(self, ips: list[str]) -> None:
        """Makes all volumes. Raises VolumeError, MissingReferenceError."""
        for volume in self._pod["spec"].get("volumes") or []:
            self._paths[volume["name"]] = await self._make(volume, ips)
        if not self._has_token() and self._pod["spec"].get("automountServiceAccountToken") is not False:
            source = {"sources": [
                {"serviceAccountToken": {"path": "token"}},
                {"configMap": {"name": "kube-root-ca.crt", "optional": True,
                               "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
                {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}]}},
            ]}  # fmt: skip
            path = self._directory / "kube-api-access"
            await self._projected(path, source, ips)
            if not (path / "ca.crt").exists():
                shutil.copy(self._sources.config.ca, path / "ca.crt")
            self._paths["kube-api-access"] = str(path)

    def mounts(self, container: Object) -> list[Mount]:
        """The container's mounts. Raises VolumeError for a mount of an unknown volume."""
        result = []
        for entry in container.get("volumeMounts") or []:
            path = self._paths.get(entry["name"])
            if path is None:
                raise VolumeError(f"container {container['name']}: volumeMounts: no volume {entry['name']!r}")
            if sub := entry.get("subPath"):
                path = os.path.join(path, sub)
                if not os.path.exists(path):
                    os.makedirs(path)
            readonly = bool(entry.get("readOnly")) or entry["name"] in self._readonly
            result.append(Mount(path, entry["mountPath"], readonly, entry.get("mountPropagation", "None")))
        if "kube-api-access" in self._paths and not any(m.target.startswith(TOKEN_PATH) for m in result):
            result.append(Mount(self._paths["kube-api-access"], TOKEN_PATH, readonly=True))
        # A mount below another one must come after it.
        return sorted(result, key=lambda mount: mount.target.count("/"))

    def uses(self, kind: str, name: str) -> bool:
        """Whether a volume shows the ConfigMap (``configmaps``) or Secret (``secrets``)."""
        key, field = ("configMap", "name") if kind == "configmaps" else ("secret", "secretName")
        for volume in self._pod["spec"].get("volumes") or []:
            projected = (volume.get("projected") or {}).get("sources") or []
            if (volume.get(key) or {}).get(field) == name or any(
                (source.get(key) or {}).get("name") == name for source in projected
            ):
                return True
        return False

    async def refresh(self, ips: list[str]) -> None:
        """Writes volumes from the API again, file by file, in place."""
        for volume in self._pod["spec"].get("volumes") or []:
            if {"configMap", "secret", "projected", "downwardAPI"} & volume.keys():
                await self._make(volume, ips)

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
        if "configMap" in volume:
            source = volume["configMap"]
            await self._projected(path, {"sources": [{"configMap": source}], **_mode(source)}, ips)
        elif "secret" in volume:
            source = volume["secret"]
            secret = {**source, "name": source["secretName"]}
            await self._projected(path, {"sources": [{"secret": secret}], **_mode(source)}, ips)
        elif "downwardAPI" in volume:
            await self._projected(path, {"sources": [{"downwardAPI": volume["downwardAPI"]}]}, ips)
        elif "projected" in volume:
            await self._projected(path, volume["projected"], ips)
        elif "emptyDir" in volume:
            _empty_directory(path)
        else:
            kinds = ", ".join(sorted(volume.keys() - {"name"})) or "nothing"
            known = "hostPath, emptyDir, configMap, secret, projected, downwardAPI, persistentVolumeClaim, ephemeral"
            raise VolumeError(f"volume {name}: {kinds}: the kubelet knows {known}")
        return str(path)

    async def _claimed(self, volume: Object) -> str:
        """The directory of a PersistentVolume; one that is made on demand appears here, open to any user."""
        name, metadata = volume["name"], self._pod["metadata"]
        claim = (volume.get("persistentVolumeClaim") or {}).get("claimName") or f"{metadata['name']}-{name}"
        found = await self._sources.claimed(metadata["namespace"], claim)
        return persistent_path(name, found)

    async def _projected(self, path: Path, projected: Object, ips: list[str]) -> None:
        _make_directory(path)
        mode = int(projected.get("defaultMode", 0o644))
        for source in projected.get("sources") or []:
            for name, content in (await self._source(source, ips)).items():
                _write(path / name, content, mode)

    async def _source(self, source: Object, ips: list[str]) -> dict[str, bytes]:
        pod, sources = self._pod, self._sources
        if "serviceAccountToken" in source:
            wanted = source["serviceAccountToken"]
            seconds = int(wanted.get("expirationSeconds", 86400 * 365))
            token = await sources.token(pod, wanted.get("audience"), seconds)
            return {wanted["path"]: token.encode()}
        if "downwardAPI" in source:
            return {
                item["path"]: environment.field(pod, item["fieldRef"]["fieldPath"], sources.config, ips).encode()
                for item in source["downwardAPI"].get("items") or []
                if "fieldRef" in item
            }
        for kind, key in (("configmaps", "configMap"), ("secrets", "secret")):
            if key in source:
                return await self._data(kind, source[key])
        raise VolumeError(f"projected volume: unknown source {sorted(source)}")

    async def _data(self, kind: str, reference: Object) -> dict[str, bytes]:
        data = await self._sources.fetch(kind, self._pod["metadata"]["namespace"], reference["name"])
        if data is None:
            if reference.get("optional"):
                return {}
            raise MissingReferenceError(f'{kind[:-1]} "{reference["name"]}" not found')
        if "items" not in reference:
            return data
        missing = [item["key"] for item in reference["items"] if item["key"] not in data]
        if missing and not reference.get("optional"):
            raise MissingReferenceError(f'{kind[:-1]} "{reference["name"]}" has no key {missing[0]!r}')
        return {item["path"]: data[item["key"]] for item in reference["items"] if item["key"] in data}


def persistent_path(name: str, volume: Object) -> str:
    """The directory of a PersistentVolume. Raises VolumeError."""
    spec = volume["spec"]
    if "local" in spec:
        return host_path(name, {"path": spec["local"]["path"], "type": "Directory"})
    if "hostPath" not in spec:
        raise VolumeError(f"volume {name}: PersistentVolume {volume['metadata']['name']}: want hostPath or local")
    path = Path(spec["hostPath"]["path"])
    if spec["hostPath"].get("type") == "DirectoryOrCreate" and not path.exists():
        _empty_directory(path)
    return host_path(name, spec["hostPath"])


def host_path(name: str, source: Object) -> str:
    """Checks or makes a hostPath by its type. Raises VolumeError."""
    path, kind = str(source["path"]), source.get("type") or ""
    if kind == "DirectoryOrCreate" or (kind == "" and not os.path.exists(path)):
        os.makedirs(path, exist_ok=True)
    elif kind == "FileOrCreate" and not os.path.exists(path):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        Path(path).touch(0o644)
    checks = {"Directory": os.path.isdir, "File": os.path.isfile, "FileOrCreate": os.path.isfile,
              "Socket": os.path.exists, "DirectoryOrCreate": os.path.isdir}  # fmt: skip
    if not checks.get(kind, os.path.exists)(path):
        raise VolumeError(f"volume {name}: hostPath {path}: not there, or not a {kind or 'path'}")
    return path


def _make_directory(path: Path) -> None:
    path.mkdir(parents=True, exist_ok=True)


def _empty_directory(path: Path) -> None:
    _make_directory(path)
    path.chmod(0o777)  # containers may run as any user


def _mode(source: Object) -> Object:
    return {"defaultMode": source["defaultMode"]} if "defaultMode" in source else {}


def _write(path: Path, content: bytes, mode: int) -> None:
    # Replaced by rename, so that a reader sees the old or the new content; the directory is what is mounted.
    if path.exists() and path.read_bytes() == content:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.new")
    fresh.write_bytes(content)
    fresh.chmod(mode)
    fresh.rename(path)
