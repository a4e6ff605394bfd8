"""Work for a disk: on the event loop while the disk is fast, otherwise in threads; bytes stay in order."""

import asyncio
import threading
from collections.abc import Callable, Iterable

import pytest
from hypothesis import given, strategies as st

from dicomport.files import BlockWriter, Disk, MemoryBudget
from dicomport.wire import Buffer

NEVER = 3600.0
KIB = 1 << 10


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


def test_fast_work_is_done_at_once() -> None:
    threads = Threads()
    assert run_three(Disk(max_delay=NEVER), threads.work) == [1, 2, 3]
    assert threads.at_once == [True, True, True]


def test_slow_work_is_moved_to_threads() -> None:
    threads = Threads()
    assert run_three(Disk(max_delay=0.0, slow_seconds=NEVER), threads.work) == [1, 2, 3]
    assert threads.at_once == [True, False, False]


def test_after_a_while_it_is_tried_again() -> None:
    threads = Threads()
    run_three(Disk(max_delay=0.0, slow_seconds=0.0), threads.work)
    assert threads.at_once == [True, True, True]


def test_slow_failures_count_as_slow() -> None:
    threads = Threads()
    disk = Disk(max_delay=0.0, slow_seconds=NEVER)

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
    def is_fast(self) -> bool:
        return next(self._turns, False)


@given(st.lists(st.tuples(st.binary(max_size=20), st.booleans())))
def test_bytes_stay_in_order_however_the_disk_changes(pieces: list[tuple[bytes, bool]]) -> None:
    written = bytearray()
    writer = BlockWriter(16, FickleDisk(is_fast for _, is_fast in pieces))

    async def write() -> None:
        for data, _ in pieces:
            await writer.write(memoryview(data), written.extend)

    asyncio.run(write())
    assert bytes(written + writer.pending) == b"".join(data for data, _ in pieces)


def test_a_quick_disk_has_nothing_collected_for_it() -> None:
    written = bytearray()
    writer = BlockWriter(1 << 20, Disk(max_delay=NEVER))
    asyncio.run(writer.write(memoryview(b"0123"), written.extend))
    assert (bytes(written), bytes(writer.pending)) == (b"0123", b"")


# Memory.


class Blocks:
    """The blocks that were written."""

    def __init__(self) -> None:
        self.blocks: list[bytes] = []

    def append(self, block: Buffer) -> None:
        self.blocks.append(bytes(block))


def test_blocks_are_as_long_as_they_may_be_while_there_is_memory() -> None:
    written, memory = Blocks(), MemoryBudget(10 * KIB)
    writer = BlockWriter(4 * KIB, memory=memory)

    async def scenario() -> None:
        for _ in range(9):
            await writer.write(bytes(KIB), written.append)

    asyncio.run(scenario())
    assert [len(block) for block in written.blocks] == [4 * KIB, 4 * KIB]
    assert memory.held == KIB
    assert bytes(writer.take()) == bytes(KIB)
    assert memory.held == 0
    assert writer.take() == b""


def test_where_memory_is_scarce_blocks_are_short() -> None:
    written, memory = Blocks(), MemoryBudget(200 * KIB)
    others = BlockWriter(memory=memory)
    writer = BlockWriter(memory=memory)

    async def scenario() -> None:
        await others.write(bytes(200 * KIB), written.append)
        for _ in range(70):
            await writer.write(bytes(KIB), written.append)
        # Other writers hold the memory; when they have written, it is free again.
        others.take()
        for _ in range(70):
            await writer.write(bytes(KIB), written.append)

    asyncio.run(scenario())
    assert [len(block) for block in written.blocks] == [64 * KIB]
    assert memory.held == len(writer.pending) == 76 * KIB


def test_memory_is_held_until_it_is_written() -> None:
    memory = MemoryBudget()
    entered, go = threading.Event(), threading.Event()

    def append(_block: Buffer) -> None:
        entered.set()
        assert go.wait(60)

    async def scenario() -> None:
        writing = asyncio.create_task(BlockWriter(KIB, memory=memory).write(bytes(KIB), append))
        await asyncio.to_thread(entered.wait, 60)
        assert memory.held == KIB
        go.set()
        await writing
        assert memory.held == 0

    asyncio.run(scenario())


def fail(_block: Buffer) -> None:
    raise OSError


@pytest.mark.parametrize("append", [fail, Blocks().append])
def test_a_block_is_released_in_any_case(append: Callable[[Buffer], None]) -> None:
    memory = MemoryBudget()
    writer = BlockWriter(KIB, memory=memory)

    async def scenario() -> None:
        if append is fail:
            with pytest.raises(OSError, match=r"^$"):
                await writer.write(bytes(KIB), append)
        else:
            writing = asyncio.create_task(writer.write(bytes(KIB), append))
            asyncio.get_running_loop().call_soon(writing.cancel)
            with pytest.raises(asyncio.CancelledError):
                await writing

    asyncio.run(scenario())
    assert memory.held == 0
