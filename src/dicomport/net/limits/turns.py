"""Fair turns: a limited resource for which peers wait, each in the queue of its key.

Theory of operation
-------------------
Each user of the resource has a key, such as the peer's address, and a cost. Those that wait are queued by key, and the
keys take turns (`dicomport.turns`). A costly user waits until it fits; no later one overtakes it, except those of its
key's limit. All of this runs in one event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator

from dicomport.turns import Turns


class FairTurns:
    """Grants a resource of limited capacity in turns of keys."""

    def __init__(self, capacity: int, per_key: int | None = None) -> None:
        """Grant up to `capacity` in all, and `per_key` (default: no limit) to the users of one key.

        One user is granted the resource in any case, also if it costs more.
        """
        self._capacity = capacity
        self._per_key = capacity if per_key is None else per_key
        self._used: Counter[str] = Counter()
        self._waiting: Turns[tuple[int, asyncio.Future[None]]] = Turns()
        """Costs of the users that wait."""

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
        self._waiting.put(key, (cost, granted))
        self._grant()
        try:
            await granted
        except asyncio.CancelledError:
            if granted.cancelled():
                self._waiting.remove(key, (cost, granted))
                self._grant()
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
        while (user := self._next()) is not None:
            key, cost, granted = user
            self._waiting.end_turn(key, finished=True)
            self._used[key] += cost
            granted.set_result(None)

    def _next(self) -> tuple[str, int, asyncio.Future[None]] | None:
        used = self._used.total()
        for key, (cost, granted) in self._waiting.heads():
            if self._used[key] and self._used[key] + cost > self._per_key:
                continue
            return None if used and used + cost > self._capacity else (key, cost, granted)
        return None
