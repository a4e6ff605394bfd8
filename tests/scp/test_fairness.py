"""A peer that keeps the receiver busy leaves the other associations their turns."""

import asyncio

from tests.scp.messages import STORE, in_fragments, request, store_command

import dicomport
from dicomport import Status
from dicomport.standard import SUCCESS
from dicomport.testing import ScriptedSCU
from dicomport.wire import Buffer


class Turns:
    """A storage that counts the fragments it receives before another task of the event loop has its turn."""

    def __init__(self) -> None:
        self.turn = 0
        self.counts: dict[int, int] = {}
        self.fragments = 0

    async def begin(self, operation: dicomport.StoreOperation) -> "Turns":
        return self

    async def write(self, data: Buffer) -> None:
        self.fragments += 1
        self.counts[self.turn] = self.counts.get(self.turn, 0) + 1

    async def commit(self) -> Status:
        return SUCCESS

    async def discard(self) -> None:
        """Keep the counts."""

    async def take_turns(self) -> None:
        while True:
            self.turn += 1
            await asyncio.sleep(0)


def test_fragments_of_one_byte_leave_other_tasks_their_turns() -> None:
    turns, size = Turns(), 20_000

    async def scenario() -> None:
        async with dicomport.StorageSCP(turns, port=0) as scp:
            other = asyncio.create_task(turns.take_turns())
            with await asyncio.to_thread(ScriptedSCU, "127.0.0.1", scp.port) as peer:
                await asyncio.to_thread(peer.send, request())
                await asyncio.to_thread(peer.receive)
                await asyncio.to_thread(peer.send, store_command(), in_fragments(STORE, bytes(size), 1))
                await asyncio.to_thread(peer.receive)
            other.cancel()

    asyncio.run(scenario())
    assert turns.fragments == size
    assert max(turns.counts.values()) <= 300  # the limit of a turn is 256 events
