"""Where objects survive a restart.

Owns: one SQLite file. Comes in: each commit of the store. Goes out: at start, all objects and the resourceVersions
up to which each resource's past is known. Every commit is written before it is answered; WAL without fsync survives
the death of the process (not of the machine) and costs tens of microseconds (docs/adr/0010-lab-api-storage.md).
"""

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_SCHEMA = """
CREATE TABLE IF NOT EXISTS objects (
    resource TEXT NOT NULL, namespace TEXT NOT NULL, name TEXT NOT NULL, version INTEGER NOT NULL, body BLOB NOT NULL,
    PRIMARY KEY (resource, namespace, name)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS versions (resource TEXT PRIMARY KEY, version INTEGER NOT NULL) WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class StoredObject:
    resource: str
    namespace: str
    name: str
    version: int
    body: bytes


class Database:
    """The file behind a store. `path` None keeps everything in memory (tests)."""

    def __init__(self, path: Path | None) -> None:
        """Raises RuntimeError when another server holds the file."""
        self._connection = sqlite3.connect(str(path) if path else ":memory:", isolation_level=None, timeout=0)
        try:
            self._connection.execute("PRAGMA locking_mode=EXCLUSIVE")
            self._connection.execute("PRAGMA journal_mode=WAL")
            self._connection.execute("PRAGMA synchronous=OFF")
            self._connection.executescript(_SCHEMA)
            # The lock is taken by the first write, so write at once: two servers must not share a directory.
            self._connection.execute("INSERT OR REPLACE INTO versions SELECT * FROM versions LIMIT 1")
        except sqlite3.OperationalError as error:
            self._connection.close()
            raise RuntimeError(
                f"data file {path}: {error}; is another API server running on this directory?"
            ) from error

    def load(self) -> Iterator[StoredObject]:
        for row in self._connection.execute("SELECT resource, namespace, name, version, body FROM objects"):
            yield StoredObject(*row)

    def versions(self) -> dict[str, int]:
        """Resource -> resourceVersion of its last change, deletions included."""
        return dict(self._connection.execute("SELECT resource, version FROM versions"))

    def put(self, stored: StoredObject) -> None:
        with self._connection:
            self._connection.execute("BEGIN")
            self._connection.execute(
                "INSERT OR REPLACE INTO objects VALUES (?, ?, ?, ?, ?)",
                (stored.resource, stored.namespace, stored.name, stored.version, stored.body),
            )
            self._touch(stored.resource, stored.version)

    def delete(self, *, resource: str, namespace: str, name: str, version: int) -> None:
        with self._connection:
            self._connection.execute("BEGIN")
            self._connection.execute(
                "DELETE FROM objects WHERE resource = ? AND namespace = ? AND name = ?", (resource, namespace, name)
            )
            self._touch(resource, version)

    def close(self) -> None:
        self._connection.close()

    def _touch(self, resource: str, version: int) -> None:
        self._connection.execute("INSERT OR REPLACE INTO versions VALUES (?, ?)", (resource, version))
