"""One association of a run: as many instances in flight as its window allows, until nothing waits for it any more."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Final

from dicomport.dimse import NoContextError
from dicomport.logs import get_logger
from dicomport.net import AssociationError, ConnectionLostError
from dicomport.scu.association import ClientAssociation
from dicomport.scu.inputs.instance import Instance, NotSendableError
from dicomport.scu.sending.delivery_queue import DeliveryQueue, result_of
from dicomport.scu.sending.plan import AssociationPlan, QueuedInstance
from dicomport.scu.sending.retry import may_pass
from dicomport.scu.transform.pipeline import Transform
from dicomport.standard import Status
from dicomport.wire import Priority

__all__ = ["AssociationWorker"]

_BEING_SENT: Final = 0
"""Stands in for the message id of the request that is being sent; real ones begin with 1."""

log = get_logger("scu")


@dataclass(slots=True)
class InFlight:
    """A request that has no answer yet."""

    delivery: QueuedInstance
    instance: Instance
    """What is sent: the delivery's instance, or what was made of it."""
    started: float = 0.0
    """When, on the monotonic clock."""


class AssociationWorker:
    """Fetches deliveries from the desk, sends them over one association, and reports what became of each."""

    def __init__(
        self,
        association: ClientAssociation,
        number: int,
        *,
        desk: DeliveryQueue,
        planned: AssociationPlan,
        window: int,
        preparation: Transform,
        priority: Priority,
    ) -> None:
        self.answered = 0
        """Requests that the peer has answered."""
        self._association = association
        self._number = number
        self._desk = desk
        self._planned = planned
        self._window = min(association.window or window, window)
        self._preparation = preparation
        self._priority = priority
        self._flights: dict[int, InFlight] = {}
        self._next: InFlight | None = None
        """What is ready to be sent, as soon as there is room for it."""
        self._alone = False
        """Whether nothing else may be in flight with what was sent last."""

    async def run(self) -> None:
        """Send until nothing waits, then release. Raises `AssociationError` when the association is lost."""
        try:
            while self._association.open:
                await self._get_ready()
                if self._next is not None and self._has_room:
                    await self._send(self._next)
                elif self._flights:
                    await self._take_answer()
                elif not await self._desk.wait_for_more(self._planned):
                    await self._release()
            if self._flights:
                raise ConnectionLostError("a file that was being sent could not be read to its end")
        finally:
            self._give_back()
            await self._association.abort()

    def requeue(self, error: AssociationError, *, blameless: bool = False) -> None:
        """Give back what was in flight; as if it had not been sent where the instances are `blameless`."""
        for flight in self._flights.values():
            delivery = flight.delivery
            if blameless:
                delivery.attempts -= 1
                self._desk.put_back(delivery)
            else:
                delivery.lost = True
                self._report(flight, reason=f"the association was lost: {error}", passing=may_pass(error))
        self._flights.clear()

    def interrupt(self) -> None:
        """Report what is in flight as what it is when a run is cut off."""
        for flight in self._flights.values():
            self._report(flight, reason="interrupted: whether the peer has it is not known")
        self._flights.clear()

    @property
    def _has_room(self) -> bool:
        return len(self._flights) < self._window

    async def _get_ready(self) -> None:
        """Fetch what goes next, before there is room for it: it is read while the peer deals with those in flight."""
        if self._desk.over:
            self._give_back()
        if self._next is not None or (self._alone and self._flights):
            return
        delivery = self._desk.take(self._planned, alone=not self._flights, early=not self._has_room)
        if delivery is None:
            return
        flight = self._next = InFlight(delivery, delivery.instance)
        try:
            flight.instance = await self._preparation.prepare(delivery.instance, self._association)
        except NotSendableError as error:
            self._next = None
            self._report(flight, reason=str(error))
        else:
            self._association.read_ahead(flight.instance)

    def _give_back(self) -> None:
        if self._next is not None:
            self._desk.put_back(self._next.delivery)
            self._next = None

    async def _send(self, flight: InFlight) -> None:
        delivery = flight.delivery
        flight.started = time.monotonic()
        delivery.since = delivery.since or flight.started
        delivery.attempts += 1
        self._flights[_BEING_SENT] = flight
        self._alone = delivery.lost
        self._next = None
        try:
            message_id = await self._association.submit(flight.instance, priority=self._priority)
        except (NotSendableError, NoContextError) as error:
            del self._flights[_BEING_SENT]
            delivery.attempts -= 1
            self._report(flight, reason=str(error))
        else:
            self._flights[message_id] = self._flights.pop(_BEING_SENT)

    async def _take_answer(self) -> None:
        message_id, status = await self._association.next_response()
        self.answered += 1
        reason = "" if status.code == 0 else str(status)
        self._report(self._flights.pop(message_id), status=status, reason=reason, passing=may_pass(status))

    def _report(self, flight: InFlight, *, status: Status | None = None, reason: str, passing: bool = False) -> None:
        instance = flight.instance
        context = self._association.context_for(instance.sop_class_uid, instance.transfer_syntax_uid)
        result = result_of(
            instance,
            status=status,
            reason=reason,
            association=self._number if flight.delivery.attempts else 0,
            context_id=context.context_id if context else 0,
            attempts=flight.delivery.attempts,
            seconds=time.monotonic() - flight.started if flight.started else 0.0,
        )
        self._desk.settle(flight.delivery, result, may_pass=passing)

    async def _release(self) -> None:
        try:
            await self._association.release()
        except AssociationError as error:
            # Each instance has its answer; that the goodbye failed changes none of them.
            log.warning("release_failed", association=self._number, reason=str(error))
