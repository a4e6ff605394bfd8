"""Bounds on every wait for the peer, and the one timer that the standard itself has."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeAlias

from dicomport.core import Association

__all__ = ["ARTIM", "ArtimClock", "Deadline", "Progress", "Timeouts", "Timer"]

ARTIM: Final = "ARTIM"


class Timer(NamedTuple):
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


class Progress:
    """A bound on how slow a peer may be inside a message: so many bytes in each window of time.

    Only the time that is spent waiting for the peer counts, not what is done here with its bytes. A window ends as
    soon as its bytes have come.
    """

    name: Final = "progress"

    __slots__ = ("_bytes", "_missing", "left", "seconds")

    def __init__(self, seconds: float, bytes_per_second: float) -> None:
        self.seconds = seconds
        self._bytes = max(1, int(seconds * bytes_per_second))
        self.restart()

    def restart(self) -> None:
        """Begin a window."""
        self._missing = self._bytes
        self.left = self.seconds
        """Seconds that the next wait may take."""

    def waited(self, seconds: float, count: int) -> None:
        """Take note of a wait and of the bytes that ended it."""
        self._missing -= count
        if self._missing <= 0:
            self.restart()
        else:
            self.left -= seconds


Deadline: TypeAlias = Timer | Progress
"""What a wait for the peer is bounded by."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """How long the peer is waited for, in seconds. What is None follows the coarser setting that it names."""

    connect: float = 15.0
    """For the name to be resolved and the TCP connection to be there, whatever number of addresses is tried."""
    tls: float = 15.0
    """For the whole TLS handshake, on either side: a peer that begins one and falls silent holds nothing for long."""
    acse: float = 30.0
    """For the answer to an A-ASSOCIATE-RQ. `artim` and `release` follow it."""
    artim: float | None = None
    """For a requestor's whole A-ASSOCIATE-RQ, and for the peer to close the connection when all is said: ARTIM, the one
    timer of the standard itself (PS3.8 9.1.5). None is `acse`."""
    release: float | None = None
    """For the answer to an A-RELEASE-RQ. None is `acse`."""
    dimse: float = 60.0
    """For the response to a request, once its last byte has left: on a slow line long after the system has taken it."""
    network: float = 60.0
    """For the network as a whole: `idle`, `progress` and `write` follow it."""
    idle: float | None = None
    """For an acceptor's peer to send its next command, whole. Then the association is aborted: few requestors know what
    to do with an A-RELEASE-RQ. None is `network`."""
    progress: float | None = None
    """For the bytes of a data set: in each window of so many seconds there have to come as many as `slowest` says, so
    that slow transfers live and those that have stalled do not. None is `network`."""
    slowest: float = 256.0
    """The rate that a data set must not fall below, bytes per second: a slow modem's."""
    write: float | None = None
    """For the peer to take any of what is sent to it, little as it may be. None is `network`."""
    abort: float = 5.0
    """For an A-ABORT to leave: who is aborted may be no longer reading."""
    shutdown: float = 10.0
    """For what is in flight when a server stops; the rest is aborted."""

    def timer(self, name: str) -> Timer:
        """Give the timer of that name, the name of a field."""
        seconds = getattr(self, name)
        return Timer(name, getattr(self, _COARSER[name]) if seconds is None else seconds)

    def progression(self) -> Progress:
        """Give the bound on how slow a data set may come."""
        return Progress(self.timer("progress").seconds, self.slowest)


_COARSER: Final = {"artim": "acse", "release": "acse", "idle": "network", "progress": "network", "write": "network"}


class ArtimClock:
    """Lets ARTIM run as the core has started it, whatever else is waited for meanwhile (PS3.8 9.1.5)."""

    def __init__(self, core: Association, seconds: float) -> None:
        self._core = core
        self._timer = Timer(ARTIM, seconds)
        self._start = 0

    def bound(self, bound: Deadline) -> Deadline:
        """Give the bound on the next wait: what is left of ARTIM where it runs, else `bound`."""
        if self._core.artim == 0:
            return bound
        if self._core.artim != self._start:
            self._start = self._core.artim
            self._timer = self._timer.started()
        return self._timer
