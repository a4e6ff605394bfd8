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
from dicomport.scu.inputs.instance import NotSendableError
from dicomport.scu.results import InstanceResult
from dicomport.scu.sending.delivery_queue import DeliveryQueue, result_of
from dicomport.scu.sending.plan import AssociationPlan
from dicomport.scu.sending.retry import is_transient
from dicomport.scu.sending.straight import InFlight, StraightPath
from dicomport.scu.transform.pipeline import Transform
from dicomport.standard import SUCCESS, Status
from dicomport.wire import Priority

_BEING_SENT: Final = 0
"""Placeholder for the message ID of the request that is being sent; real ones begin with 1."""

log = get_logger("scu")


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
        self.in_flight: dict[int, InFlight] = {}
        """The requests without a response, by message id."""
        self._next: InFlight | None = None
        """The request to send as soon as the window has room for it."""
        self._alone = False
        """Whether the request sent last must be the only one in flight."""
        self._straight: StraightPath | None = None
        if transform.is_empty:
            self._straight = StraightPath(*association.parts, self, self._window, priority)

    async def run(self) -> None:
        """Send until no instance waits, then release. Raises `AssociationError` if the association is lost."""
        try:
            while self._association.open:
                if self._straight is not None and not self._alone:
                    await self._straight.serve()
                await self._prepare_next()
                if self._next is not None and self._has_room:
                    await self._send(self._next)
                elif self.in_flight:
                    await self._receive_response()
                elif not await self._queue.wait_for_more(self._plan):
                    await self._release()
            if self.in_flight:
                raise ConnectionLostError("aborted because a file could not be read to its end while it was being sent")
        finally:
            self._requeue_next()
            await self._association.abort()

    def requeue(self, error: AssociationError, *, counted: bool = True) -> None:
        """Return the instances in flight to the queue; if not `counted`, as if they had not been sent."""
        for request in self.in_flight.values():
            queued = request.queued
            if counted:
                queued.lost = True
                self._report(request, reason=f"the association was lost: {error}", transient=is_transient(error))
            else:
                queued.attempts -= 1
                self._queue.requeue(queued)
        self.in_flight.clear()

    def interrupt(self) -> None:
        """Report the instances in flight as interrupted."""
        for request in self.in_flight.values():
            self._report(request, reason="interrupted: it is unknown whether the peer has stored it")
        self.in_flight.clear()

    @property
    def _has_room(self) -> bool:
        return len(self.in_flight) < self._window

    # The requests of the straight path.

    def next_request(self) -> InFlight | None:
        """Return the request to send next, None if none waits or the general path must send it."""
        queue, in_flight = self._queue, self.in_flight
        if queue.finished:
            self._requeue_next()
        request = self._next
        if request is None:
            queued = queue.next_instance(self._plan, alone=not in_flight, early=len(in_flight) >= self._window)
            if queued is None:
                return None
            request = self._next = InFlight(queued, queued.instance)
        return None if request.queued.lost else request

    def begin(self, request: InFlight, message_id: int, now: float) -> None:
        """Note that the next request is being sent."""
        self.in_flight[message_id] = request
        queued = request.queued
        request.started = now
        queued.since = queued.since or now
        queued.attempts += 1
        self._next = None

    def succeed(self, message_id: int, now: float) -> None:
        """Report the result of a request with a response of success."""
        self.responses += 1
        request = self.in_flight.pop(message_id)
        self._queue.finish(request.queued, self._result(request, SUCCESS, "", now), transient=False)

    async def _prepare_next(self) -> None:
        """Prepare the next request before the window has room for it, so that reading and the peer's work overlap."""
        if self._queue.finished:
            self._requeue_next()
        if self._next is not None or (self._alone and self.in_flight):
            return
        queued = self._queue.next_instance(self._plan, alone=not self.in_flight, early=not self._has_room)
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
        self.begin(request, _BEING_SENT, time.monotonic())
        self._alone = queued.lost
        try:
            message_id = await self._association.submit(request.instance, priority=self._priority)
        except (NotSendableError, NoContextError) as error:
            del self.in_flight[_BEING_SENT]
            queued.attempts -= 1
            self._report(request, reason=str(error))
        else:
            self.in_flight[message_id] = self.in_flight.pop(_BEING_SENT)

    async def _receive_response(self) -> None:
        message_id, status = await self._association.next_response()
        self.responses += 1
        reason = "" if status.code == 0 else str(status)
        request = self.in_flight.pop(message_id)
        if status == SUCCESS and self._straight is not None:
            self._straight.learn(request)
        self._report(request, status=status, reason=reason, transient=is_transient(status))

    def _report(self, request: InFlight, *, status: Status | None = None, reason: str, transient: bool = False) -> None:
        result = self._result(request, status, reason, time.monotonic())
        self._queue.finish(request.queued, result, transient=transient)

    def _result(self, request: InFlight, status: Status | None, reason: str, now: float) -> InstanceResult:
        instance = request.instance
        context = self._association.context_for(instance.sop_class_uid, instance.transfer_syntax_uid)
        attempts = request.queued.attempts
        return result_of(
            instance,
            status=status,
            reason=reason,
            association=self._number if attempts else 0,
            context_id=context.context_id if context else 0,
            attempts=attempts,
            seconds=now - request.started if request.started else 0.0,
        )

    async def _release(self) -> None:
        try:
            await self._association.release()
        except AssociationError as error:
            # Each instance has its response; a failed release changes none of them.
            log.warning("release_failed", association=self._number, reason=str(error))
