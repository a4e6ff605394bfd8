"""Sending many instances to one peer: everything that can go goes, over several associations at once."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from dicomport.logs import get_logger
from dicomport.net import AbortedError, Address, AssociationError, ConnectError, ConnectionLostError, Timeouts
from dicomport.scu.association import ClientAssociation, open_association
from dicomport.scu.contexts import NegotiationItems, association_request
from dicomport.scu.inputs.found import Found
from dicomport.scu.results import Timing
from dicomport.scu.sending.association_worker import AssociationWorker
from dicomport.scu.sending.delivery_queue import DeliveryQueue, OnResult, result_of
from dicomport.scu.sending.plan import AssociationPlan, Plan
from dicomport.scu.sending.report import SendReport
from dicomport.scu.sending.retry import RetryPolicy, may_pass
from dicomport.scu.transform.pipeline import Transform
from dicomport.wire import AssociateRQ, AsynchronousOperationsWindow, Priority

if TYPE_CHECKING:
    from dicomport.scu.sending.journal import Journal

__all__ = ["Sender", "Settings"]

_HEAD_START_INSTANCES: Final = 500
_HEAD_START_SECONDS: Final = 0.25
"""What is found so soon decides on the first association's contexts; what is found later may need another one."""

_WORTH_ANOTHER: Final = 16
"""Instances that must wait for each association that is open already, before one more pays."""


class Settings(NamedTuple):
    """How to send."""

    ae_title: str
    called_ae_title: str
    priority: Priority
    timeouts: Timeouts
    associations: int
    """At most so many at once."""
    window: int
    """Operations outstanding on each association, as far as the peer grants them; with 1 nothing is negotiated."""
    retry: RetryPolicy
    fail_fast: bool
    """Whether the first failure that is final ends the run."""
    preparation: Transform
    journal: Journal | None
    negotiation: NegotiationItems


@dataclass(slots=True)
class ConsecutiveFailures:
    """Associations in a row that could not be had, or were lost without one answer."""

    count: int = 0
    since: float = 0.0

    @property
    def elapsed(self) -> float:
        """Seconds since the first of them."""
        return time.monotonic() - self.since

    def add(self) -> None:
        self.since = self.since if self.count else time.monotonic()
        self.count += 1

    def clear(self) -> None:
        self.count = 0


class Sender:
    """One run: a feeder fills the desk, couriers empty it, each over one association after the other."""

    def __init__(self, address: Address, settings: Settings, on_result: OnResult | None) -> None:
        self._address = address
        self._settings = settings
        self._log = get_logger("scu").bind(address=address.host, port=address.port)
        self.desk = DeliveryQueue(
            Plan(settings.preparation.alternatives),
            settings.retry,
            journal=settings.journal,
            on_result=on_result,
            fail_fast=settings.fail_fast,
        )
        self._may_start = asyncio.Event()
        self._asking = 0
        """Associations that are being asked for."""
        self._answered = asyncio.Event()
        """Is set, for who waits at that moment, when one of these is there, or can't be had."""
        self._established = 0
        """Associations at the moment."""
        self._associations = 0
        """Associations so far."""
        self._window_works = settings.window == 1
        """Whether the peer has answered a request on an association with a window, or that question is settled."""
        self._without_window = settings.window == 1
        self._error = ""
        self._started = 0.0
        self._round_trip = 0.0
        self._timing = Timing()

    def report(self) -> SendReport:
        """Tell what has become of what was sent so far."""
        return SendReport(
            results=tuple(self.desk.results),
            associations=self._associations,
            error=self._error,
            journal_error=self.desk.journal_error,
            untried=self.desk.unsettled,
            seconds=time.monotonic() - self._started if self._started else 0.0,
            round_trip=self._round_trip,
            timing=self._timing,
        )

    async def run(self, found: AsyncIterator[Sequence[Found]]) -> None:
        """Send all that is found. Nothing is raised for what happens on the way, but by `found` and `on_result`."""
        self._started = time.monotonic()
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._feed(found))
                for _ in range(self._settings.associations):
                    tasks.create_task(self._worker())
        except BaseExceptionGroup as group:
            raise group.exceptions[0] from None

    async def _feed(self, found: AsyncIterator[Sequence[Found]]) -> None:
        head_start = asyncio.get_running_loop().call_later(_HEAD_START_SECONDS, self._may_start.set)
        try:
            # Who is told to stop does not wait for what somebody may still name.
            async with self.desk.until_over():
                async for batch in found:
                    self.desk.add(batch)
                    if self.desk.found >= _HEAD_START_INSTANCES:
                        self._may_start.set()
                    await self.desk.wait_for_room()
                    if self.desk.over:
                        break
        except TimeoutError:
            if not self.desk.over:
                raise
        finally:
            head_start.cancel()
            self._may_start.set()
            self.desk.complete()

    async def _worker(self) -> None:
        """Serve one planned association after the other, as long as any is needed."""
        await self._may_start.wait()
        setbacks = ConsecutiveFailures()
        while (planned := await self.desk.next_planned(_WORTH_ANOTHER)) is not None:
            planned.open += 1
            try:
                if not await self._serve(planned, setbacks):
                    return
                if setbacks.count:
                    await self.desk.pause(self._settings.retry.delay(setbacks.count))
            finally:
                planned.open -= 1

    async def _serve(self, planned: AssociationPlan, setbacks: ConsecutiveFailures) -> bool:
        """Send what waits over one association; give whether the courier is of any more use."""
        try:
            association = await self._ask(planned)
        except AssociationError as error:
            if await self._others_are_there():
                # The others get through: more associations than the peer wants bring nothing.
                self._log.info("extra_association_failed", reason=str(error))
                return False
            setbacks.add()
            if not (self._may_pass(error) and self._settings.retry.allows(setbacks.count, setbacks.elapsed)):
                self._give_up(planned, error)
                setbacks.clear()
            return True
        if association is None or await self._exchange(association, planned):
            setbacks.clear()
        else:
            setbacks.add()
        return True

    async def _ask(self, planned: AssociationPlan) -> ClientAssociation | None:
        self._asking += 1
        try:
            return await self._open(planned)
        finally:
            self._asking -= 1
            self._answered.set()
            self._answered.clear()

    async def _others_are_there(self) -> bool:
        """Tell whether there is another association, once it is known: it may be asked for at the same time."""
        while self._asking and not self._established:
            await self._answered.wait()
        return self._established > 0

    def _may_pass(self, error: AssociationError) -> bool:
        if isinstance(error, ConnectError) or isinstance(error.__cause__, ssl.SSLError):
            # A peer that was there a while ago may be back soon; one that never was is a wrong address, or it wants
            # another certificate of us, which in TLS 1.3 it can say only after the handshake.
            return self._associations > 0
        # Who answers a request with something else than DICOM will not learn it.
        return may_pass(error) and not (isinstance(error, AbortedError) and not error.aborted.by_peer)

    def _give_up(self, planned: AssociationPlan, error: AssociationError) -> None:
        while (delivery := self.desk.take(planned, alone=True)) is not None:
            self.desk.settle(delivery, result_of(delivery.instance, reason=f"no association: {error}"), may_pass=False)

    async def _open(self, planned: AssociationPlan) -> ClientAssociation | None:
        """Get an association; None where nothing is to be sent any more. Raises `AssociationError`."""
        while True:
            proposes_window = not self._without_window
            try:
                async with self.desk.until_over():
                    return await open_association(self._address, self._request(planned), self._settings.timeouts)
            except AssociationError as error:
                self._log.warning("association_failed", reason=str(error))
                self._error = str(error)
                if not (proposes_window and self._blame_window(error)):
                    raise
            except TimeoutError:
                return None

    def _request(self, planned: AssociationPlan) -> AssociateRQ:
        items = self._settings.negotiation.copy()
        if not self._without_window:
            items["operations_window"] = AsynchronousOperationsWindow(self._settings.window, 1)
        return association_request(
            planned.loads, ae_title=self._settings.ae_title, called_ae_title=self._settings.called_ae_title, **items
        )

    def _blame_window(self, error: AssociationError) -> bool:
        """Tell whether a loss may be due to the Asynchronous Operations Window item, and do without it if so.

        Some peers hang up on a request that has it, or on the first message after it.
        """
        hung_up = isinstance(error, ConnectionLostError) or (isinstance(error, AbortedError) and error.aborted.by_peer)
        if self._window_works or not hung_up or isinstance(error.__cause__, ssl.SSLError):
            return False
        if not self._without_window:
            self._log.info("operations_window_disabled", reason=str(error))
        self._without_window = True
        return True

    async def _exchange(self, association: ClientAssociation, planned: AssociationPlan) -> bool:
        """Send what waits over an association; give whether the peer answered anything."""
        self._associations += 1
        self._established += 1
        self._log.info(
            "association_established",
            association=self._associations,
            accepted=len(association.outcome.accepted),
            window=association.outcome.operations_window.invoked,
        )
        settings = self._settings
        windowed = not self._without_window
        exchange = AssociationWorker(
            association,
            self._associations,
            desk=self.desk,
            planned=planned,
            window=settings.window,
            preparation=settings.preparation,
            priority=settings.priority,
        )
        try:
            await exchange.run()
        except AssociationError as error:
            self._log.warning("association_lost", reason=str(error))
            blameless = windowed and not exchange.answered and self._blame_window(error)
            exchange.requeue(error, blameless=blameless)
            return blameless or exchange.answered > 0
        except BaseException:
            exchange.interrupt()
            raise
        finally:
            self._established -= 1
            self._window_works = self._window_works or (windowed and exchange.answered > 0)
            self._timing += association.timing
            self._round_trip = min(self._round_trip or association.round_trip, association.round_trip)
        return True
