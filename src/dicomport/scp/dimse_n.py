"""DIMSE-N on an association: requests of the peer, and notifications to it (PS3.7 10).

Theory of operation
-------------------
The task of the association owns the connection; it alone writes messages. A request is performed by the service in
that task. A notification may be sent by any task of the same event loop: `Notifications.send` queues it and interrupts
the association's wait for the next request. The association then calls `send_next` between two messages, so that a
notification never splits one. At most one notification is outstanding, because the acceptor has not negotiated more
(PS3.7 D.3.3.3). Its response, or the end of the association, resolves the future that its sender awaits.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from dataclasses import dataclass, field
from typing import Final, Protocol

from dicomport.core import AcceptedContext, Association
from dicomport.dimse import Exchange, sop_instance_of
from dicomport.files import MemoryBudget
from dicomport.net import FairTurns
from dicomport.scp.requests import AssociationInfo
from dicomport.scp.sinks import Storage
from dicomport.standard import UNRECOGNIZED_OPERATION, Status
from dicomport.values import frozen
from dicomport.wire import NActionRQ, NEventReportRQ, NEventReportRSP

SHORT_BYTES: Final = 1 << 16
"""Length of a data set that needs no turn, bytes: 500 references to instances."""

_DECODED_FACTOR: Final = 4
"""Memory for a data set and its decoded references, as a multiple of its length."""


class DataSetMemory:
    """Memory for whole DIMSE-N data sets, as a part of the server's memory for data sets.

    Long data sets take turns of their peers' addresses, so that a flood of them neither fills the memory nor delays the
    short ones of other peers. A peer that waits for its turn is throttled: nothing is read from it.
    """

    def __init__(self, memory: MemoryBudget, max_bytes: int) -> None:
        """Allow up to `max_bytes`, and half of that for one address."""
        self._memory = memory
        self._turns = FairTurns(max_bytes, max_bytes // 2)

    @contextlib.asynccontextmanager
    async def held(self, host: str, size: int) -> AsyncIterator[None]:
        """Wait until a data set of `size` bytes of a peer fits, and count it in an `async with` block."""
        if size <= SHORT_BYTES:
            yield
            return
        cost = _DECODED_FACTOR * size
        async with self._turns.turn(host, cost):
            self._memory.hold(cost)
            try:
                yield
            finally:
                self._memory.hold(-cost)


@frozen
class NormalizedOperation:
    """One N-ACTION or N-EVENT-REPORT request with its data set."""

    association: AssociationInfo
    storage: Storage
    """The storage for the instances that are received over the association."""
    context: AcceptedContext
    command: NActionRQ | NEventReportRQ
    data: bytes
    """The data set, encoded in the presentation context's transfer syntax; empty if there is none."""
    notifications: Notifications
    """The notifications of the association."""
    memory: DataSetMemory = field(repr=False, compare=False)
    """The server's memory for data sets such as `data`, which it counts until the request has been performed."""

    @property
    def sop_class_uid(self) -> str:
        """Requested or Affected SOP Class UID."""
        return sop_instance_of(self.command)[0]

    @property
    def sop_instance_uid(self) -> str:
        """Requested or Affected SOP Instance UID."""
        return sop_instance_of(self.command)[1]

    async def notify(self, event_type_id: int, data: bytes) -> Status | None:
        """Report an event of the SOP Instance over the association, once the request has its response.

        `data` is encoded in the same way as the request's data set. Returns the status of the peer's response, or None
        if the association ended before it arrived.
        """
        return await self.notifications.send(self, event_type_id, data)


class NormalizedService(Protocol):
    """Serves SOP Classes by DIMSE-N beside those that are stored, such as storage commitment."""

    @property
    def sop_classes(self) -> Collection[str]:
        """The UIDs of the served SOP Classes."""

    @property
    def is_user(self) -> bool:
        """Whether this side is their SCU, and the requestor may be the SCP (PS3.7 D.3.3.4)."""

    async def start(self) -> None:
        """Start, before the server listens. Raises `OSError`."""

    async def stop(self, within: float) -> None:
        """Stop, after the last association has ended; cancel operations that take longer than `within` seconds."""

    async def perform(self, operation: NormalizedOperation) -> Status:
        """Perform a request and return the status of the response; after an exception, it is 0x0110."""


class NoDimseN:
    """Serves no SOP Class."""

    sop_classes: Final = ()
    is_user: Final = False

    async def start(self) -> None:
        """Do nothing."""

    async def stop(self, within: float) -> None:
        """Do nothing."""

    async def perform(self, operation: NormalizedOperation) -> Status:
        """Refuse the request."""
        return UNRECOGNIZED_OPERATION


@dataclass(eq=False, slots=True)
class _Notification:
    context_id: int
    request: NEventReportRQ
    data: bytes
    status: asyncio.Future[Status | None]


class Notifications:
    """Queue of the N-EVENT-REPORT requests of one association, of which at most one is outstanding."""

    def __init__(self, core: Association, exchange: Exchange, wake: Callable[[], None]) -> None:
        """Create the queue; `wake` is called when `send_next` has a notification to send."""
        self._core = core
        self._exchange = exchange
        self._wake = wake
        self._waiting: deque[_Notification] = deque()
        self._outstanding: _Notification | None = None
        self._ended = False
        self.expected = 0
        """Number of notifications being prepared: a silent peer may be waiting for them."""

    @contextlib.contextmanager
    def expecting(self) -> Iterator[None]:
        """Count a notification as being prepared during a `with` block."""
        self.expected += 1
        try:
            yield
        finally:
            self.expected -= 1

    async def send(self, operation: NormalizedOperation, event_type_id: int, data: bytes) -> Status | None:
        """Report an event of an operation's SOP Instance; see `NormalizedOperation.notify`."""
        if self._ended:
            return None
        request = NEventReportRQ(
            has_data_set=True,
            message_id=self._exchange.next_message_id(),
            affected_sop_class_uid=operation.sop_class_uid,
            affected_sop_instance_uid=operation.sop_instance_uid,
            event_type_id=event_type_id,
        )
        status: asyncio.Future[Status | None] = asyncio.get_running_loop().create_future()
        notification = _Notification(operation.context.context_id, request, data, status)
        self._waiting.append(notification)
        if self._outstanding is None:
            self._wake()
        try:
            return await status
        finally:
            # The sender may be cancelled: a late response is unexpected then.
            if notification in self._waiting:
                self._waiting.remove(notification)
            if self._outstanding is notification:
                self._outstanding = None
                self._exchange.forget(request)
                if self._waiting:
                    self._wake()

    @property
    def is_due(self) -> bool:
        """Whether `send_next` has a notification to send."""
        return self._outstanding is None and bool(self._waiting)

    def send_next(self) -> None:
        """Write the next notification to the core, if there is one; call it between two messages only."""
        if not self.is_due:
            return
        notification = self._outstanding = self._waiting.popleft()
        self._core.send_command(notification.context_id, notification.request)
        self._core.send_data(notification.context_id, notification.data, last=True)
        self._exchange.expect(notification.request)

    def match_response(self, response: NEventReportRSP) -> bool:
        """Pass the peer's response to the sender of the notification; return whether it was expected."""
        notification, status = self._outstanding, self._exchange.match_response(response)
        if notification is None or status is None:
            return False
        self._outstanding = None
        if not notification.status.done():
            notification.status.set_result(status)
        return True

    def end(self) -> None:
        """Resolve all notifications without a response: the association has ended."""
        self._ended = True
        for notification in (self._outstanding, *self._waiting):
            if notification is not None and not notification.status.done():
                notification.status.set_result(None)
