"""Blocking work for an event loop: now if the disk is fast, otherwise in a thread; and the memory that waits for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, ParamSpec, TypeVar

from dicomport.wire import Buffer

if TYPE_CHECKING:
    import asyncio
    from concurrent.futures import ThreadPoolExecutor

BLOCK_BYTES: Final = 1 << 20
"""Bytes to collect in memory before a thread writes them: a small instance needs one thread switch."""

_SHORT_BLOCK_BYTES: Final = 1 << 16
"""Bytes to collect while memory is scarce."""

_MAX_DELAY: Final = 0.02
"""Seconds for which the disk may block the event loop, and with it all associations."""
_SLOW_SECONDS: Final = 1.0
"""Seconds for which threads do the work after a longer delay."""

P = ParamSpec("P")
T = TypeVar("T")


class Disk:
    """Runs work that may have to wait for a disk: on the event loop while the disk is fast, otherwise in threads.

    Writing to the system's cache or changing a name takes microseconds. A thread switch takes longer, and needs a copy
    of the bytes. So the event loop does such work itself, until the work has blocked it once: then threads do the work
    for a while. Work that always waits for the disk, such as fsync, does not belong here.
    """

    def __init__(self, max_delay: float = _MAX_DELAY, slow_seconds: float = _SLOW_SECONDS) -> None:
        """Use threads for `slow_seconds` after work took longer than `max_delay` seconds."""
        self._max_delay = max_delay
        self._slow_seconds = slow_seconds
        self._slow_until = 0.0

    @property
    def is_fast(self) -> bool:
        """Whether work runs on the event loop."""
        return time.monotonic() >= self._slow_until

    def run_now(self, work: Callable[P, T], *arguments: P.args, **options: P.kwargs) -> T:
        """Run work in this thread, and measure its time."""
        started = time.monotonic()
        try:
            return work(*arguments, **options)
        finally:
            now = time.monotonic()
            if now - started > self._max_delay:
                self._slow_until = now + self._slow_seconds

    async def run(self, work: Callable[P, T], *arguments: P.args, **options: P.kwargs) -> T:
        """Run work, now or in a thread."""
        if self.is_fast:
            return self.run_now(work, *arguments, **options)
        return await in_thread(work, *arguments, **options)


async def in_thread(work: Callable[P, T], *arguments: P.args, **options: P.kwargs) -> T:
    """Run work in a thread. If the caller is cancelled, wait until the work has ended, then raise `CancelledError`.

    A thread cannot be cancelled, and its file must not be closed or removed meanwhile.
    """
    import asyncio  # noqa: PLC0415  # most users of this room have no event loop

    return await _to_its_end(asyncio.ensure_future(asyncio.to_thread(work, *arguments, **options)))


async def _to_its_end(working: asyncio.Future[T]) -> T:
    import asyncio  # noqa: PLC0415  # see above

    try:
        return await asyncio.shield(working)
    except asyncio.CancelledError:
        await asyncio.gather(working, return_exceptions=True)
        raise


class Threads:
    """Threads for work that may have to wait for the disk as long as other work of the same kind."""

    def __init__(self, count: int, name: str) -> None:
        """Use up to `count` threads. They end when nothing refers to this object."""
        self._count = count
        self._name = name
        self._pool: ThreadPoolExecutor | None = None

    async def run(self, work: Callable[[], T]) -> T:
        """Run work in one of the threads, as `in_thread` does."""
        import asyncio  # noqa: PLC0415  # see above
        from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415  # see above

        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._count, self._name)
        return await _to_its_end(asyncio.get_running_loop().run_in_executor(self._pool, work))


DEFAULT_MEMORY_BYTES: Final = 128 << 20
"""Memory for instances being received: one megabyte for each of a hundred associations."""


class MemoryBudget:
    """The bytes that all writers of a receiver hold in memory, and their limit."""

    def __init__(self, max_bytes: int = DEFAULT_MEMORY_BYTES) -> None:
        """Memory is scarce while more than `max_bytes` are held."""
        self.held = 0
        """Received bytes that are neither written nor discarded yet."""
        self._max_bytes = max_bytes
        self._changing = threading.Lock()

    @property
    def scarce(self) -> bool:
        """Whether more bytes are held than the limit."""
        return self.held > self._max_bytes

    def hold(self, size: int) -> None:
        """Add `size` bytes, or subtract them if negative. Call this from any thread."""
        with self._changing:
            self.held += size


class BlockWriter:
    """Collects bytes and appends them in blocks, in a thread; the blocks are short while memory is scarce.

    With a fast disk, bytes are appended as they arrive. The owner of a writer calls `take` at the end, even after an
    error.
    """

    def __init__(
        self, block_bytes: int = BLOCK_BYTES, disk: Disk | None = None, *, memory: MemoryBudget | None = None
    ) -> None:
        self._block_bytes = block_bytes
        self._disk = disk
        self._memory = MemoryBudget() if memory is None else memory
        self.pending = bytearray()
        """Bytes that are not written yet."""

    def write_now(self, data: Buffer, append: Callable[[Buffer], None]) -> bool:
        """Append bytes if the disk is fast; return whether it is. `append` is as for `write`."""
        disk = self._disk
        if disk is None or not disk.is_fast:
            return False
        if self.pending:
            disk.run_now(append, self.take())
        disk.run_now(append, data)
        return True

    async def write(self, data: Buffer, append: Callable[[Buffer], None]) -> None:
        """Add bytes. Waits while a block is written, so that the peer is throttled and memory stays limited.

        `append` is a method of the writer's owner. It is not stored: a reference cycle would keep both, and the
        pending bytes, in memory until the garbage collector runs.
        """
        if self.write_now(data, append):
            return
        self.pending += data
        self._memory.hold(len(data))
        block_bytes = min(self._block_bytes, _SHORT_BLOCK_BYTES) if self._memory.scarce else self._block_bytes
        if len(self.pending) >= block_bytes:
            block, self.pending = self.pending, bytearray()
            try:
                await in_thread(append, block)
            finally:
                self._memory.hold(-len(block))

    def take(self) -> bytearray:
        """Return the bytes that are not written yet, and forget them."""
        pending, self.pending = self.pending, bytearray()
        self._memory.hold(-len(pending))
        return pending
