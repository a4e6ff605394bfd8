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

    def __init__(self, connection: Connection, drained_bytes: int) -> None:
        """Read `drained_bytes` more of each data set than are served, because the peer may read no response before."""
        self.size = 0
        """Number of bytes received of the current data set."""
        self._connection = connection
        self._drained_bytes = drained_bytes
        self._max_bytes = 0

    def start(self, max_bytes: int) -> None:
        """Start a data set, its command has been received; `max_bytes` is the maximum length that is served."""
        self.size = 0
        self._max_bytes = max_bytes + self._drained_bytes
        self._connection.progress.restart()

    async def next(self) -> DataReceived:
        """Return the next bytes. Raises `AssociationEnded`, `LimitExceededError` and `TimerExpiredError`.

        The association is aborted after a `LimitExceededError`.
        """
        connection = self._connection
        event = connection.next_event_nowait() or await connection.next_event(connection.progress)
        if not isinstance(event, DataReceived):
            raise AssociationEnded(event)
        self.size += len(event.data)
        if self.size > self._max_bytes:
            raise LimitExceededError(f"data set of more than {self._max_bytes} bytes", "drained_bytes")
        return event

    async def skip(self, max_bytes: int = 0) -> None:
        """Receive a data set and drop its bytes; `max_bytes` is the maximum length if it is that of an instance."""
        self.start(max_bytes)
        while not (await self.next()).last:
            pass

    async def collect(self, max_bytes: int) -> bytes | None:
        """Return a whole data set, or None if it is longer than `max_bytes`, once it has been received."""
        self.start(max_bytes)
        data_set = DataSetBuffer(max_bytes)
        last = False
        while not last:
            data, last = await self.next()
            data_set.append(data)
        return data_set.data
