"""Fair turns: a limited resource for which peers wait, each in the queue of its key.

Theory of operation
-------------------
Each user of the resource has a key, such as the peer's address, and a cost. Those that wait are queued by key, and the
keys take turns: after its turn, a key is the last. So however many users a key has, those of another key wait
for their turn among the keys only. A costly user waits until it fits; no later one overtakes it, except those of its
key's limit. All of this runs in one event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter, deque
from collections.abc import AsyncIterator


class FairTurns:
    """Grants a resource of limited capacity in turns of keys."""

    def __init__(self, capacity: int, per_key: int | None = None) -> None:
        """Grant up to `capacity` in all, and `per_key` (default: no limit) to the users of one key.

        One user is granted the resource in any case, also if it costs more.
        """
        self._capacity = capacity
        self._per_key = capacity if per_key is None else per_key
        self._used: Counter[str] = Counter()
        self._waiting: dict[str, deque[tuple[int, asyncio.Future[None]]]] = {}
        """Costs of the users that wait, by key, in the order of the turns. No queue is empty."""

    @contextlib.asynccontextmanager
    async def turn(self, key: str, cost: int = 1) -> AsyncIterator[None]:
        """Wait for the key's turn, and use the resource in an `async with` block."""
        await self.acquire(key, cost)
        try:
            yield
        finally:
            self.release(key, cost)

    async def acquire(self, key: str, cost: int = 1) -> None:
        """Wait for the key's turn; after the use of the resource, call `release` with the same arguments."""
        granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(key, deque()).append((cost, granted))
        self._grant()
        try:
            await granted
        except asyncio.CancelledError:
            if granted.cancelled():
                self._forget(key, cost, granted)
            else:
                self.release(key, cost)
            raise

    def release(self, key: str, cost: int = 1) -> None:
        """End a use of the resource, and start the next turns."""
        self._used[key] -= cost
        if not self._used[key]:
            del self._used[key]
        self._grant()

    def _grant(self) -> None:
        while (key := self._next_key()) is not None:
            queue = self._waiting.pop(key)
            cost, granted = queue.popleft()
            self._used[key] += cost
            granted.set_result(None)
            if queue:
                self._waiting[key] = queue

    def _next_key(self) -> str | None:
        used = self._used.total()
        for key, queue in self._waiting.items():
            cost = queue[0][0]
            if self._used[key] and self._used[key] + cost > self._per_key:
                continue
            return None if used and used + cost > self._capacity else key
        return None

    def _forget(self, key: str, cost: int, granted: asyncio.Future[None]) -> None:
        """Remove a user that waits no longer."""
        queue = self._waiting[key]
        queue.remove((cost, granted))
        if not queue:
            del self._waiting[key]
        self._grant()
