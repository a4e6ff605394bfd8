"""Retries of transient failures: their number and their delays."""

from __future__ import annotations

from typing import Final

from dicomport.net import AbortedError, AssociationError, ConnectionLostError, RejectedError, TimerExpiredError
from dicomport.standard import Status
from dicomport.values import frozen

_OUT_OF_RESOURCES: Final = 0xA7
"""The upper byte of the statuses "Refused: Out of resources" (PS3.4 B.2.3)."""


@frozen(kw_only=True)
class RetryPolicy:
    """Number of retries of a transient failure, and their delays."""

    retries: int = 3
    """Maximum retries of each instance, and of an association that could not be established."""
    seconds: float = 300.0
    """No retry begins later than this after the first failure."""
    first_delay: float = 1.0
    """Average delay before the first retry, seconds."""
    max_delay: float = 60.0
    """Maximum of the average delay before a retry, seconds."""

    def allows(self, failures: int, elapsed: float) -> bool:
        """Return whether to retry after so many failures in a row, the first of them `elapsed` seconds ago."""
        return failures <= self.retries and elapsed <= self.seconds

    def delay(self, failures: int) -> float:
        """Return the delay after so many failures in a row, seconds.

        Each delay is twice the previous one, randomly changed by up to a half: senders that failed at the same time do
        not retry at the same time.
        """
        import random

        average = min(self.first_delay * 2.0 ** min(failures - 1, 64), self.max_delay)
        return average * random.uniform(0.5, 1.5)  # noqa: S311  # it spreads load and guards no secret


def is_transient(failure: Status | AssociationError) -> bool:
    """Return whether the same request may succeed later.

    True for a peer that is out of resources (0xA7xx), a transient rejection, a lost association and an expired timer.
    False for any other status, a permanent rejection, and a peer that could not be reached.
    """
    if isinstance(failure, Status):
        return failure.code >> 8 == _OUT_OF_RESOURCES
    if isinstance(failure, RejectedError):
        return failure.rejection.transient
    return isinstance(failure, ConnectionLostError | AbortedError | TimerExpiredError)
