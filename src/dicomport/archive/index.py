"""The index of an archive: a SQLite database, used through SQLAlchemy Core. `reindex` recreates it from the files."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from blake3 import blake3
from sqlalchemy.dialects.sqlite import insert

from dicomport.archive.records import Record, State
from dicomport.archive.scan.attributes import InstanceAttributes
from dicomport.archive.schema import INSTANCES, METADATA, SCHEMA_VERSION, SERIES
from dicomport.errors import DicomportError
from dicomport.files.locking import locked

_BUSY_SECONDS: Final = 60.0
"""Time to wait for another process's transaction."""


class SchemaError(DicomportError):
    """Another version of dicomport created the index."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """Filters of a list; an empty filter matches everything. Values other than `study_date` are compared as a whole."""

    patient_id: str = ""
    study_instance_uid: str = ""
    study_date: str = ""
    """A date, "20260102", or a range, "20260101-20260131", "20260101-" or "-20260131" (PS3.4 C.2.2.2.5)."""
    modality: str = ""
    calling_ae_title: str = ""


class Index:
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

    def find(self, *sop_instance_uids: str) -> list[sa.RowMapping]:
        """Return the instances with these SOP Instance UIDs; several with the same UID are in conflict."""
        query = _ALL.select_from(_JOINED).where(INSTANCES.c.sop_instance_uid.in_(sop_instance_uids))
        return self._all(query.order_by(INSTANCES.c.path))

    def instances(self, filters: Filters) -> list[sa.RowMapping]:
        """Return the instances that match, with the attributes of patient, study and series that they state."""
        return self._all(_filtered(_ALL, filters).order_by(*_IN_ORDER))

    def series(self, filters: Filters) -> list[sa.RowMapping]:
        """Return the series that match, with the number of their instances and their size in bytes.

        If instances of a series state different values, the row has the greatest of each.
        """
        group = SERIES.c.study_instance_uid, SERIES.c.series_instance_uid
        return self._all(_filtered(_grouped(group, _OF_SERIES), filters).order_by(*group))

    def studies(self, filters: Filters) -> list[sa.RowMapping]:
        """Return the studies that match, with patient, number of series and instances, and size in bytes.

        A study whose instances state several Patient IDs has a row for each, with `patient_conflict` set. If instances
        state other different values, the row has the greatest of each.
        """
        group = SERIES.c.study_instance_uid, SERIES.c.patient_id
        number_of_series = sa.func.count(SERIES.c.series_instance_uid.distinct()).label("number_of_series")
        query = _grouped(group, _OF_STUDY).add_columns(number_of_series, _PATIENT_CONFLICT)
        ordered = sa.func.max(SERIES.c.study_date), *group
        return self._all(_filtered(query, filters).order_by(*ordered))

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


_OTHER_SERIES: Final = SERIES.alias("other_series")
_OTHER_INSTANCE: Final = INSTANCES.alias("other_instance")

_PATIENT_CONFLICT: Final = sa.and_(
    SERIES.c.patient_id != "",
    sa.exists().where(
        _OTHER_SERIES.c.study_instance_uid == SERIES.c.study_instance_uid,
        _OTHER_SERIES.c.patient_id.not_in(("", SERIES.c.patient_id)),
        # The values of replaced instances stay.
        _OTHER_INSTANCE.c.series_key == _OTHER_SERIES.c.series_key,
    ),
).label("patient_conflict")
"""Whether an instance of the same study states another Patient ID."""

_ALL: Final = sa.select(
    *(column for column in INSTANCES.c if column is not INSTANCES.c.series_key),
    *(column for column in SERIES.c if column is not SERIES.c.series_key),
    _PATIENT_CONFLICT,
)
"""All attributes of instances."""

_JOINED: Final = INSTANCES.join(SERIES)

_IN_ORDER: Final = (
    SERIES.c.study_instance_uid,
    SERIES.c.series_instance_uid,
    INSTANCES.c.sop_instance_uid,
    INSTANCES.c.path,
)

_OF_STUDY: Final = ("patient_name", "study_date", "study_time", "accession_number", "study_description")
_OF_SERIES: Final = ("modality", "series_number", "series_date", "series_description")


def _grouped(group: Sequence[sa.Column[Any]], attributes: Iterable[str]) -> sa.Select[Any]:
    """Select groups of instances, with one value of each attribute, their number and size."""
    return sa.select(
        *group,
        *(sa.func.max(SERIES.c[name]).label(name) for name in attributes),
        sa.func.count(INSTANCES.c.path).label("number_of_instances"),
        sa.func.sum(INSTANCES.c.size).label("size"),
    ).group_by(*group)


def _filtered(query: sa.Select[Any], filters: Filters) -> sa.Select[Any]:
    """Join the tables and select the rows that match."""
    query = query.select_from(_JOINED)
    for column, wanted in (
        (SERIES.c.patient_id, filters.patient_id),
        (SERIES.c.study_instance_uid, filters.study_instance_uid),
        (SERIES.c.modality, filters.modality),
        (INSTANCES.c.calling_ae_title, filters.calling_ae_title),
    ):
        if wanted:
            query = query.where(column == wanted)
    if filters.study_date:
        first, dash, last = filters.study_date.partition("-")
        # A study without a date is outside every range.
        query = query.where(SERIES.c.study_date >= (first or "0"))
        upper = last if dash else first
        query = query.where(SERIES.c.study_date <= upper) if upper else query
    return query
