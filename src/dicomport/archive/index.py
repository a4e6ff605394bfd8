"""The index of an archive: a SQLite database, used through SQLAlchemy Core. `reindex` recreates it from the files."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import insert

from dicomport.archive.records import Record, State
from dicomport.archive.scan.attributes import InstanceFacts
from dicomport.errors import DicomportError
from dicomport.files.locking import locked

_BUSY_SECONDS: Final = 60.0
"""Time to wait for another process's transaction."""

_METADATA: Final = sa.MetaData()

_PATIENTS: Final = sa.Table(
    "patients",
    _METADATA,
    sa.Column("patient_id", sa.String, primary_key=True),
    sa.Column("patient_name", sa.String, nullable=False),
)

_STUDIES: Final = sa.Table(
    "studies",
    _METADATA,
    sa.Column("study_instance_uid", sa.String, primary_key=True),
    sa.Column("patient_id", sa.String, nullable=False, index=True),
    sa.Column("study_date", sa.String, nullable=False, index=True),
    sa.Column("study_time", sa.String, nullable=False),
    sa.Column("accession_number", sa.String, nullable=False, index=True),
    sa.Column("study_description", sa.String, nullable=False),
    sa.ForeignKeyConstraint(["patient_id"], ["patients.patient_id"]),
)

_SERIES: Final = sa.Table(
    "series",
    _METADATA,
    # A series belongs to one study (PS3.3 A.1.2), but a peer may send it in several.
    sa.Column("study_instance_uid", sa.String, primary_key=True),
    sa.Column("series_instance_uid", sa.String, primary_key=True),
    sa.Column("modality", sa.String, nullable=False, index=True),
    sa.Column("series_number", sa.String, nullable=False),
    sa.Column("series_date", sa.String, nullable=False),
    sa.Column("series_description", sa.String, nullable=False),
    sa.ForeignKeyConstraint(["study_instance_uid"], ["studies.study_instance_uid"]),
)

_INSTANCES: Final = sa.Table(
    "instances",
    _METADATA,
    sa.Column("path", sa.String, primary_key=True),
    sa.Column("study_instance_uid", sa.String, nullable=False),
    sa.Column("series_instance_uid", sa.String, nullable=False),
    sa.Column("sop_instance_uid", sa.String, nullable=False, index=True),
    sa.Column("sop_class_uid", sa.String, nullable=False),
    sa.Column("transfer_syntax_uid", sa.String, nullable=False),
    sa.Column("digest", sa.String, nullable=False),
    sa.Column("size", sa.Integer, nullable=False),
    sa.Column("instance_number", sa.String, nullable=False),
    sa.Column("acquisition_date", sa.String, nullable=False),
    sa.Column("content_date", sa.String, nullable=False),
    sa.Column("number_of_frames", sa.Integer),
    sa.Column("rows", sa.Integer),
    sa.Column("columns", sa.Integer),
    sa.Column("specific_character_set", sa.String, nullable=False),
    sa.Column("calling_ae_title", sa.String, nullable=False, index=True),
    sa.Column("address", sa.String, nullable=False),
    sa.Column("received", sa.String, nullable=False),
    sa.Column("state", sa.String, nullable=False),
    sa.ForeignKeyConstraint(
        ["study_instance_uid", "series_instance_uid"], ["series.study_instance_uid", "series.series_instance_uid"]
    ),
)
sa.Index("instances_of_series", _INSTANCES.c.study_instance_uid, _INSTANCES.c.series_instance_uid)


class SchemaError(DicomportError):
    """A later version of dicomport created the index."""


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

    def __init__(self, path: Path) -> None:
        """Open the database and create it if it is missing. Raises `SchemaError`."""
        self._engine: sa.Engine = sa.create_engine(
            f"sqlite:///{path}", connect_args={"timeout": _BUSY_SECONDS, "check_same_thread": False}
        )
        sa.event.listen(self._engine, "connect", _configure)
        sa.event.listen(self._engine, "begin", _begin)
        self._writing = self._engine.execution_options(**{_WRITING: True})
        self._upserts = [_Upsert(table, self._engine.dialect) for table in (_PATIENTS, _STUDIES, _SERIES)]
        self._upsert_instances = _Upsert(_INSTANCES, self._engine.dialect)
        # If several processes open a new archive, one of them creates the database. SQLite's timeout does not apply
        # here: processes that switch a database to WAL at the same time find it locked and fail immediately.
        with locked(path.parent):
            self._migrate()

    def _migrate(self) -> None:
        with self._writing.begin() as connection:
            version = connection.exec_driver_sql("PRAGMA user_version").scalar_one()
            if version > _SCHEMA_VERSION:
                raise SchemaError(f"the index has schema {version}; this dicomport supports {_SCHEMA_VERSION}")
            for migrate in _MIGRATIONS[version:]:
                migrate(connection)
            connection.exec_driver_sql(f"PRAGMA user_version = {_SCHEMA_VERSION}")

    def close(self) -> None:
        """Close the connections to the database."""
        self._engine.dispose()

    def add(self, records: Sequence[Record]) -> None:
        """Add records in one transaction; a record replaces an earlier one with the same path."""
        if not records:
            return
        # The last record determines the attributes of its patient, study and series.
        subjects: dict[object, Record] = {}
        for record in reversed(records):
            subjects.setdefault(_subjects_of(record.facts), record)
        last = list(reversed(subjects.values()))
        with self._writing.begin() as connection:
            for upsert in self._upserts:
                upsert.put(connection, last)
            self._upsert_instances.put(connection, records)
            connection.execute(
                _MARK_CONFLICTS, {"uids": json.dumps([record.facts.sop_instance_uid for record in records])}
            )

    def clear(self) -> None:
        """Remove all rows."""
        with self._writing.begin() as connection:
            for table in reversed(_METADATA.sorted_tables):
                connection.execute(table.delete())

    def find(self, *sop_instance_uids: str) -> list[sa.RowMapping]:
        """Return the instances with these SOP Instance UIDs; several with the same UID are in conflict."""
        query = sa.select(_INSTANCES).where(_INSTANCES.c.sop_instance_uid.in_(sop_instance_uids))
        return self._all(query.order_by(_INSTANCES.c.path))

    def instances(self, filters: Filters) -> list[sa.RowMapping]:
        """Return the instances that match."""
        return self._all(_filtered(sa.select(_INSTANCES), filters).order_by(*_IN_ORDER))

    def series(self, filters: Filters) -> list[sa.RowMapping]:
        """Return the series that match, with the number of their instances and their size in bytes."""
        query = sa.select(_SERIES, *_TOTALS).group_by(_SERIES.c.study_instance_uid, _SERIES.c.series_instance_uid)
        return self._all(_filtered(query, filters).order_by(*_IN_ORDER[:2]))

    def studies(self, filters: Filters) -> list[sa.RowMapping]:
        """Return the studies that match, with patient, number of series and instances, and size in bytes."""
        number_of_series = sa.func.count(_INSTANCES.c.series_instance_uid.distinct()).label("number_of_series")
        columns = (*_STUDIES.c, _PATIENTS.c.patient_name, number_of_series, *_TOTALS)
        query = sa.select(*columns).group_by(_STUDIES.c.study_instance_uid)
        return self._all(_filtered(query, filters).order_by(_STUDIES.c.study_date, _STUDIES.c.study_instance_uid))

    def _all(self, query: sa.Select[Any]) -> list[sa.RowMapping]:
        with self._engine.connect() as connection:
            return list(connection.execute(query).mappings())


_WRITING: Final = "dicomport_writing"

_IN_ORDER: Final = (
    _INSTANCES.c.study_instance_uid,
    _INSTANCES.c.series_instance_uid,
    _INSTANCES.c.sop_instance_uid,
    _INSTANCES.c.path,
)

_TOTALS: Final = (
    sa.func.count(_INSTANCES.c.path).label("number_of_instances"),
    sa.func.sum(_INSTANCES.c.size).label("size"),
)


def _configure(connection: Any, _record: object) -> None:
    """Configure a connection: only `_begin` begins transactions, and readers don't wait for the writer."""
    connection.isolation_level = None
    for pragma in ("journal_mode = WAL", "synchronous = NORMAL", "foreign_keys = ON"):
        connection.execute(f"PRAGMA {pragma}")


def _begin(connection: sa.Connection) -> None:
    # A transaction that will write locks the database first: SQLite does not wait for a lock in mid-transaction.
    writing = connection.get_execution_options().get(_WRITING, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")


def _create_tables(connection: sa.Connection) -> None:
    _METADATA.create_all(connection)


_MIGRATIONS: Final[tuple[Callable[[sa.Connection], None], ...]] = (_create_tables,)
"""Migrations from each schema version to the next."""

_SCHEMA_VERSION: Final = len(_MIGRATIONS)


class _Upsert:
    """Adds records to one table and updates existing rows.

    The statement is compiled once: SQLAlchemy's work for each row takes three times as long as storing it.
    """

    def __init__(self, table: sa.Table, dialect: sa.Dialect) -> None:
        values: dict[str, sa.ColumnElement[Any]] = {column.name: sa.bindparam(column.name) for column in table.c}
        if table is _INSTANCES:
            values["state"] = _FIRST_STATE
        statement = insert(table).values(values)
        changed = {column.name: statement.excluded[column.name] for column in table.c if not column.primary_key}
        upsert = statement.on_conflict_do_update(index_elements=list(table.primary_key), set_=changed)
        compiled = upsert.compile(dialect=dialect)
        self._statement = str(compiled)
        self._values = attrgetter(*map(_attribute, compiled.positiontup or ()))

    def put(self, connection: sa.Connection, records: Iterable[Record]) -> None:
        """Add records."""
        connection.exec_driver_sql(self._statement, list(map(self._values, records)))


_FIRST_STATE: Final = sa.case(
    (sa.bindparam("suspect"), sa.literal_column(f"'{State.SUSPECT}'")), else_=sa.literal_column(f"'{State.STORED}'")
)
"""State of a new row, until `_MARK_CONFLICTS` compares it with other instances."""

_FACTS: Final = frozenset(field.name for field in dataclasses.fields(InstanceFacts))

_subjects_of: Final = attrgetter("patient_id", "study_instance_uid", "series_instance_uid")


def _attribute(column: str) -> str:
    """Return the path of the attribute of a record that has a column's value."""
    return f"facts.{column}" if column in _FACTS else column


_EARLIER: Final = _INSTANCES.alias("earlier")
_UIDS: Final = sa.func.json_each(sa.bindparam("uids")).table_valued("value")

_MARK_CONFLICTS: Final = (
    _INSTANCES.update()
    .where(
        _INSTANCES.c.sop_instance_uid.in_(sa.select(_UIDS.c.value)),
        _INSTANCES.c.state == State.STORED.value,
        sa.exists().where(
            _EARLIER.c.sop_instance_uid == _INSTANCES.c.sop_instance_uid,
            _EARLIER.c.digest != _INSTANCES.c.digest,
            _EARLIER.c.path != _INSTANCES.c.path,
            sa.tuple_(_EARLIER.c.received, _EARLIER.c.path) < sa.tuple_(_INSTANCES.c.received, _INSTANCES.c.path),
        ),
    )
    .values(state=State.CONFLICT.value)
)
"""Mark the instances with these UIDs for which an earlier file has the same UID and other bytes."""


def _filtered(query: sa.Select[Any], filters: Filters) -> sa.Select[Any]:
    """Join all tables and select the rows that match."""
    joined = _INSTANCES.join(_SERIES).join(_STUDIES).join(_PATIENTS)
    query = query.select_from(joined)
    for column, wanted in (
        (_STUDIES.c.patient_id, filters.patient_id),
        (_STUDIES.c.study_instance_uid, filters.study_instance_uid),
        (_SERIES.c.modality, filters.modality),
        (_INSTANCES.c.calling_ae_title, filters.calling_ae_title),
    ):
        if wanted:
            query = query.where(column == wanted)
    if filters.study_date:
        first, dash, last = filters.study_date.partition("-")
        # A study without a date is outside every range.
        query = query.where(_STUDIES.c.study_date >= (first or "0"))
        upper = last if dash else first
        query = query.where(_STUDIES.c.study_date <= upper) if upper else query
    return query
