"""The data set of one DIMSE message, held in memory until it is complete."""

from __future__ import annotations

from dicomport.wire import Buffer


class DataSetBuffer:
    """Collects a data set of up to `max_bytes` bytes. The bytes of a longer one are only counted."""

    def __init__(self, max_bytes: int) -> None:
        self.size = 0
        """Number of bytes received."""
        self._max_bytes = max_bytes
        self._data = bytearray()

    def append(self, data: Buffer) -> None:
        """Append some bytes; they are copied."""
        self.size += len(data)
        if self.size <= self._max_bytes:
            self._data += data

    @property
    def data(self) -> bytes | None:
        """The data set, or None if it is longer than `max_bytes`."""
        return bytes(self._data) if self.size <= self._max_bytes else None
