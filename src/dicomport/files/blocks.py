"""Bytes on their way from an event loop to something that blocks."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final, ParamSpec, TypeVar

from dicomport.wire import Buffer

__all__ = ["BLOCK_BYTES", "DEFAULT_MEMORY_BYTES", "BlockWriter", "Disk", "MemoryBudget", "in_thread"]

BLOCK_BYTES: Final = 1 << 20
"""What is collected in memory before a thread is asked to write it, bytes: one hand-off for a small instance."""

_SHORT_BLOCK_BYTES: Final = 1 << 16
"""What is collected where memory is scarce."""

_QUICK: Final = 0.02
"""Seconds that the event loop, and with it every other association, may be held up by a disk."""
_SLOW_FOR: Final = 1.0
"""Seconds for which a disk that has held it up is left to threads."""

P = ParamSpec("P")
T = TypeVar("T")


class Disk:
    """Has work done that may have to wait for a disk: at once while it proves quick, else in threads.

    What goes to the system's cache or changes a name takes some microseconds; to hand it to a thread and back takes
    longer, and bytes have to be copied for it. So the event loop does such work itself, until it has been held up
    once: then threads do it for a while. What waits for the disk by its nature, fsync, has no business here.
    """

    def __init__(self, patience: float = _QUICK, slow_for: float = _SLOW_FOR) -> None:
        """Take it to be quick, until it takes longer than `patience`, for `slow_for` then; both in seconds."""
        self._patience = patience
        self._slow_for = slow_for
        self._slow_until = 0.0

    @property
    def is_fast(self) -> bool:
        """Whether work is done at once."""
        return time.monotonic() >= self._slow_until

    def at_once(self, work: Callable[P, T], *arguments: P.args, **options: P.kwargs) -> T:
        """Do something, and see how long it takes."""
        started = time.monotonic()
        try:
            return work(*arguments, **options)
        finally:
            now = time.monotonic()
            if now - started > self._patience:
                self._slow_until = now + self._slow_for

    async def run(self, work: Callable[P, T], *arguments: P.args, **options: P.kwargs) -> T:
        """Do something, at once or in a thread."""
        if self.is_fast:
            return self.at_once(work, *arguments, **options)
        return await in_thread(work, *arguments, **options)


async def in_thread(work: Callable[P, T], *arguments: P.args, **options: P.kwargs) -> T:
    """Do something in a thread; who waits for it and is cancelled waits all the same until it is done.

    A thread can't be cancelled, and what it writes to must not be closed or removed meanwhile.
    """
    import asyncio  # noqa: PLC0415  # most users of this room have no event loop

    working = asyncio.ensure_future(asyncio.to_thread(work, *arguments, **options))
    try:
        return await asyncio.shield(working)
    except asyncio.CancelledError:
        await asyncio.gather(working, return_exceptions=True)
        raise


DEFAULT_MEMORY_BYTES: Final = 128 << 20
"""Memory for instances being received: one megabyte for each of a hundred associations."""


class MemoryBudget:
    """What all writers of a server hold in memory together: for who has nothing to share, that of one alone."""

    def __init__(self, most: int = DEFAULT_MEMORY_BYTES) -> None:
        """Call memory scarce when more than `most` bytes of it are held."""
        self.held = 0
        """Bytes that have come and that nobody has begun to write, or thrown away, yet."""
        self._most = most
        self._changing = threading.Lock()

    @property
    def scarce(self) -> bool:
        """Whether more of it is held than should be."""
        return self.held > self._most

    def hold(self, size: int) -> None:
        """Take note of bytes that have come or, where `size` is negative, gone; from any thread."""
        with self._changing:
            self.held += size


class BlockWriter:
    """Collects bytes and has them appended block by block, in a thread; short ones where memory is scarce.

    With a disk that is quick nothing is collected: bytes are appended as they come. Whoever made a writer takes out
    what is left in it at the end, whatever the end is.
    """

    def __init__(
        self, block_bytes: int = BLOCK_BYTES, disk: Disk | None = None, *, memory: MemoryBudget | None = None
    ) -> None:
        self._block_bytes = block_bytes
        self._disk = disk
        self._memory = MemoryBudget() if memory is None else memory
        self.pending = bytearray()
        """What was not written yet."""

    async def write(self, data: Buffer, append: Callable[[Buffer], None]) -> None:
        """Take bytes. Waits while a block is written, so that the peer is held back and memory stays bounded.

        `append` is not kept. It is a method of whoever has this writer: the two would hold on to each other, and to
        what is pending, until the garbage collector comes.
        """
        if self._disk is not None and self._disk.is_fast:
            if self.pending:
                self._disk.at_once(append, self.take())
            self._disk.at_once(append, data)
            return
        self.pending += data
        self._memory.hold(len(data))
        enough = min(self._block_bytes, _SHORT_BLOCK_BYTES) if self._memory.scarce else self._block_bytes
        if len(self.pending) >= enough:
            block, self.pending = self.pending, bytearray()
            try:
                await in_thread(append, block)
            finally:
                self._memory.hold(-len(block))

    def take(self) -> bytearray:
        """Take out what was not written yet."""
        pending, self.pending = self.pending, bytearray()
        self._memory.hold(-len(pending))
        return pending
