"""A limit on the rate of reading, so that the disk keeps serving receivers."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

_MAX_BACKLOG_SECONDS: Final = 1.0
"""Time that reading may take without a loss of rate; a longer pause is not compensated."""


class RateLimit:
    """Delays reading; call it with the size of each part after it was read, bytes."""

    def __init__(
        self,
        bytes_per_second: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[float], object] = time.sleep,
    ) -> None:
        """Limit the average rate. `wait` is called with seconds."""
        self._rate = bytes_per_second
        self._clock = clock
        self._wait = wait
        self._free_at = clock()
        """The time at which the rate allows to read on."""

    def __call__(self, size: int) -> None:
        """Wait until the rate allows to read on."""
        now = self._clock()
        self._free_at = max(self._free_at, now - _MAX_BACKLOG_SECONDS) + size / self._rate
        if self._free_at > now:
            self._wait(self._free_at - now)
