"""Queries of the index."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any, Final, TypeVar

import sqlalchemy as sa

from dicomport.archive.database.schema import INSTANCES, SERIES
from dicomport.archive.records import State
from dicomport.values import frozen

T = TypeVar("T")

MAX_BATCH: Final = 500
"""Limit of instances in one query or transaction."""


@frozen(kw_only=True)
class Filters:
    """Filters of a list; an empty filter matches everything. Values other than `study_date` are compared as a whole."""

    patient_id: str = ""
    study_instance_uid: str = ""
    study_date: str = ""
    """A date, "20260102", or a range, "20260101-20260131", "20260101-" or "-20260131" (PS3.4 C.2.2.2.5)."""
    modality: str = ""
    calling_ae_title: str = ""


class Queries:
    """Lists the content of an index; a subclass runs the statements."""

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

    def count(self) -> int:
        """Return the number of instances."""
        [row] = self._all(sa.select(sa.func.count().label("number")).select_from(INSTANCES))
        return int(row["number"])

    def at(self, paths: Collection[str]) -> dict[str, dict[str, Any]]:
        """Return the instances with these paths, by path, with the `expected_state` of those that are not suspect."""
        query = _ALL.add_columns(STATE.label("expected_state")).select_from(_JOINED)
        rows = self._all(query.where(INSTANCES.c.path.in_(paths)))
        return {row["path"]: dict(row) for row in rows}

    def paths_after(self, path: str, number: int) -> list[str]:
        """Return the next paths of the index in their order, at most `number`."""
        query = sa.select(INSTANCES.c.path).where(INSTANCES.c.path > path).order_by(INSTANCES.c.path).limit(number)
        return [row["path"] for row in self._all(query)]

    def patient_conflicts(self) -> list[sa.RowMapping]:
        """Return the studies whose instances have several Patient IDs, with their number and the first path."""
        patients = sa.func.count(SERIES.c.patient_id.distinct())
        study = SERIES.c.study_instance_uid
        query = sa.select(study, patients.label("number_of_patients"), sa.func.min(INSTANCES.c.path).label("path"))
        query = query.select_from(_JOINED).where(SERIES.c.patient_id != "", study != "")
        return self._all(query.group_by(study).having(patients > 1).order_by(study))

    def _all(self, query: sa.Select[Any]) -> list[sa.RowMapping]:
        """Run a query and return its rows."""
        raise NotImplementedError


_EARLIER: Final = INSTANCES.alias("earlier")

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

_OTHER_SERIES: Final = SERIES.alias("other_series")
_OTHER_INSTANCE: Final = INSTANCES.alias("other_instance")

_PATIENT_CONFLICT: Final = sa.and_(
    SERIES.c.patient_id != "",
    SERIES.c.study_instance_uid != "",
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


def batched(items: Iterable[T]) -> Iterator[list[T]]:
    """Split items into lists for one query or transaction."""
    iterator = iter(items)
    while batch := list(itertools.islice(iterator, MAX_BATCH)):
        yield batch
