"""What survives a restart: one SQLite file with a row per object, written in one transaction per change of the world.

Rows of (kind, id, JSON) enter and leave. A killed sandbox finds its sessions, its stored answers and the webhooks that
it still owes; an effect and the answer to the call that caused it are never kept apart.
"""

import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

Row = tuple[str, str, object]

FILE = "sandbox.2.sqlite3"  # the number grows with the shape of what is kept; files of other shapes are left alone
LOCK_SECONDS_MAX = 2.0  # for whoever takes the file over from a sandbox that is just ending


class Store:
    """The file, or without a folder memory alone; use from one thread. sqlite3.OperationalError where another has the file."""

    def __init__(self, folder: Path | None) -> None:
        if folder:
            folder.mkdir(parents=True, exist_ok=True)
        self._database = sqlite3.connect(
            folder / FILE if folder else ":memory:", isolation_level=None, timeout=LOCK_SECONDS_MAX
        )
        # The file is one sandbox's while it lives: two would give the same ids to different things.
        self._database.execute("PRAGMA locking_mode = EXCLUSIVE")
        self._database.execute("PRAGMA journal_mode = WAL")
        # A killed process loses nothing; only a machine that loses its power might, and a sandbox may.
        self._database.execute("PRAGMA synchronous = OFF")
        self._database.execute(
            "CREATE TABLE IF NOT EXISTS objects"
            " (kind TEXT, id TEXT, place INTEGER PRIMARY KEY AUTOINCREMENT, body BLOB, UNIQUE (kind, id))"
        )

    def load(self) -> Iterator[tuple[str, str, bytes]]:
        """Yield everything that was kept, in the order in which it was born."""
        yield from self._database.execute("SELECT kind, id, body FROM objects ORDER BY place")

    def save(self, rows: Iterable[Row]) -> None:
        """Keep these objects as they are now, all or none."""
        encoded = [(kind, key, msgspec.json.encode(body)) for kind, key, body in rows]
        self._database.execute("BEGIN")
        self._database.executemany(
            "INSERT INTO objects (kind, id, body) VALUES (?, ?, ?) ON CONFLICT (kind, id) DO UPDATE SET body = excluded.body",
            encoded,
        )
        self._database.execute("COMMIT")

    def forget(self, kind: str, ids: Iterable[str]) -> None:
        """Drop these objects of one kind."""
        self._database.executemany("DELETE FROM objects WHERE kind = ? AND id = ?", [(kind, key) for key in ids])

    def close(self) -> None:
        """Close the file."""
        self._database.close()
