"""Bounds on every wait for the peer, and the one timer that the standard itself has."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Final

from dicomport.core import Association

__all__ = ["ABORT_TIMER", "ARTIM", "ArtimClock", "Timeouts", "Timer"]

ARTIM: Final = "ARTIM"


@dataclass(frozen=True, slots=True)
class Timer:
    """A bound on waits for the peer: on each of them anew, or on all from one moment on once it is `started`."""

    name: str
    seconds: float
    since: float | None = None
    """The moment it counts from, on the monotonic clock; None counts from the beginning of each wait."""

    def started(self) -> Timer:
        """Give the same timer, counting from now."""
        return Timer(self.name, self.seconds, time.monotonic())

    @property
    def left(self) -> float:
        """Seconds that the next wait may take."""
        return self.seconds if self.since is None else max(0.0, self.since + self.seconds - time.monotonic())


ABORT_TIMER: Final = Timer("abort", 5.0)
"""For an A-ABORT to leave: who is aborted may be no longer reading."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """How long the peer is waited for, in seconds."""

    connect: float = 15.0
    """For the TCP connection and, where it is used, for the TLS handshake after it."""
    acse: float = 30.0
    """For the answer to an A-ASSOCIATE-RQ or A-RELEASE-RQ; and as the ARTIM timer, for a requestor's first PDU and for
    the close of the connection (PS3.8 9.1.5)."""
    dimse: float = 60.0
    """For the response to a request, from the moment that its last byte has left."""
    network: float = 60.0
    """For the next byte where a peer has something to send, and for room where it has something to read."""

    def timer(self, name: str) -> Timer:
        """Give the timer of that name: "connect", "acse", "dimse" or "network"."""
        return Timer(name, getattr(self, name))


class ArtimClock:
    """Lets ARTIM run as the core has started it, whatever else is waited for meanwhile (PS3.8 9.1.5)."""

    def __init__(self, core: Association, seconds: float) -> None:
        self._core = core
        self._timer = Timer(ARTIM, seconds)
        self._start = 0

    def bound(self, timer: Timer) -> Timer:
        """Give the timer for the next wait: what is left of ARTIM where it runs, else `timer`."""
        if self._core.artim == 0:
            return timer
        if self._core.artim != self._start:
            self._start = self._core.artim
            self._timer = self._timer.started()
        return self._timer
