"""The thread that adds committed instances to the index.

Theory of operation
-------------------
The committer calls `put` with the records of each batch, in the order of the journal. The indexer's thread waits until
records are queued, gathers for 50 ms, takes all of them and adds them in one transaction, which costs little more than
a transaction for one record. The event loop never waits for the database, and an acknowledgement never waits for it
either, because the records are in the journal already. The queue is limited: when it is full, `put` blocks the
committer, and through it the senders.

While the database fails, for example because the disk is full, the same records are retried every second. After each
transaction the session is informed of the number of indexed records, so that it can remove old segments of the
journal. At shutdown (`hurry`) the thread neither gathers nor retries: records that the database did not accept stay
in the journal, and the next process that opens the archive recovers them.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Final

from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from dicomport.archive.commit.sessions import Session
from dicomport.archive.index import Index
from dicomport.archive.records import Record
from dicomport.logs import get_logger

log = get_logger("archive")

_MAX_WAITING: Final = 10_000
"""Limit of queued records; above it, committing waits."""

_GATHERING_SECONDS: Final = 0.05
"""Time for more records to join a transaction."""

_RETRY_SECONDS: Final = 1.0
"""Time between two attempts after the database failed."""


class Indexer:
    """The queue of records for the index, and the thread that empties it."""

    def __init__(self, index: Index, session: Session) -> None:
        self._index = index
        self._session = session
        self._complete = True
        self._closing = threading.Event()
        self._changed = threading.Condition()
        """Protects the fields below. Notified when the queue gets its first record or is emptied, and at the end."""
        self._waiting: list[Record] = []
        self._written = 0
        """Number of records in the journal up to the last queued record."""
        self._ending = False
        self._thread = threading.Thread(target=self._run, name="dicomport-indexer", daemon=True)
        self._thread.start()

    def put(self, records: Sequence[Record]) -> None:
        """Queue records; wait while the queue is full."""
        if not records:
            return
        with self._changed:
            while self.busy():
                self._changed.wait()
            if not self._waiting:
                self._changed.notify_all()
            self._waiting += records
            self._written = self._session.written

    def busy(self) -> bool:
        """Return whether the queue is full."""
        return len(self._waiting) >= _MAX_WAITING

    def hurry(self) -> None:
        """Stop gathering and retrying."""
        self._closing.set()

    def close(self) -> bool:
        """Index the queued records and end the thread; return whether the index contains all records."""
        self.hurry()
        with self._changed:
            self._ending = True
            self._changed.notify_all()
        self._thread.join()
        return self._complete

    def _run(self) -> None:
        while self._await_some():
            self._closing.wait(_GATHERING_SECONDS)
            self._add(*self._take())

    def _await_some(self) -> bool:
        """Wait until a record is queued; return False at the end."""
        with self._changed:
            while not self._waiting and not self._ending:
                self._changed.wait()
            return bool(self._waiting)

    def _take(self) -> tuple[Sequence[Record], int]:
        """Empty the queue; return its records, and the number of records in the journal up to the last of them."""
        with self._changed:
            waiting, self._waiting = self._waiting, []
            self._changed.notify_all()
            return waiting, self._written

    def _add(self, records: Sequence[Record], written: int) -> None:
        """Add records to the index, and retry while the database fails, until shutdown."""
        while True:
            try:
                self._index.add(records)
            except SQLAlchemyError as error:
                log.warning("index_failed", reason=_message_of(error), retry_after_s=_RETRY_SECONDS)
                if self._closing.wait(_RETRY_SECONDS):
                    self._complete = False
                    return
            else:
                # Not a sum of lengths: the journal also contains records whose files could not be renamed.
                self._session.indexed = written
                return


def _message_of(error: SQLAlchemyError) -> str:
    """Return the database's own message: SQLAlchemy's contains the values of the statement."""
    return str(error.orig) if isinstance(error, DBAPIError) else type(error).__name__
