"""The index for reading only: no write permission is needed, and nothing is changed.

Theory of operation
-------------------
SQLite reads a database with a log (-wal) in the mode `ro`: it needs the log and the shared memory (-shm) that the
writers keep beside it. When the last writer has closed the database, both are removed, and SQLite would have to create
them. Then the mode `immutable` reads the database alone, without locks. A writer may begin at any time, and would
change the database under this reader. So each query has its own connection, and its result counts only if the database
is the same after it: the same generation, without a log, and not modified. Otherwise the query is repeated.

A log without a shared memory is that of a process that was killed, in an archive that was copied since, as by a backup.
SQLite would have to create the shared memory. If it may not, database and log are copied to TMPDIR and read there. No
process has them open then, because it would have created the shared memory, and the result counts only if the files are
the same after the query.
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
from dicomport.files import copy_file
from dicomport.files.spool import TemporaryFolder

_MAX_ATTEMPTS: Final = 100
"""Attempts of a query. Writers begin and end rarely; each attempt but the first needs such a change."""


class _State(NamedTuple):
    """State of a database on disk."""

    path: Path
    has_log: bool
    has_memory: bool
    """Whether the shared memory exists."""
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
        self._copy: _Copy | None = None
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
            is_consistent = False
            try:
                rows, is_consistent = self._select(state, query)
            except IndexDatabaseError as error:
                failure = error
            now = self._state()
            if now == state or (is_consistent and now.path == state.path):
                if failure is not None:
                    raise failure
                return rows
        raise BusyIndexError("the index changes all the time")

    def _select(self, state: _State, query: sa.Select[Any]) -> tuple[list[sa.RowMapping], bool]:
        """Return the rows, and whether SQLite itself ensures that they are consistent."""
        if not state.has_log:
            return self._run(state.path, query, "immutable=1"), False
        try:
            return self._run(state.path, query, "mode=ro"), True
        except (BusyIndexError, DamagedIndexError, SchemaError):
            raise
        except IndexDatabaseError:
            # After a kill, SQLite would write to the shared memory, which needs space; with `readonly_shm` it uses its
            # own memory. Not at first: a writer of this process would share the memory, and could not write either.
            if state.has_memory:
                return self._run(state.path, query, "mode=ro&readonly_shm=1"), True
        return self._run(state.path, query, "mode=ro", self._copied(state)), False

    def _run(self, path: Path, query: sa.Select[Any], mode: str, copy: Path | None = None) -> list[sa.RowMapping]:
        """Return the rows of a query in a database, or in a copy of it."""
        self._uri = f"{(copy or path).as_uri()}?{mode}"
        with converted_errors(path), self._engine.connect() as connection:
            if self._checked != path:
                check_version(path, connection.exec_driver_sql("PRAGMA user_version").scalar_one())
                self._checked = path
            return list(connection.execute(query).mappings())

    def _copied(self, state: _State) -> Path:
        """Return a copy of the database with its log, which no process has open; copy them again if they changed."""
        log = Path(f"{state.path}-wal")
        try:
            key = state, _stamp(log)
            if self._copy is None or self._copy.key != key:
                self._copy = None  # Its space is free again.
                self._copy = copy = _Copy(key)
                copy_file(state.path, copy.path)
                copy_file(log, Path(f"{copy.path}-wal"))
                if (self._state(), _stamp(log)) != key:
                    self._copy = None
                    raise BusyIndexError("another process has opened the index")
        except OSError as error:
            self._copy = None
            raise IndexDatabaseError(
                "the index was open when a process was killed, and cannot be copied to the folder for temporary files "
                f"({error.strerror}): set TMPDIR to a folder with more space, or run this command as the user of the "
                "receiver"
            ) from None
        return self._copy.path

    def _state(self) -> _State:
        while True:
            path = self._generations.current()
            if path is None:
                raise DamagedIndexError(advice(self._generations.following(), "the index is missing"))
            # The database is removed if another generation replaces it.
            with contextlib.suppress(FileNotFoundError):
                has_log, has_memory = (Path(f"{path}{suffix}").exists() for suffix in ("-wal", "-shm"))
                return _State(path, has_log, has_memory, *_stamp(path))


class _Copy:
    """A copy of a database for this user only; it is removed when no query uses it any more."""

    def __init__(self, key: object) -> None:
        """`key` identifies the content. Raises `OSError`."""
        self.key = key
        self._folder = TemporaryFolder()
        self.path = self._folder.path / "index.sqlite"


def _stamp(path: Path) -> tuple[int, int, int]:
    """Return inode number, modification time and size of a file. Raises `OSError`."""
    status = path.stat()
    return status.st_ino, status.st_mtime_ns, status.st_size
