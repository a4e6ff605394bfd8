"""Sources of encoded data sets: memory, a file, or a part of a file. Each can be read several times, in chunks."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import NamedTuple, Protocol, Self

from dicomport.files import open_regular, read_range, system
from dicomport.wire import FileMetaError

FileStamp = tuple[int, int]
"""Size and modification time (ns) of the file on disk; for a member of an archive, of the archive."""


def stamp_of(status: os.stat_result) -> FileStamp:
    """Return the stamp of a file."""
    return status.st_size, status.st_mtime_ns


class DataSetLocation(Protocol):
    """The source of an encoded data set."""

    @property
    def size(self) -> int:
        """Length of the data set, bytes."""

    @property
    def stamp(self) -> FileStamp | None:
        """The stamp of the file on disk when the instance was found; None if it is not in a file."""

    @property
    def held_bytes(self) -> int:
        """Bytes that it occupies in memory or in a temporary file."""

    def chunks(self, chunk_bytes: int) -> Iterator[memoryview]:
        """Yield the data set in chunks of `chunk_bytes`, the last one shorter; each is valid until the next is read.

        Raises `OSError`, and `FileMetaError` if the file has changed since it was found.
        """


class InMemory(NamedTuple):
    """A data set in memory."""

    data: bytes
    stamp: FileStamp | None = None
    """Stamp of the file that the data was read from, if any."""

    @property
    def size(self) -> int:
        """Length of the data set, bytes."""
        return len(self.data)

    @property
    def held_bytes(self) -> int:
        """All bytes of the data set."""
        return len(self.data)

    def chunks(self, chunk_bytes: int) -> Iterator[memoryview]:
        """Yield the data set in chunks."""
        view = memoryview(self.data)
        return (view[start : start + chunk_bytes] for start in range(0, len(view), chunk_bytes))


class FileRegion(NamedTuple):
    """A data set in a file: the end of the file, or of a member of a tar archive."""

    path: str
    offset: int
    """Offset of the data set in the file, bytes."""
    size: int
    stamp: FileStamp

    @property
    def held_bytes(self) -> int:
        """0: the data set stays in its file."""
        return 0

    @property
    def unchanged(self) -> bool:
        """Whether the file still exists and has not changed since the instance was found."""
        try:
            return stamp_of(os.stat(self.path)) == self.stamp
        except OSError:
            return False

    def read(self, buffer: memoryview) -> memoryview:
        """Read the whole data set into a buffer that is long enough; return it. Raises the same errors as `chunks`."""
        descriptor = system.open_descriptor(self.path, system.READ | system.NONBLOCK)
        try:
            count = system.preadv(descriptor, [buffer[: self.size]], self.offset)
            # The stamp is that of a regular file.
            if count != self.size or stamp_of(system.fstat(descriptor)) != self.stamp:
                raise FileMetaError("the file has changed since it was found")
        finally:
            system.close(descriptor)
        return buffer[:count]

    def chunks(self, chunk_bytes: int) -> Iterator[memoryview]:
        """Yield the data set in chunks. Raises `FileMetaError` if the file has changed, or changes meanwhile."""
        with UnchangedFile(self.path, self.stamp) as file:
            left = self.size
            for chunk in read_range(file.descriptor, self.offset, left, chunk_bytes):
                left -= len(chunk)
                if not left:
                    file.check()
                yield chunk


class UnchangedFile:
    """A file open for reading that has not changed since its stamp was taken."""

    def __init__(self, path: str, stamp: FileStamp) -> None:
        self._stamp = stamp
        self.descriptor, status = open_regular(path)
        try:
            self._compare(status)
        except FileMetaError:
            system.close(self.descriptor)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        system.close(self.descriptor)

    def check(self) -> None:
        """Raise `FileMetaError` if the file has changed."""
        self._compare(system.fstat(self.descriptor))

    def _compare(self, status: os.stat_result) -> None:
        if status.st_size < self._stamp[0]:
            raise FileMetaError("the file became shorter since it was found")
        if stamp_of(status) != self._stamp:
            raise FileMetaError("the file has changed since it was found")
