"""What the archive knows of one instance beside its bytes: a line of the journal, a row of the index."""

from __future__ import annotations

import dataclasses
import enum
import functools
import json
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from operator import attrgetter
from typing import Final

from dicomport.archive.scan.scanner import InstanceFacts

__all__ = ["Record", "State", "iso_time", "received_at"]


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
        """Write the record as one line: what is its own, and then what the instances of a series have in common."""
        own = _quoted(self.path), _quoted(self.facts.sop_instance_uid), _quoted(self.facts.instance_number)
        rest = _encoded(_common_of(self))
        return f'[{",".join(own)},{self.inode},"{self.digest}",{self.size},"{self.received}",{rest}]'

    @classmethod
    def from_json(cls, line: str) -> Record:
        """Read a line. Raises `ValueError` for one that is none, such as the torn last line of a journal."""
        values = json.loads(line)
        if not isinstance(values, list) or len(values) != _VALUES or not isinstance(values[-1], list):
            raise ValueError("not a record")
        path, sop_instance_uid, instance_number, inode, digest, size, received, common = values
        if len(common) != len(_COMMON):
            raise ValueError("not a record")
        others = dict(zip(_COMMON, common, strict=True))
        facts = {name: others.pop(name) for name in _COMMON_FACTS}
        return cls(
            path=path,
            inode=inode,
            facts=InstanceFacts(sop_instance_uid=sop_instance_uid, instance_number=instance_number, **facts),
            digest=digest,
            size=size,
            received=received,
            **others,
        )


_VALUES: Final = 8
"""Of a line."""
_COMMON_FACTS: Final = tuple(
    field.name
    for field in dataclasses.fields(InstanceFacts)
    if field.name not in ("sop_instance_uid", "instance_number")
)
_COMMON: Final = ("transfer_syntax_uid", "calling_ae_title", "address", "suspect", *_COMMON_FACTS)
_common_of: Final = attrgetter(*_COMMON[:4], *(f"facts.{name}" for name in _COMMON_FACTS))
_quoted: Final = json.JSONEncoder().encode


@functools.lru_cache(maxsize=64)
def _encoded(values: tuple[object, ...]) -> str:
    """Encode values, unless that was done for an instance before."""
    return json.dumps(values, separators=(",", ":"))


def iso_time(microseconds: int) -> str:
    """Write a time, in microseconds since 1970: in UTC, ISO 8601."""
    seconds, rest = divmod(microseconds, 1_000_000)
    return f"{_iso_second(seconds)}.{rest:06}+00:00"


@functools.lru_cache(maxsize=8)
def _iso_second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None).isoformat()


def received_at(entry: os.stat_result) -> str:
    """Tell when an instance came, by the time of its file's last change, as `iso_time` writes it."""
    return iso_time(entry.st_mtime_ns // 1000)
