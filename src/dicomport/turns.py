"""Queues by key, such as the peer's address, whose keys take turns.

After its turn, a key is the last. So however many items of one key wait, an item of another key waits for the items
before it in its own queue, and for one turn of each other key before each of them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class Turns(Generic[T]):
    """Items that wait, by key. It has no lock: threads that share it need one."""

    def __init__(self) -> None:
        self._queues: dict[str, deque[T]] = {}
        """The queues in the order of their turns. No queue is empty."""

    def __bool__(self) -> bool:
        return bool(self._queues)

    def put(self, key: str, item: T) -> None:
        """Append an item to the queue of its key; the turn of a new key is after those of all others."""
        self._queues.setdefault(key, deque()).append(item)

    def heads(self) -> Iterator[tuple[str, T]]:
        """Yield each key and its first item, in the order of their turns."""
        for key, queue in self._queues.items():
            yield key, queue[0]

    def end_turn(self, key: str, *, finished: bool) -> None:
        """Move a key behind all others; remove its first item if that is finished."""
        queue = self._queues.pop(key)
        if finished:
            queue.popleft()
        if queue:
            self._queues[key] = queue

    def remove(self, key: str, item: T) -> None:
        """Remove an item that waits no longer."""
        queue = self._queues[key]
        queue.remove(item)
        if not queue:
            del self._queues[key]
