"""Delivery of reports to a peer, over associations that this side opens.

Theory of operation
-------------------
Each peer with an address has one `ReportDelivery`. One task runs `run`: it owns the association and sends the reports
in the queue. `deliver` appends a report from any task of the same event loop, wakes `run`, and awaits a future that the
peer's response resolves. A report is built only when an association is open, because results can be long and the queue
can hold many. All queued reports share the association, in order.

A failure of the association leaves the queue as it was, and `run` tries again after a delay that doubles with each
failure; a new report wakes it at once, because a peer that sends requests may be reachable again. A report that the
peer could not process moves to the end of the queue, so that it does not block the others. A task that stops waiting
removes its report from the queue. After `stop`, only the report that is being sent is finished.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import ssl
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from dicomport.commitment.association import CommitmentAssociation
from dicomport.commitment.data_sets import CommitmentResult
from dicomport.dimse import NoContextError
from dicomport.errors import DicomportError
from dicomport.logs import get_logger
from dicomport.net import Address, AssociationError, Timeouts
from dicomport.scu import RetryPolicy
from dicomport.standard import PROCESSING_FAILURE, RESOURCE_LIMITATION, Status

_RETRY: Final = RetryPolicy(first_delay=1.0, max_delay=3600.0)
"""Only its delays are used: each report has its own deadline."""

_TRANSIENT: Final = frozenset((PROCESSING_FAILURE.code, RESOURCE_LIMITATION.code))
"""Statuses of a response to a report after which it is sent again."""


class StoppedError(DicomportError):
    """The delivery was stopped before the peer responded."""


class _ReportRefusedError(DicomportError):
    """The peer answered a report with a transient failure."""


@dataclass(eq=False, slots=True)
class _QueuedReport:
    build: Callable[[], Awaitable[CommitmentResult]]
    status: asyncio.Future[Status]


class ReportDelivery:
    """Sends reports to one peer, one after the other, in the task that runs `run`."""

    def __init__(self, address: Address, *, ae_title: str, called_ae_title: str, timeouts: Timeouts) -> None:
        self._address = address
        self._ae_title = ae_title
        self._called_ae_title = called_ae_title
        self._timeouts = timeouts
        self._log = get_logger("commitment").bind(called=called_ae_title, address=address.host, port=address.port)
        self._queue: deque[_QueuedReport] = deque()
        self._woken = asyncio.Event()
        self._stopped = self._sending = False

    async def deliver(self, build: Callable[[], Awaitable[CommitmentResult]]) -> Status:
        """Send the result that `build` returns and return the status of the peer's response.

        `build` is called once an association is open. Raises `StoppedError`, and the exceptions of `build`.
        """
        if self._stopped:
            raise StoppedError
        report = _QueuedReport(build, asyncio.get_running_loop().create_future())
        self._queue.append(report)
        self._woken.set()
        try:
            return await report.status
        finally:
            if report in self._queue:
                self._queue.remove(report)

    def use_tls(self, tls: ssl.SSLContext | None) -> None:
        """Use another TLS context, or none, for later associations."""
        self._address = dataclasses.replace(self._address, tls=tls)

    def stop(self) -> bool:
        """Stop `run`; return whether it waits for the response to a report first."""
        self._stopped = True
        self._woken.set()
        return self._sending

    async def run(self) -> None:
        """Send the queued reports until `stop`; after failures, retry with increasing delays."""
        self._stopped = False
        try:
            await self._run()
        finally:
            self._stopped = True
            for report in self._queue:
                if not report.status.done():
                    report.status.set_exception(StoppedError())

    async def _run(self) -> None:
        failures = 0
        while not self._stopped:
            await self._woken.wait()
            self._woken.clear()
            try:
                await self._send_all()
                failures = 0
            except (AssociationError, NoContextError, _ReportRefusedError) as error:
                failures += 1
                delay = _RETRY.delay(failures)
                self._log.warning(
                    "reports_not_delivered",
                    waiting=len(self._queue),
                    reason=str(error),
                    retry_after_s=round(delay, 3),
                )
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(delay):
                        await self._woken.wait()
                self._woken.set()

    async def _send_all(self) -> None:
        if not self._queue or self._stopped:
            return
        association = await CommitmentAssociation.open(
            self._address, ae_title=self._ae_title, called_ae_title=self._called_ae_title, timeouts=self._timeouts
        )
        try:
            while self._queue and not self._stopped:
                await self._send(association, self._queue[0])
        except BaseException:
            await association.abort()
            raise
        with contextlib.suppress(AssociationError):
            # Each report has its response already.
            await association.release()

    async def _send(self, association: CommitmentAssociation, report: _QueuedReport) -> None:
        try:
            result = await report.build()
        except Exception as error:  # noqa: BLE001  # `deliver` raises it
            if self._dequeue(report):
                report.status.set_exception(error)
            return
        self._sending = True
        try:
            status = await association.report(result)
        finally:
            self._sending = False
        if status.code in _TRANSIENT:
            self._queue.rotate(-1)
            raise _ReportRefusedError(f"the peer could not process a report: {status}")
        if self._dequeue(report):
            report.status.set_result(status)

    def _dequeue(self, report: _QueuedReport) -> bool:
        """Remove a report from the queue; return whether it is still awaited."""
        if report not in self._queue:
            return False
        self._queue.remove(report)
        return True
