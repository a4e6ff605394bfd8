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
    """A bound on a wait for the peer, in seconds."""

    name: str
    seconds: float


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
        self._seconds = seconds
        self._started = 0
        self._deadline = 0.0

    def bound(self, timer: Timer) -> Timer:
        """Give the timer for the next wait: what is left of ARTIM where it runs, else `timer`."""
        if self._core.artim == 0:
            return timer
        now = time.monotonic()
        if self._core.artim != self._started:
            self._started = self._core.artim
            self._deadline = now + self._seconds
        return Timer(ARTIM, max(0.0, self._deadline - now))
