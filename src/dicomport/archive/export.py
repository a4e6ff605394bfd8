"""Export a study from the archive to a folder or a zip file.

Theory of operation: the copy is built beside its destination, under a temporary name. The digest of each file is
compared with the index while the file is copied. When all files are copied, the destination's name is reserved with an
empty folder or file, and the copy is renamed over it. So the destination is complete or missing. If anything fails, the
temporary name is removed.
"""

from __future__ import annotations

import contextlib
import os
import stat
import time
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from dicomport.archive.database.queries import Filters, Queries
from dicomport.archive.digests import CHUNK_BYTES, Digested
from dicomport.archive.paths import Paths
from dicomport.errors import DicomportError
from dicomport.files import (
    FILE_MODE,
    TEMPORARY_SUFFIX,
    Durability,
    create_folder,
    find_file_meta,
    make_folder,
    open_file,
    open_regular,
    read_range,
    remove,
    remove_folder,
    system,
    write_all,
)
from dicomport.wire import FileMetaError

_RANDOM_BYTES: Final = 12
_REMEDY: Final = "run `dicomport archive verify`"
_FIRST_ZIP_TIME: Final = (1980, 1, 1, 0, 0, 0)
"""Zip files have no earlier times."""


class ExportError(DicomportError):
    """A file of the study is damaged, or a symbolic link leads to it; nothing was exported."""


class _File(NamedTuple):
    """A file of the study."""

    name: str
    """Path in the archive."""
    digest: str


def export(paths: Paths, index: Queries, study_instance_uid: str, destination: Path) -> Iterator[str]:
    """Copy a study's files unchanged to a new folder, or to a new zip file if the name ends in ".zip".

    Yields the path of each file after copying it; the destination exists after the last one. Raises `KeyError` if the
    study is unknown, `FileExistsError` if the destination exists, `ExportError` if a file is damaged or if a symbolic
    link leads to it, and `OSError`. Nothing is left of an export that failed or was not continued.
    """
    rows = index.instances(Filters(study_instance_uid=study_instance_uid))
    if not rows:
        raise KeyError(study_instance_uid)
    if os.path.lexists(destination):
        raise FileExistsError(destination)
    files = [_File(str(row["path"]), str(row["digest"])) for row in rows]
    make_folder(destination.parent, Durability.FLUSH)
    temporary = destination.parent / f".{os.urandom(_RANDOM_BYTES).hex()}{TEMPORARY_SUFFIX}"
    is_zip = destination.suffix.lower() == ".zip"
    try:
        yield from (_into_zip if is_zip else _into_folder)(paths.root, files, temporary)
        _publish(temporary, destination, is_zip=is_zip)
    except BaseException:
        (remove if is_zip else remove_folder)(temporary)
        raise


def _into_folder(root: Path, files: Sequence[_File], folder: Path) -> Iterator[str]:
    create_folder(folder)
    for file in files:
        with _opened(root, file) as (source, status):
            target = folder / file.name
            make_folder(target.parent, Durability.FLUSH)
            copy = open_file(target, system.CREATE_NEW)
            try:
                for chunk in _verified(source, status, file):
                    write_all(copy, chunk)
            finally:
                system.close(copy)
        yield file.name


def _into_zip(root: Path, files: Sequence[_File], path: Path) -> Iterator[str]:
    descriptor = open_file(path, system.CREATE_NEW)
    # Without compression: pixel data hardly shrinks, and the purpose of the zip file is to be one file.
    with os.fdopen(descriptor, "w+b") as whole, zipfile.ZipFile(whole, "w", zipfile.ZIP_STORED) as archive:
        for file in files:
            with _opened(root, file) as (source, status):
                entry = zipfile.ZipInfo(file.name, max(time.localtime(status.st_mtime)[:6], _FIRST_ZIP_TIME))
                entry.external_attr = (stat.S_IFREG | FILE_MODE) << 16
                entry.file_size = status.st_size
                with archive.open(entry, "w") as copy:
                    for chunk in _verified(source, status, file):
                        copy.write(chunk)
            yield file.name


@contextlib.contextmanager
def _opened(root: Path, file: _File) -> Iterator[tuple[int, os.stat_result]]:
    """Open a file of the archive; yield descriptor and status. Raises `ExportError` and `OSError`."""
    path = root / file.name
    if os.path.realpath(path) != str(path):
        raise ExportError(f"{file.name} is a symbolic link or is behind one; {_REMEDY}")
    try:
        descriptor, status = open_regular(path, follows_links=False)
    except FileMetaError as error:
        raise ExportError(f"{file.name}: {error}; {_REMEDY}") from None
    try:
        yield descriptor, status
    finally:
        system.close(descriptor)


def _verified(descriptor: int, status: os.stat_result, file: _File) -> Iterator[memoryview]:
    """Yield the bytes of a file in chunks. Raises `ExportError` at the end if the digest of the data set differs."""
    try:
        _, offset = find_file_meta(lambda size: system.pread(descriptor, size, 0))
        yield from read_range(descriptor, 0, offset, offset)
        data_set = Digested(read_range(descriptor, offset, status.st_size - offset, CHUNK_BYTES))
        yield from data_set
    except FileMetaError as error:
        raise ExportError(f"{file.name}: {error}; {_REMEDY}") from None
    if data_set.digest != file.digest:
        raise ExportError(f"{file.name} does not match its digest in the index; {_REMEDY}")


def _publish(temporary: Path, destination: Path, *, is_zip: bool) -> None:
    """Rename a complete copy. Raises `FileExistsError` if the destination exists, and `OSError`."""
    if is_zip:
        system.close(open_file(destination, system.CREATE_NEW))
    else:
        create_folder(destination)
    try:
        system.replace(temporary, destination)
    except BaseException:
        (remove if is_zip else remove_folder)(destination)
        raise
