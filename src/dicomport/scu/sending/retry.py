"""What is tried again, how often, and after how long."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from dicomport.net import AbortedError, AssociationError, ConnectionLostError, RejectedError, TimerExpiredError
from dicomport.standard import Status

__all__ = ["RetryPolicy", "may_pass"]

_OUT_OF_RESOURCES: Final = 0xA7
"""The upper byte of the statuses with which a peer says that it has no room now (PS3.4 B.2.3)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How often and for how long a failure that may pass is tried again."""

    retries: int = 3
    """Further tries at most: of each instance, and of an association that can't be had."""
    seconds: float = 300.0
    """How long after the first failure another try may begin."""
    first_delay: float = 1.0
    """Seconds to the second try, on average."""
    max_delay: float = 60.0
    """Seconds that no delay exceeds, on average."""

    def allows(self, failures: int, elapsed: float) -> bool:
        """Tell whether another try is due after so many failures in a row, the first of them so many seconds ago."""
        return failures <= self.retries and elapsed <= self.seconds

    def delay(self, failures: int) -> float:
        """Give the seconds to wait after so many failures in a row.

        Each delay is twice the one before, give or take a half: those who were turned away together do not come back
        together.
        """
        import random

        average = min(self.first_delay * 2.0 ** min(failures - 1, 64), self.max_delay)
        return average * random.uniform(0.5, 1.5)  # noqa: S311  # it spreads load and guards no secret


def may_pass(failure: Status | AssociationError) -> bool:
    """Tell whether the same request may be taken later.

    So it is with a peer out of resources (0xA7xx), a transient rejection, a lost association and an expired timer; not
    with an instance that the peer refuses for what it is, a permanent rejection, or a peer that isn't there.
    """
    if isinstance(failure, Status):
        return failure.code >> 8 == _OUT_OF_RESOURCES
    if isinstance(failure, RejectedError):
        return failure.rejection.transient
    return isinstance(failure, ConnectionLostError | AbortedError | TimerExpiredError)
