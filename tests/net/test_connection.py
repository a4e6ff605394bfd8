"""One core on one stream: what bounds the waits, and what is counted of them."""

import asyncio

import pytest
from tests.core.peer import established
from tests.net.pairs import SHORT, stream_pair

from dicomport.net import Connection, Counters, Flush, Steps, Timeouts, TimerExpiredError
from dicomport.net.timers import ARTIM


def abort(connection: Connection) -> Steps[None]:
    connection.core.abort()
    yield Flush(connection.timeouts.timer("abort").started())


def test_an_abort_that_nobody_reads_is_bounded() -> None:
    async def scenario() -> None:
        async with stream_pair(send_buffer=2048, receive_buffer=2048) as (stream, _):
            connection = Connection(stream, established(), Timeouts(abort=SHORT.seconds), counters := Counters())
            with pytest.raises(TimerExpiredError):
                await stream.send([bytes(1 << 20)], SHORT)
            with pytest.raises(TimerExpiredError, match=r"the abort timer expired after 0\.05 s"):
                await connection.run(abort(connection))
            assert counters.snapshot() == {"timer.abort": 1}

    asyncio.run(scenario())


def test_artim_that_expires_is_counted_and_known_though_it_is_the_core_s_business() -> None:
    async def scenario() -> None:
        async with stream_pair() as (stream, peer):
            core = established()
            connection = Connection(stream, core, Timeouts(artim=SHORT.seconds), counters := Counters())
            core.abort()
            assert await connection.next_event(Timeouts().timer("idle")) is None
            assert core.closing
            assert counters.snapshot() == {"timer.ARTIM": 1}
            assert connection.expired is not None
            assert connection.expired.timer.name == ARTIM
            assert len(peer.recv(100)) == 10

    asyncio.run(scenario())
