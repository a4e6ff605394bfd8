"""The files against the index: `verify` compares them, `reindex` makes the index again from the files alone."""

from __future__ import annotations

import enum
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from blake3 import blake3

from dicomport.archive.checks import Check, Checks, Policy, completed
from dicomport.archive.index import Filters, Index
from dicomport.archive.paths import Paths
from dicomport.archive.records import Record, received_at
from dicomport.archive.scan.scanner import Scanner
from dicomport.files import read_part10
from dicomport.wire import FileMetaError

__all__ = ["Finding", "FindingKind", "files_of", "record_of", "reindex", "verify"]

_CHUNK_BYTES: Final = 1 << 20
_BATCH: Final = 500

Progress = Callable[[int], object]
"""Called with the length, in bytes, of what has just been read."""


class FindingKind(enum.StrEnum):
    """What can be wrong with an archive."""

    FILE_MISSING = "in the index, but there is no such file"
    FILE_UNREADABLE = "the file can't be read"
    FILE_CHANGED = "the data set is not the one that was received"
    ROW_MISSING = "there is a file, but it is not in the index"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong."""

    path: str
    kind: FindingKind
    detail: str = ""


def verify(paths: Paths, index: Index, progress: Progress) -> Iterator[Finding]:
    """Read every file and compare its digest with the index; give what is wrong."""
    rows = {str(row["path"]): row for row in index.instances(Filters())}
    for path in files_of(paths):
        relative = path.relative_to(paths.root).as_posix()
        row = rows.pop(relative, None)
        if row is None:
            yield Finding(relative, FindingKind.ROW_MISSING)
            continue
        try:
            digest, size = _digest(path)
        except (OSError, FileMetaError) as error:
            yield Finding(relative, FindingKind.FILE_UNREADABLE, str(error))
            continue
        if digest != row["digest"]:
            yield Finding(relative, FindingKind.FILE_CHANGED, f"{size} bytes, {row['size']} were received")
        progress(size)
    for relative in rows:
        yield Finding(relative, FindingKind.FILE_MISSING)


def reindex(paths: Paths, index: Index, progress: Progress) -> Iterator[Finding]:
    """Make the index again from the files alone; give those that can't be read.

    What is not in the data set is in the file: who sent it in the file meta, when it came in its time of last change.
    """
    records: list[Record] = []
    for path in files_of(paths):
        try:
            record = record_of(paths, path)
        except (OSError, FileMetaError) as error:
            yield Finding(path.relative_to(paths.root).as_posix(), FindingKind.FILE_UNREADABLE, str(error))
            continue
        records.append(record)
        progress(record.size)
    # In the order in which they came, so that of two in conflict the same one is the first.
    records.sort(key=lambda record: (record.received, record.path))
    index.clear()
    for start in range(0, len(records), _BATCH):
        index.add(records[start : start + _BATCH])


def record_of(paths: Paths, path: Path) -> Record:
    """Read what the index says of a file. Raises `OSError` and `FileMetaError`."""
    file = read_part10(path)
    scanner, digest = Scanner(file.meta.transfer_syntax_uid), blake3()
    for chunk in file.chunks(_CHUNK_BYTES):
        scanner.feed(chunk)
        digest.update(chunk)
    scan = scanner.finish()
    asked_class, asked_instance = file.meta.media_storage_sop_class_uid, file.meta.media_storage_sop_instance_uid
    status, _ = _ACCEPTING.judge(scan, asked_class, asked_instance)
    facts = scan.facts if status is None else completed(scan.facts, asked_class, asked_instance)
    entry = path.stat()
    return Record(
        path=path.relative_to(paths.root).as_posix(),
        inode=entry.st_ino,
        facts=facts,
        digest=digest.hexdigest(),
        size=file.size,
        transfer_syntax_uid=file.meta.transfer_syntax_uid,
        calling_ae_title=file.meta.source_ae_title,
        address=file.meta.source_presentation_address.removeprefix("dicom:"),
        received=received_at(entry),
        suspect=status is not None,
    )


_ACCEPTING: Final = Checks(dict.fromkeys(Check, Policy.ACCEPT))


def files_of(paths: Paths) -> Iterator[Path]:
    """Give the files of all instances, in the order of their names; what begins with a dot is the archive's own."""
    for folder, folders, names in os.walk(paths.root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(folder, name) for name in sorted(names) if name.endswith(".dcm") and not name.startswith("."))


def _digest(path: Path) -> tuple[str, int]:
    file, digest = read_part10(path), blake3()
    for chunk in file.chunks(_CHUNK_BYTES):
        digest.update(chunk)
    return digest.hexdigest(), file.size
