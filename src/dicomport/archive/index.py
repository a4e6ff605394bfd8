"""The index of an archive: its current generation. `reindex` recreates it from the files."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import sqlalchemy as sa

from dicomport.archive.database.generations import Build, Generations, pass_on, remove_abandoned_builds
from dicomport.archive.database.queries import Queries
from dicomport.archive.database.sqlite import BusyIndexError, DamagedIndexError, Database, IndexDatabaseError, advice
from dicomport.archive.records import Record

_WAIT_SECONDS: Final = 60.0
"""Time to wait for another process at the start and the recovery, when no peer waits for a response."""


class Index(Queries):
    """The index of an archive. Any number of processes may have it open.

    All methods use the current generation of the database, also if another process has replaced the earlier one. They
    raise `IndexDatabaseError` and `OSError`.
    """

    def __init__(self, path: Path, *, creates: Callable[[], bool] = lambda: True, syncs: bool = True) -> None:
        """Open the index. If there is none and `creates` returns true, create it, and sync it if `syncs` is true.

        `path` is that of the first generation. Waits while another process writes, for another program up to a minute.

        Raises `IndexDatabaseError`, such as `DamagedIndexError` and `SchemaError`, and `OSError`.
        """
        self._generations = Generations(path.absolute())
        self._syncs = syncs
        self._changing = threading.Lock()
        remove_abandoned_builds(self._generations)
        if self._generations.current() is None and creates():
            self._create(syncs=syncs)
        self._database = _retried(self._open_first, _WAIT_SECONDS)

    def _create(self, *, syncs: bool) -> None:
        """Create the first generation, unless another process does."""
        with contextlib.closing(Build(self._generations)) as build:
            Database(build.database, creates=True, syncs=syncs).close()
            with self._generations.locked(wait=True):
                if self._generations.current() is None:
                    build.publish(syncs=syncs)

    def _open_first(self) -> Database:
        with self._generations.locked(wait=True):
            self._generations.remove_earlier()
            return self._open()

    def _open(self) -> Database:
        """Open the current generation."""
        while True:
            path = self._generations.current()
            if path is None:
                first = self._generations.following()
                raise DamagedIndexError(advice(first, "the index is missing"))
            try:
                database = Database(path, syncs=self._syncs)
            except (IndexDatabaseError, OSError):
                if self._generations.current() == path:
                    raise
            else:
                if self._generations.current() == path:
                    return database
                # It was replaced while it was opened: its last transactions may be invisible.
                database.close()

    def _follow(self) -> Database:
        """Return the current generation; open it if another process has replaced the earlier one."""
        with self._changing:
            if self._generations.current() != self._database.path or not self._database.exists():
                earlier, self._database = self._database, self._open()
                earlier.close()
            return self._database

    def close(self) -> None:
        """Close the connections to the database."""
        self._database.close()

    def add(self, records: Sequence[Record], *, wait: bool = False) -> None:
        """Add records in one transaction; a record replaces an earlier one with the same path.

        Raises `BusyIndexError` if another process writes; if `wait` is true, only after a minute.
        """
        if records:
            _retried(lambda: self._add(records, wait=wait), _WAIT_SECONDS if wait else 0.0)

    def _add(self, records: Sequence[Record], *, wait: bool) -> None:
        try:
            with self._generations.locked(wait=wait):
                database = self._follow()
                pass_on(records, self._generations.builds())
                database.add(records)
        except BlockingIOError:
            raise BusyIndexError("another process writes to the index") from None

    def sync(self) -> None:
        """Write all transactions to stable storage."""
        self._follow().sync()

    def _all(self, query: sa.Select[Any]) -> list[sa.RowMapping]:
        while True:
            database = self._follow()
            try:
                return database.select(query)
            except IndexDatabaseError:
                if self._follow() is database:
                    raise


T = TypeVar("T")


def _retried(use_index: Callable[[], T], seconds: float) -> T:
    """Use the index, and retry for some seconds while another program has locked it; SQLite waits in each attempt."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return use_index()
        except BusyIndexError:
            if time.monotonic() >= deadline:
                raise
