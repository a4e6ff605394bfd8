"""Listen for transport connections.

Theory of operation
-------------------
The event loop's read callback of each listening socket (`_accept`) accepts one connection each time, and starts one
task for it. That task owns the socket: it does the TLS handshake, if any, and awaits `serve`, so a slow peer delays no
other peer. The connection limiter counts every connection before its task starts; at the limit, it cancels the task of
an old connection without an association. The done callback of the task (`_ended`) closes the socket and releases the
slot in every case, even if the task was cancelled before its first step. All of this runs in one event loop, so it
needs no lock.
"""

from __future__ import annotations

import asyncio
import errno
import functools
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, TypeAlias

from dicomport.logs import get_logger, prepare, reason_of
from dicomport.net.buffers import Buffers
from dicomport.net.errors import TimerExpiredError
from dicomport.net.limits.association_counts import AssociationCounts, LocalCounts
from dicomport.net.limits.connection_limiter import ConnectionLimiter, ConnectionSlot
from dicomport.net.limits.connection_limits import ConnectionLimits
from dicomport.net.limits.counters import Counters
from dicomport.net.stream import Stream
from dicomport.net.timers import Timeouts, Timer
from dicomport.net.tls.handshake import NotTLSError, describe_tls_error

Serve: TypeAlias = Callable[[Stream, ConnectionSlot], Awaitable[None]]
"""A function that serves a connection; it owns the stream and the slot until it returns."""

_BACKLOG: Final = 512

_TRIES: Final = 16
"""Attempts to find a port that is free on several addresses."""

_OUT_OF_RESOURCES: Final = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))
_ACCEPT_RETRY_SECONDS: Final = 1.0
"""Seconds until the next attempt when the system is out of descriptors and no connection ends in the meantime."""

_CANCELLED_SECONDS: Final = 5.0
"""Time for cancelled connections to end: a thread of theirs may wait for a disk that never answers."""

log = get_logger("net")


def listening_sockets(host: str, port: int) -> list[socket.socket]:
    """Return sockets that listen on every address of `host`, IPv4 and IPv6. Raises `OSError`.

    An empty host means all interfaces. Port 0 means a free port, the same for all addresses.
    """
    # Before the first peer can connect, so that no peer waits for it.
    prepare()
    found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    addresses = list(dict.fromkeys((family, sockaddr) for family, _, _, _, sockaddr in found))
    for _ in range(_TRIES):
        try:
            return _listen(addresses)
        except OSError as error:
            # A port that is free on the first address may be in use on the next.
            if port or error.errno != errno.EADDRINUSE:
                raise
    return _listen(addresses)


def _listen(addresses: Sequence[tuple[socket.AddressFamily, tuple[Any, ...]]]) -> list[socket.socket]:
    sockets: list[socket.socket] = []
    try:
        for family, (host, port, *scope) in addresses:
            sock = socket.socket(family, socket.SOCK_STREAM)
            sockets.append(sock)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                # Otherwise it would include the IPv4 addresses, and the socket for those could not be bound.
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind((host, port or sockets[0].getsockname()[1], *scope))
            sock.listen(_BACKLOG)
            sock.setblocking(False)
    except BaseException:
        for sock in sockets:
            sock.close()
        raise
    return sockets


class Listener:
    """Accepts connections and runs one task for each, TLS handshake included."""

    def __init__(
        self,
        sockets: list[socket.socket],
        serve: Serve,
        *,
        timeouts: Timeouts,
        tls: ssl.SSLContext | None,
        counters: Counters,
        limits: ConnectionLimits,
        associations: AssociationCounts | None = None,
    ) -> None:
        self._sockets = sockets
        self._serve = serve
        self._timeouts = timeouts
        self.tls = tls
        """The TLS context of new connections, or None."""
        self._counters = counters
        self._buffers = Buffers()
        self._limiter = ConnectionLimiter(limits, counters, associations or LocalCounts())
        self._serving: set[asyncio.Task[None]] = set()
        self._retry: asyncio.TimerHandle | None = None
        """The end of a pause."""
        self._loop = asyncio.get_running_loop()
        self._listen()

    @property
    def port(self) -> int:
        """The bound port."""
        return int(self._sockets[0].getsockname()[1])

    def close(self) -> None:
        """Stop listening; open connections continue."""
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        for sock in self._sockets:
            if sock.fileno() >= 0:
                self._loop.remove_reader(sock)
            sock.close()

    async def wait_served(self, seconds: float) -> None:
        """Wait until all connections have ended, at most so many seconds; then cancel the others, and wait briefly."""
        if self._serving:
            _, late = await asyncio.wait(self._serving, timeout=seconds)
            for task in late:
                expired = TimerExpiredError(Timer("shutdown", seconds))
                self._counters.timer(expired.timer)
                log.warning("connection_timed_out", reason=str(expired))
                task.cancel()
            if late:
                await asyncio.wait(late, timeout=_CANCELLED_SECONDS)

    def _accept(self, listening: socket.socket) -> None:
        """Accept one connection. With many pending ones, the first ones run before the last is accepted."""
        try:
            sock, address = listening.accept()
        except OSError as error:
            # Other errors are a peer's, which disconnected before it was accepted, or another process has accepted it.
            if error.errno in _OUT_OF_RESOURCES:
                self._limiter.make_room()
                log.warning("accept_failed", reason=reason_of(error), retry_after_s=_ACCEPT_RETRY_SECONDS)
                self._pause()
            return
        slot = self._limiter.add(_format_address(address))
        slot.task = task = self._loop.create_task(self._serve_connection(sock, slot))
        self._serving.add(task)
        task.add_done_callback(functools.partial(self._ended, slot, sock))

    def _pause(self) -> None:
        """Accept nothing until a connection has ended, or for a while."""
        for listening in self._sockets:
            self._loop.remove_reader(listening)
        if self._retry is not None:
            self._retry.cancel()
        self._retry = self._loop.call_later(_ACCEPT_RETRY_SECONDS, self._resume)

    def _resume(self) -> None:
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
            self._listen()

    def _listen(self) -> None:
        for listening in self._sockets:
            self._loop.add_reader(listening, self._accept, listening)

    def _ended(self, slot: ConnectionSlot, sock: socket.socket, task: asyncio.Task[None]) -> None:
        # The task may have been cancelled before its first step.
        sock.close()
        self._limiter.remove(slot)
        self._serving.discard(task)
        self._resume()
        if not task.cancelled() and (error := task.exception()) is not None:
            log.with_peer(slot.address).error("connection_failed", exc_info=error)

    async def _serve_connection(self, sock: socket.socket, slot: ConnectionSlot) -> None:
        try:
            stream = Stream(sock, self._buffers)
        except OSError:
            sock.close()
            return
        try:
            if self.tls is None or await self._start_tls(stream, self.tls, slot.address):
                await self._serve(stream, slot)
        except OSError as error:
            if isinstance(error, TimerExpiredError):
                self._counters.timer(error.timer)
            log.with_peer(slot.address).info("connection_ended", reason=_reason(error))
        finally:
            stream.close()

    async def _start_tls(self, stream: Stream, context: ssl.SSLContext, address: str) -> bool:
        """Do the TLS handshake; return whether it succeeded."""
        timer = self._timeouts.timer("tls").started()
        try:
            await stream.start_tls(context, server_side=True, server_hostname=None, timer=timer)
        except ssl.SSLEOFError:
            # A port check closes the connection like this.
            raise
        except (ssl.SSLError, NotTLSError) as error:
            log.with_peer(address).warning("tls_failed", reason=_reason(error))
            return False
        return True


def _reason(error: OSError) -> str:
    """Return why a connection ended; of an exception from elsewhere only the system's message, as it may quote data."""
    if isinstance(error, ssl.SSLError):
        return describe_tls_error(error)
    return str(error) if isinstance(error, TimerExpiredError | NotTLSError) else reason_of(error)


def _format_address(address: tuple[str, int] | tuple[str, int, int, int]) -> str:
    host, port = address[0], address[1]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
