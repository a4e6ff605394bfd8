"""Threads for blocking functions that any peer can cause to be called, in fair turns.

Theory of operation
-------------------
Each call belongs to a key, the peer's address. Only a part of the threads runs calls of one key, so a flood from one
address leaves threads for others. Calls that wait are queued by key, and the keys take turns: after
each call, its key is the last of the keys. So however many calls a key has, a call of another key waits for a turn
among the keys only.

All of this runs in one event loop. A turn ends when its thread has finished, not when its caller stops waiting: a
thread can't be cancelled, and a turn without a thread would only move the queue into the thread pool.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


class FairThreads:
    """Calls functions in threads, in turns of their keys."""

    def __init__(self, threads: int, per_key: int, name: str) -> None:
        """Use so many threads, and `per_key` of them for the calls of one key."""
        self._maximum = threads
        self._per_key = per_key
        self._threads = ThreadPoolExecutor(threads, name)
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}
        """Calls that wait, by key, in the order of the turns. No queue is empty."""
        self._running: Counter[str] = Counter()

    async def call(self, key: str, function: Callable[[], T]) -> T:
        """Call a function when it is the turn of its key, and return the result."""
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[None] = loop.create_future()
        self._waiting.setdefault(key, deque()).append(turn)
        self._start_next()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                self._forget(key, turn)
            else:
                self._end(key)
            raise

        def ended(_thread: Future[T]) -> None:
            # The event loop may have been closed while the thread was running.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(self._end, key)

        thread = self._threads.submit(function)
        thread.add_done_callback(ended)
        return await asyncio.wrap_future(thread)

    def _start_next(self) -> None:
        while self._running.total() < self._maximum:
            key = next((key for key in self._waiting if self._running[key] < self._per_key), None)
            if key is None:
                return
            queue = self._waiting.pop(key)
            self._running[key] += 1
            queue.popleft().set_result(None)
            if queue:
                self._waiting[key] = queue

    def _end(self, key: str) -> None:
        self._running[key] -= 1
        if not self._running[key]:
            del self._running[key]
        self._start_next()

    def _forget(self, key: str, turn: asyncio.Future[None]) -> None:
        """Remove a call that waits no longer."""
        queue = self._waiting[key]
        queue.remove(turn)
        if not queue:
            del self._waiting[key]
