"""The SCU of storage commitment: asks a peer to keep instances, and waits for its word (PS3.4 J.3)."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import uuid
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from typing import Final, Unpack

from dicomport.commitment.association import ALL_COMMITTED, SOME_FAILED, CommitmentAssociation
from dicomport.commitment.limits import DEFAULT_COMMITMENT_LIMITS
from dicomport.logs import get_logger
from dicomport.net import Address, AssociationError, Timeouts
from dicomport.scp import AssociationInfo, NormalizedOperation, Sink, StorageSCP, StoreOperation, is_loopback
from dicomport.scu import NegotiationItems, NoContextError
from dicomport.standard import (
    INVALID_ARGUMENT_VALUE,
    NO_SUCH_EVENT_TYPE,
    NO_SUCH_SOP_CLASS,
    NO_SUCH_SOP_INSTANCE,
    SOP_CLASS_NOT_SUPPORTED,
    STORAGE_COMMITMENT,
    STORAGE_COMMITMENT_INSTANCE,
    SUCCESS,
    UNRECOGNIZED_OPERATION,
    VERIFICATION,
    Status,
)
from dicomport.wire import NEventReportRQ
from dicomport.wire.commitment import CommitmentDataSetError, CommitmentRequest, CommitmentResult, SOPReference

__all__ = ["CommitOptions", "Commitment", "CommitmentReport", "commit"]

_AT_ONCE: Final = 500
"""Instances in one transaction: a request of 30 to 60 KB, which no peer is known to choke on."""

_GOODBYE_SECONDS: Final = 5.0
"""For a peer that has reported to release its association."""

log = get_logger("commitment")


@dataclass(frozen=True, slots=True)
class Commitment:
    """What the peer says of one instance."""

    reference: SOPReference
    committed: bool = False
    """Whether the peer has promised to keep it."""
    status: Status | None = None
    """The Failure Reason (PS3.3 C.14.1.1), or 0x0000 where it is committed; None where nothing was reported."""
    reason: str = ""
    """Why it is not committed; empty where it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitmentReport:
    """What the peer says of each instance that it was asked to keep, in the order of the request."""

    commitments: tuple[Commitment, ...]
    error: str = ""
    """Why there was no association, or no more before everything was reported."""

    @property
    def committed(self) -> tuple[Commitment, ...]:
        """Those that the peer keeps."""
        return tuple(commitment for commitment in self.commitments if commitment.committed)

    @property
    def failed(self) -> tuple[Commitment, ...]:
        """Those that it does not keep, and those that it never reported on."""
        return tuple(commitment for commitment in self.commitments if not commitment.committed)


class CommitOptions(NegotiationItems, total=False):
    """The keyword arguments of `commit`."""

    ae_title: str
    called_ae_title: str
    wait: float
    listen_port: int | None
    listen_host: str | None
    tls: ssl.SSLContext | None
    listen_tls: ssl.SSLContext | None
    timeouts: Timeouts | None


async def commit(
    references: Iterable[SOPReference],
    host: str,
    port: int,
    *,
    ae_title: str = "DICOMPORT",
    called_ae_title: str = "ANY-SCP",
    wait: float = 60.0,
    listen_port: int | None = None,
    listen_host: str | None = None,
    tls: ssl.SSLContext | None = None,
    listen_tls: ssl.SSLContext | None = None,
    timeouts: Timeouts | None = None,
    **negotiation: Unpack[NegotiationItems],
) -> CommitmentReport:
    """Ask a peer to commit itself to keeping instances, and tell what it says of each (PS3.4 Annex J).

    Reports are taken over the association that asks, which is held open, and with `listen_port` also over associations
    that the peer opens to that port. `listen_host` is the address to listen on: by default loopback for a peer on
    loopback, else every interface. `wait` is how long reports are waited for, seconds, once all has been asked for.
    `tls` is a client-side context for the association that asks, `listen_tls` a server-side one for the others. What
    else is negotiated for the association that asks goes in by name, as in `associate`.

    Nothing is raised for what happens on the way: it is in the report. Raises `ValueError` for AE titles that are none,
    and `OSError` where `listen_port` can't be had.
    """
    desk = _Desk(references)
    timeouts = timeouts or Timeouts()
    address = Address(host, port, tls)
    async with contextlib.AsyncExitStack() as stack:
        if listen_port is not None:
            if listen_host is None:
                listen_host = listening_host(host)
            listening = _listening(desk, ae_title, listen_host, listen_port, tls=listen_tls, timeouts=timeouts)
            await stack.enter_async_context(listening)
        try:
            association = await CommitmentAssociation.open(
                address,
                ae_title=ae_title,
                called_ae_title=called_ae_title,
                timeouts=timeouts,
                take=desk.take,
                **negotiation,
            )
        except (AssociationError, NoContextError) as error:
            return desk.report(f"no association: {error}")
        try:
            await _ask_and_wait(desk, association, wait, elsewhere=listen_port is not None)
            await association.release()
        except AssociationError as error:
            return desk.report(f"the association was lost: {error}")
        finally:
            await association.abort()
    return desk.report(f"nothing was reported within {wait:g} s")


def listening_host(host: str) -> str:
    """Give the address at which reports of a peer are listened for: loopback for one there, else every interface."""
    return host if is_loopback(host) else ""


async def _ask_and_wait(desk: _Desk, association: CommitmentAssociation, wait: float, *, elsewhere: bool) -> None:
    for request in desk.requests:
        desk.answered(request, await association.ask(request))
    if desk.over.is_set():
        return
    desk.on_end = association.stop_listening
    deadline = asyncio.get_running_loop().call_later(wait, desk.end)
    try:
        # The deadline ends it, not the peer's silence.
        await association.listen(2 * wait + 1)
    except AssociationError:
        if not elsewhere:
            raise
        await desk.over.wait()
    finally:
        deadline.cancel()


class _Desk:
    """What the peer was asked, and what it has said so far."""

    def __init__(self, references: Iterable[SOPReference]) -> None:
        self._commitments: dict[SOPReference, Commitment | None] = dict.fromkeys(references)
        known = tuple(self._commitments)
        self.requests = tuple(
            CommitmentRequest(f"2.25.{uuid.uuid4().int}", known[start : start + _AT_ONCE])
            for start in range(0, len(known), _AT_ONCE)
        )
        self.over = asyncio.Event()
        """Whether there is nothing more to wait for."""
        self.on_end: Callable[[], object] = lambda: None
        self._by_uid = {request.transaction_uid: request for request in self.requests}
        self._open = set(self._by_uid)
        """Transaction UIDs that are not reported on yet, nor refused."""

    def answered(self, request: CommitmentRequest, status: Status) -> None:
        """Take note of the answer to a request."""
        if not status.accepted:
            log.warning("commitment_refused", transaction_uid=request.transaction_uid, status=str(status))
            reason = f"the request was refused: {status}"
            self._commitments |= {one: Commitment(one, reason=reason) for one in request.references}
            self._close(request.transaction_uid)

    def take(self, command: NEventReportRQ, data: bytes, transfer_syntax_uid: str) -> Status:
        """Take a report, and say how it is answered."""
        if command.affected_sop_class_uid != STORAGE_COMMITMENT:
            return NO_SUCH_SOP_CLASS
        if command.affected_sop_instance_uid != STORAGE_COMMITMENT_INSTANCE:
            return NO_SUCH_SOP_INSTANCE
        if command.event_type_id not in (ALL_COMMITTED, SOME_FAILED):
            return NO_SUCH_EVENT_TYPE
        try:
            result = CommitmentResult.decode(data, transfer_syntax_uid, DEFAULT_COMMITMENT_LIMITS.data_set_bytes)
        except CommitmentDataSetError as error:
            return error.status
        request = self._by_uid.get(result.transaction_uid)
        if request is None:
            return Status(INVALID_ARGUMENT_VALUE.code, "no such transaction is known here")
        self._take(request, result)
        return SUCCESS

    def _take(self, request: CommitmentRequest, result: CommitmentResult) -> None:
        said: dict[SOPReference, Commitment | None] = {
            one: Commitment(one, reason="the peer's report does not mention it") for one in request.references
        }
        # What is among both has failed.
        said |= {one: Commitment(one, committed=True, status=SUCCESS) for one in result.committed}
        said |= {one: Commitment(one, status=status, reason=str(status)) for one, status in result.failed}
        self._commitments |= {one: said[one] for one in request.references}
        log.info(
            "commitment_reported",
            transaction_uid=request.transaction_uid,
            committed=len(result.committed),
            failed=len(result.failed),
        )
        self._close(request.transaction_uid)

    def _close(self, transaction_uid: str) -> None:
        self._open.discard(transaction_uid)
        if not self._open:
            self.end()

    def end(self) -> None:
        """Wait no more."""
        self.over.set()
        self.on_end()

    def report(self, problem: str) -> CommitmentReport:
        """Tell what the peer has said; of what it has not, the problem is the reason."""
        commitments = tuple(
            commitment or Commitment(reference, reason=problem) for reference, commitment in self._commitments.items()
        )
        return CommitmentReport(commitments=commitments, error=problem if None in self._commitments.values() else "")


class _Receiver:
    """Takes reports on associations that the peer has opened."""

    sop_classes: Final = frozenset((STORAGE_COMMITMENT,))
    is_user: Final = True

    def __init__(self, desk: _Desk) -> None:
        self._desk = desk
        self._associations: set[AssociationInfo] = set()
        self._quiet = asyncio.Event()
        self._quiet.set()

    async def start(self) -> None:
        """Do nothing."""

    async def stop(self) -> None:
        """Do nothing."""

    async def perform(self, operation: NormalizedOperation) -> Status:
        """Take a report."""
        if not isinstance(operation.command, NEventReportRQ):
            return UNRECOGNIZED_OPERATION
        self._associations.add(operation.association)
        self._quiet.clear()
        return self._desk.take(operation.command, operation.data, operation.context.transfer_syntax)

    def over(self, association: AssociationInfo) -> None:
        """Take note of the end of an association."""
        self._associations.discard(association)
        if not self._associations:
            self._quiet.set()

    async def wait_quiet(self) -> None:
        """Wait until those who have reported have released their associations, for a while."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_GOODBYE_SECONDS):
                await self._quiet.wait()


class _NoStorage:
    """Refuses instances: no presentation context for one is accepted in the first place."""

    async def begin(self, operation: StoreOperation) -> Sink | Status:
        """Refuse."""
        return SOP_CLASS_NOT_SUPPORTED


@contextlib.asynccontextmanager
async def _listening(
    desk: _Desk, ae_title: str, host: str, port: int, *, tls: ssl.SSLContext | None, timeouts: Timeouts
) -> AsyncIterator[None]:
    receiver = _Receiver(desk)
    scp = StorageSCP(
        _NoStorage(),
        ae_title=ae_title,
        host=host,
        port=port,
        # Whoever knows a Transaction UID of ours may report on it: that proves more than an AE title does.
        allow_any=True,
        abstract_syntaxes=lambda uid, _kind: uid == VERIFICATION,
        timeouts=timeouts,
        tls=tls,
        on_association_end=receiver.over,
        commitment=receiver,
    )
    async with scp:
        yield
        await receiver.wait_quiet()
