"""One generation of the index: a SQLite database, used through SQLAlchemy Core.

Theory of operation
-------------------
A database gets its name when its tables exist, so a file without them is damaged. Any number of threads and processes
may use it. Transactions survive the end of the process, but not a power failure: only `sync` writes them to stable
storage. Until then the journals must keep their records.
"""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from blake3 import blake3
from sqlalchemy.dialects.sqlite import dialect, insert
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from dicomport.archive.database.queries import STATE
from dicomport.archive.database.schema import INSTANCES, METADATA, SCHEMA_VERSION, SERIES, own_values, shared_values
from dicomport.archive.records import Record, State
from dicomport.errors import DicomportError
from dicomport.files import open_as_owner, sync, system

BUSY_SECONDS: Final = 1.0
"""Time to wait for a transaction of a program that does not hold the lock of the writers, such as a backup."""


class IndexDatabaseError(DicomportError):
    """The index cannot be read or written now: the text is the database's own."""


class BusyIndexError(IndexDatabaseError):
    """Another process has locked the index."""


class DamagedIndexError(IndexDatabaseError):
    """The index is damaged or missing, and has to be recreated from the files."""


class SchemaError(IndexDatabaseError):
    """Another version of dicomport created the index. If it was an earlier one, `reindex` recreates the index."""


class LaterSchemaError(SchemaError):
    """A later version of dicomport created the index, and `reindex` of this version does not replace it."""


class Database:
    """One generation of the index. Methods raise `IndexDatabaseError`."""

    def __init__(self, path: Path, *, creates: bool = False, syncs: bool = True) -> None:
        """Open a database, or create one with a new name. If `syncs` is false, SQLite does not sync it."""
        self.path: Final = path
        if creates:
            # SQLite creates the files beside the database with the same permissions and the same owner.
            system.close(open_as_owner(path, system.CREATE_NEW))
        self._inode = path.stat().st_ino
        url = sa.URL.create("sqlite", database=path.as_uri(), query={"mode": "rw", "uri": "true"})
        self._engine: sa.Engine = sa.create_engine(
            url,
            connect_args={"timeout": BUSY_SECONDS, "check_same_thread": False},
            # The values of a statement are attribute values, and an error's text must not have them.
            hide_parameters=True,
        )
        sa.event.listen(self._engine, "connect", _configure)
        if not syncs:
            sa.event.listen(self._engine, "connect", _stop_syncing)
        sa.event.listen(self._engine, "begin", _begin)
        self._writing = self._engine.execution_options(**{_WRITING: True})
        self._add_series, self._add_instances = _statements()
        try:
            self._create_tables() if creates else self._check_schema()
        except BaseException:
            self.close()
            raise

    def _create_tables(self) -> None:
        with converted_errors(self.path), self._writing.begin() as connection:
            METADATA.create_all(connection)
            connection.exec_driver_sql(f"PRAGMA user_version = {SCHEMA_VERSION}")

    def _check_schema(self) -> None:
        with converted_errors(self.path), self._engine.connect() as connection:
            version = connection.exec_driver_sql("PRAGMA user_version").scalar_one()
        check_version(self.path, version)

    def close(self) -> None:
        """Close the connections to the database."""
        self._engine.dispose()

    def exists(self) -> bool:
        """Return whether the path still names this database."""
        try:
            return self.path.stat().st_ino == self._inode
        except FileNotFoundError:
            return False

    def add(self, records: Sequence[Record]) -> None:
        """Add records in one transaction; a record replaces an earlier one with the same path."""
        if not records:
            return
        series: dict[str, tuple[object, ...]] = {}
        instances: list[tuple[object, ...]] = []
        for record in records:
            shared = shared_values(record)
            key = _key_of(shared)
            series[key] = (key, *shared)
            # `_SET_STATES` compares the instance with others.
            state = State.SUSPECT if record.suspect else State.STORED
            instances.append((record.path, key, *own_values(record), state))
        uids = json.dumps([record.attributes.sop_instance_uid for record in records])
        with converted_errors(self.path), self._writing.begin() as connection:
            connection.exec_driver_sql(self._add_series, list(series.values()))
            connection.exec_driver_sql(self._add_instances, instances)
            connection.execute(_SET_STATES, {"uids": uids})

    def select(self, query: sa.Select[Any]) -> list[sa.RowMapping]:
        """Return the rows of a query."""
        with converted_errors(self.path), self._engine.connect() as connection:
            return list(connection.execute(query).mappings())

    def sync(self) -> None:
        """Write all transactions to stable storage. Raises `OSError`."""
        # Transactions are in SQLite's log, or the log was copied into the database, synced, and perhaps removed. The
        # database itself must not be opened here: closing it would release this process's locks on it.
        with contextlib.suppress(FileNotFoundError):
            sync(f"{self.path}-wal")
        sync(self.path.parent)


_BUSY_NAMES: Final = ("SQLITE_BUSY", "SQLITE_LOCKED")
_UNAVAILABLE_NAMES: Final = (
    *("SQLITE_AUTH", "SQLITE_CANTOPEN", "SQLITE_FULL", "SQLITE_INTERRUPT", "SQLITE_IOERR", "SQLITE_NOLFS"),
    *("SQLITE_NOMEM", "SQLITE_PERM", "SQLITE_PROTOCOL", "SQLITE_READONLY"),
)
"""Errors of the disk, the system or the permissions; with any other error, the database is damaged."""
_REMEDIES: Final = {
    "SQLITE_FULL": "; free some space",
    "SQLITE_IOERR": "; free some space, or check the disk",
    "SQLITE_CANTOPEN": "; check the owner and the mode of the archive's folder .dicomport",
    "SQLITE_PERM": "; check the owner and the mode of the archive's folder .dicomport",
    "SQLITE_READONLY": "; check the owner and the mode of the archive's folder .dicomport",
}


@contextlib.contextmanager
def converted_errors(path: Path) -> Iterator[None]:
    """Convert the errors of the database: SQLAlchemy's contain statements, SQLite's contain no values."""
    try:
        yield
    except SQLAlchemyError as error:
        original = error.orig if isinstance(error, DBAPIError) else None
        name = getattr(original, "sqlite_errorname", "")
        reason = str(original or type(error).__name__)
        if name.startswith(_BUSY_NAMES):
            raise BusyIndexError("another process has locked the index") from None
        if name.startswith(_UNAVAILABLE_NAMES):
            remedy = next((text for start, text in _REMEDIES.items() if name.startswith(start)), "")
            raise IndexDatabaseError(f"the index cannot be used: {reason}{remedy}") from None
        raise DamagedIndexError(advice(path, f"the index is damaged ({reason})")) from None


def check_version(path: Path, version: int) -> None:
    """Raise `IndexDatabaseError` if the database of another version of dicomport, or an empty one, is at a path."""
    if version == 0:
        raise DamagedIndexError(advice(path, "the index is damaged (it has no tables)"))
    if version < SCHEMA_VERSION:
        raise SchemaError(advice(path, f"the index has the older schema {version}"))
    if version > SCHEMA_VERSION:
        raise LaterSchemaError(
            f"the index has schema {version}, and this dicomport supports {SCHEMA_VERSION}: use a later dicomport"
        )


def advice(path: Path, problem: str) -> str:
    """Return the text of an error for an index at a path: the problem, and the command that ends it."""
    return f'{problem}: run dicomport archive reindex "{path.parent.parent}" to rebuild it from the files'


_WRITING: Final = "dicomport_writing"


def _configure(connection: Any, _record: object) -> None:
    """Configure a connection: only `_begin` begins transactions, and readers don't wait for the writer."""
    connection.isolation_level = None
    for pragma in ("journal_mode = WAL", "synchronous = NORMAL", "foreign_keys = ON"):
        connection.execute(f"PRAGMA {pragma}")


def _stop_syncing(connection: Any, _record: object) -> None:
    """Configure a connection for a file system that may be unable to sync."""
    connection.execute("PRAGMA synchronous = OFF")


def _begin(connection: sa.Connection) -> None:
    # A transaction that will write locks the database first: SQLite does not wait for a lock in mid-transaction.
    writing = connection.get_execution_options().get(_WRITING, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")


def _upsert(table: sa.Table) -> sa.Insert:
    statement = insert(table)
    changed = {column.name: statement.excluded[column.name] for column in table.c if not column.primary_key}
    return statement.on_conflict_do_update(index_elements=list(table.primary_key), set_=changed)


@functools.cache
def _statements() -> tuple[str, str]:
    """Return the statements that add series and instances; their parameters have the order of the tables' columns.

    Compiled once: SQLAlchemy's work for each row takes three times as long as storing it.
    """
    statements = insert(SERIES).on_conflict_do_nothing(), _upsert(INSTANCES)
    add_series, add_instances = (str(statement.compile(dialect=dialect())) for statement in statements)
    return add_series, add_instances


@functools.lru_cache(maxsize=256)
def _key_of(shared: tuple[object, ...]) -> str:
    """Return the key of values of a series; cached for its other instances."""
    return blake3(json.dumps(shared).encode()).hexdigest(length=16)


_UIDS: Final = sa.func.json_each(sa.bindparam("uids")).table_valued("value")

_SET_STATES: Final = (
    INSTANCES.update()
    .where(
        INSTANCES.c.sop_instance_uid.in_(sa.select(_UIDS.c.value)),
        INSTANCES.c.state != State.SUSPECT.value,
        INSTANCES.c.state != STATE,
    )
    .values(state=STATE)
)
"""Set the states of the instances with these UIDs: the new ones, and those that they replaced or preceded."""
