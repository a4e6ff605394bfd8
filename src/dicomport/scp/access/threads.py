"""Threads for blocking functions that any peer can cause to be called, in turns of the peers' addresses."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from dicomport.net import FairTurns

T = TypeVar("T")


class FairThreads:
    """Calls functions in threads, in turns of their keys."""

    def __init__(self, threads: int, per_key: int, name: str) -> None:
        """Use so many threads, and `per_key` of them for the calls of one key."""
        self._turns = FairTurns(threads, per_key)
        self._threads = ThreadPoolExecutor(threads, name)

    async def call(self, key: str, function: Callable[[], T]) -> T:
        """Call a function when it is the turn of its key, and return the result."""
        loop = asyncio.get_running_loop()
        await self._turns.acquire(key)

        def ended(_thread: Future[T]) -> None:
            # The event loop may have been closed while the thread was running.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(self._turns.release, key)

        # A turn ends when its thread has finished, not when its caller stops waiting: a thread can't be cancelled, and
        # a turn without a thread would only move the queue into the thread pool.
        thread = self._threads.submit(function)
        thread.add_done_callback(ended)
        return await asyncio.wrap_future(thread)
