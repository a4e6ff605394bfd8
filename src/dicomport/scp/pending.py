"""The operations of one association that go on at the same time: what has come whole, and is not answered yet."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, Generic, TypeVar

__all__ = ["Answers"]

T = TypeVar("T")


class Answers(Generic[T]):
    """Answers in the making, as many at once as the operations window allows (PS3.7 D.3.3.3), taken as they are ready.

    With a window of one each is waited for before anything else is read, so a peer that sends on without having
    negotiated it is served in order, and what it has sent stays in the socket.
    """

    def __init__(self, wake: Callable[[], None]) -> None:
        """`wake` is called when an answer is ready that nobody waits for."""
        self.window = 1
        self._wake = wake
        self._making: set[asyncio.Task[None]] = set()
        self._ready: deque[T] = deque()

    def __len__(self) -> int:
        """How many are being made."""
        return len(self._making)

    async def add(self, making: Coroutine[Any, Any, T]) -> None:
        """Let an answer be made, and wait until there is room for another one."""
        if self.window == 1:
            self._ready.append(await making)
            return
        task = asyncio.create_task(self._make(making))
        self._making.add(task)
        task.add_done_callback(self._making.discard)
        while len(self._making) >= self.window:
            await asyncio.wait(self._making, return_when=asyncio.FIRST_COMPLETED)

    def take(self) -> Iterator[T]:
        """Take those that are ready."""
        while self._ready:
            yield self._ready.popleft()

    async def wait(self) -> None:
        """Wait until all are ready."""
        if self._making:
            await asyncio.wait(self._making)

    def cancel(self) -> None:
        """Give up those that are being made."""
        for task in self._making:
            task.cancel()

    async def _make(self, making: Coroutine[Any, Any, T]) -> None:
        self._ready.append(await making)
        self._wake()
