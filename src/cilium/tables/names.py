"""What objects of the API are called when people are told of them, and the Events that tell.

In: kind, namespace, name. Out: `CiliumNetworkPolicy shop/web`; `CiliumCIDRGroup partners` for what is in no namespace.
"""

from __future__ import annotations


def object_name(kind: str, namespace: str, name: str) -> str:
    return f"{kind} {namespace}/{name}" if namespace else f"{kind} {name}"


def event_name(about: str, digest: str) -> str:
    """Of an Event about an object of that name: a DNS name, wherever the other had to be cut."""
    return f"{about[:200].rstrip('-.')}.{digest}"
