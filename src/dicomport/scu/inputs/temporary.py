"""Data sets in temporary files, which exist as long as one of their instances is referenced."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from dicomport.files.spool import Spool
from dicomport.scu.inputs.locations import DataSetLocation, FileStamp, InMemory
from dicomport.values import frozen

_MAX_IN_MEMORY: Final = 8 << 20


@frozen
class SpooledRegion:
    """A data set in a temporary file."""

    spool: Spool
    offset: int
    size: int
    stamp: FileStamp | None
    """Stamp of the file that it was read from."""

    @property
    def held_bytes(self) -> int:
        """All bytes of the data set."""
        return self.size

    def chunks(self, chunk_bytes: int) -> Iterator[memoryview]:
        """Yield the data set in chunks."""
        # A generator: it references the file while it is read.
        yield from self.spool.chunks(self.offset, self.size, chunk_bytes)


def spooled(data: bytes, stamp: FileStamp | None) -> DataSetLocation:
    """Return the source of a data set: in memory, or if it is long, in a temporary file."""
    if len(data) <= _MAX_IN_MEMORY:
        return InMemory(data, stamp)
    spool = Spool()
    spool.append(data)
    return SpooledRegion(spool, 0, len(data), stamp)
