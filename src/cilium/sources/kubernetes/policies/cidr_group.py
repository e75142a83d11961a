"""CiliumCIDRGroup: CIDRs under one name, for policies to refer to.

In: one object as JSON. Out: a `CIDRGroup`; content that is wrong becomes its `error`, never an exception.
"""

from __future__ import annotations

import msgspec

from cilium.sources.kubernetes.policies.cidrs import network
from cilium.sources.kubernetes.policies.errors import PolicyError, from_decoder
from cilium.tables.labels import kubernetes_labels
from cilium.tables.rules import CIDRGroup
from cilium.tables.types import IPNetwork

# Field names below are the API's.
# ruff: noqa: N815


class _Metadata(msgspec.Struct, frozen=True):
    name: str
    uid: str = ""
    labels: dict[str, str] | None = None


class _Envelope(msgspec.Struct, frozen=True):
    metadata: _Metadata


class _Spec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    externalCIDRs: tuple[str, ...]


class _Object(msgspec.Struct, frozen=True):
    spec: _Spec


def decode_cidr_group(raw: bytes | msgspec.Raw) -> CIDRGroup:
    """Raises msgspec.DecodeError only for an object without a name."""
    metadata = msgspec.json.decode(raw, type=_Envelope).metadata
    cidrs: tuple[IPNetwork, ...] = ()
    problem = ""
    try:
        texts = msgspec.json.decode(raw, type=_Object).spec.externalCIDRs
        cidrs = tuple(network(text, f"spec.externalCIDRs[{index}]") for index, text in enumerate(texts))
    except PolicyError as error:
        problem = str(error)
    except msgspec.DecodeError as error:
        problem = str(from_decoder(error))
    return CIDRGroup(
        name=metadata.name,
        uid=metadata.uid,
        labels=kubernetes_labels(metadata.labels or {}),
        cidrs=tuple(dict.fromkeys(cidrs)),
        error=problem,
    )


def merge_group(old: CIDRGroup | None, new: CIDRGroup) -> CIDRGroup:
    """`new` as it should enter the table: an invalid update keeps the CIDRs of the same object's last valid one."""
    if not new.error or old is None or old.uid != new.uid:
        return new
    return msgspec.structs.replace(new, cidrs=old.cidrs)
