"""What objects of the API are called when people are told of them.

In: kind, namespace, name. Out: `CiliumNetworkPolicy shop/web`; `CiliumCIDRGroup partners` for what is in no namespace.
"""

from __future__ import annotations


def object_name(kind: str, namespace: str, name: str) -> str:
    return f"{kind} {namespace}/{name}" if namespace else f"{kind} {name}"
