"""Where an instance's encoded data set lies: each kind of place gives it a piece at a time, as often as it is asked."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import NamedTuple, Protocol, Self

from dicomport.files import open_regular, read_range, system
from dicomport.wire import FileMetaError

__all__ = ["FileRegion", "FileStamp", "InMemory", "Source", "UnchangedFile", "stamp_of"]

FileStamp = tuple[int, int]
"""Size and modification time (ns) of the file on disk: of an archive, for what is in it."""


def stamp_of(status: os.stat_result) -> FileStamp:
    """Tell by what a file is known to be the same again."""
    return status.st_size, status.st_mtime_ns


class Source(Protocol):
    """A data set's place."""

    @property
    def size(self) -> int:
        """Length of the data set, bytes."""

    @property
    def stamp(self) -> FileStamp | None:
        """What the file on disk was like when the instance was found; None for what is in no file."""

    @property
    def held_bytes(self) -> int:
        """What it takes of memory, or of the room for temporary files, as long as it is there."""

    def chunks(self, chunk_bytes: int) -> Iterator[memoryview]:
        """Give the data set in chunks of `chunk_bytes`, the last one shorter; one is dead once the next is asked for.

        Raises `OSError`, and `FileMetaError` where the place does not hold any more what it held when it was found.
        """


class InMemory(NamedTuple):
    """A data set in memory."""

    data: bytes
    stamp: FileStamp | None = None
    """Of the file that the data came from, where it did."""

    @property
    def size(self) -> int:
        """Length of the data set, bytes."""
        return len(self.data)

    @property
    def held_bytes(self) -> int:
        """All of it."""
        return len(self.data)

    def chunks(self, chunk_bytes: int) -> Iterator[memoryview]:
        """Give the data set in pieces."""
        view = memoryview(self.data)
        return (view[start : start + chunk_bytes] for start in range(0, len(view), chunk_bytes))


class FileRegion(NamedTuple):
    """A data set in a file: the end of it, or of a member of a tar archive."""

    path: str
    offset: int
    """Where the data set begins, bytes."""
    size: int
    stamp: FileStamp

    @property
    def held_bytes(self) -> int:
        """Nothing: it is where it was."""
        return 0

    @property
    def unchanged(self) -> bool:
        """Whether the file is there and still what it was when the instance was found."""
        try:
            return stamp_of(os.stat(self.path)) == self.stamp
        except OSError:
            return False

    def chunks(self, chunk_bytes: int) -> Iterator[memoryview]:
        """Read the data set, unless the file has changed since it was found, or does so meanwhile."""
        with UnchangedFile(self.path, self.stamp) as file:
            left = self.size
            for chunk in read_range(file.descriptor, self.offset, left, chunk_bytes):
                left -= len(chunk)
                if not left:
                    file.check()
                yield chunk


class UnchangedFile:
    """A file that is open for reading and is still what its stamp says."""

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
        """Raise `FileMetaError` where the file has changed."""
        self._compare(system.fstat(self.descriptor))

    def _compare(self, status: os.stat_result) -> None:
        if status.st_size < self._stamp[0]:
            raise FileMetaError("the file became shorter since it was found")
        if stamp_of(status) != self._stamp:
            raise FileMetaError("the file has changed since it was found")
