"""The SCP of storage commitment: accept requests, look the instances up, and deliver the reports (PS3.4 J.3).

Theory of operation
-------------------
`CommitmentSCP` runs in the event loop of its `StorageSCP`; file access runs in threads. `perform` writes a request to
the disk before it returns the status of the response, so that each accepted request is reported, even after a crash.
Then one task per request does the rest in this order: look the instances up, report over the requesting association if
that is still open, otherwise through the `ReportDelivery` of the requestor's address, and remove the request from the
disk once the peer has responded. A crash before the removal repeats the report: a requestor accepts a repeated report,
but it cannot detect a lost one. Lookups take turns, one part of one request at a time for each address: a long request
delays others of its address only. If the requestor repeats a request, its task starts again, with the newer
association.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import errno
import functools
import logging
import ssl
import time
from collections.abc import Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

from dicomport.commitment.association import ALL_COMMITTED, REQUEST_STORAGE_COMMITMENT, SOME_FAILED
from dicomport.commitment.data_sets import CommitmentDataSetError, CommitmentRequest, CommitmentResult, SOPReference
from dicomport.commitment.delivery import ReportDelivery, StoppedError
from dicomport.commitment.limits import DEFAULT_COMMITMENT_LIMITS, CommitmentLimits
from dicomport.commitment.pending import PeerKey, Pending, PendingCommitments
from dicomport.commitment.transactions import Transaction, Transactions
from dicomport.containment import as_exception
from dicomport.files import Durability
from dicomport.logs import get_logger, reason_of
from dicomport.net import Address, FairTurns, Timeouts
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

_LOOKUPS: Final = 4
"""Lookups at the same time, of one request of each address; the other addresses wait for their turn."""

_REFERENCES_IN_A_TURN: Final = 5_000
"""References that are looked up in a turn, and are in memory for it."""

_REFERENCE_BYTES: Final = 130
"""Usual length of a reference in the data set of a report, bytes."""

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
        """Prepare the service, with `integrity` for lookups and a folder for `transactions` without a report.

        `report_to` maps the AE titles of requestors to their addresses; reports to them have the calling AE title
        `ae_title`. `retry_for` is the maximum age of a request that is reported, seconds. With `durability` FSYNC, an
        accepted request is on stable storage. Raises `ValueError` for an invalid AE title.
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
        self._pending = PendingCommitments(limits)
        self._turns = FairTurns(_LOOKUPS, per_key=1)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._delivering: dict[ReportDelivery, asyncio.Task[Any]] = {}

    def reload(self, *, tls: ssl.SSLContext | None) -> None:
        """Use another client-side TLS context, or none, for later associations that report to the known addresses.

        Call it in the event loop of the server, or before it starts.
        """
        for delivery in self._deliveries.values():
            delivery.use_tls(tls)

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
        for pending in self._pending:
            if pending.looked_up < pending.size and pending.task is not None:
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
        association = operation.association
        peer = PeerKey(association.calling_ae_title, association.host, association.tls_fingerprint)
        # Each file is read once per request.
        references = tuple(dict.fromkeys(request.references))
        known, known_references = await self._find(request.transaction_uid, peer)
        if known is not None and known_references == references:
            # The requestor has not received the response, or now awaits the report on another association.
            known.operation = operation
            self._start(known)
            return SUCCESS
        if not await self._make_room(peer, len(references)):
            return Status(RESOURCE_LIMITATION.code, "too many commitments without a report")
        transaction = Transaction(
            uid=request.transaction_uid,
            ae_title=peer.ae_title,
            host=peer.host,
            tls_fingerprint=peer.tls_fingerprint,
            references=references,
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

    async def _find(self, uid: str, peer: PeerKey) -> tuple[Pending | None, tuple[SOPReference, ...]]:
        """Return the pending transaction of a peer with this Transaction UID, and its references."""
        while (known := self._pending.find(uid, peer)) is not None:
            try:
                return known, (await self._read(known)).references
            except FileNotFoundError:
                self._pending.remove(known)  # It was cleared by hand.
        return None, ()

    async def _make_room(self, peer: PeerKey, size: int) -> bool:
        """Return whether a request fits the limits; first drop those whose peer cannot be reached."""
        while (exceeded := self._pending.exceeded(peer, size)) is not None:
            limit, scope = exceeded
            dropped = self._pending.first_to_drop(scope) if self._pending.fits_alone(size) else None
            if dropped is None:
                log.warning("commitment_limit_reached", limit=limit, calling=peer.ae_title, address=peer.host)
                return False
            dropped.log.warning("commitment_dropped", limit=limit, address=dropped.peer.host)
            await self._remove(dropped)
        return True

    def _start(self, pending: Pending) -> None:
        """Start the task of a transaction; if it has one, restart it."""
        self._pending.add(pending)
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

    async def _process(self, pending: Pending) -> None:
        try:
            async with asyncio.timeout(max(0.0, pending.requested + self._retry_for - time.time())):
                if pending.looked_up < pending.size:
                    operation = pending.operation
                    with contextlib.nullcontext() if operation is None else operation.notifications.expecting():
                        await self._look_up(pending)
                status = await self._report(pending)
        except StoppedError:
            return
        except FileNotFoundError:
            # It was cleared by hand.
            self._pending.remove(pending)
            return
        except TimeoutError:
            await self._expire(pending)
            return
        if status is None:
            pending.log.warning("report_not_sent", reason="the association has ended, and the AE title has no address")
        else:
            await self._remove(pending)

    async def _look_up(self, pending: Pending) -> None:
        """Check the references, a part in each turn of the requestor's address; only that part is in memory."""
        if pending.is_duplicate:
            pending.failures = dict.fromkeys(range(pending.size), DUPLICATE_TRANSACTION_UID)
            pending.looked_up = pending.size
        while pending.looked_up < pending.size:
            async with self._turns.turn(pending.peer.host):
                references = (await self._read(pending)).references
                part = references[pending.looked_up : pending.looked_up + _REFERENCES_IN_A_TURN]
                del references
                statuses = await self._statuses(pending, part)
            pending.failures |= {
                place: status for place, status in enumerate(statuses, pending.looked_up) if status.code != SUCCESS.code
            }
            pending.looked_up += len(part)
        pending.log.info("commitment_looked_up", failed=len(pending.failures))

    async def _statuses(self, pending: Pending, references: Sequence[SOPReference]) -> Sequence[Status]:
        try:
            statuses = await self._integrity.look_up(references)
            if len(statuses) != len(references):
                raise ValueError(f"{len(statuses)} statuses were given for {len(references)} instances")
        except BaseException as error:  # it may be the user's code
            pending.log.exception("lookup_failed", exc_info=as_exception(error))
            return [PROCESSING_FAILURE] * len(references)
        return statuses

    async def _report(self, pending: Pending) -> Status | None:
        """Report to the requestor and return the status of its response; None if the requestor cannot be reached."""
        status, how = await self._report_back(pending), "on the same association"
        delivery = self._deliveries.get(pending.peer.ae_title)
        # Some SCUs accept reports only over associations that the SCP has opened.
        if delivery is not None and (status is None or not status.accepted):
            status, how = await delivery.deliver(functools.partial(self._result, pending)), "on another association"
        if status is not None:
            level = logging.INFO if status.accepted else logging.WARNING
            pending.log.log(level, "commitment_reported", how=how, status=str(status))
        return status

    async def _report_back(self, pending: Pending) -> Status | None:
        """Report over the requesting association; return None if it has ended or the peer does not respond."""
        operation, pending.operation = pending.operation, None
        if operation is None:
            return None
        async with operation.memory.held(pending.peer.host, _REFERENCE_BYTES * pending.size):
            result = await self._result(pending)
            event_type = SOME_FAILED if result.failed else ALL_COMMITTED
            data = result.encode(operation.context.transfer_syntax)
            del result
            try:
                async with asyncio.timeout(self._timeouts.dimse):
                    return await operation.notify(event_type, data)
            except TimeoutError:
                return None

    async def _result(self, pending: Pending) -> CommitmentResult:
        transaction, failures = await self._read(pending), pending.failures
        return CommitmentResult(
            transaction.uid,
            tuple(one for place, one in enumerate(transaction.references) if place not in failures),
            tuple((transaction.references[place], status) for place, status in failures.items()),
        )

    async def _read(self, pending: Pending) -> Transaction:
        return await asyncio.to_thread(self._transactions.read, pending.path)

    async def _remove(self, pending: Pending) -> None:
        self._pending.remove(pending)
        await asyncio.to_thread(self._transactions.remove, pending.path)

    async def _remove_expired(self) -> None:
        """Remove expired transactions whose task has ended because the requestor could not be reached."""
        for pending in self._pending:
            if pending.is_waiting and pending.requested + self._retry_for < time.time():
                await self._expire(pending)

    async def _expire(self, pending: Pending) -> None:
        pending.log.error("report_expired")
        await self._remove(pending)


def _pending(path: Path, transaction: Transaction) -> Pending:
    peer = PeerKey(transaction.ae_title, transaction.host, transaction.tls_fingerprint)
    return Pending(
        path, transaction.uid, peer, len(transaction.references), transaction.requested, transaction.duplicate
    )


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
