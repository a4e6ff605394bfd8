"""The C-STORE operations of one association that have been received completely and have no response yet."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class PendingOperations(Generic[T]):
    """Completes operations, as many at once as the operations window allows (PS3.7 D.3.3.3).

    With a window of one, each operation is completed before the next message is read. A peer that sends several
    requests without having negotiated a window is served in order, and its requests wait in the socket.
    """

    def __init__(self, window: int, wake: Callable[[], None]) -> None:
        """Prepare for up to `window` operations; call `wake` when a separate task has completed one."""
        self._window = window
        self._wake = wake
        self._tasks: set[asyncio.Task[None]] = set()
        self._ready: list[T] = []

    def __len__(self) -> int:
        """Return the number of operations that are being completed."""
        return len(self._tasks)

    async def add(self, completion: Coroutine[Any, Any, T]) -> None:
        """Complete an operation, or start to complete it and wait until the window has room for another one."""
        if self._window == 1:
            result = await completion
            self._ready.append(result)
            return
        task = asyncio.create_task(self._complete(completion))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        while len(self._tasks) >= self._window:
            await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)

    def put(self, result: T) -> None:
        """Add the result of an operation that has been completed."""
        self._ready.append(result)

    def take(self) -> list[T]:
        """Remove and return the results of the operations that have been completed."""
        ready, self._ready = self._ready, []
        return ready

    async def wait(self) -> None:
        """Wait until all operations have been completed."""
        if self._tasks:
            await asyncio.wait(self._tasks)

    def cancel(self) -> None:
        """Cancel the operations that are being completed."""
        for task in self._tasks:
            task.cancel()

    async def _complete(self, completion: Coroutine[Any, Any, T]) -> None:
        result = await completion
        self._ready.append(result)  # Read `_ready` after the wait: `take` replaces it.
        self._wake()
