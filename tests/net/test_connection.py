"""One core on one stream: limits of the waits for the peer, interrupts, and counters."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from tests.core.associations import established
from tests.core.messages import RELEASE_RQ
from tests.net.pairs import PATIENT, SHORT, read, stream_pair, until

from dicomport.core import Association, ReleaseRequested
from dicomport.net import Connection, Counters, Flush, Steps, Timeouts, TimerExpiredError
from dicomport.net.timers import ARTIM


class StopError(Exception):
    """The error that ends the waits."""


@asynccontextmanager
async def connected() -> AsyncIterator[tuple[Connection, Association, socket.socket]]:
    async with stream_pair(send_buffer=4096, receive_buffer=4096) as (stream, theirs):
        core = established()
        yield Connection(stream, core, Timeouts()), core, theirs


def test_an_interrupt_ends_the_current_wait_only() -> None:
    async def scenario() -> None:
        async with connected() as (connection, _, theirs):

            async def wait() -> None:
                with connection.interruptible():
                    await connection.next_event(PATIENT)

            waiting = asyncio.ensure_future(wait())
            await until(lambda: connection._receiving)
            connection.interrupt(StopError())
            with pytest.raises(StopError):
                await waiting
            theirs.sendall(RELEASE_RQ)
            assert await connection.next_event(PATIENT) == ReleaseRequested()

    asyncio.run(scenario())


def test_an_interrupt_outside_the_block_does_nothing() -> None:
    async def scenario() -> None:
        async with connected() as (connection, _, theirs):
            connection.interrupt(StopError())
            waiting = asyncio.ensure_future(connection.next_event(PATIENT))
            await until(lambda: connection._receiving)
            connection.interrupt(StopError())
            theirs.sendall(RELEASE_RQ)
            assert await waiting == ReleaseRequested()

    asyncio.run(scenario())


def test_an_interrupt_ends_the_next_wait_and_no_sending() -> None:
    async def scenario() -> None:
        async with connected() as (connection, core, theirs):
            core.send_data(3, bytes(3_000_000), last=True)

            async def wait() -> None:
                with connection.interruptible():
                    await connection.next_event(PATIENT)

            waiting = asyncio.ensure_future(wait())
            await until(lambda: connection._partial_write)
            connection.interrupt(StopError())
            assert len(await read(theirs, 3_000_000)) == 3_000_000
            received = asyncio.ensure_future(read(theirs, 1 << 30))
            with pytest.raises(StopError):
                await waiting
            assert not connection._partial_write
            connection.close()
            await received

    asyncio.run(scenario())


def test_an_event_that_is_there_already_is_given() -> None:
    async def scenario() -> None:
        async with connected() as (connection, core, _):
            core.receive(RELEASE_RQ)
            with connection.interruptible():
                connection.interrupt(StopError())
                assert await connection.next_event(PATIENT) == ReleaseRequested()

    asyncio.run(scenario())


def abort(connection: Connection) -> Steps[None]:
    connection.core.abort()
    yield Flush(connection.timeouts.timer("abort").started())


def test_an_abort_to_a_peer_that_does_not_read_is_limited() -> None:
    async def scenario() -> None:
        async with stream_pair(send_buffer=2048, receive_buffer=2048) as (stream, _):
            counters = Counters()
            connection = Connection(stream, established(), Timeouts(abort=SHORT.seconds), counters=counters)
            with pytest.raises(TimerExpiredError):
                await stream.send([bytes(1 << 20)], SHORT)
            with pytest.raises(TimerExpiredError, match=r"the abort timer expired after 0\.05 s"):
                await connection.run(abort(connection))
            assert counters.snapshot() == {"timer.abort": 1}

    asyncio.run(scenario())


def test_an_expired_artim_is_counted_and_recorded() -> None:
    async def scenario() -> None:
        async with stream_pair() as (stream, peer):
            core = established()
            counters = Counters()
            connection = Connection(stream, core, Timeouts(artim=SHORT.seconds), counters=counters)
            core.abort()
            assert await connection.next_event(Timeouts().timer("idle")) is None
            assert core.closing
            assert counters.snapshot() == {"timer.ARTIM": 1}
            assert connection.expired is not None
            assert connection.expired.timer.name == ARTIM
            assert len(peer.recv(100)) == 10

    asyncio.run(scenario())
