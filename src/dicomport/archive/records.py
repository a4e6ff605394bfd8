"""What the archive knows of one instance beside its bytes: a line of the journal, a row of the index."""

from __future__ import annotations

import dataclasses
import enum
import json
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from operator import attrgetter
from typing import Final

from dicomport.archive.scanner import InstanceFacts

__all__ = ["Record", "State", "came_at"]


class State(enum.StrEnum):
    """What an archived instance is to its fellows."""

    STORED = "stored"
    CONFLICT = "conflict"
    """Another instance has the same SOP Instance UID and other bytes; this one came later."""
    SUSPECT = "suspect"
    """Its content did not pass the checks, and it was accepted all the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One instance in the archive."""

    path: str
    """Relative to the archive, with slashes."""
    inode: int
    """Of the file: it tells whether the file at `path` is the one that this record was written for."""
    facts: InstanceFacts
    digest: str
    """BLAKE3 of the data set's bytes, hexadecimal."""
    size: int
    """Length of the data set, bytes."""
    transfer_syntax_uid: str
    calling_ae_title: str
    address: str
    received: str
    """UTC, ISO 8601."""
    suspect: bool = False
    """Whether its content did not pass the checks, and it was accepted all the same."""

    def to_json(self) -> str:
        """Write the record as one line: its values, in the order of the fields, and those of the facts last."""
        return _encode(_values_of(self))

    @classmethod
    def from_json(cls, line: str) -> Record:
        """Read a line. Raises `ValueError` for one that is none, such as the torn last line of a journal."""
        values = json.loads(line)
        if not isinstance(values, list) or len(values) != len(_OTHERS) + len(_FACTS):
            raise ValueError("not a record")
        others = dict(zip(_OTHERS, values, strict=False))
        return cls(**others, facts=InstanceFacts(**dict(zip(_FACTS, values[len(_OTHERS) :], strict=True))))


_FACTS: Final = tuple(field.name for field in dataclasses.fields(InstanceFacts))
_OTHERS: Final = tuple(field.name for field in dataclasses.fields(Record) if field.name != "facts")
_values_of: Final = attrgetter(*_OTHERS, *(f"facts.{name}" for name in _FACTS))
_encode: Final = json.JSONEncoder(separators=(",", ":")).encode


def came_at(entry: os.stat_result) -> str:
    """Tell when an instance came, by the time of its file's last change: in UTC, to the microsecond, ISO 8601."""
    return datetime.fromtimestamp(entry.st_mtime_ns // 1000 / 1_000_000, UTC).isoformat(timespec="microseconds")
