"""Where objects survive a restart.

Owns: one SQLite file. Comes in: each commit of the store. Goes out: at start, all objects and the resourceVersions
up to which each resource's past is known. Commits of one turn of the event loop are one transaction, which ends before
anything else happens: before watchers wake, and before requests are answered, which wait for `written`. WAL without
fsync survives the death of the process (not of the machine) and costs tens of microseconds
(docs/adr/0010-lab-api-storage.md).
"""

import asyncio
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
"""`versions`: of each resource, that of its last deletion."""
_JOURNAL_PAGES = 8192


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
        self._failure: sqlite3.Error | None = None
        self._connection = sqlite3.connect(str(path) if path else ":memory:", isolation_level=None, timeout=0)
        try:
            self._connection.execute("PRAGMA locking_mode=EXCLUSIVE")
            self._connection.execute("PRAGMA journal_mode=WAL")
            self._connection.execute("PRAGMA synchronous=OFF")
            # Pages that change often are copied out of the journal once for many commits.
            self._connection.execute(f"PRAGMA wal_autocheckpoint={_JOURNAL_PAGES}")
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
        newest = (
            "SELECT resource, max(version) FROM (SELECT resource, version FROM versions UNION ALL "
            "SELECT resource, max(version) FROM objects GROUP BY resource) GROUP BY resource"
        )
        return dict(self._connection.execute(newest))

    def put(self, resource: str, namespace: str, name: str, version: int, body: bytes) -> None:
        self._begin()
        self._connection.execute(
            "INSERT OR REPLACE INTO objects VALUES (?, ?, ?, ?, ?)", (resource, namespace, name, version, body)
        )

    def delete(self, *, resource: str, namespace: str, name: str, version: int) -> None:
        self._begin()
        self._connection.execute(
            "DELETE FROM objects WHERE resource = ? AND namespace = ? AND name = ?", (resource, namespace, name)
        )
        self._connection.execute("INSERT OR REPLACE INTO versions VALUES (?, ?)", (resource, version))

    async def written(self) -> None:
        """Waits for the end of the open transaction. Raises RuntimeError when something could not be written."""
        if self._connection.in_transaction:
            await asyncio.sleep(0)  # Whoever commits in this turn commits first.
            self._flush()
        if self._failure is not None:
            raise RuntimeError(f"objects cannot be written: {self._failure}; mend that and start the server again")

    def close(self) -> None:
        self._flush()
        self._connection.close()

    def _begin(self) -> None:
        """Outside of an event loop every statement is a transaction of its own."""
        if self._connection.in_transaction:
            return
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return
        self._connection.execute("BEGIN")
        loop.call_soon(self._flush)

    def _flush(self) -> None:
        try:
            if self._connection.in_transaction:
                self._connection.execute("COMMIT")
        except sqlite3.ProgrammingError:
            return  # Closed meanwhile, and written then.
        except sqlite3.Error as error:
            self._failure = error
