"""The progress of background verification: its position, and the time at which each file was last verified.

It is kept in `.dicomport/verify/verified.sqlite`, beside the index: `reindex` replaces the index and keeps this. It can
be lost without harm: verification begins again.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from dicomport.archive.paths import Paths
from dicomport.files import Durability, make_own_folder, open_as_owner, remove, system

_NAME: Final = "verified.sqlite"
_BUSY_SECONDS: Final = 5.0
_TABLES: Final = """
CREATE TABLE IF NOT EXISTS files (path TEXT PRIMARY KEY, verified TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS run (position TEXT NOT NULL, begun TEXT NOT NULL, finished TEXT NOT NULL);
INSERT INTO run SELECT '', '', '' WHERE NOT EXISTS (SELECT 1 FROM run);
"""


class VerificationProgress:
    """The progress in one archive. Methods raise `sqlite3.Error` and `OSError`."""

    def __init__(self, paths: Paths) -> None:
        """Open the file; create it if it is missing, and again if it is damaged."""
        self._root = paths.root
        make_own_folder(paths.verification, Durability.FLUSH)
        path = paths.verification / _NAME
        try:
            self._database = _open(path)
        except sqlite3.OperationalError:
            raise  # The disk, or permissions.
        except sqlite3.DatabaseError:
            remove(path)
            self._database = _open(path)

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    @property
    def position(self) -> str:
        """Path of the last verified file of an unfinished run, or an empty string."""
        return str(self._database.execute("SELECT position FROM run").fetchone()[0])

    def begin(self, now: str) -> None:
        """Begin a run."""
        self._database.execute("UPDATE run SET position = '', begun = ?", (now,))

    def add(self, paths: Sequence[str], position: str, now: str) -> None:
        """Store the position, and that files were verified without a discrepancy."""
        with self._transaction():
            self._database.executemany("INSERT OR REPLACE INTO files VALUES (?, ?)", ((path, now) for path in paths))
            self._database.execute("UPDATE run SET position = ?", (position,))

    def finish(self, now: str) -> None:
        """End a run, and forget the files that do not exist any more. For a damaged file, the last time remains."""
        earlier = self._database.execute("SELECT path FROM files WHERE verified < (SELECT begun FROM run)")
        missing = [(path,) for (path,) in earlier if not os.path.lexists(self._root / path)]
        with self._transaction():
            self._database.executemany("DELETE FROM files WHERE path = ?", missing)
            self._database.execute("UPDATE run SET position = '', finished = ?", (now,))

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._database.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._database.execute("ROLLBACK")
            raise
        self._database.execute("COMMIT")


def verified_times(paths: Paths, names: Collection[str]) -> dict[str, str]:
    """Return the times at which these files were last verified, as far as they are known. Needs no write permission."""
    query = "SELECT path, verified FROM files WHERE path = ?"
    return {str(path): str(verified) for path, verified in _rows(paths, query, ((name,) for name in names))}


def last_finished(paths: Paths) -> str:
    """Return the time at which the last run was finished, UTC in ISO 8601; empty without one."""
    return "".join(str(finished) for (finished,) in _rows(paths, "SELECT finished FROM run LIMIT 1", [()]))


def _rows(paths: Paths, query: str, parameters: Iterable[tuple[str, ...]]) -> Iterator[tuple[Any, ...]]:
    """Yield the rows of a query for each of its parameters, none after an error."""
    uri = f"{(paths.verification / _NAME).as_uri()}?mode=ro"
    # The file is missing until a receiver verifies.
    with (
        contextlib.suppress(sqlite3.Error),
        contextlib.closing(sqlite3.connect(uri, timeout=_BUSY_SECONDS, uri=True)) as database,
    ):
        for values in parameters:
            yield from database.execute(query, values)


def _open(path: Path) -> sqlite3.Connection:
    # SQLite creates its journal with the same permissions.
    system.close(open_as_owner(path, system.CREATE))
    database = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    try:
        database.executescript(_TABLES)
    except BaseException:
        database.close()
        raise
    return database
