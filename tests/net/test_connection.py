"""Waits for the peer that are ended from here."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from tests.core.peer import RELEASE_RQ, established
from tests.net.pairs import PATIENT, read, stream_pair, until

from dicomport.core import Association, ReleaseRequested
from dicomport.net import Connection, Timeouts


class StopError(Exception):
    """What the waits end with."""


@asynccontextmanager
async def connected() -> AsyncIterator[tuple[Connection, Association, socket.socket]]:
    async with stream_pair(send_buffer=4096, receive_buffer=4096) as (stream, theirs):
        core = established()
        yield Connection(stream, core, Timeouts()), core, theirs


def test_the_wait_that_goes_on_is_ended_and_the_next_one_is_not() -> None:
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


def test_nothing_is_ended_elsewhere() -> None:
    async def scenario() -> None:
        async with connected() as (connection, _, theirs):
            connection.interrupt(StopError())
            waiting = asyncio.ensure_future(connection.next_event(PATIENT))
            await until(lambda: connection._receiving)
            connection.interrupt(StopError())
            theirs.sendall(RELEASE_RQ)
            assert await waiting == ReleaseRequested()

    asyncio.run(scenario())


def test_one_that_has_not_begun_is_ended_and_what_is_being_sent_is_sent() -> None:
    async def scenario() -> None:
        async with connected() as (connection, core, theirs):
            core.send_data(3, bytes(3_000_000), last=True)

            async def wait() -> None:
                with connection.interruptible():
                    await connection.next_event(PATIENT)

            waiting = asyncio.ensure_future(wait())
            await until(lambda: connection._torn)
            connection.interrupt(StopError())
            assert len(await read(theirs, 3_000_000)) == 3_000_000
            received = asyncio.ensure_future(read(theirs, 1 << 30))
            with pytest.raises(StopError):
                await waiting
            assert not connection._torn
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
