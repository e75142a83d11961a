"""The status of a policy object, for those who write it.

In: an object as JSON. Out: `PolicyReport` in its row. A status that cannot be read is none: it is written anew.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from cilium.tables.rules import NodeReport, PolicyObject, PolicyReport

Decode = Callable[[bytes | msgspec.Raw], PolicyObject]


class _Node(msgspec.Struct, frozen=True):
    revision: int = 0
    enforcing: bool = False
    ok: bool = False
    error: str = ""


class _Condition(msgspec.Struct, frozen=True):
    type: str = ""
    status: str = ""
    message: str = ""
    lastTransitionTime: str = ""  # noqa: N815 - the API's name


class _Status(msgspec.Struct, frozen=True):
    conditions: tuple[_Condition, ...] = ()
    nodes: dict[str, _Node] = {}
    applied: str = ""


class _Object(msgspec.Struct, frozen=True):
    status: _Status = _Status()


def with_report(decode: Decode) -> Decode:
    """`decode`, whose rows have the object's status."""
    return lambda raw: msgspec.structs.replace(decode(raw), report=parse_report(raw))


def parse_report(raw: bytes | msgspec.Raw) -> PolicyReport:
    try:
        status = msgspec.json.decode(raw, type=_Object).status
    except msgspec.DecodeError:
        return PolicyReport()
    valid = next((each for each in status.conditions if each.type == "Valid"), _Condition())
    return PolicyReport(
        valid=valid.status,
        message=valid.message,
        since=valid.lastTransitionTime,
        applied=status.applied,
        nodes={
            name: NodeReport(node.revision, node.enforcing, node.ok, node.error) for name, node in status.nodes.items()
        },
    )
