"""Discovery: what the server serves, told to clients.

Owns: the bodies of /api, /apis, /apis/<group>, /apis/<group>/<version>, in the classic and the aggregated (v2) form.
Comes in: the registry. Goes out: JSON objects. Source: Kubernetes API concepts, "API Discovery".
"""

import hashlib
from typing import Any

import msgspec

from kubelab.apiserver.resources import Registry, Resource, Subresource

Object = dict[str, Any]
VERSION: Object = {
    "major": "1",
    "minor": "37",
    "gitVersion": "v1.37.0-kubelab",
    "gitCommit": "",
    "gitTreeState": "clean",
    "buildDate": "1970-01-01T00:00:00Z",
    "goVersion": "",
    "compiler": "python",
    "platform": "linux/amd64",
}


def core_versions() -> Object:
    return {
        "kind": "APIVersions",
        "versions": ["v1"],
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": ""}],
    }


def group_list(registry: Registry) -> Object:
    groups = [group(registry, name) for name in registry.groups() if name]
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}


def group(registry: Registry, name: str) -> Object | None:
    """The APIGroup, None when no resource is served under it."""
    versions = registry.groups().get(name)
    if not versions or not name:
        return None
    rows = [{"groupVersion": f"{name}/{v}", "version": v} for v in versions]
    return {"kind": "APIGroup", "apiVersion": "v1", "name": name, "versions": rows, "preferredVersion": rows[0]}


def resource_list(registry: Registry, group_name: str, version: str) -> Object | None:
    """The APIResourceList of a group version, None when it is not served."""
    if version not in registry.groups().get(group_name, ()):
        return None
    rows: list[Object] = []
    for resource in _sorted(registry, group_name, version):
        rows.append(_classic(resource))
        rows.extend(_classic_subresource(resource, sub, version) for sub in resource.subresources)
    group_version = f"{group_name}/{version}" if group_name else version
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": rows}


def aggregated(registry: Registry, *, core: bool) -> Object:
    """APIGroupDiscoveryList: all core resources, or those of all named groups."""
    items = []
    for name, versions in registry.groups().items():
        if bool(name) is core:
            continue
        rows = [
            {
                "version": version,
                "freshness": "Current",
                "resources": [_aggregated(r, version) for r in _sorted(registry, name, version)],
            }
            for version in versions
        ]
        items.append({"metadata": {"name": name, "creationTimestamp": None}, "versions": rows})
    return {"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items}


def etag(body: bytes) -> str:
    return '"' + hashlib.sha256(body).hexdigest().upper()[:32] + '"'


def encode(obj: Object) -> bytes:
    return msgspec.json.encode(obj)


def _sorted(registry: Registry, group_name: str, version: str) -> list[Resource]:
    found = [r for r in registry if r.group == group_name and version in r.versions]
    return sorted(found, key=lambda r: r.plural)


def _classic(resource: Resource) -> Object:
    row: Object = {
        "name": resource.plural,
        "singularName": resource.singular,
        "namespaced": resource.namespaced,
        "kind": resource.kind,
        "verbs": list(resource.verbs),
        "storageVersionHash": hashlib.sha256(resource.key.encode()).hexdigest()[:12],
    }
    if resource.short_names:
        row["shortNames"] = list(resource.short_names)
    if resource.categories:
        row["categories"] = list(resource.categories)
    return row


def _classic_subresource(resource: Resource, sub: Subresource, version: str) -> Object:
    row: Object = {
        "name": f"{resource.plural}/{sub.name}",
        "singularName": "",
        "namespaced": resource.namespaced,
        "kind": sub.kind,
        "verbs": list(sub.verbs),
    }
    if sub.group:
        row.update(group=sub.group, version=sub.version or version)
    return row


def _aggregated(resource: Resource, version: str) -> Object:
    row: Object = {
        "resource": resource.plural,
        "responseKind": {"group": resource.group, "version": version, "kind": resource.kind},
        "scope": "Namespaced" if resource.namespaced else "Cluster",
        "singularResource": resource.singular,
        "verbs": list(resource.verbs),
    }
    if resource.short_names:
        row["shortNames"] = list(resource.short_names)
    if resource.categories:
        row["categories"] = list(resource.categories)
    if resource.subresources:
        row["subresources"] = [
            {
                "subresource": sub.name,
                "responseKind": {
                    "group": sub.group or resource.group,
                    "version": sub.version or version,
                    "kind": sub.kind,
                },
                "verbs": list(sub.verbs),
            }
            for sub in resource.subresources
        ]
    return row
