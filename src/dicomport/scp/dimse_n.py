"""DIMSE-N on an association: requests of the peer, and notifications that go the other way (PS3.7 10)."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Final, Protocol

from dicomport.core import AcceptedContext, Association
from dicomport.scp.requests import AssociationInfo
from dicomport.scp.sinks import Storage
from dicomport.standard import UNRECOGNIZED_OPERATION, Status
from dicomport.wire import NActionRQ, NActionRSP, NEventReportRQ, NEventReportRSP

__all__ = ["NoDimseN", "NormalizedOperation", "NormalizedService", "Notifications", "response_to"]


@dataclass(frozen=True, slots=True)
class NormalizedOperation:
    """One N-ACTION or N-EVENT-REPORT request with its data set."""

    association: AssociationInfo
    storage: Storage
    """Where the instances go that come over the association."""
    context: AcceptedContext
    command: NActionRQ | NEventReportRQ
    data: bytes
    """The data set, encoded in the presentation context's transfer syntax; empty where there is none."""
    notifications: Notifications
    """Those of the association."""

    @property
    def sop_class_uid(self) -> str:
        """Requested or Affected SOP Class UID."""
        command = self.command
        return command.requested_sop_class_uid if isinstance(command, NActionRQ) else command.affected_sop_class_uid

    @property
    def sop_instance_uid(self) -> str:
        """Requested or Affected SOP Instance UID."""
        command = self.command
        if isinstance(command, NActionRQ):
            return command.requested_sop_instance_uid
        return command.affected_sop_instance_uid

    async def notify(self, event_type_id: int, data: bytes) -> Status | None:
        """Report an event of the SOP Instance over the association, once the request is answered and nothing goes on.

        `data` is encoded as the request's data set is. Gives the peer's answer, None where the association was over
        before there was one.
        """
        return await self.notifications.send(self, event_type_id, data)


class NormalizedService(Protocol):
    """Serves SOP Classes by DIMSE-N beside those that are stored, such as storage commitment."""

    @property
    def sop_classes(self) -> Collection[str]:
        """Their UIDs."""

    @property
    def is_user(self) -> bool:
        """Whether this side is their SCU, and the requestor may be the SCP (PS3.7 D.3.3.4)."""

    async def start(self) -> None:
        """Begin: the server is about to listen. Raises `OSError`."""

    async def stop(self) -> None:
        """End: no association is left."""

    async def perform(self, operation: NormalizedOperation) -> Status:
        """Do what the peer asks, and say how it is answered; an exception is answered with 0x0110."""


class NoDimseN:
    """Serves nothing."""

    sop_classes: Final = ()
    is_user: Final = False

    async def start(self) -> None:
        """Do nothing."""

    async def stop(self) -> None:
        """Do nothing."""

    async def perform(self, operation: NormalizedOperation) -> Status:
        """Refuse."""
        return UNRECOGNIZED_OPERATION


def response_to(operation: NormalizedOperation, status: Status) -> NActionRSP | NEventReportRSP:
    """Build the response to a request (PS3.7 10.3.1.2 and 10.3.4.2)."""
    kind = NActionRSP if isinstance(operation.command, NActionRQ) else NEventReportRSP
    return kind(
        message_id_being_responded_to=operation.command.message_id,
        affected_sop_class_uid=operation.sop_class_uid,
        affected_sop_instance_uid=operation.sop_instance_uid,
        status=status.code,
        error_comment=status.comment,
        offending_element=status.offending,
    )


_LAST_MESSAGE_ID: Final = 0xFFFF


@dataclass(eq=False, slots=True)
class _Notification:
    operation: NormalizedOperation
    event_type_id: int
    data: bytes
    answer: asyncio.Future[Status | None]
    message_id: int = 0


class Notifications:
    """The N-EVENT-REPORTs of one association: those that wait for their turn, and the one that waits for its answer.

    There is one at a time, as the acceptor has not negotiated more (PS3.7 D.3.3.3).
    """

    def __init__(self, core: Association, wake: Callable[[], None]) -> None:
        """`wake` is called when one has come that `send_next` would send."""
        self._core = core
        self._wake = wake
        self._waiting: deque[_Notification] = deque()
        self._outstanding: _Notification | None = None
        self._message_id = 0
        self._over = False
        self.expected = 0
        """How many are still being made: a peer that is silent may be waiting for them."""

    @contextlib.contextmanager
    def expecting(self) -> Iterator[None]:
        """Say that one is being made."""
        self.expected += 1
        try:
            yield
        finally:
            self.expected -= 1

    async def send(self, operation: NormalizedOperation, event_type_id: int, data: bytes) -> Status | None:
        """Report an event of an operation's SOP Instance, as `NormalizedOperation.notify` has it."""
        if self._over:
            return None
        notification = _Notification(operation, event_type_id, data, asyncio.get_running_loop().create_future())
        self._waiting.append(notification)
        if self._outstanding is None:
            self._wake()
        try:
            return await notification.answer
        finally:
            # Whoever waits no more may be cancelled: a late answer is nobody's.
            if notification in self._waiting:
                self._waiting.remove(notification)
            if self._outstanding is notification:
                self._outstanding = None
                if self._waiting:
                    self._wake()

    def send_next(self) -> None:
        """Hand the next one to the core, if there is one. Only where no other message is under way."""
        if self._outstanding is not None or not self._waiting:
            return
        notification = self._outstanding = self._waiting.popleft()
        self._message_id = notification.message_id = self._message_id % _LAST_MESSAGE_ID + 1
        operation = notification.operation
        self._core.send_command(
            operation.context.context_id,
            NEventReportRQ(
                has_data_set=True,
                message_id=notification.message_id,
                affected_sop_class_uid=operation.sop_class_uid,
                affected_sop_instance_uid=operation.sop_instance_uid,
                event_type_id=notification.event_type_id,
            ),
        )
        self._core.send_data(operation.context.context_id, notification.data, last=True)

    def take(self, response: NEventReportRSP) -> bool:
        """Take the peer's answer; give whether it was awaited."""
        notification = self._outstanding
        if notification is None or notification.message_id != response.message_id_being_responded_to:
            return False
        self._outstanding = None
        if not notification.answer.done():
            status = Status.of(response.status, response.error_comment, response.offending_element)
            notification.answer.set_result(status)
        return True

    def end(self) -> None:
        """Give all of them up: the association is over."""
        self._over = True
        for notification in (self._outstanding, *self._waiting):
            if notification is not None and not notification.answer.done():
                notification.answer.set_result(None)
