"""Receive buffers. They belong to what is being received, not to who is connected: an idle association has none."""

from __future__ import annotations

from typing import Final

__all__ = ["Buffers"]

_LARGE_BYTES: Final = 1 << 18
"""What one read takes at most: less, and the reads of a fast peer cost more than what is done with their bytes."""

_MAX_LARGE: Final = 64
"""Large buffers at the same time: 16 MiB. One is borrowed while the bytes of one read are looked at, longer only where
the disk holds things up."""

_SMALL_BYTES: Final = 1 << 14
"""What those read at a time who come when all large ones are out: a slow disk keeps nobody from being read."""


class Buffers:
    """Buffers to be borrowed, for one event loop or one thread."""

    def __init__(self, size: int = _LARGE_BYTES, most: int = _MAX_LARGE) -> None:
        """Lend up to `most` buffers of `size` bytes at the same time, beyond that short ones."""
        self._size = size
        self._most = most
        self._free: list[memoryview] = []
        self._made = 0

    @classmethod
    def for_one(cls) -> Buffers:
        """Make a single short one, for who hears little: answers to requests."""
        return cls(_SMALL_BYTES, 1)

    def borrow(self) -> memoryview:
        """Give a buffer, which is to be given back."""
        if self._free:
            # The one that was used last is the likeliest to be in the processor's cache.
            return self._free.pop()
        if self._made < self._most:
            self._made += 1
            return memoryview(bytearray(self._size))
        return memoryview(bytearray(_SMALL_BYTES))

    def give_back(self, buffer: memoryview) -> None:
        """Take a buffer back; nobody may look at it any more."""
        if len(buffer) == self._size and len(self._free) < self._made:
            self._free.append(buffer)
