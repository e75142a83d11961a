"""Rows of built-in resources.

Owns: `row`, `status` and `proxy`, which write one with what most of them have in common.
"""

from kubelab.apiserver.resources import ALL_VERBS, Resource, Subresource

READ_WRITE = ("get", "patch", "update")


def status(kind: str) -> Subresource:
    return Subresource("status", kind, READ_WRITE)


def proxy(kind: str) -> Subresource:
    return Subresource("proxy", f"{kind}ProxyOptions", ("create", "delete", "get", "patch", "update"))


def row(
    group: str,
    plural: str,
    kind: str,
    *,
    short: str = "",
    namespaced: bool = True,
    categories: tuple[str, ...] = (),
    subresources: tuple[Subresource, ...] = (),
    generation: bool = False,
    selectable: tuple[str, ...] = (),
    verbs: tuple[str, ...] = ALL_VERBS,
    versions: tuple[str, ...] = ("v1",),
    stored_as: str = "",
    deprecated: str = "",
) -> Resource:
    return Resource(
        group=group,
        versions=versions,
        plural=plural,
        kind=kind,
        singular=kind.lower(),
        namespaced=namespaced,
        storage_version=versions[0],
        short_names=tuple(short.split()),
        categories=categories,
        subresources=subresources,
        generation=generation,
        selectable=selectable,
        verbs=verbs,
        stored_as=stored_as,
        deprecations=((versions[0], deprecated),) if deprecated else (),
    )
