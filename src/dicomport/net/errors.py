"""What can go wrong with an association, as its user sees it.

AssociationError
  ConnectError          no transport connection: name, network or TLS
  RejectedError         A-ASSOCIATE-RJ
  AbortedError          A-ABORT, from the peer, or from here because the peer broke the protocol
  LostError             the transport connection closed under the association
  TimerExpiredError     the peer did not do something in time; says which timer it was
"""

from __future__ import annotations

from dicomport.core import Aborted
from dicomport.net.timers import Deadline
from dicomport.wire import AssociateRJ

__all__ = [
    "AbortedError",
    "AssociationError",
    "ConnectError",
    "LostError",
    "RejectedError",
    "TimerExpiredError",
    "check_deadline",
]


class AssociationError(Exception):
    """There is no association, or no more. The message says why, for a person."""


class ConnectError(AssociationError):
    """The transport connection could not be had."""


class RejectedError(AssociationError):
    """The peer rejected the association (PS3.8 9.3.4)."""

    def __init__(self, rejection: AssociateRJ) -> None:
        how = "for now" if rejection.transient else "permanently"
        super().__init__(f"the peer rejected the association {how}: {rejection.reason.meaning}")
        self.rejection = rejection


class AbortedError(AssociationError):
    """The association was aborted (PS3.8 9.3.8)."""

    def __init__(self, aborted: Aborted) -> None:
        if aborted.by_peer:
            super().__init__(f"the peer aborted the association ({aborted.reason.meaning})")
        else:
            super().__init__(f"the peer broke the protocol, the association was aborted: {aborted.detail}")
        self.aborted = aborted


class LostError(AssociationError):
    """The transport connection closed though the association was not over."""


class TimerExpiredError(AssociationError):
    """The peer did not do what it should in time; the association can't be used any more."""

    def __init__(self, timer: Deadline) -> None:
        super().__init__(f"the {timer.name} timer expired after {timer.seconds:g} s")
        self.timer = timer


def check_deadline(timer: Deadline) -> Deadline:
    """Give a timer back, or raise `TimerExpiredError` where it has expired.

    It has to be asked: from a peer that never stops talking there is always something to read, and no wait for a timer
    to end.
    """
    if timer.left <= 0:
        raise TimerExpiredError(timer)
    return timer
