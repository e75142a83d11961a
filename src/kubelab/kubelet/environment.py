"""The environment of a container: literal values, references, what Kubernetes adds.

In: the container's spec, its pod, ConfigMaps and Secrets. Out: a dict, or MissingReferenceError naming what is absent.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Awaitable, Callable, Mapping

from kubelab.kubelet import etc_files, resources
from kubelab.kubelet.config import KubeletConfig, Object

Fetch = Callable[[str, str, str], Awaitable["dict[str, bytes] | None"]]
"""(``configmaps`` or ``secrets``, namespace, name) -> its data, None when there is no such object."""

_REFERENCE = re.compile(r"\$\$|\$\(([^()\s]+)\)")
_SUBSCRIPT = re.compile(r"metadata\.(labels|annotations)\['([^']+)'\]")


class MissingReferenceError(Exception):
    """A ConfigMap, Secret, key or field that the pod needs does not exist."""


def decode(obj: Object) -> dict[str, bytes]:
    """Data of a ConfigMap or Secret."""
    if "stringData" in obj or obj.get("kind") == "Secret" or "type" in obj:
        return {key: base64.b64decode(value or "") for key, value in (obj.get("data") or {}).items()}
    data = {key: value.encode() for key, value in (obj.get("data") or {}).items()}
    data.update({key: base64.b64decode(value) for key, value in (obj.get("binaryData") or {}).items()})
    return data


def field(pod: Object, path: str, config: KubeletConfig, ips: list[str]) -> str:
    """A downward API field. Raises MissingReferenceError for one that is not offered."""
    meta, spec = pod["metadata"], pod["spec"]
    if match := _SUBSCRIPT.fullmatch(path):
        return str((meta.get(match[1]) or {}).get(match[2], ""))
    if path in ("metadata.labels", "metadata.annotations"):
        items = (meta.get(path.split(".")[1]) or {}).items()
        return "\n".join(f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in sorted(items))
    values: dict[str, str] = {
        "metadata.name": meta["name"],
        "metadata.namespace": meta["namespace"],
        "metadata.uid": meta["uid"],
        "spec.nodeName": config.node,
        "spec.serviceAccountName": spec.get("serviceAccountName", "default"),
        "status.hostIP": config.addresses[0],
        "status.hostIPs": ",".join(config.addresses),
        "status.podIP": ips[0] if ips else "",
        "status.podIPs": ",".join(ips),
    }
    if path not in values:
        raise MissingReferenceError(f"fieldRef: {path}: not a field a container can see")
    return values[path]


async def build(
    pod: Object,
    container: Object,
    config: KubeletConfig,
    ips: list[str],
    fetch: Fetch,
    links: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """All variables of the container, references resolved. ``links``: those of Services, which all others hide."""
    namespace = pod["metadata"]["namespace"]
    result = {
        **(links or {}),
        "HOSTNAME": config.node if pod["spec"].get("hostNetwork") else etc_files.hostname(pod),
    }
    for source in container.get("envFrom") or []:
        prefix = source.get("prefix", "")
        for kind, key in (("configmaps", "configMapRef"), ("secrets", "secretRef")):
            if key in source:
                data = await _data(fetch, kind, namespace, source[key]) or {}
                result.update({prefix + name: value.decode() for name, value in data.items()})
    for variable in container.get("env") or []:
        name = variable["name"]
        if "valueFrom" in variable:
            value = await _value_from(variable["valueFrom"], pod, container, config, ips, fetch)
            if value is not None:
                result[name] = value
        else:
            result[name] = expand(variable.get("value") or "", result)
    return result


def expand(text: str, variables: dict[str, str]) -> str:
    """Replaces $(NAME) as Kubernetes does: unknown names stay, $$ is a dollar."""

    def replace(match: re.Match[str]) -> str:
        return "$" if match[0] == "$$" else variables.get(match[1], match[0])

    return _REFERENCE.sub(replace, text)


async def _value_from(
    source: Object, pod: Object, container: Object, config: KubeletConfig, ips: list[str], fetch: Fetch
) -> str | None:
    if "fieldRef" in source:
        return field(pod, source["fieldRef"]["fieldPath"], config, ips)
    if "resourceFieldRef" in source:
        return resources.shown(source["resourceFieldRef"], container)
    for kind, key in (("configmaps", "configMapKeyRef"), ("secrets", "secretKeyRef")):
        if key in source:
            reference = source[key]
            data = await _data(fetch, kind, pod["metadata"]["namespace"], reference)
            if data is not None and reference["key"] in data:
                return data[reference["key"]].decode()
            if reference.get("optional"):
                return None
            what, meta = kind[:-1].replace("configmap", "ConfigMap").replace("secret", "Secret"), pod["metadata"]
            where = f"{what} {meta['namespace']}/{reference['name']}"
            raise MissingReferenceError(f"couldn't find key {reference['key']} in {where}")
    raise MissingReferenceError(f"env: valueFrom: unknown source {sorted(source)}")


async def _data(fetch: Fetch, kind: str, namespace: str, reference: Object) -> dict[str, bytes] | None:
    data = await fetch(kind, namespace, reference["name"])
    if data is None and not reference.get("optional"):
        raise MissingReferenceError(f'{kind[:-1]} "{reference["name"]}" not found')
    return data
