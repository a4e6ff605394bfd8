"""Socket system calls: the one place that receives from and sends to sockets, and sets their options."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Sequence
from typing import Final

from dicomport.wire import Buffer

_MAX_BUFFERS: Final = 512
"""Buffers in one system call; Linux accepts 1024 (IOV_MAX)."""

_QUICK_ACK: Final = getattr(socket, "TCP_QUICKACK", None)

_KEEPALIVE: Final = {"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 15, "TCP_KEEPCNT": 4}
"""Seconds of silence before the first probe, seconds between probes, number of probes: a dead peer is detected in two
minutes. The system's default is two hours."""


class GatherList:
    """Buffers to send in order, without copying, in as many system calls as the socket needs."""

    def __init__(self, buffers: Sequence[Buffer], sock: socket.socket) -> None:
        self._sock = sock
        self._tls = isinstance(sock, ssl.SSLSocket)
        if self._tls:
            # TLS encrypts and so copies anyway; joined, a header does not need its own record.
            buffers = (b"".join(buffers),)
        self._views = [memoryview(buffer) for buffer in buffers if len(buffer)]
        self._first = 0

    def send_some(self) -> bool:
        """Send as much as the socket accepts; return whether bytes are left. Raises the socket's `OSError`."""
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


def send_now(sock: socket.socket, data: Buffer) -> int:
    """Send as much as the system accepts; return the number of bytes. After an error, the next call raises it."""
    try:
        return sock.send(data)
    except OSError:
        return 0


def send_list_now(sock: socket.socket, buffers: Sequence[Buffer]) -> Sequence[Buffer]:
    """Send as much as the system accepts at once; return the rest. After an error, the next call raises it."""
    try:
        sent = sock.sendmsg(buffers)
    except OSError:
        return buffers
    rest: list[Buffer] = []
    for buffer in buffers:
        sent -= len(buffer)
        if sent < 0:
            rest.append(memoryview(buffer)[sent:])
            sent = 0
    return rest


def receive_into(sock: socket.socket, buffer: memoryview) -> int:
    """Receive into the buffer; return the number of bytes, 0 at the end. Raises the socket's `OSError`.

    Call `acknowledge` afterwards, unless something is sent at once.
    """
    return sock.recv_into(buffer)


def acknowledge(sock: socket.socket) -> None:
    """Acknowledge the received bytes at once, where the system can.

    A peer with Nagle's algorithm on waits for the acknowledgement, up to 40 ms per instance. The system resets the
    option, so it is set after each read; but bytes that are sent after the read acknowledge it as well.
    """
    if _QUICK_ACK is not None:
        sock.setsockopt(socket.IPPROTO_TCP, _QUICK_ACK, 1)


def prepare(sock: socket.socket) -> None:
    """Set the options of a connected socket.

    Nagle's algorithm is off: the end of a request must not wait for the acknowledgement of its beginning. Keepalive is
    on: a peer that lost its power is detected even in a wait with a long timeout or none.
    """
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if _QUICK_ACK is not None:
        sock.setsockopt(socket.IPPROTO_TCP, _QUICK_ACK, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE.items():
        option = getattr(socket, name, None)
        if option is not None:
            sock.setsockopt(socket.IPPROTO_TCP, option, value)
