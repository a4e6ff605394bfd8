"""The SCU of storage commitment: request a peer to keep instances, and wait for its reports (PS3.4 J.3).

Theory of operation
-------------------
`commit` sends all requests over one association and keeps it open. Reports arrive on it, and, with a listener, on
associations that the peer opens; all of this runs in one task and the tasks of the listener, in one event loop.
`_Requests` owns the state: it matches each report with a request by Transaction UID. Once each request has a report or
was refused, or the time limit is reached, it stops waiting on both kinds of associations. The listener then waits
briefly for the peers that have reported, so that their associations end in order. A Transaction UID is bound to the
requested peer, as on the side of the SCP: a report from another AE title or address is for an unknown transaction.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import ssl
import uuid
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import Final, Unpack

from dicomport.commitment.association import ALL_COMMITTED, SOME_FAILED, CommitmentAssociation
from dicomport.commitment.data_sets import CommitmentDataSetError, CommitmentRequest, CommitmentResult, SOPReference
from dicomport.commitment.limits import DEFAULT_COMMITMENT_LIMITS
from dicomport.dimse import NoContextError
from dicomport.logs import get_logger
from dicomport.net import Address, AssociationError, Timeouts, resolve
from dicomport.scp import AssociationInfo, NormalizedOperation, PeerRule, StorageSCP, is_loopback, network
from dicomport.scu import NegotiationItems
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
from dicomport.values import frozen
from dicomport.wire import NEventReportRQ

_MAX_REFERENCES: Final = 500
"""Maximum number of instances in a transaction: a request of 30 to 60 KB, a length that all known peers accept."""

_ANY_PEER: Final = "ANY-SCP"
"""The default called AE title, which means any peer."""

_LOOPBACK: Final = ("127.0.0.0/8", "::1")

_RELEASE_SECONDS: Final = 5.0
"""Time for a peer that has reported to release its association."""

_UNKNOWN_TRANSACTION: Final = Status(INVALID_ARGUMENT_VALUE.code, "no such transaction is known here")

log = get_logger("commitment")


@frozen
class Commitment:
    """The peer's report on one instance."""

    reference: SOPReference
    committed: bool = False
    """Whether the peer has committed itself to keep the instance."""
    status: Status | None = None
    """The Failure Reason (PS3.3 C.14.1.1), or 0x0000 if it is committed; None without a report."""
    reason: str = ""
    """The reason why it is not committed; empty if it is."""


@frozen(kw_only=True)
class CommitmentReport:
    """The peer's report on each requested instance, in the order of the request."""

    commitments: tuple[Commitment, ...]
    error: str = ""
    """The reason why there was no association, or why it ended before everything was reported; otherwise empty."""

    @property
    def committed(self) -> tuple[Commitment, ...]:
        """The committed instances."""
        return tuple(commitment for commitment in self.commitments if commitment.committed)

    @property
    def failed(self) -> tuple[Commitment, ...]:
        """The instances that are not committed, and those without a report."""
        return tuple(commitment for commitment in self.commitments if not commitment.committed)


class CommitOptions(NegotiationItems, total=False):
    """The keyword arguments of `commit`."""

    ae_title: str
    called_ae_title: str
    wait: float
    listen_port: int | None
    listen_host: str | None
    report_from: Iterable[str] | None
    tls: ssl.SSLContext | None
    listen_tls: ssl.SSLContext | None
    timeouts: Timeouts | None


async def commit(
    references: Iterable[SOPReference],
    host: str,
    port: int,
    *,
    ae_title: str = "DICOMPORT",
    called_ae_title: str = _ANY_PEER,
    wait: float = 60.0,
    listen_port: int | None = None,
    listen_host: str | None = None,
    report_from: Iterable[str] | None = None,
    tls: ssl.SSLContext | None = None,
    listen_tls: ssl.SSLContext | None = None,
    timeouts: Timeouts | None = None,
    **negotiation: Unpack[NegotiationItems],
) -> CommitmentReport:
    """Request a peer to commit itself to keep instances, and return its report on each (PS3.4 Annex J).

    Reports are received over the requesting association, which stays open, and with `listen_port` also over
    associations that the peer opens to that port. `listen_host` is the address to listen on: by default loopback for a
    peer on loopback, otherwise every interface. Reports over these associations are accepted from the peers
    `report_from`, rules AE[@ADDRESS/NET] as `PeerRule.parse` reads them: by default from each address of `host`, with
    the calling AE title `called_ae_title` unless that is "ANY-SCP". `wait` is the maximum time to wait for reports
    after the last request, seconds. `tls` is a client-side context for the requesting association, `listen_tls` a
    server-side context for the others. Further items of the negotiation of the requesting association are keyword
    arguments, as in `associate`.

    Failures of the peer and of the network are in the report. Raises `ValueError` for an invalid AE title or rule, and
    `OSError` if `listen_port` cannot be opened.
    """
    requests = _Requests(references)
    timeouts = timeouts or Timeouts()
    address = Address(host, port, tls)
    rules = reporting_peers(report_from or ())
    async with contextlib.AsyncExitStack() as stack:
        try:
            if listen_port is not None:
                if listen_host is None:
                    listen_host = listening_host(host)
                receiver = _Receiver(requests, rules or await _requested_peer(address, called_ae_title, timeouts))
                listening = _listening(receiver, ae_title, listen_host, listen_port, tls=listen_tls, timeouts=timeouts)
                await stack.enter_async_context(listening)
            association = await CommitmentAssociation.open(
                address,
                ae_title=ae_title,
                called_ae_title=called_ae_title,
                timeouts=timeouts,
                on_event_report=requests.receive,
                **negotiation,
            )
        except (AssociationError, NoContextError) as error:
            return requests.report(f"no association: {error}")
        try:
            await _request_and_wait(requests, association, wait, elsewhere=listen_port is not None)
            await association.release()
        except AssociationError as error:
            return requests.report(f"the association was lost: {error}")
        finally:
            await association.abort()
    return requests.report(f"nothing was reported within {wait:g} s")


def reporting_peers(rules: Iterable[str]) -> tuple[PeerRule, ...]:
    """Parse rules for peers that may report. Raises `ValueError`."""
    return tuple(map(PeerRule.parse, rules))


async def _requested_peer(address: Address, called_ae_title: str, timeouts: Timeouts) -> tuple[PeerRule, ...]:
    """Return the rule for the peer that is requested. Raises `ConnectError`."""
    # A peer on this machine may report from any of its loopback addresses.
    hosts = _LOOPBACK if is_loopback(address.host) else ()
    if not hosts:
        endpoints = await resolve(address, timeouts.timer("connect").started())
        hosts = tuple(endpoint.sockaddr[0].partition("%")[0] for endpoint in endpoints)
    title = None if called_ae_title == _ANY_PEER else called_ae_title
    return (PeerRule(ae_title=title, networks=tuple(map(network, hosts))),)


def listening_host(host: str) -> str:
    """Return the address at which to listen for a peer's reports: loopback for a peer there, otherwise "" (all)."""
    return host if is_loopback(host) else ""


async def _request_and_wait(
    requests: _Requests, association: CommitmentAssociation, wait: float, *, elsewhere: bool
) -> None:
    for request in requests.all:
        requests.note_response(request, await association.request(request))
    if requests.ended.is_set():
        return
    requests.on_end = association.stop_listening
    deadline = asyncio.get_running_loop().call_later(wait, requests.end)
    try:
        # The deadline ends the wait, not the timer.
        await association.listen(2 * wait + 1)
    except AssociationError:
        if not elsewhere:
            raise
        await requests.ended.wait()
    finally:
        deadline.cancel()


class _Requests:
    """The requests of one run, and the peer's reports on them."""

    def __init__(self, references: Iterable[SOPReference]) -> None:
        self._commitments: dict[SOPReference, Commitment | None] = dict.fromkeys(references)
        known = tuple(self._commitments)
        self.all = tuple(
            CommitmentRequest(f"2.25.{uuid.uuid4().int}", known[start : start + _MAX_REFERENCES])
            for start in range(0, len(known), _MAX_REFERENCES)
        )
        self.ended = asyncio.Event()
        """Set when no report is awaited any more."""
        self.on_end: Callable[[], object] = lambda: None
        self._by_uid = {request.transaction_uid: request for request in self.all}
        self._open = set(self._by_uid)
        """Transaction UIDs without a report or refusal."""

    def note_response(self, request: CommitmentRequest, status: Status) -> None:
        """Note the response to a request."""
        if not status.accepted:
            log.warning("commitment_refused", transaction_uid=request.transaction_uid, status=str(status))
            reason = f"the request was refused: {status}"
            self._commitments |= {one: Commitment(one, reason=reason) for one in request.references}
            self._close(request.transaction_uid)

    def receive(self, command: NEventReportRQ, data: bytes, transfer_syntax_uid: str) -> Status:
        """Receive a report, and return the status of the response."""
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
            return _UNKNOWN_TRANSACTION
        self._note_result(request, result)
        return SUCCESS

    def _note_result(self, request: CommitmentRequest, result: CommitmentResult) -> None:
        reported: dict[SOPReference, Commitment | None] = {
            one: Commitment(one, reason="the peer's report does not mention it") for one in request.references
        }
        # An instance in both sequences has failed.
        reported |= {one: Commitment(one, committed=True, status=SUCCESS) for one in result.committed}
        reported |= {one: Commitment(one, status=status, reason=str(status)) for one, status in result.failed}
        self._commitments |= {one: reported[one] for one in request.references}
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
        """End the wait for reports."""
        self.ended.set()
        self.on_end()

    def report(self, problem: str) -> CommitmentReport:
        """Return the reports so far; `problem` is the reason for each instance without one."""
        commitments = tuple(
            commitment or Commitment(reference, reason=problem) for reference, commitment in self._commitments.items()
        )
        return CommitmentReport(commitments=commitments, error=problem if None in self._commitments.values() else "")


class _Receiver:
    """Receives reports on associations that the peer opens."""

    sop_classes: Final = frozenset((STORAGE_COMMITMENT,))
    is_user: Final = True

    def __init__(self, requests: _Requests, peers: Sequence[PeerRule]) -> None:
        """Receive reports on requests from these peers."""
        self._requests = requests
        self._peers = peers
        self._associations: set[AssociationInfo] = set()
        self._quiet = asyncio.Event()
        self._quiet.set()

    async def start(self) -> None:
        """Do nothing."""

    async def stop(self, within: float) -> None:
        """Do nothing."""

    async def perform(self, operation: NormalizedOperation) -> Status:
        """Receive a report."""
        if not isinstance(operation.command, NEventReportRQ):
            return UNRECOGNIZED_OPERATION
        if not self._may_report(operation.association):
            log.with_peer(operation.association.address).warning(
                "commitment_report_refused",
                calling=operation.association.calling_ae_title,
                reason="another AE title or address than the requested one: see --commit-from (report_from)",
            )
            return _UNKNOWN_TRANSACTION
        self._associations.add(operation.association)
        self._quiet.clear()
        return self._requests.receive(operation.command, operation.data, operation.context.transfer_syntax)

    def _may_report(self, association: AssociationInfo) -> bool:
        address = ipaddress.ip_address(association.host.strip("[]"))
        title = association.calling_ae_title
        return any(rule.allows_address(address) and rule.allows_title(title) for rule in self._peers)

    def note_end(self, association: AssociationInfo) -> None:
        """Note the end of an association."""
        self._associations.discard(association)
        if not self._associations:
            self._quiet.set()

    async def wait_quiet(self) -> None:
        """Wait a while until the peers that have reported have released their associations."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_RELEASE_SECONDS):
                await self._quiet.wait()


@contextlib.asynccontextmanager
async def _listening(
    receiver: _Receiver, ae_title: str, host: str, port: int, *, tls: ssl.SSLContext | None, timeouts: Timeouts
) -> AsyncIterator[None]:
    scp = StorageSCP(
        lambda _: SOP_CLASS_NOT_SUPPORTED,  # no presentation context for storage is accepted anyway
        ae_title=ae_title,
        host=host,
        port=port,
        # The receiver refuses reports of others, with its own words about the options.
        allow_any=True,
        abstract_syntaxes=lambda uid, _kind: uid == VERIFICATION,
        timeouts=timeouts,
        tls=tls,
        on_association_end=receiver.note_end,
        commitment=receiver,
    )
    async with scp:
        yield
        await receiver.wait_quiet()
