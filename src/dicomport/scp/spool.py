"""A received data set that waits to be handled."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

from dicomport.files import BLOCK_BYTES, BlockWriter, MemoryBudget
from dicomport.files.spool import Spool
from dicomport.wire import Buffer

__all__ = ["SpooledDataSet"]


class SpooledDataSet:
    """A data set that waits to be handled: in memory up to a threshold, beyond that in a nameless temporary file."""

    def __init__(self, header: bytes, memory_bytes: int, folder: Path | None, memory: MemoryBudget) -> None:
        self.header = header
        """File Meta Information that fits the data set, preamble included."""
        self.size = 0
        """Length of the data set, bytes."""
        self._folder = folder
        self._writer = BlockWriter(memory_bytes, memory=memory)
        self._file: Spool | None = None
        self._closed = False
        self._reading = threading.Lock()
        """A handler's thread may still read when the server gives it up."""

    async def write(self, data: Buffer) -> None:
        """Take some bytes of the data set. Raises `OSError`."""
        self.size += len(data)
        await self._writer.write(data, self._append)

    def chunks(self) -> Iterator[memoryview]:
        """Give the data set a piece at a time; a piece is dead once the next is asked for.

        Raises `OSError`, and `ValueError` once the spool is closed: half a data set must not be taken for a whole one.
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

    def close(self) -> None:
        """Give memory and temporary file back."""
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
            raise ValueError("the data set is gone: a request is good until its handler returns")

    def _append(self, block: Buffer) -> None:
        if self._file is None:
            self._file = Spool(self._folder)
        self._file.append(block)
