"""A received data set that is held for a handler."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

from dicomport.files import BLOCK_BYTES, BlockWriter, MemoryBudget
from dicomport.files.spool import Spool
from dicomport.wire import Buffer


class SpooledDataSet:
    """A data set that is held for a handler: in memory up to a threshold, above it in a temporary file."""

    def __init__(self, header: bytes, memory_bytes: int, folder: Path | None, memory: MemoryBudget) -> None:
        self.header = header
        """File Meta Information of the data set, with the preamble."""
        self.size = 0
        """Length of the data set, bytes."""
        self._folder = folder
        self._writer = BlockWriter(memory_bytes, memory=memory)
        self._file: Spool | None = None
        self._closed = False
        self._reading = threading.Lock()
        """Held while bytes are read or the file is closed: after a shutdown, the thread of a handler may still read."""

    async def write(self, data: Buffer) -> None:
        """Append bytes of the data set. Raises `OSError`."""
        self.size += len(data)
        await self._writer.write(data, self._append)

    def chunks(self) -> Iterator[memoryview]:
        """Yield the data set in chunks; each chunk is valid until the next one is read.

        Raises `OSError`, and `ValueError` once the data set is closed, so that no part is mistaken for the whole.
        """
        pending = self._writer.pending
        on_disk = self.size - len(pending)
        buffer = memoryview(bytearray(min(on_disk, BLOCK_BYTES)))
        at = 0
        while at < on_disk:
            count = self._read(buffer[: on_disk - at], at)
            yield buffer[:count]
            at += count
        self._check_open()
        with memoryview(pending) as rest:
            yield rest

    def read_all(self) -> bytes:
        """Return the whole data set. Raises the same errors as `chunks`."""
        return b"".join(map(bytes, self.chunks()))

    def close(self) -> None:
        """Free the memory and close the temporary file."""
        with self._reading:
            self._closed = True
            self._writer.take()
            if self._file is not None:
                self._file.close()

    def _read(self, buffer: memoryview, at: int) -> int:
        with self._reading:
            self._check_open()
            return 0 if self._file is None else self._file.read_into(buffer, at)

    def _check_open(self) -> None:
        if self._closed:
            raise ValueError("the data set is closed: a request is valid until its handler returns")

    def _append(self, block: Buffer) -> None:
        if self._file is None:
            self._file = Spool(self._folder)
        self._file.append(block)
