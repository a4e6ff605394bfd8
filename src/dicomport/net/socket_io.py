"""Gather lists on their way into a socket."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Sequence
from typing import Final

from dicomport.wire import Buffer

__all__ = ["Gather", "prepare", "quick_ack"]

_MAX_BUFFERS: Final = 512
"""Buffers in one system call; Linux takes 1024 (IOV_MAX)."""

_QUICK_ACK: Final = getattr(socket, "TCP_QUICKACK", None)

_KEEPALIVE: Final = {"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 15, "TCP_KEEPCNT": 4}
"""Seconds of silence before the first probe, seconds between probes, probes: a dead peer is found in two minutes. The
system's own two hours would do for nobody."""


class Gather:
    """Buffers that are to be sent in order, uncopied, whatever the socket takes at a time."""

    def __init__(self, buffers: Sequence[Buffer], sock: socket.socket) -> None:
        self._sock = sock
        self._tls = isinstance(sock, ssl.SSLSocket)
        if self._tls:
            # TLS encrypts, so it copies anyway; joined, a header does not cost a record of its own.
            buffers = (b"".join(buffers),)
        self._views = [memoryview(buffer) for buffer in buffers if len(buffer)]
        self._first = 0

    def send_some(self) -> bool:
        """Send as much as the socket takes; give whether anything is left. Raises what the socket raises."""
        views = self._views[self._first : self._first + _MAX_BUFFERS]
        if not views:
            return False
        sent = self._sock.send(views[0]) if self._tls else self._sock.sendmsg(views)
        for view in views:
            if sent < len(view):
                self._views[self._first] = view[sent:]
                break
            sent -= len(view)
            self._first += 1
        return self._first < len(self._views)


def prepare(sock: socket.socket) -> None:
    """Set a connected socket's options.

    Nagle's algorithm is off: the end of a request must not wait for the acknowledgement of its beginning. Keepalive is
    on: a peer that has lost its power is found out even where it is waited for without a bound, or with a long one.
    """
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    quick_ack(sock)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE.items():
        option = getattr(socket, name, None)
        if option is not None:
            sock.setsockopt(socket.IPPROTO_TCP, option, value)


def quick_ack(sock: socket.socket) -> None:
    """Acknowledge at once what has come, where the system can do that. It forgets, so this is said after each read.

    A peer that has left Nagle's algorithm on waits for this acknowledgement, up to 40 ms an instance.
    """
    if _QUICK_ACK is not None:
        sock.setsockopt(socket.IPPROTO_TCP, _QUICK_ACK, 1)
