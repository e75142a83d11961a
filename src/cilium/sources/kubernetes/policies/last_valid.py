"""The last valid content of every policy, on disk: an agent that starts and finds an object invalid enforces what the
object said when it was valid, as the agents do that were there.

In: objects as the API delivers them. Out: rows; files `<directory>/<hash of the key>.json`, each the object without its
status, replaced by rename. A file is written when valid content differs, and goes with its object.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import msgspec
import structlog

from cilium.sources.kubernetes.policies.closed import closed
from cilium.state import Table
from cilium.tables.rules import PolicyObject

log = structlog.get_logger("policy")

Decode = Callable[[bytes | msgspec.Raw], PolicyObject]
KEPT = ("metadata", "spec", "specs")
KEPT_METADATA = ("name", "namespace", "uid", "generation", "labels", "annotations")


class LastValid:
    """One directory. Without one (None) nothing is remembered."""

    def __init__(self, directory: Path | None) -> None:
        self._directory = directory
        self._written: dict[str, bytes] = {}

    def remembering(self, decode: Decode) -> Decode:
        """`decode`, whose invalid objects have the rules of their last valid generation, or closed ones."""

        def remembered(raw: bytes | msgspec.Raw) -> PolicyObject:
            found = decode(raw)
            if not found.error:
                self._save(found.key, raw)
                return found
            if not found.name:
                return found
            before = self._load(found.key)
            known = None if before is None else decode(before)
            if known is None or known.uid != found.uid:
                if found.generation <= 1:  # it never was valid, and closed nothing
                    return found
            elif not known.error:
                return msgspec.structs.replace(found, rules=known.rules, enforced=known.generation)
            return msgspec.structs.replace(found, rules=closed(found, raw))

        return remembered

    async def follow(self, policies: Table[str, PolicyObject]) -> None:
        """The task: files go with their objects."""
        changes = policies.changes()
        await policies.wait_initialized()
        self._prune({row.key for row in policies.snapshot()})
        while True:
            await changes.wait()
            for change in changes.pop():
                if change.new is None:
                    self._forget(_name(change.key))

    def _save(self, key: str, raw: bytes | msgspec.Raw) -> None:
        if self._directory is None:
            return
        content, name = _content(raw), _name(key)
        digest = hashlib.blake2b(content, digest_size=16).digest()
        if self._written.get(name) == digest:
            return
        path = self._directory / name
        try:
            if not path.exists() or path.read_bytes() != content:
                self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
                part = path.with_suffix(".part")
                part.write_bytes(content)
                part.rename(path)
        except OSError as error:  # it is enforced; only a later life may miss it
            log.error("policy not remembered", policy=key, path=str(path), error=str(error))
        else:
            self._written[name] = digest

    def _load(self, key: str) -> bytes | None:
        if self._directory is None:
            return None
        try:
            return (self._directory / _name(key)).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            log.error("policy not recalled", policy=key, error=str(error))
            return None

    def _prune(self, keys: set[str]) -> None:
        if self._directory is None:
            return
        wanted = {_name(key) for key in keys}
        for path in self._directory.glob("*"):  # halves of files, too
            if path.name not in wanted:
                self._forget(path.name)

    def _forget(self, name: str) -> None:
        self._written.pop(name, None)
        if self._directory is None:
            return
        try:
            (self._directory / name).unlink(missing_ok=True)
        except OSError as error:  # another object is told from this one by its uid
            log.error("policy not forgotten", path=str(self._directory / name), error=str(error))


def _name(key: str) -> str:
    return hashlib.blake2b(key.encode(), digest_size=16).hexdigest() + ".json"


def _content(raw: bytes | msgspec.Raw) -> bytes:
    """What the meaning of the object depends on."""
    fields = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
    kept = {name: fields[name] for name in KEPT if name in fields}
    metadata = msgspec.json.decode(kept.get("metadata", msgspec.Raw(b"{}")), type=dict[str, msgspec.Raw])
    kept["metadata"] = msgspec.Raw(
        msgspec.json.encode({name: metadata[name] for name in KEPT_METADATA if name in metadata})
    )
    return msgspec.json.encode(kept)
