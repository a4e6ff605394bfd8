"""Receive buffers. A buffer belongs to the read that fills it, not to a connection: an idle association has none."""

from __future__ import annotations

from typing import Final

_LARGE_BYTES: Final = 1 << 18
"""Size of a large buffer, the maximum of one read. With smaller ones, the reads cost more than processing the data."""

_MAX_LARGE: Final = 64
"""Maximum number of large buffers: 16 MiB in all. A buffer is borrowed until the data of one read have been processed,
which takes long only if the disk is slow."""

_SMALL_BYTES: Final = 1 << 14
"""Fallback buffer size when all large buffers are in use: a slow disk delays no other connection."""


class Buffers:
    """A pool of buffers for one event loop or one thread."""

    def __init__(self, size: int = _LARGE_BYTES, maximum: int = _MAX_LARGE) -> None:
        """Lend up to `maximum` buffers of `size` bytes at the same time, and small buffers above that number."""
        self._size = size
        self._maximum = maximum
        self._free: list[memoryview] = []
        self._made = 0

    @classmethod
    def for_one(cls) -> Buffers:
        """Return a pool of one small buffer, for a requestor, which receives only responses."""
        return cls(_SMALL_BYTES, 1)

    def borrow(self) -> memoryview:
        """Return a buffer. The caller returns it to the pool with `give_back`."""
        if self._free:
            # The buffer used last is most likely still in the processor's cache.
            return self._free.pop()
        if self._made < self._maximum:
            self._made += 1
            return memoryview(bytearray(self._size))
        return memoryview(bytearray(_SMALL_BYTES))

    def give_back(self, buffer: memoryview) -> None:
        """Return a buffer to the pool; the caller must not use it afterwards."""
        if len(buffer) == self._size and len(self._free) < self._made:
            self._free.append(buffer)
