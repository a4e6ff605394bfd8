"""What a file holds, from its first bytes: Part 10 files are never read whole."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dicomport.wire import FileMeta, FileMetaError, TruncatedFileMetaError, decode_file_meta

__all__ = ["Part10File", "read_part10"]

_FIRST_READ: Final = 4096
"""Nearly every File Meta Information is below 1 KiB."""

_LONGEST_FILE_META: Final = 1 << 20
"""What is read at most in search of the end of group 0002, bytes."""


@dataclass(frozen=True, slots=True)
class Part10File:
    """A file on disk and where the data set lies in it."""

    path: Path
    meta: FileMeta
    offset: int
    """Where the data set begins, bytes."""
    size: int
    """How long the data set is, bytes."""

    def chunks(self, chunk_bytes: int) -> Iterator[memoryview]:
        """Read the data set in chunks of `chunk_bytes`; a chunk is dead once the next one is asked for.

        Raises `FileMetaError` when the file is shorter than it was when its header was read.
        """
        buffer = memoryview(bytearray(min(chunk_bytes, self.size)))
        descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            at, end = self.offset, self.offset + self.size
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
        finally:
            os.close(descriptor)


def read_part10(path: Path) -> Part10File:
    """Read the File Meta Information of a file.

    Raises `NotPart10Error` for a file without "DICM", `FileMetaError` for one that can't be read as Part 10 or is no
    regular file, and `OSError`.
    """
    # Not to wait for a writer, should it be a FIFO.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise FileMetaError("not a regular file")
        wanted = _FIRST_READ
        while True:
            data = os.pread(descriptor, wanted, 0)
            try:
                meta, offset = decode_file_meta(data)
            except TruncatedFileMetaError:
                if len(data) < wanted or wanted >= _LONGEST_FILE_META:
                    raise
                wanted *= 16
            else:
                return Part10File(path, meta, offset, status.st_size - offset)
    finally:
        os.close(descriptor)
