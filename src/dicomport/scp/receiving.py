"""Receiving the data sets of the messages of one association (PS3.7 6.3.1, PS3.8 Annex E)."""

from __future__ import annotations

from dicomport.core import CoreEvent, DataReceived
from dicomport.dimse import DataSetBuffer
from dicomport.net import Connection
from dicomport.wire import LimitExceededError


class AssociationEnded(Exception):  # noqa: N818  # not an error: it ends any wait for the peer
    """The association has ended; `event` is the cause, None if its transport connection was closed in order."""

    def __init__(self, event: CoreEvent | None) -> None:
        super().__init__(event)
        self.event = event


class DataSetReceiver:
    """Receives one data set after the other: `start`, and then `next` until the last bytes, `skip`, or `collect`."""

    def __init__(self, connection: Connection) -> None:
        self.max_bytes = 0
        """Maximum length of a data set, bytes. A longer one raises `LimitExceededError`; the association is aborted."""
        self.size = 0
        """Number of bytes received of the current data set."""
        self._connection = connection

    def start(self) -> None:
        """Start a data set: its command has been received."""
        self.size = 0
        self._connection.progress.restart()

    async def next(self) -> DataReceived:
        """Return the next bytes. Raises `AssociationEnded`, `LimitExceededError` and `TimerExpiredError`."""
        connection = self._connection
        event = connection.next_event_nowait() or await connection.next_event(connection.progress)
        if not isinstance(event, DataReceived):
            raise AssociationEnded(event)
        self.size += len(event.data)
        if self.size > self.max_bytes:
            raise LimitExceededError(f"data set of more than {self.max_bytes} bytes", "drained_bytes")
        return event

    async def skip(self) -> None:
        """Receive a data set and drop its bytes."""
        self.start()
        while not (await self.next()).last:
            pass

    async def collect(self, max_bytes: int) -> bytes | None:
        """Return a whole data set, or None if it is longer than `max_bytes`, once it has been received."""
        self.start()
        data_set = DataSetBuffer(max_bytes)
        last = False
        while not last:
            data, last = await self.next()
            data_set.append(data)
        return data_set.data
