"""The system's send queue: bytes sent that the peer has not acknowledged. On a slow line it drains in minutes."""

from __future__ import annotations

import socket
import struct
import sys
from typing import Final

_INT: Final = struct.Struct("i")

_SMALL_BYTES: Final = 1 << 18
"""A queue up to this size drains quickly on any line and delays no response."""


class SendQueue:
    """Distinguishes a peer that receives slowly from a peer that receives nothing.

    The system reports room for more only when much of the queue is free: at 20 kB/s that takes more than a minute.
    Sending the rest of a message from the queue takes several.
    """

    __slots__ = ("_recorded", "_sock")

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._recorded = 0

    def record(self, *, above: int = 0) -> None:
        """Record the size of the queue if it is above the number of bytes, otherwise 0."""
        waiting = _waiting(self._sock)
        self._recorded = waiting if waiting > above else 0

    def record_message(self, unanswered: int | None = None) -> None:
        """Record the size of the queue after a message, if it is large enough to delay the response.

        `unanswered` is the number of bytes of the messages without a response, if known: the queue has no others.
        """
        if unanswered is not None and unanswered <= _SMALL_BYTES:
            self._recorded = 0
        else:
            self.record(above=_SMALL_BYTES)

    def drained(self) -> bool:
        """Return whether the queue is shorter than at the last record, and record its size now."""
        before = self._recorded
        self.record()
        return self._recorded < before


def _waiting(sock: socket.socket) -> int:
    """Return the number of bytes that the peer's system has not acknowledged; 0 if this system does not report it."""
    if sys.platform != "linux":
        return 0
    import fcntl
    import termios

    try:
        number: int = _INT.unpack(fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(_INT.size)))[0]
    except (OSError, ValueError):
        return 0
    return number
