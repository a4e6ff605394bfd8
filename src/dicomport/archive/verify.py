"""Comparison of the files with the index."""

from __future__ import annotations

import enum
import os
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from blake3 import blake3

from dicomport.archive.checks import Check, Checks, Policy, with_request_uids
from dicomport.archive.database.queries import Filters
from dicomport.archive.digests import CHUNK_BYTES, data_set_digest
from dicomport.archive.index import Index
from dicomport.archive.paths import Paths
from dicomport.archive.records import Record, received_at
from dicomport.archive.scan.scanner import Scanner
from dicomport.files import find_file_meta, open_regular, read_range, system
from dicomport.wire import FileMetaError

Progress = Callable[[int], object]
"""Called with the size of each data set after it was read, bytes."""


class DiscrepancyKind(enum.StrEnum):
    """Kinds of discrepancies between files and index."""

    FILE_MISSING = "in the index, but the file does not exist"
    FILE_UNREADABLE = "the file can't be read"
    FILE_CHANGED = "the data set differs from the received data set"
    ROW_MISSING = "the file exists, but it is not in the index"


@dataclass(frozen=True, slots=True)
class Discrepancy:
    """A discrepancy between a file and the index."""

    path: str
    kind: DiscrepancyKind
    detail: str = ""


def verify(paths: Paths, index: Index, progress: Progress) -> Iterator[Discrepancy]:
    """Read each file and compare its digest with the index; yield the discrepancies."""
    rows = {str(row["path"]): row for row in index.instances(Filters())}
    for path in files_of(paths):
        relative = path.relative_to(paths.root).as_posix()
        row = rows.pop(relative, None)
        if row is None:
            yield Discrepancy(relative, DiscrepancyKind.ROW_MISSING)
            continue
        try:
            digest, size = data_set_digest(path)
        except (OSError, FileMetaError) as error:
            yield Discrepancy(relative, DiscrepancyKind.FILE_UNREADABLE, str(error))
            continue
        if digest != row["digest"]:
            yield Discrepancy(relative, DiscrepancyKind.FILE_CHANGED, f"{size} bytes; received {row['size']} bytes")
        progress(size)
    for relative in rows:
        yield Discrepancy(relative, DiscrepancyKind.FILE_MISSING)


def record_of(paths: Paths, path: Path) -> Record:
    """Read a file and return its record. Raises `OSError` and `FileMetaError`."""
    # One descriptor for everything: another file may replace this one at any time.
    descriptor, entry = open_regular(path)
    try:
        meta, offset = find_file_meta(lambda size: system.pread(descriptor, size, 0))
        header = system.pread(descriptor, offset, 0)
        scanner, digest = Scanner(meta.transfer_syntax_uid), blake3()
        for chunk in read_range(descriptor, offset, entry.st_size - offset, CHUNK_BYTES):
            scanner.feed(chunk)
            digest.update(chunk)
    finally:
        system.close(descriptor)
    scan = scanner.finish()
    requested = meta.media_storage_sop_class_uid, meta.media_storage_sop_instance_uid
    status, _ = _ACCEPTING.check(scan, *requested)
    facts = scan.facts if status is None else with_request_uids(scan.facts, *requested)
    return Record(
        path=path.relative_to(paths.root).as_posix(),
        inode=entry.st_ino,
        facts=facts,
        digest=digest.hexdigest(),
        size=entry.st_size - offset,
        header_crc32=zlib.crc32(header),
        transfer_syntax_uid=meta.transfer_syntax_uid,
        calling_ae_title=meta.source_ae_title,
        address=meta.source_presentation_address.removeprefix("dicom:"),
        received=received_at(entry),
        suspect=status is not None,
    )


_ACCEPTING: Final = Checks(dict.fromkeys(Check, Policy.ACCEPT))


def files_of(paths: Paths) -> Iterator[Path]:
    """Yield the files of all instances, sorted by path; names of the archive's other files begin with a dot."""
    for folder, folders, names in os.walk(paths.root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(folder, name) for name in sorted(names) if name.endswith(".dcm") and not name.startswith("."))


def has_instances(paths: Paths) -> bool:
    """Return whether the archive has a file of an instance."""
    return next(files_of(paths), None) is not None
