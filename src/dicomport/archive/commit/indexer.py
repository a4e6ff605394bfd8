"""The thread that adds committed instances to the index.

Theory of operation
-------------------
The committer calls `put` with the records of each batch, in the order of the journal. The indexer's thread waits until
records are queued, gathers for 50 ms, takes all of them and adds them in one transaction, which costs little more than
a transaction for one record. The event loop never waits for the database, and an acknowledgement never waits for it
either, because the records are in the journal already. The queue is limited: when it is full, `put` blocks the
committer, and through it the senders.

A transaction survives the end of the process, but not a power failure, and the journal survives both. So the thread
syncs the index before it sets the session's number of indexed records, up to which the session removes segments of the
journal. It does so once for as many records as a segment contains, and at shutdown. Without fsync
(`Durability.FLUSH`) nothing is synced.

While the index cannot be written, because it is damaged, the disk is full or a program has locked it, the thread
retries its transaction, and `put` does not block: when the queue is full, further records are in the journal alone.
After the first transaction that succeeds, the thread reads them from the journal, as recovery does. The number of
instances that are not in the index is limited: above it, `is_exhausted` is true, and the archive refuses instances. The
failure is logged when it begins, when its reason changes, and once in five minutes. If another process
writes, such as `reindex` in its last step, that is a failure only after some seconds.

At shutdown (`hurry`) the thread neither gathers nor retries: records that the database did not accept stay in the
journal, and the next process that opens the archive recovers them. Only for a lock it waits for two seconds.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

from dicomport.archive.commit.sessions import Session
from dicomport.archive.database.queries import batched
from dicomport.archive.database.sqlite import BusyIndexError, DamagedIndexError, IndexDatabaseError
from dicomport.archive.index import Index
from dicomport.archive.records import Record, is_visible
from dicomport.logs import get_logger, reason_of

log = get_logger("archive")

_MAX_WAITING: Final = 10_000
"""Limit of queued records; above it, committing waits, or the records are in the journal alone."""

_MAX_UNINDEXED: Final = 250_000
"""Limit of instances that are in the journal alone: recovery reads a journal of this size in half a minute."""

_GATHERING_SECONDS: Final = 0.05
"""Time for more records to join a transaction."""

_RETRY_SECONDS: Final = 1.0
"""Time between two attempts after the database failed."""

_BUSY_RETRY_SECONDS: Final = 0.02
"""Time between two attempts while another process writes."""

_BUSY_SECONDS: Final = 5.0
"""Time for which another process may write before that is a failure."""

_LAST_SECONDS: Final = 2.0
"""Time at shutdown to wait for another process that writes."""

_END_SECONDS: Final = 10.0
"""Time at shutdown for the last transactions."""

_LOG_SECONDS: Final = 300.0
"""Time between two log records of the same failure."""

_SYNCED_RECORDS: Final = 2000
"""Number of records after which the index is synced: as many as a segment of the journal contains."""


class Indexer:
    """The queue of records for the index, and the thread that empties it."""

    def __init__(self, index: Index, session: Session, root: Path, *, syncs: bool) -> None:
        self._index = index
        self._session = session
        self._root = root
        self._syncs = syncs
        self._complete = True
        self._closing = threading.Event()
        self._last_attempt = 0.0
        """Time after which a lock is not waited for at shutdown."""
        self._failure = _Failure()
        self._changed = threading.Condition()
        """Protects the fields below. Notified when the queue gets its first record or is emptied, and at the end."""
        self._waiting: list[Record] = []
        self._overflowed = False
        """Whether records are in the journal alone, because the queue was full."""
        self._written = 0
        """Number of records in the journal up to the last queued record."""
        self._ending = False
        self._thread = threading.Thread(target=self._run, name="dicomport-indexer", daemon=True)
        self._thread.start()

    def put(self, records: Sequence[Record]) -> None:
        """Queue records; wait while the queue is full, unless the index cannot be written."""
        if not records:
            return
        with self._changed:
            while self.busy():
                self._changed.wait()
            if not self._waiting:
                self._changed.notify_all()
            if len(self._waiting) < _MAX_WAITING:
                self._waiting += records
            else:
                self._overflowed = True
            self._written = self._session.written

    def busy(self) -> bool:
        """Return whether `put` would wait."""
        return len(self._waiting) >= _MAX_WAITING and not self._failure.lasts and not self._closing.is_set()

    @property
    def is_exhausted(self) -> bool:
        """Whether the index cannot be written and too many instances are not in it."""
        if not self._failure.lasts or self._session.written - self._session.indexed < _MAX_UNINDEXED:
            return False
        self._failure.log_refusal()
        return True

    def hurry(self) -> None:
        """Stop gathering and retrying."""
        with self._changed:
            if not self._closing.is_set():
                self._last_attempt = time.monotonic() + _LAST_SECONDS
                self._closing.set()
                self._changed.notify_all()

    def close(self) -> bool:
        """Index the queued records and end the thread; return whether the index contains all records."""
        self.hurry()
        with self._changed:
            self._ending = True
            self._changed.notify_all()
        self._thread.join(_END_SECONDS)
        return self._complete and not self._thread.is_alive()

    def _run(self) -> None:
        while self._await_some():
            self._closing.wait(_GATHERING_SECONDS)
            records, overflowed, written = self._take()
            self._complete = self._add(records) and (not overflowed or self._add_from_journal()) and self._complete
            # Not a sum of lengths: the journal also contains records whose files could not be renamed.
            if self._complete and written - self._session.indexed >= _SYNCED_RECORDS:
                self._sync(written)
        if self._complete and self._session.indexed < self._session.written:
            self._complete = self._sync(self._session.written)

    def _await_some(self) -> bool:
        """Wait until a record is queued; return False at the end."""
        with self._changed:
            while not self._waiting and not self._ending:
                self._changed.wait()
            return bool(self._waiting)

    def _take(self) -> tuple[Sequence[Record], bool, int]:
        """Empty the queue; return its records, whether the journal has more, and the number of its records so far."""
        with self._changed:
            waiting, self._waiting = self._waiting, []
            overflowed, self._overflowed = self._overflowed, False
            self._changed.notify_all()
            return waiting, overflowed, self._written

    def _add(self, records: Sequence[Record]) -> bool:
        """Add records to the index, and retry while it cannot be written, until shutdown; return whether it could."""
        return self._retry(lambda: self._index.add(records))

    def _add_from_journal(self) -> bool:
        """Add the records of this session's journal whose files are visible; those of other files are queued later.

        Return whether all are added. If a file cannot be examined, a later recovery decides about its record.
        """
        failures: list[OSError] = []
        records = self._visible_records(failures)
        is_complete = all(not self._closing.is_set() and self._add(batch) for batch in batched(records))
        if failures:
            log.warning("index_incomplete", instances=len(failures), reason=reason_of(failures[0]))
        return is_complete and not failures

    def _visible_records(self, failures: list[OSError]) -> Iterator[Record]:
        for record in self._session.records():
            try:
                if is_visible(self._root, record):
                    yield record
            except OSError as error:
                failures.append(error)

    def _sync(self, written: int) -> bool:
        """Write the index to stable storage, so that the session may remove the journal of as many records."""
        if self._syncs and not self._retry(self._index.sync):
            return False
        self._session.indexed = written
        return True

    def _retry(self, use_index: Callable[[], None]) -> bool:
        """Use the index; retry until it succeeds or the shutdown begins."""
        while True:
            try:
                use_index()
            except (IndexDatabaseError, OSError) as error:
                is_busy = isinstance(error, BusyIndexError)
                with self._changed:
                    self._failure.happened(error)
                    self._changed.notify_all()
                    if self._closing.is_set() and not (is_busy and time.monotonic() < self._last_attempt):
                        return False
                    self._changed.wait(_BUSY_RETRY_SECONDS if is_busy else _RETRY_SECONDS)
            else:
                self._failure.ended()
                return True


class _Failure:
    """The present failure of the index, and its log records."""

    def __init__(self) -> None:
        self.lasts = False
        """Whether the index cannot be written, for another reason than a short wait for another process."""
        self._reason = ""
        self._attempts = 0
        self._began = 0.0
        self._logged = 0.0
        self._is_refusal_logged = False

    def happened(self, error: Exception) -> None:
        """Count an attempt, and log it if the log does not have it yet."""
        now = time.monotonic()
        if self._attempts == 0:
            self._began = now
        self._attempts += 1
        if isinstance(error, BusyIndexError) and now - self._began < _BUSY_SECONDS:
            return
        reason = reason_of(error) if isinstance(error, OSError) else str(error)
        if not self.lasts or reason != self._reason or now - self._logged >= _LOG_SECONDS:
            self._reason, self._logged = reason, now
            if isinstance(error, DamagedIndexError):
                log.error("index_failed", reason=reason, attempts=self._attempts)
            else:
                log.warning("index_failed", reason=reason, attempts=self._attempts)
        self.lasts = True

    def log_refusal(self) -> None:
        """Log once for each failure that the archive refuses instances."""
        if not self._is_refusal_logged:
            self._is_refusal_logged = True
            log.error("index_limit_reached", reason=self._reason)

    def ended(self) -> None:
        """Log the end of a failure."""
        if self.lasts:
            log.warning("index_recovered", attempts=self._attempts)
        self.lasts = False
        self._attempts = 0
        self._is_refusal_logged = False
