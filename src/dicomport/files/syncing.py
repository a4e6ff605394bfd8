"""fsync for several callers at once.

Theory of operation
-------------------
A file system writes its own journal for each fsync, and that takes most of the time. If several files are synced at the
same moment, one write of the journal is enough for all. So `SyncThreads` syncs the files of a batch at once, in
threads. The names in a folder need one fsync for all that were created before it began: `SharedSync` lets the callers
that arrive during an fsync wait for the next one, which one of them performs for all. No caller returns before an fsync
that began after its call has ended, and each receives the error of this fsync.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

_THREADS: Final = 8
"""With more, a file takes as long."""


class SyncThreads:
    """Performs several calls that wait for the disk at once."""

    def __init__(self) -> None:
        self._pool: ThreadPoolExecutor | None = None

    def run(self, calls: Sequence[Callable[[], None]]) -> list[Exception | None]:
        """Perform calls, a single one in this thread; return the error of each, or None. Call this from one thread."""
        if len(calls) <= 1:
            return list(map(_error_of, calls))
        if self._pool is None:
            from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415  # a sender syncs nothing

            self._pool = ThreadPoolExecutor(_THREADS, "dicomport-sync")
        return list(self._pool.map(_error_of, calls))

    def close(self) -> None:
        """End the threads."""
        if self._pool is not None:
            self._pool.shutdown()


def _error_of(call: Callable[[], None]) -> Exception | None:
    try:
        call()
    except Exception as error:  # noqa: BLE001  # the caller of `run` has to handle it
        return error
    return None


class _Round:
    """One fsync, for all callers that arrived before it began."""

    def __init__(self) -> None:
        self.is_over = False
        self.error: Exception | None = None


class SharedSync:
    """An fsync whose callers in several threads share its calls."""

    def __init__(self, sync: Callable[[], None]) -> None:
        self._sync = sync
        self._changed = threading.Condition()
        """Protects the fields below. Notified when an fsync ends."""
        self._next = _Round()
        """The round that has not begun."""
        self._is_running = False

    def __call__(self) -> None:
        """Return after an fsync that began after this call. Raises the error of this fsync."""
        with self._changed:
            joined = self._next
            while self._is_running and not joined.is_over:
                self._changed.wait()
            if not joined.is_over:
                self._is_running, self._next = True, _Round()
        if not joined.is_over:
            joined.error = _error_of(self._sync)
            with self._changed:
                joined.is_over, self._is_running = True, False
                self._changed.notify_all()
        if isinstance(joined.error, OSError):
            # Each caller raises its own error: a traceback belongs to one thread.
            raise OSError(*joined.error.args)
        if joined.error is not None:
            raise joined.error
