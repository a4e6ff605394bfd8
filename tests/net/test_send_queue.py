"""The send queue: while a slow peer receives, neither a write nor a response times out."""

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from typing import Final

import pytest
from tests.core.associations import established
from tests.net.pairs import SHORT, stream_pair, tcp_pair

from dicomport.core import Association, Role
from dicomport.net import BlockingConnection, Connection, Steps, Timeouts, TimerExpiredError, next_event
from dicomport.net.send_queue import SendQueue, _waiting

MIB: Final = 1 << 20
TIMEOUTS: Final = Timeouts(write=SHORT.seconds)


def read(sock: socket.socket, theirs: socket.socket, size: int) -> None:
    """Read so many bytes, and see their acknowledgement arrive."""
    before = _waiting(sock)
    while size:
        size -= len(theirs.recv(size))
    while _waiting(sock) == before:
        pass


class SlowReader:
    """Reads some bytes at each check of the queue, a limited number of times."""

    def __init__(self, ours: socket.socket, theirs: socket.socket, times: int) -> None:
        self._ours = ours
        self._theirs = theirs
        self.left = times
        self.asked = 0

    def ask(self) -> None:
        self.asked += 1
        if self.left:
            self.left -= 1
            read(self._ours, self._theirs, MIB // 8)


@pytest.fixture
def readers(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[SlowReader]]:
    """Run the readers just before each check of the queue."""
    found: list[SlowReader] = []
    drained = SendQueue.drained

    def look(self: SendQueue) -> bool:
        for reader in found:
            reader.ask()
        return drained(self)

    monkeypatch.setattr(SendQueue, "drained", look)
    yield found
    assert [reader.left for reader in found] == [0]


def test_a_receiving_peer_is_distinguished_from_a_stalled_one() -> None:
    with tcp_pair() as (ours, theirs):
        queue = SendQueue(ours)
        assert not queue.drained()
        ours.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                ours.send(bytes(MIB))
        queue.record()
        assert not queue.drained()
        read(ours, theirs, MIB)
        assert queue.drained()
        assert not queue.drained()


def test_a_short_queue_and_a_closed_socket_count_as_empty() -> None:
    with tcp_pair(receive_buffer=2048) as (ours, theirs):
        queue = SendQueue(ours)
        ours.send(bytes(100_000))
        queue.record_message()
        read(ours, theirs, 50_000)
        assert not queue.drained()
        queue.record()
        ours.close()
        assert queue.drained()


def test_a_stream_sends_as_long_as_the_peer_reads(readers: list[SlowReader]) -> None:
    async def scenario() -> None:
        async with stream_pair() as (stream, theirs):
            readers.append(SlowReader(stream._sock, theirs, 3))
            with pytest.raises(TimerExpiredError):
                await stream.send([bytes(64 * MIB)], SHORT)
            assert readers[0].asked == 4

    asyncio.run(scenario())


def test_a_started_timer_limits_it_nevertheless(readers: list[SlowReader]) -> None:
    async def scenario() -> None:
        async with stream_pair() as (stream, theirs):
            readers.append(SlowReader(stream._sock, theirs, 0))
            with pytest.raises(TimerExpiredError):
                await stream.send([bytes(64 * MIB)], SHORT.started())
            assert readers[0].asked == 0

    asyncio.run(scenario())


def sending(core: Association, size: int) -> Steps[None]:
    """Send a data set, and wait for a response that the peer does not send."""
    core.send_data(3, bytes(size), last=True)
    yield from next_event(core, SHORT.started())


@pytest.mark.parametrize(
    ("runner", "role", "asked"),
    [("asyncio", Role.REQUESTOR, 4), ("blocking", Role.REQUESTOR, 4), ("asyncio", Role.ACCEPTOR, 0)],
)
def test_a_response_is_awaited_once_its_request_has_left(
    readers: list[SlowReader], runner: str, role: Role, asked: int
) -> None:
    async def scenario() -> None:
        async with stream_pair() as (stream, theirs):
            readers.append(SlowReader(stream._sock, theirs, max(0, asked - 1)))
            core = established(role)
            with pytest.raises(TimerExpiredError):
                await Connection(stream, core, TIMEOUTS).run(sending(core, 2 * MIB))

    def blocking() -> None:
        with tcp_pair() as (ours, theirs):
            readers.append(SlowReader(ours, theirs, asked - 1))
            core = established(role)
            with pytest.raises(TimerExpiredError):
                BlockingConnection(ours, core, TIMEOUTS).run(sending(core, 2 * MIB))

    if runner == "asyncio":
        asyncio.run(scenario())
    else:
        blocking()
    assert readers[0].asked == asked


def test_a_blocking_connection_sends_as_long_as_the_peer_reads(readers: list[SlowReader]) -> None:
    with tcp_pair() as (ours, theirs):
        readers.append(SlowReader(ours, theirs, 3))
        core = established(Role.REQUESTOR)
        with pytest.raises(TimerExpiredError, match="write"):
            BlockingConnection(ours, core, TIMEOUTS).run(sending(core, 64 * MIB))
        assert readers[0].asked == 4
