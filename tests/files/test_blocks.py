"""Work for a disk: at once while that is quick, else in threads; and bytes in order, whoever writes them."""

import asyncio
import threading
from collections.abc import Callable, Iterable

from hypothesis import given
from hypothesis import strategies as st

from dicomport.files import BlockWriter, Disk

NEVER = 3600.0


class Threads:
    """Work that takes note of the threads that do it."""

    def __init__(self) -> None:
        self.idents: list[int] = []

    def work(self) -> int:
        self.idents.append(threading.get_ident())
        return len(self.idents)

    @property
    def at_once(self) -> list[bool]:
        return [ident == threading.get_ident() for ident in self.idents]


def run_three(disk: Disk, work: Callable[[], int]) -> list[int]:
    async def three() -> list[int]:
        return [await disk.run(work) for _ in range(3)]

    return asyncio.run(three())


def test_what_is_quick_is_done_at_once() -> None:
    threads = Threads()
    assert run_three(Disk(patience=NEVER), threads.work) == [1, 2, 3]
    assert threads.at_once == [True, True, True]


def test_what_was_slow_once_is_left_to_threads() -> None:
    threads = Threads()
    assert run_three(Disk(patience=0.0, slow_for=NEVER), threads.work) == [1, 2, 3]
    assert threads.at_once == [True, False, False]


def test_after_a_while_it_is_tried_again() -> None:
    threads = Threads()
    run_three(Disk(patience=0.0, slow_for=0.0), threads.work)
    assert threads.at_once == [True, True, True]


def test_what_fails_slowly_is_slow_too() -> None:
    threads = Threads()
    disk = Disk(patience=0.0, slow_for=NEVER)

    def fail() -> int:
        threads.work()
        raise OSError

    async def scenario() -> None:
        for _ in range(2):
            try:
                await disk.run(fail)
            except OSError:
                continue

    asyncio.run(scenario())
    assert threads.at_once == [True, False]


class FickleDisk(Disk):
    """One that is quick or not from one piece to the next."""

    def __init__(self, turns: Iterable[bool]) -> None:
        super().__init__()
        self._turns = iter(turns)

    @property
    def quick(self) -> bool:
        return next(self._turns, False)


@given(st.lists(st.tuples(st.binary(max_size=20), st.booleans())))
def test_bytes_stay_in_order_however_the_disk_changes(pieces: list[tuple[bytes, bool]]) -> None:
    written = bytearray()
    writer = BlockWriter(written.extend, 16, FickleDisk(quick for _, quick in pieces))

    async def write() -> None:
        for data, _ in pieces:
            await writer.write(memoryview(data))

    asyncio.run(write())
    assert bytes(written + writer.pending) == b"".join(data for data, _ in pieces)


def test_a_quick_disk_has_nothing_collected_for_it() -> None:
    written = bytearray()
    writer = BlockWriter(written.extend, 1 << 20, Disk(patience=NEVER))
    asyncio.run(writer.write(memoryview(b"0123")))
    assert (bytes(written), bytes(writer.pending)) == (b"0123", b"")
