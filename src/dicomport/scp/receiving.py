"""Receiving the data sets of the messages of one association (PS3.7 6.3.1, PS3.8 Annex E)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from dicomport.core import CoreEvent, DataReceived
from dicomport.net import Connection
from dicomport.wire import Buffer, LimitExceededError


class AssociationEnded(Exception):  # noqa: N818  # not an error: it ends any wait for the peer
    """The association has ended; `event` is the cause, None if its transport connection was closed in order."""

    def __init__(self, event: CoreEvent | None) -> None:
        super().__init__(event)
        self.event = event


class DataSetReceiver:
    """Receives one data set after the other: `start`, and then `next` until the last bytes, `skip`, or `receive`."""

    def __init__(self, connection: Connection, drained_bytes: int) -> None:
        """Read `drained_bytes` more of each data set than are served, because the peer may read no response before."""
        self.size = 0
        """Number of bytes received of the current data set."""
        self._connection = connection
        self._drained_bytes = drained_bytes
        self._max_bytes = 0

    def start(self, max_bytes: int) -> None:
        """Start a data set, its command has been received; `max_bytes` is the maximum length that is served."""
        self.resume(0, max_bytes)
        self._connection.progress.restart()

    def resume(self, size: int, max_bytes: int) -> None:
        """Continue a data set of which `size` bytes have been received."""
        self.size = size
        self._max_bytes = max_bytes + self._drained_bytes

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

    async def receive(self, write: Callable[[Buffer], Awaitable[None]], max_bytes: int) -> OSError | None:
        """Receive a whole data set and pass its bytes to `write`, those beyond `max_bytes` excepted.

        Return the error of `write`, if any: the rest is received nevertheless.
        """
        self.start(max_bytes)
        failure: OSError | None = None
        last = False
        while not last:
            data, last = await self.next()
            if failure is None and self.size <= max_bytes:
                try:
                    await write(data)
                except OSError as error:
                    failure = error
        return failure
