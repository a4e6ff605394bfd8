"""TLS contexts that warn before their certificate or their revocation lists expire.

Theory of operation: nothing runs in the background. Each handshake asks its context, which compares the clock with its
dates, and logs at most one warning a day for each. A receiver without handshakes has no peer that would be rejected.
"""

from __future__ import annotations

import ssl
import time
from typing import Final

from dicomport.logs import get_logger
from dicomport.values import slotted

_PART: Final = 0.25
_MAX_SECONDS: Final = 30 * 86400.0
"""A warning is due in the last quarter of the lifetime, but not earlier than this before its end."""

_REPEAT_SECONDS: Final = 86400.0

log = get_logger("net")


@slotted(kw_only=True)
class Expiry:
    """A certificate or a revocation list that expires."""

    file: str
    is_list: bool
    issued: float
    """Seconds since the epoch, as `expires`."""
    expires: float
    text: str
    """The date for the log."""
    warned: float | None = None
    """The time of the latest warning, by the monotonic clock."""

    def warn(self, now: float, uptime: float) -> None:
        """Log a warning if the date is near, at most once a day.

        `now` is in seconds since the epoch, `uptime` by the monotonic clock, which counts the day.
        """
        notice = min((self.expires - self.issued) * _PART, _MAX_SECONDS)
        if now < self.expires - notice or (self.warned is not None and uptime < self.warned + _REPEAT_SECONDS):
            return
        self.warned = uptime
        log.warning("crl_expires" if self.is_list else "certificate_expires", file=self.file, not_after=self.text)


class ExpiringContext(ssl.SSLContext):
    """A TLS context with the dates of its certificate and its revocation lists."""

    expiries: tuple[Expiry, ...] = ()


def warn_of_expiry(context: ssl.SSLContext) -> None:
    """Log which files of a context expire soon, or have expired; the contexts of other libraries have no dates."""
    if isinstance(context, ExpiringContext):
        for expiry in context.expiries:
            expiry.warn(time.time(), time.monotonic())
