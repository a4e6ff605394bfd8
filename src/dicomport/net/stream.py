"""A transport connection on asyncio: a non-blocking socket, TCP or TLS.

asyncio's own transports are not used: they copy bytes that a full socket does not accept, and have no gather lists.

Theory of operation
-------------------
One task owns the stream and awaits `receive` or `send`, never both at once. `receive` first tries to read without the
event loop, at most `_READS_IN_A_TURN` times in a row, so that a fast peer leaves other tasks their turn; otherwise the
event loop's read callback (`_on_readable`) reads and wakes the task. The callback stays registered between waits. If no
task is waiting, the callback removes itself: unread bytes stay in the system's buffer, and TCP's window holds the peer
back. A read borrows a buffer from the pool; the caller uses the returned view until its next call. `send` passes the
caller's views to the system, which copies them into its send queue; if that is full, the task waits for the write
callback, as long as the peer acknowledges earlier bytes. So the stream keeps no bytes itself, in either direction, and
needs no lock: the task and its callbacks run in one thread.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Sequence
from typing import Final

from dicomport.net.buffers import Buffers
from dicomport.net.errors import TimerExpiredError
from dicomport.net.send_queue import SendQueue
from dicomport.net.socket_io import GatherList, acknowledge, prepare, receive_into, send_list_now, send_now
from dicomport.net.timers import Deadline, Timer
from dicomport.net.tls.expiry import warn_of_expiry
from dicomport.net.tls.handshake import Handshake
from dicomport.wire import Buffer

_READS_IN_A_TURN: Final = 8
"""Reads without the event loop in between: with a buffer each, they take less than a millisecond."""

_NOTHING: Final = memoryview(b"")

_UNFINISHED: Final = -1
"""Result of an attempt that waits for more bytes."""


class Stream:
    """One transport connection, used by one task; callbacks of the same event loop may call `interrupt`."""

    def __init__(self, sock: socket.socket, buffers: Buffers | None = None, round_trip: float = 0.0) -> None:
        """Own a connected socket; read into buffers of a pool, by default a pool of one small buffer."""
        self._sock = sock
        self._loop = asyncio.get_running_loop()
        self._waiter: asyncio.Future[int] | None = None
        self._attempt: Callable[[], int] | None = None
        self._reader_added = False
        self._reads_left = 0
        """Reads left that may be tried before the event loop reports that the socket is readable."""
        self._buffers = Buffers.for_one() if buffers is None else buffers
        self._borrowed = _NOTHING
        self._expiry = _Expiry(self._loop)
        self.round_trip = round_trip
        """Time of connecting, seconds: the peer's operating system answers, not its program. 0 if accepted."""
        self.send_queue = SendQueue(sock)
        """The bytes sent that the peer has not acknowledged."""
        sock.setblocking(False)
        prepare(sock)

    @property
    def tls(self) -> ssl.SSLSocket | None:
        """The TLS socket, or None without TLS."""
        return self._sock if isinstance(self._sock, ssl.SSLSocket) else None

    async def start_tls(
        self, context: ssl.SSLContext, *, server_side: bool, server_hostname: str | None, timer: Deadline
    ) -> None:
        """Do the TLS handshake; raises `ssl.SSLError`, `NotTLSError`, another `OSError` and `TimerExpiredError`.

        Pass a started timer: it bounds the whole handshake.
        """
        warn_of_expiry(context)
        self._remove_reader()
        tls = context.wrap_socket(
            self._sock, server_side=server_side, server_hostname=server_hostname, do_handshake_on_connect=False
        )
        self._sock = tls
        self.send_queue = SendQueue(tls)
        handshake = Handshake(tls)

        def shake() -> int:
            handshake.attempt()
            return 0

        await self._when_ready(shake, timer, try_first=True)
        self._remove_reader()

    async def receive(self, timer: Deadline) -> memoryview:
        """Return the next bytes, none at the end of the stream. Raises `OSError` and `TimerExpiredError`.

        The result is a view of a borrowed buffer, valid until the next call.
        """
        self._give_back()
        # TLS may have decrypted more bytes than the last read returned; the event loop does not see those.
        pending = self.tls is not None and self.tls.pending() > 0
        self._reads_left -= 1
        count = await self._when_ready(self._read_and_acknowledge, timer, try_first=pending or self._reads_left >= 0)
        return self._borrowed[:count]

    async def drive(self, take: Callable[[memoryview], bytes | None], silence: Timer, unread: bytes) -> None:
        """Pass the next bytes to `take`, in the event loop's read callback, until it returns None.

        `take` returns the bytes that it has not read, few or none: the next view begins with them. `unread` are those
        of an earlier call. At the end of the stream it gets an empty view, and the call returns. A view is valid until
        `take` returns; the last one until the next call of the stream. Raises what `take` raises, `OSError`, and
        `TimerExpiredError` after `silence` without bytes.
        """
        self._give_back()

        def read() -> int:
            nonlocal unread
            self._reads_left = _READS_IN_A_TURN
            while True:
                count = self._read(unread)
                left = take(self._borrowed[: len(unread) + count] if count else _NOTHING)
                if self._reads_left > 0:
                    acknowledge(self._sock)  # Nothing that was sent has done so.
                if left is None or not count:
                    return count
                unread = left
                self._expiry.extend(silence.seconds)
                self._reads_left -= 1
                # After a response, the peer must receive that before it sends more.
                if self._reads_left <= 0:
                    self._give_back()
                    return _UNFINISHED

        await self._when_ready(read, silence, try_first=False)

    def send_now(self, data: Buffer) -> int:
        """Send as much as the system accepts at once; return the number of bytes. After an error, `send` raises it."""
        self._reads_left = 0
        return send_now(self._sock, data)

    def send_list_now(self, buffers: Sequence[Buffer]) -> Sequence[Buffer]:
        """Send as much as the system accepts at once; return the rest, as `send_now` does. Not for TLS."""
        self._reads_left = 0
        return send_list_now(self._sock, buffers)

    async def send(self, buffers: Sequence[Buffer], timer: Deadline) -> None:
        """Send all buffers, in order, without copying. `timer` bounds each time without progress.

        Raises `OSError` and `TimerExpiredError`.
        """
        gather = GatherList(buffers, self._sock)
        left = True
        while left:
            try:
                left = gather.send_some()
            except (BlockingIOError, InterruptedError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
                await self._writable(timer)
        # The peer must receive these bytes before it sends more.
        self._reads_left = 0

    def interrupt(self, error: BaseException) -> None:
        """End the current wait, if any, with `error`."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(error)

    def close(self) -> None:
        """Close the connection; the system still sends the bytes in its send queue."""
        self._expiry.cancel()
        self._remove_reader()
        self._give_back()
        self._sock.close()

    def _read(self, before: bytes = b"") -> int:
        """Read into a buffer that begins with the bytes `before`; return the number of bytes read."""
        if not self._borrowed:
            self._borrowed = self._buffers.borrow()
        buffer = self._borrowed
        if before:
            buffer[: len(before)] = before
            buffer = buffer[len(before) :]
        try:
            return receive_into(self._sock, buffer)
        except BaseException:
            self._give_back()
            raise

    def _read_and_acknowledge(self) -> int:
        count = self._read()
        acknowledge(self._sock)
        return count

    def _give_back(self) -> None:
        if self._borrowed:
            self._buffers.give_back(self._borrowed)
            self._borrowed = _NOTHING

    async def _when_ready(self, attempt: Callable[[], int], timer: Deadline, *, try_first: bool) -> int:
        """Call `attempt` whenever the socket is readable until it returns, and return its result."""
        while True:
            if try_first:
                try:
                    return attempt()
                except (BlockingIOError, InterruptedError, ssl.SSLWantReadError):
                    pass
                except ssl.SSLWantWriteError:
                    await self._writable(timer)
                    continue
            self._waiter = self._loop.create_future()
            self._attempt = attempt
            if not self._reader_added:
                self._loop.add_reader(self._sock.fileno(), self._on_readable)
                self._reader_added = True
            self._expiry.start(timer, self.interrupt)
            try:
                return await self._waiter
            except ssl.SSLWantWriteError:
                # A TLS peer may request new keys at any time; the answer must be sent before more can be read.
                await self._writable(timer)
                try_first = True
            finally:
                self._expiry.stop()
                self._waiter = self._attempt = None

    def _on_readable(self) -> None:
        waiter, attempt = self._waiter, self._attempt
        if waiter is None or attempt is None or waiter.done():
            # No task is waiting; the next wait adds the reader again. Until then TCP's window holds the peer back.
            self._remove_reader()
            return
        try:
            count = attempt()
        except (BlockingIOError, InterruptedError, ssl.SSLWantReadError):
            return
        except BaseException as error:  # noqa: BLE001  # the task that waits raises it
            if not waiter.done():
                waiter.set_exception(error)
            # The error's traceback refers to this frame; with the waiter in the frame, that would be a reference cycle.
            del waiter
        else:
            # The attempt itself may have interrupted the wait.
            if count != _UNFINISHED and not waiter.done():
                self._reads_left = _READS_IN_A_TURN
                waiter.set_result(count)

    async def _writable(self, timer: Deadline) -> None:
        """Wait until the send queue has room, as long as the peer acknowledges earlier bytes."""
        self.send_queue.record()
        while True:
            try:
                await self._room(timer)
            except TimerExpiredError:
                if timer.left <= 0 or not self.send_queue.drained():
                    raise
            else:
                return

    async def _room(self, timer: Deadline) -> None:
        descriptor = self._sock.fileno()
        self._waiter = self._loop.create_future()
        self._loop.add_writer(descriptor, _resolve, self._waiter)
        self._expiry.start(timer, self.interrupt)
        try:
            await self._waiter
        finally:
            self._expiry.stop()
            self._waiter = None
            self._loop.remove_writer(descriptor)

    def _remove_reader(self) -> None:
        if self._reader_added:
            self._loop.remove_reader(self._sock.fileno())
            self._reader_added = False


def _resolve(waiter: asyncio.Future[int]) -> None:
    if not waiter.done():
        waiter.set_result(0)


class _Expiry:
    """The timer of the waits. It is started for each wait and rarely expires, so one loop timer serves many waits.

    Between waits it has no reference to the callback, whose stream refers to it.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._timer: Deadline | None = None
        self._expired: Callable[[TimerExpiredError], None] | None = None
        self._deadline = 0.0
        self._handle: asyncio.TimerHandle | None = None

    def start(self, timer: Deadline, expired: Callable[[TimerExpiredError], None]) -> None:
        self._timer = timer
        self._expired = expired
        self._deadline = self._loop.time() + timer.left
        if self._handle is not None and self._handle.when() > self._deadline:
            self._handle.cancel()
            self._handle = None
        if self._handle is None:
            self._handle = self._loop.call_at(self._deadline, self._fire)

    def extend(self, seconds: float) -> None:
        self._deadline = self._loop.time() + seconds

    def stop(self) -> None:
        self._timer = self._expired = None

    def cancel(self) -> None:
        self.stop()
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _fire(self) -> None:
        self._handle = None
        if self._timer is None or self._expired is None:
            return
        if self._loop.time() < self._deadline:
            self._handle = self._loop.call_at(self._deadline, self._fire)
        else:
            self._expired(TimerExpiredError(self._timer))
