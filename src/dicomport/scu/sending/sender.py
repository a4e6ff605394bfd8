"""Sending many instances to one peer, over several associations at once.

Theory of operation
-------------------
All tasks of a run are in one event loop. The feeding task takes batches of instances from the finder (a separate
thread, `inputs/background.py`) and adds them to the delivery queue; the plan assigns each instance to the presentation
contexts of an association. `associations` worker tasks each repeat: wait until the queue needs an association,
establish it, and let an `AssociationWorker` send over it until no instance waits for it.

The queue owns each instance until it has a result; a worker only borrows it. While it is in flight, it can end in three
ways: the response becomes its result, a lost association returns it to the queue, or cancelling the run reports it as
interrupted. So no instance is lost, and none has two results. A transient failure returns to the queue after a delay,
as often as `RetryPolicy` allows, and the run ends only when no instance is pending. After a lost association, the
instances that were in flight are sent one at a time, since one of them may be the cause.

An accepted instance is first written to the journal, then reported. If the process is killed between the response and
the journal, the next run sends the instance again, which is safe: the peer receives a duplicate. A journal written
before the response could lose an instance.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Sequence
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
from dicomport.scu.sending.retry import RetryPolicy, is_transient
from dicomport.scu.transform.pipeline import Transform
from dicomport.values import slotted
from dicomport.wire import AssociateRQ, AsynchronousOperationsWindow, Priority

if TYPE_CHECKING:
    from dicomport.scu.sending.journal import Journal


_HEAD_START_INSTANCES: Final = 500
_HEAD_START_SECONDS: Final = 0.25
"""The first association proposes the contexts of the instances found by then; later ones may need another."""

_MIN_WAITING: Final = 16
"""Instances that must wait for each open association before another one is worth its setup."""


class Settings(NamedTuple):
    """The arguments of `send`, checked."""

    ae_title: str
    called_ae_title: str
    priority: Priority
    timeouts: Timeouts
    associations: int
    """Maximum number of associations at once."""
    window: int
    """Maximum number of outstanding operations on each association, if the peer grants it; 1 negotiates no window."""
    retry: RetryPolicy
    fail_fast: bool
    """Whether the first final failure ends the run."""
    transform: Transform
    journal: Journal | None
    negotiation: NegotiationItems


@slotted
class ConsecutiveFailures:
    """Associations in a row that could not be established, or were lost before the first response."""

    count: int = 0
    since: float = 0.0

    @property
    def elapsed(self) -> float:
        """Seconds since the first of them."""
        return time.monotonic() - self.since

    def add(self) -> None:
        """Count a failure."""
        self.since = self.since if self.count else time.monotonic()
        self.count += 1

    def clear(self) -> None:
        """Start again at none."""
        self.count = 0


class Sender:
    """One run of `send`."""

    def __init__(self, address: Address, settings: Settings, on_result: OnResult | None) -> None:
        self._address = address
        self._settings = settings
        self._log = get_logger("scu").bind(address=address.host, port=address.port)
        self.queue = DeliveryQueue(
            Plan(settings.transform.alternatives),
            settings.retry,
            journal=settings.journal,
            on_result=on_result,
            fail_fast=settings.fail_fast,
        )
        self._may_start = asyncio.Event()
        self._requested = 0
        """Number of associations that are being established."""
        self._request_ended = asyncio.Event()
        """Set for a moment when one of them is established, or has failed."""
        self._established = 0
        """Number of established associations."""
        self._associations = 0
        """Number of associations that were established so far."""
        self._window_works = settings.window == 1
        """Whether the peer has responded on an association with a window, or no window is negotiated."""
        self._without_window = settings.window == 1
        self._error = ""
        self._started = 0.0
        self._round_trip = 0.0
        self._timing = Timing()

    def report(self) -> SendReport:
        """Return the results so far."""
        return SendReport(
            results=tuple(self.queue.results),
            associations=self._associations,
            error=self._error,
            journal_error=self.queue.journal_error,
            not_attempted=self.queue.pending,
            seconds=time.monotonic() - self._started if self._started else 0.0,
            round_trip=self._round_trip,
            timing=self._timing,
        )

    async def run(self, found: AsyncIterator[Sequence[Found]]) -> None:
        """Send all instances of `found`. Raises only the exceptions of `found` and `on_result`."""
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
            # After `stop`, do not wait for the next batch: the caller may take any time to provide it.
            async with self.queue.until_finished():
                async for batch in found:
                    self.queue.add(batch)
                    if self.queue.found >= _HEAD_START_INSTANCES:
                        self._may_start.set()
                    await self.queue.wait_for_room()
                    if self.queue.finished:
                        break
        except TimeoutError:
            if not self.queue.finished:
                raise
        finally:
            head_start.cancel()
            self._may_start.set()
            self.queue.end_input()

    async def _worker(self) -> None:
        """Open one association after the other, as long as any is needed."""
        await self._may_start.wait()
        failures = ConsecutiveFailures()
        while (plan := await self.queue.next_plan(_MIN_WAITING)) is not None:
            plan.open += 1
            try:
                if not await self._serve(plan, failures):
                    return
                if failures.count:
                    await self.queue.pause(self._settings.retry.delay(failures.count))
            finally:
                plan.open -= 1

    async def _serve(self, plan: AssociationPlan, failures: ConsecutiveFailures) -> bool:
        """Send the waiting instances over one association; return whether this worker is still needed."""
        try:
            association = await self._request_association(plan)
        except AssociationError as error:
            if await self._another_is_established():
                # The peer accepts fewer associations at once: the others send the rest.
                self._log.info("extra_association_failed", reason=str(error))
                return False
            failures.add()
            if not (self._is_transient(error) and self._settings.retry.allows(failures.count, failures.elapsed)):
                self._fail_waiting(plan, error)
                failures.clear()
            return True
        if association is None or await self._send_over(association, plan):
            failures.clear()
        else:
            failures.add()
        return True

    async def _request_association(self, plan: AssociationPlan) -> ClientAssociation | None:
        self._requested += 1
        try:
            return await self._open(plan)
        finally:
            self._requested -= 1
            self._request_ended.set()
            self._request_ended.clear()

    async def _another_is_established(self) -> bool:
        """Return whether there is another association; wait for those that are being established."""
        while self._requested and not self._established:
            await self._request_ended.wait()
        return self._established > 0

    def _is_transient(self, error: AssociationError) -> bool:
        if isinstance(error, ConnectError) or isinstance(error.__cause__, ssl.SSLError):
            # If the peer was reachable before, it may be again soon. Otherwise the address is wrong, or the peer
            # rejects our certificate, which TLS 1.3 reports only after the handshake.
            return self._associations > 0
        # A peer whose response to an association request is not DICOM will not speak DICOM later.
        return is_transient(error) and not (isinstance(error, AbortedError) and not error.aborted.by_peer)

    def _fail_waiting(self, plan: AssociationPlan, error: AssociationError) -> None:
        while (queued := self.queue.next_instance(plan, alone=True)) is not None:
            self.queue.finish(queued, result_of(queued.instance, reason=f"no association: {error}"), transient=False)

    async def _open(self, plan: AssociationPlan) -> ClientAssociation | None:
        """Establish an association; return None once nothing is left to send. Raises `AssociationError`."""
        while True:
            proposes_window = not self._without_window
            try:
                async with self.queue.until_finished():
                    return await open_association(self._address, self._request(plan), self._settings.timeouts)
            except AssociationError as error:
                self._log.warning("association_failed", reason=str(error))
                self._error = str(error)
                if not (proposes_window and self._disable_window(error)):
                    raise
            except TimeoutError:
                return None

    def _request(self, plan: AssociationPlan) -> AssociateRQ:
        items = self._settings.negotiation.copy()
        if not self._without_window:
            items["operations_window"] = AsynchronousOperationsWindow(self._settings.window, 1)
        return association_request(
            plan.contexts, ae_title=self._settings.ae_title, called_ae_title=self._settings.called_ae_title, **items
        )

    def _disable_window(self, error: AssociationError) -> bool:
        """Stop proposing a window if it may be the cause of this loss, and return whether it may be.

        Some peers close the connection on a request with the Asynchronous Operations Window item, or on the first
        message after it.
        """
        closed = isinstance(error, ConnectionLostError) or (isinstance(error, AbortedError) and error.aborted.by_peer)
        if self._window_works or not closed or isinstance(error.__cause__, ssl.SSLError):
            return False
        if not self._without_window:
            self._log.info("operations_window_disabled", reason=str(error))
        self._without_window = True
        return True

    async def _send_over(self, association: ClientAssociation, plan: AssociationPlan) -> bool:
        """Send the waiting instances over an association; return whether the peer sent any response."""
        self._associations += 1
        self._established += 1
        self._log.info(
            "association_established",
            association=self._associations,
            accepted=len(association.outcome.accepted),
            window=association.outcome.operations_window.invoked,
        )
        settings = self._settings
        has_window = not self._without_window
        worker = AssociationWorker(
            association,
            self._associations,
            queue=self.queue,
            plan=plan,
            window=settings.window,
            transform=settings.transform,
            priority=settings.priority,
        )
        try:
            await worker.run()
        except AssociationError as error:
            self._log.warning("association_lost", reason=str(error))
            window_to_blame = has_window and not worker.responses and self._disable_window(error)
            worker.requeue(error, counted=not window_to_blame)
            return window_to_blame or worker.responses > 0
        except BaseException:
            worker.interrupt()
            raise
        finally:
            self._established -= 1
            self._window_works = self._window_works or (has_window and worker.responses > 0)
            self._timing += association.timing
            self._round_trip = min(self._round_trip or association.round_trip, association.round_trip)
        return True
