"""Listening for transport connections: one task accepts on each address, one task owns each connection."""

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
from dicomport.net.tls.handshake import NotTLSError, tls_words

__all__ = ["Listener", "Serve", "listening_sockets"]

Serve: TypeAlias = Callable[[Stream, ConnectionSlot], Awaitable[None]]
"""Takes a stream and whose it is, and owns them until it returns."""

_BACKLOG: Final = 512

_TRIES: Final = 16
"""Free ports that are tried where one is wanted that is free for several addresses."""

_OUT_OF_RESOURCES: Final = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))
_ACCEPT_AGAIN_AFTER: Final = 1.0
"""Seconds until another try when the system has no more descriptors and no connection ends in the meantime."""

log = get_logger("net")


def listening_sockets(host: str, port: int) -> list[socket.socket]:
    """Listen on every address that `host` has, IPv4 and IPv6; an empty host is all interfaces. Raises `OSError`.

    Port 0 is a free port, the same for all addresses.
    """
    # Before anybody can connect: from here on, who does is served at once.
    prepare()
    found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    addresses = list(dict.fromkeys((family, sockaddr) for family, _, _, _, sockaddr in found))
    for _ in range(_TRIES):
        try:
            return _listen(addresses)
        except OSError as error:
            # A port that was free for the first address may be taken for the next one.
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
                # Else it would take the IPv4 addresses as well, and the socket for those could not be bound.
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
    """Accepts connections; each has a task of its own, TLS handshake included, so that no peer holds up another."""

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
        """For the connections that come from now on."""
        self._counters = counters
        self._buffers = Buffers()
        self._admission = ConnectionLimiter(limits, counters, associations or LocalCounts())
        self._accepting = [asyncio.create_task(self._accept(sock)) for sock in sockets]
        self._serving: set[asyncio.Task[None]] = set()
        self._one_ended = asyncio.Event()

    @property
    def port(self) -> int:
        """The bound port."""
        return int(self._sockets[0].getsockname()[1])

    async def close(self) -> None:
        """Stop listening; the connections go on."""
        for task in self._accepting:
            task.cancel()
        await asyncio.gather(*self._accepting, return_exceptions=True)
        for sock in self._sockets:
            sock.close()

    async def wait_served(self, seconds: float) -> None:
        """Wait until all connections have ended; those that have not by then are cut off."""
        if self._serving:
            _, late = await asyncio.wait(self._serving, timeout=seconds)
            for task in late:
                expired = TimerExpiredError(Timer("shutdown", seconds))
                self._counters.timer(expired.timer)
                log.warning("connection_timed_out", reason=str(expired))
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                sock, address = await loop.sock_accept(listening)
            except OSError as error:
                # What a peer does between connecting and being accepted is its own affair.
                if error.errno in _OUT_OF_RESOURCES:
                    self._admission.make_room()
                    log.warning("accept_failed", reason=reason_of(error), retry_after_s=_ACCEPT_AGAIN_AFTER)
                    await self._wait_for_room()
                continue
            visitor = self._admission.enter(_text(address))
            visitor.task = task = asyncio.create_task(self._own(sock, visitor))
            self._serving.add(task)
            task.add_done_callback(functools.partial(self._ended, visitor, sock))
            # Where many come at once, accepting does not wait; the first of them are to be served before the last come.
            await asyncio.sleep(0)

    async def _wait_for_room(self) -> None:
        self._one_ended.clear()
        try:
            async with asyncio.timeout(_ACCEPT_AGAIN_AFTER):
                await self._one_ended.wait()
        except TimeoutError:
            pass

    def _ended(self, visitor: ConnectionSlot, sock: socket.socket, task: asyncio.Task[None]) -> None:
        # The task may have been cancelled before its first step.
        sock.close()
        self._admission.leave(visitor)
        self._serving.discard(task)
        self._one_ended.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            log.with_peer(visitor.address).error("connection_failed", exc_info=error)

    async def _own(self, sock: socket.socket, visitor: ConnectionSlot) -> None:
        try:
            stream = Stream(sock, self._buffers)
        except OSError:
            sock.close()
            return
        try:
            if self.tls is None or await self._secured(stream, self.tls, visitor.address):
                await self._serve(stream, visitor)
        except OSError as error:
            if isinstance(error, TimerExpiredError):
                self._counters.timer(error.timer)
            reason = tls_words(error) if isinstance(error, ssl.SSLError) else str(error)
            log.with_peer(visitor.address).info("connection_ended", reason=reason)
        finally:
            stream.close()

    async def _secured(self, stream: Stream, context: ssl.SSLContext, address: str) -> bool:
        """Put TLS on a connection; give whether the peer has done its part."""
        timer = self._timeouts.timer("tls").started()
        try:
            await stream.start_tls(context, server_side=True, server_hostname=None, timer=timer)
        except ssl.SSLEOFError:
            # Who only looks whether anybody listens closes just so.
            raise
        except (ssl.SSLError, NotTLSError) as error:
            reason = tls_words(error) if isinstance(error, ssl.SSLError) else str(error)
            log.with_peer(address).warning("tls_failed", reason=reason)
            return False
        return True


def _text(address: tuple[str, int] | tuple[str, int, int, int]) -> str:
    host, port = address[0], address[1]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
