"""The record of an instance: a line of the journal, a row of the index."""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import functools
import json
import os
import stat
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from operator import attrgetter
from pathlib import Path
from typing import Final

from dicomport.archive.digests import has_digest
from dicomport.archive.scan.attributes import InstanceAttributes
from dicomport.values import frozen


class State(enum.StrEnum):
    """State of an archived instance."""

    STORED = "stored"
    CONFLICT = "conflict"
    """An earlier instance has the same SOP Instance UID and other bytes."""
    SUSPECT = "suspect"
    """The instance was accepted despite failed checks."""


@frozen(kw_only=True)
class Record:
    """An instance in the archive."""

    path: str
    """Relative to the archive, with slashes."""
    inode: int
    """Inode number of the file; identifies it, because another file may have replaced it at `path`."""
    attributes: InstanceAttributes
    digest: str
    """BLAKE3 of the data set's bytes, hexadecimal."""
    size: int
    """Length of the data set, bytes."""
    header_crc32: int
    """CRC-32 of the file's preamble and File Meta Information."""
    transfer_syntax_uid: str
    calling_ae_title: str
    address: str
    received: str
    """UTC, ISO 8601."""
    suspect: bool = False
    """Whether the instance was accepted despite failed checks."""

    def to_json(self) -> str:
        """Return the record as one line: its own values, then those that the instances of a series share."""
        texts = _quoted(self.path), _quoted(self.attributes.sop_instance_uid), _quoted(self.attributes.instance_number)
        own = f'{self.inode},"{self.digest}",{self.size},{self.header_crc32},"{self.received}"'
        return f"[{','.join(texts)},{own},{_encoded(_common_of(self))}]"

    @classmethod
    def from_json(cls, line: str) -> Record:
        """Parse a line. Raises `ValueError` if it is invalid, such as the incomplete last line of a journal."""
        try:
            values = json.loads(line)
        except RecursionError:
            raise ValueError("not a record") from None
        if not isinstance(values, list) or len(values) != _VALUES or not isinstance(values[-1], list):
            raise ValueError("not a record")
        path, sop_instance_uid, instance_number, inode, digest, size, header_crc32, received, common = values
        if len(common) != len(_COMMON) or not all(isinstance(value, _SCALARS) for value in (*values[:-1], *common)):
            raise ValueError("not a record")
        if not isinstance(path, str) or "\0" in path:
            raise ValueError("not a record")
        others = dict(zip(_COMMON, common, strict=True))
        attributes = {name: others.pop(name) for name in _COMMON_ATTRIBUTES}
        return cls(
            path=path,
            inode=inode,
            attributes=InstanceAttributes(
                sop_instance_uid=sop_instance_uid, instance_number=instance_number, **attributes
            ),
            digest=digest,
            size=size,
            header_crc32=header_crc32,
            received=received,
            **others,
        )


def records_in(lines: Iterable[str]) -> Iterator[Record]:
    """Parse lines, and skip those that are not records, such as a line whose process died while it wrote it."""
    for line in lines:
        with contextlib.suppress(ValueError):
            yield Record.from_json(line)


_SCALARS: Final = (str, int, type(None))
_VALUES: Final = 9
"""Number of values in a line."""
_COMMON_ATTRIBUTES: Final = tuple(
    field.name
    for field in dataclasses.fields(InstanceAttributes)
    if field.name not in ("sop_instance_uid", "instance_number")
)
_COMMON: Final = ("transfer_syntax_uid", "calling_ae_title", "address", "suspect", *_COMMON_ATTRIBUTES)
_common_of: Final = attrgetter(*_COMMON[:4], *(f"attributes.{name}" for name in _COMMON_ATTRIBUTES))
_quoted: Final = json.JSONEncoder().encode


@functools.lru_cache(maxsize=64)
def _encoded(values: tuple[object, ...]) -> str:
    """Encode values; cached for the other instances of the series."""
    return json.dumps(values, separators=(",", ":"))


def iso_time(microseconds: int) -> str:
    """Format a time, in microseconds since 1970, as UTC in ISO 8601."""
    seconds, rest = divmod(microseconds, 1_000_000)
    return f"{_iso_second(seconds)}.{rest:06}+00:00"


@functools.lru_cache(maxsize=8)
def _iso_second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None).isoformat()


def received_at(entry: os.stat_result) -> str:
    """Return the time of receipt, which is the file's modification time, in the format of `iso_time`."""
    return iso_time(entry.st_mtime_ns // 1000)


def is_absence(error: OSError) -> bool:
    """Return whether an error states that a file does not exist. Any other error, such as of permissions, does not."""
    return isinstance(error, FileNotFoundError | NotADirectoryError)


def has_inode(root: Path, record: Record) -> bool:
    """Return whether the file at a record's path exists and has its inode number. Raises `OSError` if unknown."""
    try:
        return (root / record.path).stat(follow_symlinks=False).st_ino == record.inode
    except OSError as error:
        if is_absence(error):
            return False
        raise


def is_visible(root: Path, record: Record) -> bool:
    """Return whether a record's file is visible; a later file may have the same inode number, but not the same time.

    Some network file systems change inode numbers: then the digest identifies the file. Raises `OSError` if the file
    cannot be examined: it may be visible, and acknowledged.
    """
    path = root / record.path
    try:
        status = path.stat(follow_symlinks=False)
        if not stat.S_ISREG(status.st_mode) or received_at(status) != record.received:
            return False
        return status.st_ino == record.inode or has_digest(path, record.digest)
    except OSError as error:
        if is_absence(error):
            return False
        raise


def may_be_visible(root: Path, record: Record) -> bool:
    """Return whether a record's file is visible, or cannot be examined."""
    try:
        return is_visible(root, record)
    except OSError:
        return True
