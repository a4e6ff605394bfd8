"""The SCP of storage commitment: accept requests, look the instances up, and deliver the reports (PS3.4 J.3).

Theory of operation
-------------------
`CommitmentSCP` runs in the event loop of its `StorageSCP`; file access runs in threads. `perform` writes a request to
the disk before it returns the status of the response, so that each accepted request is reported, even after a crash.
Then one task per request does the rest in this order: look the instances up, report over the requesting association if
that is still open, otherwise through the `ReportDelivery` of the requestor's address, and remove the request from the
disk once the peer has responded. A crash before the removal repeats the report: a requestor accepts a repeated report,
but it cannot detect a lost one. If the requestor repeats a request, its task starts again, with the newer association.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import errno
import functools
import logging
import time
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from dicomport.commitment.association import ALL_COMMITTED, REQUEST_STORAGE_COMMITMENT, SOME_FAILED
from dicomport.commitment.data_sets import CommitmentDataSetError, CommitmentRequest, CommitmentResult, SOPReference
from dicomport.commitment.delivery import ReportDelivery, StoppedError
from dicomport.commitment.limits import DEFAULT_COMMITMENT_LIMITS, CommitmentLimits
from dicomport.commitment.transactions import Transaction, Transactions
from dicomport.containment import contained
from dicomport.files import Durability
from dicomport.logs import Logger, get_logger, reason_of
from dicomport.net import Address, Timeouts
from dicomport.scp import NormalizedOperation
from dicomport.standard import (
    DUPLICATE_TRANSACTION_UID,
    MISSING_ATTRIBUTE,
    NO_SUCH_ACTION,
    NO_SUCH_SOP_CLASS,
    NO_SUCH_SOP_INSTANCE,
    PROCESSING_FAILURE,
    RESOURCE_LIMITATION,
    STORAGE_COMMITMENT,
    STORAGE_COMMITMENT_INSTANCE,
    SUCCESS,
    UNRECOGNIZED_OPERATION,
    Status,
    check_ae_title,
)
from dicomport.wire import NActionRQ

_RETRY_FOR: Final = 7 * 86400.0

_REMOVAL_SECONDS: Final = 5.0
"""Time to remove requests whose reports have been responded to, and to abort associations for reports."""

_DISK_FULL: Final = frozenset((errno.ENOSPC, errno.EDQUOT))

log = get_logger("commitment")


class Integrity(Protocol):
    """Reports which instances are stored safely: an archive."""

    async def look_up(self, references: Sequence[SOPReference]) -> Sequence[Status]:
        """Return for each instance whether it is stored safely (PS3.4 J.3.3.1.2, PS3.3 C.14.1.1).

        0x0000 means that it is complete and on stable storage, 0x0112 that it is missing, 0x0119 that it has another
        SOP Class, 0x0122 that its SOP Class is not supported, 0x0110 any other failure. An exception means 0x0110 for
        all.
        """


@dataclass(eq=False, slots=True)
class _Pending:
    """A transaction that has not been reported yet. Its references stay on the disk."""

    path: Path
    uid: str
    ae_title: str
    size: int
    requested: float
    failures: dict[int, Status] | None = None
    """Statuses of the references that can't be committed, by index; None until they have been looked up."""
    operation: NormalizedOperation | None = None
    """The request, until its association has been used for the report."""
    task: asyncio.Task[None] | None = None

    @property
    def log(self) -> Logger:
        return log.bind(transaction_uid=self.uid, calling=self.ae_title, instances=self.size)


class CommitmentSCP:
    """Serves storage commitment for a `StorageSCP`: pass it as `commitment`.

    A request is on the disk before its response is sent, and is removed once the peer has responded to its report. The
    report is sent over the requesting association if that is still open, otherwise over a new association to the
    requestor's address in `report_to`; this is retried after a second and then with increasing delays.
    """

    sop_classes: Final = frozenset((STORAGE_COMMITMENT,))
    is_user: Final = False

    def __init__(
        self,
        integrity: Integrity,
        transactions: str | Path,
        *,
        report_to: Mapping[str, Address] | None = None,
        ae_title: str = "DICOMPORT",
        timeouts: Timeouts | None = None,
        limits: CommitmentLimits = DEFAULT_COMMITMENT_LIMITS,
        retry_for: float = _RETRY_FOR,
        durability: Durability = Durability.FSYNC,
    ) -> None:
        """Prepare the service, with `integrity` for look-ups and a folder for `transactions` without a report.

        `report_to` maps the AE titles of requestors to their addresses; reports to them have the calling AE title
        `ae_title`. `retry_for` is the maximum age of a request that is reported, seconds. With `durability` FSYNC, an
        accepted request is on stable storage. Raises `ValueError` for an
        invalid AE title.
        """
        self._integrity = integrity
        self._folder = Path(transactions)
        self._durability = durability
        self._limits = limits
        self._retry_for = retry_for
        self._timeouts = timeouts or Timeouts()
        title = check_ae_title(ae_title)
        self._deliveries = {
            check_ae_title(peer): ReportDelivery(
                address,
                ae_title=title,
                called_ae_title=check_ae_title(peer),
                timeouts=self._timeouts,
            )
            for peer, address in (report_to or {}).items()
        }
        self._pending: dict[Path, _Pending] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._delivering: dict[ReportDelivery, asyncio.Task[Any]] = {}

    async def start(self) -> None:
        """Continue with the requests that an earlier process has left. Raises `OSError`."""
        self._transactions = await asyncio.to_thread(Transactions, self._folder, self._durability)
        self._delivering = {delivery: self._spawn(delivery.run()) for delivery in self._deliveries.values()}
        for path in await asyncio.to_thread(self._transactions.paths):
            try:
                transaction = await asyncio.to_thread(self._transactions.read, path)
            except (OSError, ValueError) as error:
                log.warning("transaction_unreadable", path=str(path), reason=type(error).__name__)
            else:
                self._start(_pending(path, transaction))

    async def stop(self, within: float) -> None:
        """Leave requests without a report on the disk; wait for the response to a report that is being sent.

        The wait ends after `within` seconds: that report is sent again after the next start.
        """
        for pending in self._pending.values():
            if pending.failures is None and pending.task is not None:
                pending.task.cancel()
        under_way = [task for delivery, task in self._delivering.items() if delivery.stop()]
        if under_way:
            await asyncio.wait(under_way, timeout=within)
        for task in self._delivering.values():
            task.cancel()
        # A request whose report has just been responded to is still removed: otherwise it would be reported again.
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_REMOVAL_SECONDS)
        self._pending.clear()
        await asyncio.to_thread(self._transactions.close)

    async def perform(self, operation: NormalizedOperation) -> Status:
        """Store a request and return the status of the response; the rest is done by a task."""
        refusal = _refusal(operation)
        if refusal is not None:
            return refusal
        try:
            request = await asyncio.to_thread(
                CommitmentRequest.decode,
                operation.data,
                operation.context.transfer_syntax,
                self._limits.data_set_bytes,
            )
        except CommitmentDataSetError as error:
            return error.status
        # The encoded references are not needed any more, and can be long.
        return await self._accept(request, dataclasses.replace(operation, data=b""))

    async def _accept(self, request: CommitmentRequest, operation: NormalizedOperation) -> Status:
        await self._remove_expired()
        ae_title = operation.association.calling_ae_title
        known = next(
            (one for one in self._pending.values() if (one.uid, one.ae_title) == (request.transaction_uid, ae_title)),
            None,
        )
        if known is not None and (await self._read(known)).references == request.references:
            # The requestor has not received the response, or now awaits the report on another association.
            known.operation = operation
            self._start(known)
            return SUCCESS
        references = sum(one.size for one in self._pending.values()) + len(request.references)
        if len(self._pending) >= self._limits.pending_commitments or references > self._limits.pending_references:
            return Status(RESOURCE_LIMITATION.code, "too many commitments without a report")
        transaction = Transaction(
            uid=request.transaction_uid,
            ae_title=ae_title,
            references=request.references,
            requested=time.time(),
            duplicate=known is not None,
        )
        try:
            path = await asyncio.to_thread(self._transactions.add, transaction)
        except OSError as error:
            log.warning("transaction_not_stored", reason=reason_of(error))
            return RESOURCE_LIMITATION if error.errno in _DISK_FULL else PROCESSING_FAILURE
        pending = _pending(path, transaction)
        pending.operation = operation
        pending.log.info("commitment_requested")
        self._start(pending)
        return SUCCESS

    def _start(self, pending: _Pending) -> None:
        """Start the task of a transaction; if it has one, restart it."""
        self._pending[pending.path] = pending
        if pending.task is not None:
            pending.task.cancel()
        pending.task = self._spawn(self._process(pending))

    def _spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("commitment_failed", exc_info=error)

    async def _process(self, pending: _Pending) -> None:
        try:
            async with asyncio.timeout(max(0.0, pending.requested + self._retry_for - time.time())):
                if pending.failures is None:
                    operation = pending.operation
                    with contextlib.nullcontext() if operation is None else operation.notifications.expecting():
                        pending.failures = await self._look_up(pending)
                status = await self._report(pending)
        except StoppedError:
            return
        except TimeoutError:
            await self._expire(pending)
            return
        if status is None:
            pending.log.warning("report_not_sent", reason="the association has ended, and the AE title has no address")
        else:
            await self._remove(pending)

    async def _look_up(self, pending: _Pending) -> dict[int, Status]:
        transaction = await self._read(pending)
        if transaction.duplicate:
            statuses: Sequence[Status] = [DUPLICATE_TRANSACTION_UID] * pending.size
        else:
            try:
                statuses = await self._integrity.look_up(transaction.references)
                if len(statuses) != pending.size:
                    raise ValueError(f"{len(statuses)} statuses were given for {pending.size} instances")
            except BaseException as error:  # it may be the user's code
                pending.log.exception("lookup_failed", exc_info=contained(error))
                statuses = [PROCESSING_FAILURE] * pending.size
        failures = {place: status for place, status in enumerate(statuses) if status.code != SUCCESS.code}
        pending.log.info("commitment_looked_up", failed=len(failures))
        return failures

    async def _report(self, pending: _Pending) -> Status | None:
        """Report to the requestor and return the status of its response; None if the requestor cannot be reached."""
        status, how = await self._report_back(pending), "on the same association"
        delivery = self._deliveries.get(pending.ae_title)
        # Some SCUs accept reports only over associations that the SCP has opened.
        if delivery is not None and (status is None or not status.accepted):
            status, how = await delivery.deliver(functools.partial(self._result, pending)), "on another association"
        if status is not None:
            level = logging.INFO if status.accepted else logging.WARNING
            pending.log.log(level, "commitment_reported", how=how, status=str(status))
        return status

    async def _report_back(self, pending: _Pending) -> Status | None:
        """Report over the requesting association; return None if it has ended or the peer does not respond."""
        operation, pending.operation = pending.operation, None
        if operation is None:
            return None
        result = await self._result(pending)
        try:
            async with asyncio.timeout(self._timeouts.dimse):
                return await operation.notify(
                    SOME_FAILED if result.failed else ALL_COMMITTED, result.encode(operation.context.transfer_syntax)
                )
        except TimeoutError:
            return None

    async def _result(self, pending: _Pending) -> CommitmentResult:
        transaction, failures = await self._read(pending), pending.failures or {}
        return CommitmentResult(
            transaction.uid,
            tuple(one for place, one in enumerate(transaction.references) if place not in failures),
            tuple((transaction.references[place], status) for place, status in failures.items()),
        )

    async def _read(self, pending: _Pending) -> Transaction:
        return await asyncio.to_thread(self._transactions.read, pending.path)

    async def _remove(self, pending: _Pending) -> None:
        self._pending.pop(pending.path, None)
        await asyncio.to_thread(self._transactions.remove, pending.path)

    async def _remove_expired(self) -> None:
        """Remove expired transactions whose task has ended because the requestor could not be reached."""
        for pending in list(self._pending.values()):
            if pending.task is not None and pending.task.done() and pending.requested + self._retry_for < time.time():
                await self._expire(pending)

    async def _expire(self, pending: _Pending) -> None:
        pending.log.error("report_expired")
        await self._remove(pending)


def _pending(path: Path, transaction: Transaction) -> _Pending:
    return _Pending(path, transaction.uid, transaction.ae_title, len(transaction.references), transaction.requested)


def _refusal(operation: NormalizedOperation) -> Status | None:
    """Return the status if a request is refused before its data set is decoded (PS3.7 10.1.4.1.10)."""
    command = operation.command
    if not isinstance(command, NActionRQ):
        return UNRECOGNIZED_OPERATION
    if operation.sop_class_uid != STORAGE_COMMITMENT:
        return NO_SUCH_SOP_CLASS
    if operation.sop_instance_uid != STORAGE_COMMITMENT_INSTANCE:
        return NO_SUCH_SOP_INSTANCE
    if command.action_type_id != REQUEST_STORAGE_COMMITMENT:
        return NO_SUCH_ACTION
    return None if command.has_data_set else Status(MISSING_ATTRIBUTE.code, "the request has no data set")
