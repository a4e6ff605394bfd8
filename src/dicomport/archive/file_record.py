"""The record of a stored file, as its content states it."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Final

from dicomport.archive.checks import Check, Checks, Policy, with_request_uids
from dicomport.archive.digests import CHUNK_BYTES, Digested
from dicomport.archive.paths import Paths
from dicomport.archive.records import Record, received_at
from dicomport.archive.scan.scanner import Scanner
from dicomport.files import find_file_meta, open_regular, read_range, system

Progress = Callable[[int], object]
"""Called with the size of each part of a data set after it was read, bytes."""

_ACCEPTING: Final = Checks(dict.fromkeys(Check, Policy.ACCEPT))


def record_of(paths: Paths, path: Path, progress: Progress = lambda _: None) -> Record:
    """Read a file and return its record. Raises `OSError` and `FileMetaError`."""
    # One descriptor for everything: another file may replace this one at any time.
    descriptor, entry = open_regular(path)
    try:
        meta, offset = find_file_meta(lambda size: system.pread(descriptor, size, 0))
        header = system.pread(descriptor, offset, 0)
        scanner = Scanner(meta.transfer_syntax_uid)
        data_set = Digested(read_range(descriptor, offset, entry.st_size - offset, CHUNK_BYTES))
        for chunk in data_set:
            scanner.feed(chunk)
            progress(len(chunk))
    finally:
        system.close(descriptor)
    scan = scanner.finish()
    requested = meta.media_storage_sop_class_uid, meta.media_storage_sop_instance_uid
    status, _ = _ACCEPTING.check(scan, *requested)
    attributes = with_request_uids(scan.attributes, *requested)
    return Record(
        path=path.relative_to(paths.root).as_posix(),
        inode=entry.st_ino,
        attributes=attributes,
        digest=data_set.digest,
        size=entry.st_size - offset,
        header_crc32=zlib.crc32(header),
        transfer_syntax_uid=meta.transfer_syntax_uid,
        calling_ae_title=meta.source_ae_title,
        address=meta.source_presentation_address.removeprefix("dicom:"),
        received=received_at(entry),
        suspect=status is not None,
    )
