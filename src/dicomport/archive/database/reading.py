"""The index for reading only: no write permission is needed, and nothing is changed.

Theory of operation
-------------------
SQLite reads a database with a log (-wal) in the mode `ro`: it needs the log and the shared memory (-shm) that the
writers keep beside it. When the last writer has closed the database, both are removed, and SQLite would have to create
them. Then the mode `immutable` reads the database alone, without locks. A writer may begin at any time, and would
change the database under this reader. So each query has its own connection, and its result counts only if the database
is the same after it: the same generation, without a log, and not modified. Otherwise the query is repeated.
"""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path
from typing import Any, Final, NamedTuple

import sqlalchemy as sa

from dicomport.archive.database.generations import Generations
from dicomport.archive.database.queries import Queries
from dicomport.archive.database.sqlite import (
    BUSY_SECONDS,
    BusyIndexError,
    DamagedIndexError,
    IndexDatabaseError,
    SchemaError,
    advice,
    check_version,
    converted_errors,
)

_MAX_ATTEMPTS: Final = 100
"""Attempts of a query. Writers begin and end rarely; each attempt but the first needs such a change."""


class _State(NamedTuple):
    """State of a database on disk."""

    path: Path
    has_log: bool
    inode: int
    mtime_ns: int
    size: int


class IndexReader(Queries):
    """The index of an archive, for reading only. Methods raise `IndexDatabaseError` and `OSError`."""

    def __init__(self, path: Path) -> None:
        """Use the index; `path` is that of the first generation. Raises `SchemaError` and `DamagedIndexError`."""
        self._generations = Generations(path.absolute())
        self._uri = ""
        self._engine = sa.create_engine("sqlite://", creator=self._connect, poolclass=sa.NullPool, hide_parameters=True)
        self._checked: Path | None = None
        self._all(sa.select(sa.literal(1)))

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._uri, timeout=BUSY_SECONDS, uri=True)
        # Sorting needs no disk.
        connection.execute("PRAGMA temp_store = MEMORY")
        return connection

    def _all(self, query: sa.Select[Any]) -> list[sa.RowMapping]:
        for _ in range(_MAX_ATTEMPTS):
            state = self._state()
            failure: IndexDatabaseError | None = None
            rows: list[sa.RowMapping] = []
            try:
                rows = self._select(state, query)
            except IndexDatabaseError as error:
                failure = error
            now = self._state()
            # With a log, SQLite itself ensures that the result is consistent.
            if now == state or (failure is None and state.has_log and now.path == state.path):
                if failure is not None:
                    raise failure
                return rows
        raise BusyIndexError("the index changes all the time")

    def _select(self, state: _State, query: sa.Select[Any]) -> list[sa.RowMapping]:
        if not state.has_log:
            return self._run(state.path, query, "immutable=1")
        try:
            return self._run(state.path, query, "mode=ro")
        except (BusyIndexError, DamagedIndexError, SchemaError):
            raise
        except IndexDatabaseError:
            # After a kill, SQLite would write to the shared memory, which needs space; with `readonly_shm` it uses its
            # own memory. Not at first: a writer of this process would share the memory, and could not write either.
            if not Path(f"{state.path}-shm").exists():
                raise
            return self._run(state.path, query, "mode=ro&readonly_shm=1")

    def _run(self, path: Path, query: sa.Select[Any], mode: str) -> list[sa.RowMapping]:
        self._uri = f"{path.as_uri()}?{mode}"
        with converted_errors(path), self._engine.connect() as connection:
            if self._checked != path:
                check_version(path, connection.exec_driver_sql("PRAGMA user_version").scalar_one())
                self._checked = path
            return list(connection.execute(query).mappings())

    def _state(self) -> _State:
        while True:
            path = self._generations.current()
            if path is None:
                raise DamagedIndexError(advice(self._generations.following(), "the index is missing"))
            # The database is removed if another generation replaces it.
            with contextlib.suppress(FileNotFoundError):
                has_log = Path(f"{path}-wal").exists()
                status = path.stat()
                return _State(path, has_log, status.st_ino, status.st_mtime_ns, status.st_size)
