"""Streams: bytes out of gather lists and into the caller's buffer, however little the socket takes at a time."""

import asyncio
import itertools
import socket
import struct
import sys
from collections.abc import Callable
from typing import Any, Final, cast

import pytest
from hypothesis import given, settings, strategies as st
from tests.net.pairs import PATIENT, SHORT, read, receive_into, stream_pair, tcp_pair, until

from dicomport.net import Stream, Timer, TimerExpiredError
from dicomport.net.socket_io import GatherList
from dicomport.net.stream import _Expiry

PATTERN: Final = b"".join(struct.pack("<L", number) for number in range(1 << 19))
"""2 MiB in which no two places look alike."""


class OursError(Exception):
    """The error of `interrupt`."""


# Sending.


@pytest.mark.parametrize("piece", [1000, 1 << 16])
def test_all_bytes_arrive_with_small_buffers(piece: int) -> None:
    async def scenario() -> None:
        async with stream_pair(send_buffer=2048, receive_buffer=2048) as (stream, peer):
            reading = asyncio.create_task(read(peer, len(PATTERN), piece))
            await stream.send([PATTERN[:10], memoryview(PATTERN)[10:], b""], PATIENT)
            assert await reading == PATTERN

    asyncio.run(scenario())


@pytest.mark.parametrize("count", [0, 1, 511, 512, 513, 1024, 1025, 3000])
def test_a_gather_list_may_need_several_system_calls(count: int) -> None:
    buffers = [PATTERN[number * 7 : number * 7 + number % 9] for number in range(count)]
    whole = b"".join(buffers)

    async def scenario() -> None:
        async with stream_pair(send_buffer=2048) as (stream, peer):
            reading = asyncio.create_task(read(peer, len(whole), 777))
            await stream.send(buffers, PATIENT)
            assert await reading == whole

    asyncio.run(scenario())


def test_the_buffers_are_not_copied() -> None:
    """Buffers are not copied: `Part10File.chunks` may reuse its buffer only after sending."""
    with tcp_pair() as (ours, theirs):
        data = bytearray(b"before")
        gather = GatherList([data], ours)
        data[:] = b"after!"
        assert not gather.send_some()
        assert theirs.recv(100) == b"after!"


class Sipping:
    """A socket that accepts a limited number of bytes at a time."""

    def __init__(self, sizes: list[int]) -> None:
        self._sizes = itertools.chain(sizes, itertools.repeat(1 << 20))
        self.taken = bytearray()
        self.max_buffers = 0

    def sendmsg(self, buffers: list[memoryview]) -> int:
        data = b"".join(buffers)[: next(self._sizes)]
        self.taken += data
        self.max_buffers = max(self.max_buffers, len(buffers))
        return len(data)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.binary(max_size=20), max_size=700), st.lists(st.integers(0, 40), max_size=30))
def test_partial_sends_keep_the_order_and_all_bytes(buffers: list[bytes], sizes: list[int]) -> None:
    sock = Sipping(sizes)
    gather = GatherList(buffers, cast("socket.socket", sock))

    while gather.send_some():
        pass

    assert bytes(sock.taken) == b"".join(buffers)
    assert sock.max_buffers <= 512
    assert gather.send_some() is False


def test_a_peer_that_does_not_read_expires_the_timer() -> None:
    async def scenario() -> None:
        async with stream_pair(send_buffer=2048, receive_buffer=2048) as (stream, _):
            with pytest.raises(TimerExpiredError, match=r"the short timer expired after 0\.05 s") as error:
                await stream.send([PATTERN], SHORT)
            assert error.value.timer is SHORT

    asyncio.run(scenario())


def test_the_timer_bounds_each_wait_and_not_all_of_it() -> None:
    """Twenty waits, each restarted because the peer reads, on a clock that the test controls."""
    clock = Clock()
    expired: list[TimerExpiredError] = []
    expiry = _Expiry(cast("asyncio.AbstractEventLoop", clock))

    for _ in range(20):
        expiry.start(Timer("network", 10.0), expired.append)
        clock.turn(9.0)
        expiry.stop()
    assert expired == []
    expiry.start(Timer("network", 10.0), expired.append)
    clock.turn(9.9)
    assert expired == []
    clock.turn(0.2)
    assert [str(error) for error in expired] == ["the network timer expired after 10 s"]


@pytest.mark.parametrize("how", ["close", "reset"])
def test_a_peer_that_disconnects_during_sending_is_an_os_error(how: str) -> None:
    async def scenario() -> None:
        async with stream_pair(send_buffer=2048, receive_buffer=2048) as (stream, peer):
            sending = asyncio.create_task(stream.send([PATTERN], PATIENT))
            await read(peer, 1000)
            _leave(peer, how)
            with pytest.raises((ConnectionResetError, BrokenPipeError)):
                await sending

    asyncio.run(scenario())


def _leave(peer: socket.socket, how: str) -> None:
    if how == "reset":
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()


# Receiving.


def test_bytes_are_received_into_the_buffer() -> None:
    async def scenario() -> None:
        async with stream_pair() as (stream, peer):
            sending = asyncio.create_task(asyncio.to_thread(peer.sendall, PATTERN))
            got = bytearray()
            buffer = memoryview(bytearray(30_001))
            while len(got) < len(PATTERN):
                count = await receive_into(stream, buffer, PATIENT)
                assert 0 < count <= len(buffer)
                got += buffer[:count]
            assert got == PATTERN
            await sending

    asyncio.run(scenario())


def test_both_directions_go_at_once_byte_by_byte() -> None:
    async def scenario() -> None:
        async with stream_pair() as (stream, peer):
            buffer = memoryview(bytearray(10))
            for number in range(100):
                peer.sendall(bytes((number,)))
                assert await receive_into(stream, buffer, PATIENT) == 1
                await stream.send([bytes(buffer[:1])], PATIENT)
                assert await read(peer, 1) == bytes((number,))

    asyncio.run(scenario())


def test_bytes_before_the_end_are_read_first() -> None:
    async def scenario() -> None:
        async with stream_pair() as (stream, peer):
            buffer = memoryview(bytearray(3))
            peer.sendall(b"12345")
            peer.close()
            assert [await receive_into(stream, buffer, PATIENT) for _ in range(4)] == [3, 2, 0, 0]

    asyncio.run(scenario())


def test_a_half_closed_connection_can_still_be_written_to() -> None:
    async def scenario() -> None:
        async with stream_pair() as (stream, peer):
            peer.shutdown(socket.SHUT_WR)
            assert await receive_into(stream, memoryview(bytearray(3)), PATIENT) == 0
            await stream.send([b"still"], PATIENT)
            assert await read(peer, 5) == b"still"

    asyncio.run(scenario())


def test_a_reset_is_an_os_error() -> None:
    async def scenario() -> None:
        async with stream_pair() as (stream, peer):
            _leave(peer, "reset")
            with pytest.raises(ConnectionResetError):
                await receive_into(stream, memoryview(bytearray(3)), PATIENT)

    asyncio.run(scenario())


def test_a_silent_peer_expires_the_timer_and_may_still_answer() -> None:
    async def scenario() -> None:
        async with stream_pair() as (stream, peer):
            buffer = memoryview(bytearray(3))
            for _ in range(2):
                with pytest.raises(TimerExpiredError):
                    await receive_into(stream, buffer, SHORT)
            peer.sendall(b"at last")
            assert await receive_into(stream, buffer, SHORT) == 3

    asyncio.run(scenario())


def test_a_short_timer_after_a_long_one_is_short() -> None:
    async def scenario() -> None:
        async with stream_pair() as (stream, peer):
            buffer = memoryview(bytearray(3))
            peer.sendall(b"1")
            assert await receive_into(stream, buffer, PATIENT) == 1
            with pytest.raises(TimerExpiredError):
                await receive_into(stream, buffer, SHORT)

    asyncio.run(scenario())


def test_a_timer_of_zero_seconds_expires() -> None:
    async def scenario() -> None:
        async with stream_pair() as (stream, _):
            with pytest.raises(TimerExpiredError):
                await receive_into(stream, memoryview(bytearray(3)), Timer("zero", 0.0))

    asyncio.run(scenario())


@pytest.mark.parametrize("wait", ["receive", "send"])
def test_a_wait_can_be_interrupted(wait: str) -> None:
    async def scenario() -> None:
        async with stream_pair(send_buffer=2048, receive_buffer=2048) as (stream, _):
            buffer = memoryview(bytearray(3))
            waiting: asyncio.Task[Any] = asyncio.create_task(
                receive_into(stream, buffer, PATIENT) if wait == "receive" else stream.send([PATTERN], PATIENT)
            )
            await until(lambda: stream._waiter is not None)
            stream.interrupt(OursError())
            stream.interrupt(OursError())
            with pytest.raises(OursError):
                await waiting
            stream.interrupt(OursError())

    asyncio.run(scenario())


def test_a_cancelled_wait_leaves_the_stream_good() -> None:
    async def scenario() -> None:
        async with stream_pair() as (stream, peer):
            buffer = memoryview(bytearray(9))
            waiting = asyncio.create_task(receive_into(stream, buffer, PATIENT))
            await until(lambda: stream._waiter is not None)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            peer.sendall(b"1")
            assert await receive_into(stream, buffer, PATIENT) == 1

    asyncio.run(scenario())


def test_unawaited_bytes_stay_in_the_socket_without_a_busy_loop() -> None:
    async def scenario() -> None:
        async with stream_pair() as (stream, peer):
            buffer = memoryview(bytearray(1))
            peer.sendall(b"12")
            assert await receive_into(stream, buffer, PATIENT) == 1
            await until(lambda: not stream._reader_added)
            assert await receive_into(stream, buffer, PATIENT) == 1
            assert bytes(buffer) == b"2"

    asyncio.run(scenario())


def test_nagle_s_algorithm_is_off() -> None:
    async def scenario() -> None:
        with tcp_pair() as (ours, _):
            assert ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 0
            stream = Stream(ours)
            assert ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0
            assert ours.gettimeout() == 0
            assert stream.tls is None
            stream.close()

    asyncio.run(scenario())


def test_a_peer_that_has_lost_its_power_is_found_out() -> None:
    async def scenario() -> None:
        with tcp_pair() as (ours, _):
            assert ours.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 0
            stream = Stream(ours)
            assert ours.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            if sys.platform == "linux":
                options = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
                assert [ours.getsockopt(socket.IPPROTO_TCP, option) for option in options] == [60, 15, 4]
            stream.close()

    asyncio.run(scenario())


def test_a_stream_may_be_closed_twice_and_during_a_wait() -> None:
    async def scenario() -> None:
        async with stream_pair() as (stream, peer):
            peer.sendall(b"1")
            assert await receive_into(stream, memoryview(bytearray(1)), PATIENT) == 1
            stream.close()
            stream.close()
            assert await read(peer, 1) == b""

    asyncio.run(scenario())


# The clock under the timers.


class Clock:
    """The part of an event loop that a timer needs, at a time that the test sets."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.handles: list[Handle] = []
        self.armed = 0

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, callback: Callable[[], None]) -> "Handle":
        self.armed += 1
        self.handles.append(Handle(when, callback))
        return self.handles[-1]

    def turn(self, seconds: float) -> None:
        end = self.now + seconds
        while due := [handle for handle in self.handles if handle.at <= end and not handle.cancelled]:
            first = min(due, key=lambda handle: handle.at)
            self.handles.remove(first)
            self.now = max(self.now, first.at)
            first.callback()
        self.now = end


class Handle:
    """The result of `call_at`."""

    def __init__(self, at: float, callback: Callable[[], None]) -> None:
        self.at = at
        self.callback = callback
        self.cancelled = False

    def when(self) -> float:
        return self.at

    def cancel(self) -> None:
        self.cancelled = True


def test_a_timer_set_for_every_read_uses_few_loop_timers() -> None:
    clock = Clock()
    expired: list[TimerExpiredError] = []
    expiry = _Expiry(cast("asyncio.AbstractEventLoop", clock))

    for _ in range(10_000):
        expiry.start(Timer("network", 10.0), expired.append)
        clock.turn(0.01)
        expiry.stop()

    assert expired == []
    assert clock.armed < 20


@given(
    st.lists(
        st.tuples(st.sampled_from(["start", "stop", "turn", "cancel"]), st.floats(0.001, 100, allow_nan=False)),
        max_size=40,
    )
)
def test_a_timer_expires_when_it_should_and_not_otherwise(steps: list[tuple[str, float]]) -> None:
    clock = Clock()
    expired: list[TimerExpiredError] = []
    expiry = _Expiry(cast("asyncio.AbstractEventLoop", clock))
    deadline: float | None = None
    wanted = 0

    for step, seconds in steps:
        if step == "start":
            expiry.start(Timer("any", seconds), expired.append)
            deadline = clock.now + seconds
        elif step == "turn":
            clock.turn(seconds)
            if deadline is not None and deadline <= clock.now:
                # In a stream the wait ends with it, and with the wait the timer.
                wanted += 1
                expiry.stop()
                deadline = None
        else:
            getattr(expiry, step)()
            deadline = None
        assert len(expired) == wanted


def test_buffered_bytes_are_read_at_once_but_other_tasks_run() -> None:
    """Count the reads of one byte each before another ready callback runs."""

    async def scenario() -> None:
        async with stream_pair() as (stream, peer):
            peer.sendall(bytes(100))
            buffer = memoryview(bytearray(1))
            await receive_into(stream, buffer, PATIENT)
            for _ in range(3):
                others = asyncio.Event()
                asyncio.get_running_loop().call_soon(others.set)
                reads = 0
                while not others.is_set():
                    await receive_into(stream, buffer, PATIENT)
                    reads += 1
                assert 1 < reads < 10

    asyncio.run(scenario())


def test_after_sending_a_read_waits_for_the_event_loop() -> None:
    async def scenario() -> None:
        async with stream_pair() as (stream, peer):
            peer.sendall(bytes(100))
            buffer = memoryview(bytearray(1))
            await receive_into(stream, buffer, PATIENT)
            await stream.send([b"answer"], PATIENT)
            others = asyncio.Event()
            asyncio.get_running_loop().call_soon(others.set)
            await receive_into(stream, buffer, PATIENT)
            assert others.is_set()

    asyncio.run(scenario())
