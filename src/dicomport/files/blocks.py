"""Bytes on their way from an event loop to something that blocks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from dicomport.wire import Buffer

__all__ = ["BLOCK_BYTES", "BlockWriter"]

BLOCK_BYTES: Final = 1 << 20
"""What is collected in memory before a thread is asked to write it, bytes: one hand-off for a small instance."""


class BlockWriter:
    """Collects bytes and has `append` called for every block of them, in a thread."""

    def __init__(self, append: Callable[[Buffer], None], block_bytes: int = BLOCK_BYTES) -> None:
        self._append = append
        self._block_bytes = block_bytes
        self.pending = bytearray()
        """What no thread has been asked to write yet."""

    async def write(self, data: Buffer) -> None:
        """Take bytes. Waits while a block is written, so that the peer is held back and memory stays bounded."""
        self.pending += data
        if len(self.pending) >= self._block_bytes:
            block, self.pending = self.pending, bytearray()
            appending = asyncio.ensure_future(asyncio.to_thread(self._append, block))
            try:
                await asyncio.shield(appending)
            except asyncio.CancelledError:
                # A thread can't be cancelled, and what it writes to must not be closed or removed meanwhile.
                await asyncio.gather(appending, return_exceptions=True)
                raise
