"""Data sets that lie in temporary files for as long as somebody may want to send them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from dicomport.files.spool import Spool
from dicomport.scu.inputs.locations import FileStamp, InMemory, Source

__all__ = ["SpooledRegion", "held"]

_MAX_IN_MEMORY: Final = 8 << 20


@dataclass(frozen=True, slots=True)
class SpooledRegion:
    """A data set in a temporary file, which is there as long as an instance lies in it."""

    spool: Spool
    offset: int
    size: int
    stamp: FileStamp | None
    """Of the file that it came from."""

    @property
    def held_bytes(self) -> int:
        """All of it."""
        return self.size

    def chunks(self, chunk_bytes: int) -> Iterator[memoryview]:
        """Read the data set."""
        # A generator of its own: it holds the file while it is read.
        yield from self.spool.chunks(self.offset, self.size, chunk_bytes)


def held(data: bytes, stamp: FileStamp | None) -> Source:
    """Keep a data set that was made here: in memory, a long one in a temporary file."""
    if len(data) <= _MAX_IN_MEMORY:
        return InMemory(data, stamp)
    spool = Spool()
    spool.append(data)
    return SpooledRegion(spool, 0, len(data), stamp)
