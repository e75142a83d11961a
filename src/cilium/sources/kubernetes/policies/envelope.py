"""What all policy kinds have in common: the object's name, and what becomes of content that is wrong.

In: JSON and a parser of its spec. Out: a `PolicyObject`, always.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from cilium.sources.kubernetes.policies.errors import PolicyError, from_decoder
from cilium.sources.kubernetes.policies.wire import Object
from cilium.tables.audit import audited
from cilium.tables.rules import PolicyObject, Rule

Content = tuple[tuple[Rule, ...], tuple[str, ...]]
"""Rules and warnings."""
MAX_TEXT = 500
"""Characters of a path and of a reason."""
UNREADABLE = (msgspec.DecodeError, RecursionError, UnicodeDecodeError)
"""What the decoder raises for bytes from elsewhere."""


def decode(kind: str, raw: bytes | msgspec.Raw, parse: Callable[[str], Content]) -> PolicyObject:
    """`parse` gets the namespace of the object; its PolicyError or DecodeError becomes the object's `error`."""
    try:
        metadata = msgspec.json.decode(raw, type=Object).metadata
    except UNREADABLE as error:
        return PolicyObject(kind, "", "", "", 0, (), error=_brief(error))
    rules: tuple[Rule, ...] = ()
    warnings: tuple[str, ...] = ()
    problem = ""
    try:
        rules, warnings = parse(metadata.namespace)
    except (PolicyError, *UNREADABLE) as error:
        problem = _brief(error)
    audit, warning = audited(metadata.annotations or {})
    return PolicyObject(
        kind=kind,
        namespace=metadata.namespace,
        name=metadata.name,
        uid=metadata.uid,
        generation=metadata.generation,
        rules=rules,
        error=problem,
        warnings=(*warnings, *((warning,) if warning else ())),
        audit=audit,
        enforced=0 if problem else metadata.generation,
    )


def _brief(error: Exception) -> str:
    """An error repeats what it is about, and that may be anything."""
    if isinstance(error, RecursionError):
        error = PolicyError("object", "is nested too deeply")
    elif isinstance(error, UnicodeDecodeError):
        error = PolicyError("object", "is not UTF-8")
    elif isinstance(error, msgspec.DecodeError):
        error = from_decoder(error)
    assert isinstance(error, PolicyError)
    path, reason = (text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}…" for text in (error.path, error.reason))
    return f"{path}: {reason}"


def merge_generation(old: PolicyObject | None, new: PolicyObject) -> PolicyObject:
    """`new` as it should enter the table: an invalid update keeps the rules of the same object's last valid one."""
    if not new.error or old is None or old.uid != new.uid or not old.rules:
        return new
    return msgspec.structs.replace(new, rules=old.rules, enforced=old.enforced)
