"""The tables of the index.

Theory of operation: each instance has its own row, and refers to a row with the attributes of its patient, study
and series, as this instance states them. The instances of a series nearly always state the same, and then share that
row: its key is a digest of its values. So an instance with another Patient ID, date or modality has its own values, and
changes nothing for the others. Lists of studies and series are calculated from both tables.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from operator import attrgetter
from typing import Any, Final

import sqlalchemy as sa

from dicomport.archive.records import Record
from dicomport.archive.scan.attributes import InstanceAttributes

SCHEMA_VERSION: Final = 2
"""Version of the tables. `reindex` replaces an index of an older version."""

METADATA: Final = sa.MetaData()

SERIES: Final = sa.Table(
    "series",
    METADATA,
    sa.Column("series_key", sa.String, primary_key=True),
    sa.Column("study_instance_uid", sa.String, nullable=False, index=True),
    sa.Column("series_instance_uid", sa.String, nullable=False),
    sa.Column("patient_id", sa.String, nullable=False, index=True),
    sa.Column("patient_name", sa.String, nullable=False),
    sa.Column("study_date", sa.String, nullable=False, index=True),
    sa.Column("study_time", sa.String, nullable=False),
    sa.Column("accession_number", sa.String, nullable=False, index=True),
    sa.Column("study_description", sa.String, nullable=False),
    sa.Column("modality", sa.String, nullable=False, index=True),
    sa.Column("series_number", sa.String, nullable=False),
    sa.Column("series_date", sa.String, nullable=False),
    sa.Column("series_description", sa.String, nullable=False),
)
"""Attributes of patient, study and series as one or more instances state them."""

INSTANCES: Final = sa.Table(
    "instances",
    METADATA,
    sa.Column("path", sa.String, primary_key=True),
    sa.Column("series_key", sa.String, sa.ForeignKey(SERIES.c.series_key), nullable=False, index=True),
    sa.Column("sop_instance_uid", sa.String, nullable=False, index=True),
    sa.Column("sop_class_uid", sa.String, nullable=False),
    sa.Column("transfer_syntax_uid", sa.String, nullable=False),
    sa.Column("digest", sa.String, nullable=False),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("header_crc32", sa.BigInteger, nullable=False),
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
)

_ATTRIBUTES: Final = frozenset(field.name for field in dataclasses.fields(InstanceAttributes))
_SHARED: Final = tuple(column.name for column in SERIES.c if column is not SERIES.c.series_key)
_OWN: Final = tuple(column.name for column in INSTANCES.c if column.name not in ("path", "series_key", "state"))


def _attributes(names: Iterable[str]) -> attrgetter[tuple[Any, ...]]:
    return attrgetter(*(f"attributes.{name}" if name in _ATTRIBUTES else name for name in names))


shared_values: Final = _attributes(_SHARED)
"""Return a record's values for the columns of `SERIES`, without the key."""
own_values: Final = _attributes(_OWN)
"""Return a record's values for the columns of `INSTANCES`, without path, key and state."""


def columns_of(record: Record) -> dict[str, Any]:
    """Return a record's values by column; the state is missing, as it depends on other instances."""
    own = dict(zip(_OWN, own_values(record), strict=True))
    return own | dict(zip(_SHARED, shared_values(record), strict=True))
