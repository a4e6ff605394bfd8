"""Worker for one association: keeps as many requests in flight as the window allows, until no instance waits.

The theory of operation is in `sender.py`.
"""

from __future__ import annotations

import time
from typing import Final

from dicomport.dimse import NoContextError
from dicomport.logs import get_logger
from dicomport.net import AssociationError, ConnectionLostError
from dicomport.scu.association import ClientAssociation
from dicomport.scu.inputs.instance import Instance, NotSendableError
from dicomport.scu.sending.delivery_queue import DeliveryQueue, result_of
from dicomport.scu.sending.plan import AssociationPlan, QueuedInstance
from dicomport.scu.sending.retry import is_transient
from dicomport.scu.transform.pipeline import Transform
from dicomport.standard import Status
from dicomport.values import slotted
from dicomport.wire import Priority

_BEING_SENT: Final = 0
"""Placeholder for the message ID of the request that is being sent; real ones begin with 1."""

log = get_logger("scu")


@slotted
class InFlight:
    """A request without a response."""

    queued: QueuedInstance
    instance: Instance
    """The instance to send: the queued one, or its transformed copy."""
    started: float = 0.0
    """Time when sending began, on the monotonic clock."""


class AssociationWorker:
    """Takes instances from the queue, sends them over one association, and reports each result."""

    def __init__(
        self,
        association: ClientAssociation,
        number: int,
        *,
        queue: DeliveryQueue,
        plan: AssociationPlan,
        window: int,
        transform: Transform,
        priority: Priority,
    ) -> None:
        self.responses = 0
        """Number of responses that were received."""
        self._association = association
        self._number = number
        self._queue = queue
        self._plan = plan
        self._window = min(association.window or window, window)
        self._transform = transform
        self._priority = priority
        self._in_flight: dict[int, InFlight] = {}
        self._next: InFlight | None = None
        """The request to send as soon as the window has room for it."""
        self._alone = False
        """Whether the request sent last must be the only one in flight."""

    async def run(self) -> None:
        """Send until no instance waits, then release. Raises `AssociationError` if the association is lost."""
        try:
            while self._association.open:
                await self._prepare_next()
                if self._next is not None and self._has_room:
                    await self._send(self._next)
                elif self._in_flight:
                    await self._receive_response()
                elif not await self._queue.wait_for_more(self._plan):
                    await self._release()
            if self._in_flight:
                raise ConnectionLostError("aborted because a file could not be read to its end while it was being sent")
        finally:
            self._requeue_next()
            await self._association.abort()

    def requeue(self, error: AssociationError, *, counted: bool = True) -> None:
        """Return the instances in flight to the queue; if not `counted`, as if they had not been sent."""
        for request in self._in_flight.values():
            queued = request.queued
            if counted:
                queued.lost = True
                self._report(request, reason=f"the association was lost: {error}", transient=is_transient(error))
            else:
                queued.attempts -= 1
                self._queue.requeue(queued)
        self._in_flight.clear()

    def interrupt(self) -> None:
        """Report the instances in flight as interrupted."""
        for request in self._in_flight.values():
            self._report(request, reason="interrupted: it is unknown whether the peer has stored it")
        self._in_flight.clear()

    @property
    def _has_room(self) -> bool:
        return len(self._in_flight) < self._window

    async def _prepare_next(self) -> None:
        """Prepare the next request before the window has room for it, so that reading and the peer's work overlap."""
        if self._queue.finished:
            self._requeue_next()
        if self._next is not None or (self._alone and self._in_flight):
            return
        queued = self._queue.next_instance(self._plan, alone=not self._in_flight, early=not self._has_room)
        if queued is None:
            return
        request = self._next = InFlight(queued, queued.instance)
        try:
            request.instance = await self._transform.prepare(queued.instance, self._association)
        except NotSendableError as error:
            self._next = None
            self._report(request, reason=str(error))
        else:
            self._association.read_ahead(request.instance)

    def _requeue_next(self) -> None:
        if self._next is not None:
            self._queue.requeue(self._next.queued)
            self._next = None

    async def _send(self, request: InFlight) -> None:
        queued = request.queued
        request.started = time.monotonic()
        queued.since = queued.since or request.started
        queued.attempts += 1
        self._in_flight[_BEING_SENT] = request
        self._alone = queued.lost
        self._next = None
        try:
            message_id = await self._association.submit(request.instance, priority=self._priority)
        except (NotSendableError, NoContextError) as error:
            del self._in_flight[_BEING_SENT]
            queued.attempts -= 1
            self._report(request, reason=str(error))
        else:
            self._in_flight[message_id] = self._in_flight.pop(_BEING_SENT)

    async def _receive_response(self) -> None:
        message_id, status = await self._association.next_response()
        self.responses += 1
        reason = "" if status.code == 0 else str(status)
        self._report(self._in_flight.pop(message_id), status=status, reason=reason, transient=is_transient(status))

    def _report(self, request: InFlight, *, status: Status | None = None, reason: str, transient: bool = False) -> None:
        instance = request.instance
        context = self._association.context_for(instance.sop_class_uid, instance.transfer_syntax_uid)
        result = result_of(
            instance,
            status=status,
            reason=reason,
            association=self._number if request.queued.attempts else 0,
            context_id=context.context_id if context else 0,
            attempts=request.queued.attempts,
            seconds=time.monotonic() - request.started if request.started else 0.0,
        )
        self._queue.finish(request.queued, result, transient=transient)

    async def _release(self) -> None:
        try:
            await self._association.release()
        except AssociationError as error:
            # Each instance has its response; a failed release changes none of them.
            log.warning("release_failed", association=self._number, reason=str(error))
