"""A transport connection on asyncio: a non-blocking socket, plain or TLS, waited for through the event loop.

Not asyncio's own transports: those copy what a full socket does not take, and can't send a gather list. Received
bytes go from the socket into the caller's buffer, sent ones from the caller's views to the socket. What has come
while the last bytes were dealt with is read at once; but only so often in a row, so that a fast peer can't keep the
others from their turn.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Sequence
from typing import Final

from dicomport.net.buffers import Buffers
from dicomport.net.errors import TimerExpiredError
from dicomport.net.send_queue import Backlog
from dicomport.net.socket_io import Gather, prepare, quick_ack
from dicomport.net.timers import Deadline
from dicomport.net.tls.handshake import Handshake
from dicomport.wire import Buffer

__all__ = ["Stream"]

_READS_IN_A_TURN: Final = 8
"""Reads without the event loop in between: of a buffer each, they take less than a millisecond."""

_NOTHING: Final = memoryview(b"")


class Stream:
    """One transport connection. One task uses it; `interrupt` may be called from callbacks of the same event loop."""

    def __init__(self, sock: socket.socket, buffers: Buffers | None = None) -> None:
        """Take a connected socket; read into borrowed buffers, by default into one that is enough for answers."""
        self._sock = sock
        self._loop = asyncio.get_running_loop()
        self._waiter: asyncio.Future[int] | None = None
        self._attempt: Callable[[], int] | None = None
        self._reader_added = False
        self._reads_left = 0
        """How often it may still be read before the event loop has announced that there is something."""
        self._buffers = Buffers.for_one() if buffers is None else buffers
        self._borrowed = _NOTHING
        self._expiry = _Expiry(self._loop)
        self.backlog = Backlog(sock)
        """Of bytes that the peer has not taken yet."""
        sock.setblocking(False)
        prepare(sock)

    @property
    def tls(self) -> ssl.SSLSocket | None:
        """The TLS socket, if this is one."""
        return self._sock if isinstance(self._sock, ssl.SSLSocket) else None

    async def start_tls(
        self, context: ssl.SSLContext, *, server_side: bool, server_hostname: str | None, timer: Deadline
    ) -> None:
        """Shake hands; raises `ssl.SSLError`, `NotTLSError`, another `OSError` and `TimerExpiredError`.

        The timer should be a started one: it bounds the handshake as a whole then.
        """
        self._remove_reader()
        tls = context.wrap_socket(
            self._sock, server_side=server_side, server_hostname=server_hostname, do_handshake_on_connect=False
        )
        self._sock = tls
        self.backlog = Backlog(tls)
        handshake = Handshake(tls)

        def shake() -> int:
            handshake.attempt()
            return 0

        await self._when_ready(shake, timer, try_first=True)
        self._remove_reader()

    async def receive(self, timer: Deadline) -> memoryview:
        """Give the next bytes, none at the end of the stream. Raises `OSError` and `TimerExpiredError`.

        They are a view of a buffer that is borrowed when they come and given back with the next call.
        """
        self._give_back()
        # TLS may have decrypted more than was asked for, of which the event loop sees nothing.
        pending = self.tls is not None and self.tls.pending() > 0
        self._reads_left -= 1
        count = await self._when_ready(self._read, timer, try_first=pending or self._reads_left >= 0)
        quick_ack(self._sock)
        return self._borrowed[:count]

    async def send(self, buffers: Sequence[Buffer], timer: Deadline) -> None:
        """Send all buffers, in order and uncopied. `timer` bounds each time without progress."""
        gather = Gather(buffers, self._sock)
        left = True
        while left:
            try:
                left = gather.send_some()
            except (BlockingIOError, InterruptedError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
                await self._writable(timer)
        # Who has been answered has to read that first.
        self._reads_left = 0

    def interrupt(self, error: BaseException) -> None:
        """Let the wait that goes on, if any, end with `error`."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(error)

    def close(self) -> None:
        """Close the connection; what the system has taken of our bytes still goes out."""
        self._expiry.cancel()
        self._remove_reader()
        self._give_back()
        self._sock.close()

    def _read(self) -> int:
        self._give_back()
        self._borrowed = self._buffers.borrow()
        try:
            return self._sock.recv_into(self._borrowed)
        except BaseException:
            self._give_back()
            raise

    def _give_back(self) -> None:
        if self._borrowed:
            self._buffers.give_back(self._borrowed)
            self._borrowed = _NOTHING

    async def _when_ready(self, attempt: Callable[[], int], timer: Deadline, *, try_first: bool) -> int:
        """Do `attempt` as soon as the socket has something to read, and as often as it takes."""
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
                # A TLS peer may ask for new keys at any time; the answer has to go out before more can be read.
                await self._writable(timer)
                try_first = True
            finally:
                self._expiry.stop()
                self._waiter = self._attempt = None

    def _on_readable(self) -> None:
        waiter, attempt = self._waiter, self._attempt
        if waiter is None or attempt is None or waiter.done():
            # Nobody wants to read now: whoever does so next asks again. Until then the peer is held back by its window.
            self._remove_reader()
            return
        try:
            count = attempt()
        except (BlockingIOError, InterruptedError, ssl.SSLWantReadError):
            return
        except OSError as error:
            waiter.set_exception(error)
            # This frame is in the error's traceback: with the waiter in it, they would hold on to one another.
            del waiter
        else:
            self._reads_left = _READS_IN_A_TURN
            waiter.set_result(count)

    async def _writable(self, timer: Deadline) -> None:
        """Wait until there is room for more, as long as the peer goes on taking what there is before it."""
        self.backlog.note()
        while True:
            try:
                await self._room(timer)
            except TimerExpiredError:
                if timer.left <= 0 or not self.backlog.drained():
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
    """A timer that is set for every wait and hardly ever fires: it is armed anew only when it fires too early.

    Between waits it does not hold on to whom it would tell, and who holds on to it.
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
