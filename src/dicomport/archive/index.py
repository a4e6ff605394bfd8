"""The index of an archive: a SQLite database, used through SQLAlchemy Core. `reindex` recreates it from the files."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Sequence
from operator import attrgetter
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from blake3 import blake3
from sqlalchemy.dialects.sqlite import insert

from dicomport.archive.queries import Queries
from dicomport.archive.records import Record, State
from dicomport.archive.scan.attributes import InstanceAttributes
from dicomport.archive.schema import INSTANCES, METADATA, SCHEMA_VERSION, SERIES
from dicomport.errors import DicomportError
from dicomport.files.locking import locked

_BUSY_SECONDS: Final = 60.0
"""Time to wait for another process's transaction."""


class SchemaError(DicomportError):
    """Another version of dicomport created the index."""


class Index(Queries):
    """The database of an archive. One thread of a process writes; any number of processes may have it open."""

    def __init__(self, path: Path, *, discard_older: bool = False) -> None:
        """Open the database and create it if it is missing.

        `discard_older` empties the index of an older version of dicomport. Raises `SchemaError` otherwise, and for the
        index of a later version.
        """
        self._engine: sa.Engine = sa.create_engine(
            f"sqlite:///{path}",
            connect_args={"timeout": _BUSY_SECONDS, "check_same_thread": False},
            # The values of a statement are attribute values, and an error's text must not have them.
            hide_parameters=True,
        )
        sa.event.listen(self._engine, "connect", _configure)
        sa.event.listen(self._engine, "begin", _begin)
        self._writing = self._engine.execution_options(**{_WRITING: True})
        # Compiled once: SQLAlchemy's work for each row takes three times as long as storing it.
        self._add_series = _compiled(insert(SERIES).on_conflict_do_nothing(), self._engine.dialect)
        self._add_instances = _compiled(_upsert(INSTANCES), self._engine.dialect)
        # If several processes open a new archive, one of them creates the database. SQLite's timeout does not apply
        # here: processes that switch a database to WAL at the same time find it locked and fail immediately.
        with locked(path.parent):
            self._create(discard_older=discard_older)

    def _create(self, *, discard_older: bool) -> None:
        with self._writing.begin() as connection:
            version = connection.exec_driver_sql("PRAGMA user_version").scalar_one()
            if version == SCHEMA_VERSION:
                return
            if version > SCHEMA_VERSION or (version and not discard_older):
                raise _schema_error(version)
            if version:
                older = sa.MetaData()
                older.reflect(connection)
                older.drop_all(connection)
            METADATA.create_all(connection)
            connection.exec_driver_sql(f"PRAGMA user_version = {SCHEMA_VERSION}")

    def close(self) -> None:
        """Close the connections to the database."""
        self._engine.dispose()

    def add(self, records: Sequence[Record]) -> None:
        """Add records in one transaction; a record replaces an earlier one with the same path."""
        if not records:
            return
        series: dict[str, tuple[object, ...]] = {}
        instances: list[tuple[object, ...]] = []
        for record in records:
            shared = _shared_of(record.facts)
            key = _key_of(shared)
            series[key] = (key, *shared)
            # `_SET_STATES` compares the instance with others.
            state = State.SUSPECT if record.suspect else State.STORED
            instances.append((record.path, key, *_own_of(record), state))
        uids = json.dumps([record.facts.sop_instance_uid for record in records])
        with self._writing.begin() as connection:
            connection.exec_driver_sql(self._add_series, list(series.values()))
            connection.exec_driver_sql(self._add_instances, instances)
            connection.execute(_SET_STATES, {"uids": uids})

    def clear(self) -> None:
        """Remove all rows."""
        with self._writing.begin() as connection:
            for table in reversed(METADATA.sorted_tables):
                connection.execute(table.delete())

    def _all(self, query: sa.Select[Any]) -> list[sa.RowMapping]:
        with self._engine.connect() as connection:
            return list(connection.execute(query).mappings())


_WRITING: Final = "dicomport_writing"


def _configure(connection: Any, _record: object) -> None:
    """Configure a connection: only `_begin` begins transactions, and readers don't wait for the writer."""
    connection.isolation_level = None
    for pragma in ("journal_mode = WAL", "synchronous = NORMAL", "foreign_keys = ON"):
        connection.execute(f"PRAGMA {pragma}")


def _begin(connection: sa.Connection) -> None:
    # A transaction that will write locks the database first: SQLite does not wait for a lock in mid-transaction.
    writing = connection.get_execution_options().get(_WRITING, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")


def _schema_error(version: int) -> SchemaError:
    if version > SCHEMA_VERSION:
        return SchemaError(
            f"the index has schema {version}, and this dicomport supports {SCHEMA_VERSION}: use a later dicomport"
        )
    return SchemaError(
        f'the index has the older schema {version}: run "dicomport archive reindex" to rebuild it from the files'
    )


def _upsert(table: sa.Table) -> sa.Insert:
    statement = insert(table)
    changed = {column.name: statement.excluded[column.name] for column in table.c if not column.primary_key}
    return statement.on_conflict_do_update(index_elements=list(table.primary_key), set_=changed)


def _compiled(statement: sa.Insert, dialect: sa.Dialect) -> str:
    """Return the text of a statement; its parameters have the order of the table's columns."""
    return str(statement.compile(dialect=dialect))


_FACTS: Final = frozenset(field.name for field in dataclasses.fields(InstanceAttributes))
_SHARED: Final = tuple(column.name for column in SERIES.c if column is not SERIES.c.series_key)
_OWN: Final = tuple(column.name for column in INSTANCES.c if column.name not in ("path", "series_key", "state"))

_shared_of: Final = attrgetter(*_SHARED)
_own_of: Final = attrgetter(*(f"facts.{name}" if name in _FACTS else name for name in _OWN))


@functools.lru_cache(maxsize=256)
def _key_of(shared: tuple[object, ...]) -> str:
    """Return the key of values of a series; cached for its other instances."""
    return blake3(json.dumps(shared).encode()).hexdigest(length=16)


_EARLIER: Final = INSTANCES.alias("earlier")
_UIDS: Final = sa.func.json_each(sa.bindparam("uids")).table_valued("value")

STATE: Final = sa.case(
    (
        sa.exists().where(
            _EARLIER.c.sop_instance_uid == INSTANCES.c.sop_instance_uid,
            _EARLIER.c.digest != INSTANCES.c.digest,
            _EARLIER.c.path != INSTANCES.c.path,
            sa.tuple_(_EARLIER.c.received, _EARLIER.c.path) < sa.tuple_(INSTANCES.c.received, INSTANCES.c.path),
        ),
        sa.literal_column(f"'{State.CONFLICT}'"),
    ),
    else_=sa.literal_column(f"'{State.STORED}'"),
)
"""State of an instance that is not suspect: a conflict if an earlier file has the same UID and other bytes."""

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
