"""Fair turns: keys alternate, costs fit into the capacity, and a cancelled user leaves nothing behind."""

import asyncio
import contextlib
from collections.abc import Sequence

from dicomport.net.limits.turns import FairTurns


class Users:
    """Users of a resource that hold it until `end`."""

    def __init__(self, turns: FairTurns) -> None:
        self.turns = turns
        self.order: list[str] = []
        self._ends: dict[str, asyncio.Event] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def start(self, *users: tuple[str, int]) -> None:
        """Start users, named by key and number, such as "a1"; each has a cost."""
        for name, cost in users:
            self._ends[name] = asyncio.Event()
            self._tasks[name] = asyncio.create_task(self._use(name, cost))
        await self._settle()

    async def end(self, *names: str) -> None:
        for name in names:
            self._ends[name].set()
            await self._settle()

    async def cancel(self, name: str) -> None:
        self._tasks[name].cancel()
        await self._settle()

    async def _settle(self) -> None:
        for _ in range(10):
            await asyncio.sleep(0)

    async def _use(self, name: str, cost: int) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            async with self.turns.turn(name[0], cost):
                self.order.append(name)
                await self._ends[name].wait()


def order_of(capacity: int, per_key: int | None, users: Sequence[tuple[str, int]], *ends: str) -> list[str]:
    """Return the order in which users are granted the resource; `ends` are released one after the other."""

    async def run() -> list[str]:
        tried = Users(FairTurns(capacity, per_key))
        await tried.start(*users)
        for end in ends:
            await (tried.cancel(end[1:]) if end.startswith("!") else tried.end(end))
        return tried.order

    return asyncio.run(run())


ONES = [("a1", 1), ("a2", 1), ("a3", 1), ("b1", 1), ("c1", 1)]


def test_keys_take_turns() -> None:
    assert order_of(1, None, ONES, "a1", "a2", "b1", "c1") == ["a1", "a2", "b1", "c1", "a3"]


def test_a_key_has_a_limit_of_its_own() -> None:
    assert order_of(3, 1, ONES) == ["a1", "b1", "c1"]
    assert order_of(3, 1, ONES, "a1", "a2") == ["a1", "b1", "c1", "a2", "a3"]


def test_costs_fit_into_the_capacity() -> None:
    users = [("a1", 6), ("b1", 3), ("c1", 9), ("d1", 1)]
    assert order_of(10, None, users) == ["a1", "b1"]
    # The costly one is not overtaken for ever.
    assert order_of(10, None, users, "a1") == ["a1", "b1"]
    assert order_of(10, None, users, "a1", "b1") == ["a1", "b1", "c1", "d1"]


def test_one_that_costs_more_than_all_is_granted_alone() -> None:
    assert order_of(10, None, [("a1", 99), ("b1", 1)]) == ["a1"]
    assert order_of(10, None, [("a1", 99), ("b1", 1)], "a1") == ["a1", "b1"]


def test_a_cancelled_user_is_passed_over() -> None:
    assert order_of(1, None, ONES, "!a2", "a1") == ["a1", "a3"]
    assert order_of(1, None, ONES, "!a1") == ["a1", "a2"]
    assert order_of(10, None, [("a1", 6), ("b1", 9), ("c1", 1)], "!b1") == ["a1", "c1"]
