"""Reading of Part 10 files: the File Meta Information first, then the data set in chunks."""

from __future__ import annotations

import io
import stat
from collections.abc import Callable, Iterator
from os import stat_result
from pathlib import Path
from typing import Final

from dicomport.files import system
from dicomport.values import frozen
from dicomport.wire import Deviation, FileMeta, FileMetaError, TruncatedFileMetaError, decode_file_meta

FIRST_READ: Final = 4096
"""Bytes to read first: nearly every File Meta Information is smaller than 1 KiB."""

_MAX_FILE_META: Final = 1 << 20
"""Limit of bytes to read for the end of group 0002."""


@frozen
class Part10File:
    """A file on disk, and the position of its data set."""

    path: str | Path
    meta: FileMeta
    offset: int
    """Offset of the data set, bytes."""
    size: int
    """Size of the data set, bytes; it ends at the end of the file."""
    mtime_ns: int
    """Modification time of the file, nanoseconds."""

    def chunks(self, chunk_bytes: int) -> Iterator[memoryview]:
        """Read the data set in chunks of `chunk_bytes`; each chunk is valid until the next one is read.

        Raises `FileMetaError` if the file has become shorter since its header was read.
        """
        descriptor = system.open_descriptor(self.path, system.READ)
        try:
            yield from read_range(descriptor, self.offset, self.size, chunk_bytes)
        finally:
            system.close(descriptor)


def read_range(descriptor: int, offset: int, size: int, chunk_bytes: int) -> Iterator[memoryview]:
    """Read `size` bytes at `offset` in chunks of `chunk_bytes`; each chunk is valid until the next one is read.

    Raises `FileMetaError` if the file ends earlier.
    """
    buffer = memoryview(bytearray(min(chunk_bytes, size)))
    at, end = offset, offset + size
    while at < end:
        filled = 0
        wanted = min(len(buffer), end - at)
        while filled < wanted:
            count = system.preadv(descriptor, [buffer[filled:wanted]], at + filled)
            if count == 0:
                raise FileMetaError("the file became shorter while it was read")
            filled += count
        yield buffer[:wanted]
        at += wanted


def open_regular(path: str | Path, *, follows_links: bool = True) -> tuple[int, stat_result]:
    """Open a file for reading; return descriptor and status. Raises `FileMetaError` if it is not a regular file.

    Raises `OSError` if the name is a symbolic link and `follows_links` is false.
    """
    # A FIFO must not block until a process writes to it.
    flags = system.READ | system.NONBLOCK
    descriptor = system.open_descriptor(path, flags if follows_links else flags | system.NOFOLLOW)
    status = system.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        system.close(descriptor)
        raise FileMetaError("not a regular file")
    return descriptor, status


def read_part10(path: str | Path) -> Part10File:
    """Read the File Meta Information of a file.

    Raises `NotPart10Error` if the file does not contain "DICM", `FileMetaError` if it is otherwise not a valid Part 10
    file or not a regular file, and `OSError`.
    """
    descriptor, status = open_regular(path)
    try:
        meta, offset = find_file_meta(lambda size: system.pread(descriptor, size, 0))
    finally:
        system.close(descriptor)
    return Part10File(path, meta, offset, status.st_size - offset, status.st_mtime_ns)


def find_file_meta(first: Callable[[int], bytes], notes: list[Deviation] | None = None) -> tuple[FileMeta, int]:
    """Return the File Meta Information, and the offset of the data set. `first` reads the first bytes of the file.

    Tolerated deviations are added to `notes`. Raises `FileMetaError`.
    """
    wanted = FIRST_READ
    while True:
        data = first(wanted)
        try:
            return decode_file_meta(data, notes)
        except TruncatedFileMetaError:
            if len(data) < wanted or wanted >= _MAX_FILE_META:
                raise
            wanted *= 16


class BoundedReader(io.BufferedReader):
    """An open file for libraries that trust the lengths in a file: each read is limited."""

    MAX_BYTES: Final = 32 << 20

    def __init__(self, descriptor: int) -> None:
        super().__init__(io.FileIO(descriptor))

    def read(self, size: int | None = -1, /) -> bytes:
        """Read `size` bytes. Raises `FileMetaError`, without allocating memory, if they are too many."""
        if size is None or not 0 <= size <= self.MAX_BYTES:
            available = system.fstat(self.fileno()).st_size - self.tell()
            size = max(available, 0) if size is None or size < 0 else min(size, available)
            if size > self.MAX_BYTES:
                raise FileMetaError(f"{size} bytes are more than the limit of {self.MAX_BYTES} bytes for one read")
        return super().read(size)
