"""What a file holds, from its first bytes: Part 10 files are never read whole."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dicomport.wire import FileMeta, FileMetaError, TruncatedFileMetaError, decode_file_meta

__all__ = ["BoundedReader", "Part10File", "find_file_meta", "open_regular", "read_part10", "read_range"]

_FIRST_READ: Final = 4096
"""Nearly every File Meta Information is below 1 KiB."""

_MAX_FILE_META: Final = 1 << 20
"""What is read at most in search of the end of group 0002, bytes."""


@dataclass(frozen=True, slots=True)
class Part10File:
    """A file on disk and where the data set lies in it."""

    path: str | Path
    meta: FileMeta
    offset: int
    """Where the data set begins, bytes."""
    size: int
    """How long the data set is, bytes: it goes to the end of the file."""
    mtime_ns: int
    """When the file was last written to, as the file system says it."""

    def chunks(self, chunk_bytes: int) -> Iterator[memoryview]:
        """Read the data set in chunks of `chunk_bytes`; a chunk is dead once the next one is asked for.

        Raises `FileMetaError` when the file is shorter than it was when its header was read.
        """
        descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            yield from read_range(descriptor, self.offset, self.size, chunk_bytes)
        finally:
            os.close(descriptor)


def read_range(descriptor: int, offset: int, size: int, chunk_bytes: int) -> Iterator[memoryview]:
    """Read `size` bytes from `offset` on in chunks of `chunk_bytes`; a chunk is dead once the next one is asked for.

    Raises `FileMetaError` where the file ends before that.
    """
    buffer = memoryview(bytearray(min(chunk_bytes, size)))
    at, end = offset, offset + size
    while at < end:
        filled = 0
        wanted = min(len(buffer), end - at)
        while filled < wanted:
            count = os.preadv(descriptor, [buffer[filled:wanted]], at + filled)
            if count == 0:
                raise FileMetaError("the file became shorter while it was read")
            filled += count
        yield buffer[:wanted]
        at += wanted


def open_regular(path: str | Path) -> tuple[int, os.stat_result]:
    """Open a file for reading and tell its state. Raises `FileMetaError` for what is no regular file, and `OSError`."""
    # Not to wait for a writer, should it be a FIFO.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise FileMetaError("not a regular file")
    return descriptor, status


def read_part10(path: str | Path) -> Part10File:
    """Read the File Meta Information of a file.

    Raises `NotPart10Error` for a file without "DICM", `FileMetaError` for one that can't be read as Part 10 or is no
    regular file, and `OSError`.
    """
    descriptor, status = open_regular(path)
    try:
        meta, offset = find_file_meta(lambda size: os.pread(descriptor, size, 0))
    finally:
        os.close(descriptor)
    return Part10File(path, meta, offset, status.st_size - offset, status.st_mtime_ns)


def find_file_meta(first: Callable[[int], bytes]) -> tuple[FileMeta, int]:
    """Read the File Meta Information, and where the data set begins, by asking for the first so many bytes of a file.

    Raises `FileMetaError`.
    """
    wanted = _FIRST_READ
    while True:
        data = first(wanted)
        try:
            return decode_file_meta(data)
        except TruncatedFileMetaError:
            if len(data) < wanted or wanted >= _MAX_FILE_META:
                raise
            wanted *= 16


class BoundedReader(io.BufferedReader):
    """An open file for libraries that read as much as the file tells them to: they get no more than this at once."""

    MAX_BYTES: Final = 32 << 20

    def __init__(self, descriptor: int) -> None:
        super().__init__(io.FileIO(descriptor))

    def read(self, size: int | None = -1, /) -> bytes:
        """Read so many bytes. Raises `FileMetaError` where they are too many: nothing is allocated for them."""
        if size is None or not 0 <= size <= self.MAX_BYTES:
            there = os.fstat(self.fileno()).st_size - self.tell()
            size = max(there, 0) if size is None or size < 0 else min(size, there)
            if size > self.MAX_BYTES:
                raise FileMetaError(f"{size} bytes are more than are read at once")
        return super().read(size)
