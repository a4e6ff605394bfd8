"""What the system has taken of our bytes and the peer has not: on a slow line that can be minutes of sending."""

from __future__ import annotations

import socket
import struct
import sys
from typing import Final

__all__ = ["Backlog"]

_INT: Final = struct.Struct("i")

_LITTLE: Final = 1 << 18
"""Bytes that leave soon enough on any line: they make no answer late."""


class Backlog:
    """Tells a peer that takes bytes slowly from one that takes none.

    The system says that there is room for more only once there is a lot of it. At 20 kB/s that takes more than a
    minute, and what is in its buffers at the end of a message takes several.
    """

    __slots__ = ("_noted", "_sock")

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._noted = 0

    def note(self, *, at_least: int = 0) -> None:
        """Note how much there is now, unless it is less than is worth it."""
        waiting = _waiting(self._sock)
        self._noted = waiting if waiting > at_least else 0

    def note_message(self) -> None:
        """Note how much there is of a message that has been sent, where that is much."""
        self.note(at_least=_LITTLE)

    def drained(self) -> bool:
        """Tell whether there is less than was noted last, and note what there is."""
        before = self._noted
        self.note()
        return self._noted < before


def _waiting(sock: socket.socket) -> int:
    """Give the number of bytes that the peer's system has not acknowledged; 0 where the system does not tell."""
    if sys.platform != "linux":
        return 0
    import fcntl
    import termios

    try:
        number: int = _INT.unpack(fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(_INT.size)))[0]
    except (OSError, ValueError):
        return 0
    return number
