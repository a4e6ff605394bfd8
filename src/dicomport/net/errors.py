"""The exceptions of an association for its user; `dicomport.errors` has the whole tree."""

from __future__ import annotations

from dicomport.core import Aborted
from dicomport.errors import DicomportError
from dicomport.net.timers import Deadline
from dicomport.wire import AssociateRJ


class AssociationError(DicomportError):
    """The association could not be established, or has ended; the message says why."""


class ConnectError(AssociationError, ConnectionError):
    """The transport connection could not be established: name, network or TLS."""


class RejectedError(AssociationError):
    """The peer rejected the association (PS3.8 9.3.4)."""

    def __init__(self, rejection: AssociateRJ) -> None:
        result = "transient" if rejection.transient else "permanent"
        super().__init__(f"the peer rejected the association ({result}): {rejection.reason.meaning}")
        self.rejection = rejection


class AbortedError(AssociationError):
    """The association was aborted (PS3.8 9.3.8)."""

    def __init__(self, aborted: Aborted) -> None:
        if aborted.by_peer:
            super().__init__(f"the peer aborted the association ({aborted.reason.meaning})")
        else:
            super().__init__(f"the peer violated the protocol and the association was aborted: {aborted.detail}")
        self.aborted = aborted


class ConnectionLostError(AssociationError, ConnectionError):
    """The transport connection was closed or lost during the association."""


class TimerExpiredError(AssociationError, TimeoutError):
    """The peer did not act in time; the association cannot be used any more."""

    def __init__(self, timer: Deadline) -> None:
        super().__init__(f"the {timer.name} timer expired after {timer.seconds:g} s")
        self.timer = timer


def check_deadline(timer: Deadline) -> Deadline:
    """Return the timer, or raise `TimerExpiredError` if it has expired.

    This check is necessary: with a peer that never stops sending, no wait lasts until the timer ends.
    """
    if timer.left <= 0:
        raise TimerExpiredError(timer)
    return timer
