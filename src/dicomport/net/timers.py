"""Timeouts of every wait for the peer, and ARTIM, the one timer of the standard."""

from __future__ import annotations

import time
from typing import Final, NamedTuple, TypeAlias

from dicomport.core import Association
from dicomport.values import frozen

ARTIM: Final = "ARTIM"


class Timer(NamedTuple):
    """A timeout for the peer: of each wait or, once `started`, of all waits together."""

    name: str
    seconds: float
    since: float | None = None
    """The start on the monotonic clock, in seconds; None means the beginning of each wait."""

    def started(self, since: float | None = None) -> Timer:
        """Return the same timer, started at `since` on the monotonic clock, by default now."""
        return Timer(self.name, self.seconds, time.monotonic() if since is None else since)

    @property
    def left(self) -> float:
        """The maximum seconds of the next wait."""
        return self.seconds if self.since is None else max(0.0, self.since + self.seconds - time.monotonic())


class Progress:
    """The minimum rate of a peer during a message: a number of bytes in each window of time.

    Only time spent waiting for the peer counts, not the time for processing its bytes. A window ends as soon as its
    bytes have arrived.
    """

    name: Final = "progress"

    __slots__ = ("_bytes", "_missing", "left", "seconds")

    def __init__(self, seconds: float, bytes_per_second: float) -> None:
        self.seconds = seconds
        self._bytes = max(1, int(seconds * bytes_per_second))
        self.restart()

    def restart(self) -> None:
        """Begin a new window."""
        self._missing = self._bytes
        self.left = self.seconds
        """The maximum seconds of the next wait."""

    def record_wait(self, seconds: float, count: int) -> None:
        """Record a wait of so many seconds and the number of bytes that ended it."""
        self._missing -= count
        if self._missing <= 0:
            self.restart()
        else:
            self.left -= seconds


Deadline: TypeAlias = Timer | Progress
"""The bound of a wait for the peer."""


@frozen(kw_only=True)
class Timeouts:
    """Timeouts of the waits for the peer, in seconds. None means the value of the setting that the field names."""

    connect: float = 15.0
    """Resolving the host name and connecting by TCP, for all addresses together."""
    tls: float = 15.0
    """The whole TLS handshake, on either side: a peer that stops in the middle is closed after this time."""
    acse: float = 30.0
    """The answer to an A-ASSOCIATE-RQ. The default of `artim` and `release`."""
    artim: float | None = None
    """ARTIM (PS3.8 9.1.5): a requestor's whole A-ASSOCIATE-RQ, and the peer's close of the connection after the last
    PDU. None means `acse`."""
    release: float | None = None
    """The answer to an A-RELEASE-RQ. None means `acse`."""
    dimse: float = 60.0
    """The response to a request, from when its last byte has left the system's send queue."""
    network: float = 60.0
    """The default of `idle`, `progress` and `write`."""
    idle: float | None = None
    """The whole next command of a requestor; then the acceptor aborts, as few requestors handle an A-RELEASE-RQ. None
    means `network`."""
    progress: float | None = None
    """The window of `slowest`: abort if a data set arrives more slowly than that for so many seconds. Slow transfers
    continue, stalled ones end. None means `network`."""
    slowest: float = 256.0
    """The minimum rate of a data set in bytes per second: that of a slow modem."""
    write: float | None = None
    """Any progress of sending, however small. None means `network`."""
    abort: float = 5.0
    """Sending an A-ABORT: the aborted peer may no longer read."""
    shutdown: float = 10.0
    """Finishing the instances in flight when a server stops; the other associations are aborted."""

    def timer(self, name: str) -> Timer:
        """Return the timer with the name of a field."""
        seconds = getattr(self, name)
        return Timer(name, getattr(self, _DEFAULTS[name]) if seconds is None else seconds)

    def progression(self) -> Progress:
        """Return a new measurement of the minimum rate."""
        return Progress(self.timer("progress").seconds, self.slowest)


_DEFAULTS: Final = {"artim": "acse", "release": "acse", "idle": "network", "progress": "network", "write": "network"}


class ArtimTimer:
    """Runs ARTIM from when the core has started it, across all waits (PS3.8 9.1.5)."""

    def __init__(self, core: Association, seconds: float) -> None:
        self._core = core
        self._timer = Timer(ARTIM, seconds)
        self._start = 0

    def deadline(self, default: Deadline) -> Deadline:
        """Return the deadline of the next wait: the rest of ARTIM if it runs, otherwise the default."""
        if self._core.artim == 0:
            return default
        if self._core.artim != self._start:
            self._start = self._core.artim
            self._timer = self._timer.started()
        return self._timer
