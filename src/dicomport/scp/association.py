"""One association from its acceptor's side: from its request to its end (PS3.8 7, PS3.7 9.1, 10.1).

Theory of operation
-------------------
One task owns the connection, its core and this object. It serves one message of the peer after the other: it receives
the command, receives the data set, writes the response to the core, and sends the core's output with the next wait.
No other task writes to the core or to the socket. C-STORE requests are served by `StoreService`, DIMSE-N requests by
the server's `NormalizedService`; each other request is refused, so every request has a response.

Two kinds of tasks work for the association beside its owner. With an operations window, each commit of an instance has
a task, and `NormalizedService` may report events (`Notifications`) from its own tasks. Both leave their result with
an object of the owner and call `wake`, which interrupts the owner's wait for the next command. The owner then sends
all responses and reports that are ready, and waits again. A wait inside a message is never interrupted, because
nothing may be sent there.

`stop` interrupts the wait for the next command as well. The owner completes the operations that have been received,
sends their responses and aborts the association: an acceptor cannot release it (PS3.8 7.2). An operation that has begun
is completed first; the server bounds the time for that and then cancels the task.

However the association ends, the owner then waits for the pending commits, reports them, cancels outstanding
notifications, and calls `on_association_end`. Only after that does it close the transport connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
from typing import Never

from dicomport.containment import as_exception
from dicomport.core import (
    Aborted,
    AcceptedContext,
    AssociationRequested,
    CommandMalformed,
    CommandReceived,
    ConnectionLost,
    CoreEvent,
    ImplementationInfo,
    ReleaseRequested,
    State,
)
from dicomport.dimse import Exchange, response_to
from dicomport.logs import get_logger, reason_of
from dicomport.net import Connection, ConnectionSlot, Deadline, TimerExpiredError
from dicomport.scp.access.peers import verified_certificate
from dicomport.scp.dimse_n import SHORT_BYTES, NormalizedOperation, Notifications
from dicomport.scp.receiving import AssociationEnded, DataSetReceiver
from dicomport.scp.requests import AssociationInfo
from dicomport.scp.settings import ServiceSettings
from dicomport.scp.sinks import is_direct_storage
from dicomport.scp.spool import SpooledDataSet
from dicomport.scp.store import WRONG_SOP_CLASS, StoreCounts, StoreService
from dicomport.scp.straight import StraightPath
from dicomport.standard import (
    PROCESSING_FAILURE,
    RESOURCE_LIMITATION,
    SUCCESS,
    VERIFICATION,
    Status,
)
from dicomport.wire import (
    AssociateRQ,
    CEchoRQ,
    Command,
    CStoreRQ,
    LimitExceededError,
    NActionRQ,
    NEventReportRQ,
    NEventReportRSP,
    RawCommand,
)

_BEGUN_IN_A_TURN = 64
"""Limit of instances in a row that the straight path begins and does not complete: then a message is waited for."""

_DATA_SET_TOO_LONG = Status(RESOURCE_LIMITATION.code, "the data set is longer than the receiver's limit")


class _Stopping(Exception):  # noqa: N818  # not an error: the server stops while no operation is pending
    pass


class _WakeUp(Exception):  # noqa: N818  # not an error: a response or a notification is ready to be sent
    pass


def _wake(connection: Connection) -> None:
    """Interrupt the wait for the next command, so that the association sends responses and reports."""
    connection.interrupt(_WakeUp())


class AcceptorAssociation:
    """Serves one association; `serve` runs in the task that owns the connection."""

    def __init__(self, connection: Connection, slot: ConnectionSlot, settings: ServiceSettings) -> None:
        self._connection = connection
        self._core = connection.core
        self._slot = slot
        self._settings = settings
        # Not a method of this object: a cycle of references would keep all objects of the association alive.
        self._wake = functools.partial(_wake, connection)
        self._exchange = Exchange(self._core)
        self._notifications = Notifications(self._core, self._exchange, self._wake)
        self._data_sets = DataSetReceiver(connection, settings.limits.drained_bytes)
        self._counts = StoreCounts()
        self._idle = connection.timeouts.timer("idle")
        self._log = get_logger("scp").with_peer(slot.address)
        self._straight: StraightPath | None = None
        self._requested = False
        """Whether the peer has requested an association."""
        self._stopping = False

    def stop(self) -> None:
        """Abort the association as soon as no operation is pending."""
        self._stopping = True
        self._connection.interrupt(_Stopping())

    async def serve(self) -> None:
        """Serve the association until it has ended and its transport connection may be closed."""
        try:
            await self._serve_association()
        except AssociationEnded as ended:
            self._end(self._describe_end(ended.event))
        except LimitExceededError as error:
            self._connection.counters.limit(error.limit)
            self._end(f"aborted: {error}")
            self._core.abort()
        except (_Stopping, TimerExpiredError) as reason:
            self._end(f"aborted: {str(reason) or 'the server stops'}")
            self._core.abort()
            await self._flush()
            return
        if self._stopping:
            await self._flush()
            return
        with contextlib.suppress(_Stopping), self._connection.interruptible():
            await self._await_close()

    async def _serve_association(self) -> Never:
        store = await self._establish()
        try:
            while True:
                await self._serve_straight(store)
                await self._serve_next(store)
        except asyncio.CancelledError:
            store.pending.cancel()
            raise
        finally:
            # Commits end even if the peer has disconnected: their instances arrived completely.
            await store.pending.wait()
            store.report()
            self._notifications.end()
            self._report_end(store.association)

    async def _establish(self) -> StoreService:
        """Receive the association request and answer it. Raises `AssociationEnded` if it is rejected."""
        with self._connection.interruptible():
            event = await self._next(self._idle.started())
        if not isinstance(event, AssociationRequested):
            raise AssociationEnded(event)
        request = event.request
        self._requested = True
        self._log = self._log.bind(calling=request.calling_ae_title, called=request.called_ae_title)
        association = self._describe_peer(request)
        rule, negotiation = await self._settings.access.answer(request, association, self._slot, self._core.deviations)
        self._core.answer(negotiation)
        if negotiation.outcome is None:
            self._log.warning("association_rejected", rule=rule.rule, reason=negotiation.reason)
            raise AssociationEnded(None)
        self._log.info(
            "association_accepted",
            rule=rule.rule,
            accepted=len(self._core.contexts),
            rejected_contexts={
                context.abstract_syntax: context.reason
                for context in negotiation.outcome.contexts
                if context.context_id not in self._core.contexts
            },
        )
        self._settings = settings = self._settings.for_peer(rule)
        store = StoreService(
            self._connection,
            self._data_sets,
            settings,
            association,
            window=negotiation.outcome.operations_window.invoked,
            wake=self._wake,
            counts=self._counts,
            log=self._log,
        )
        if is_direct_storage(settings.storage) and self._connection.stream.tls is None:
            self._straight = StraightPath(self._connection, store, settings.storage, settings.limits.instance_bytes)
        return store

    def _describe_peer(self, request: AssociateRQ) -> AssociationInfo:
        certificate, fingerprint = verified_certificate(self._connection.stream.tls)
        items = request.user_information
        return AssociationInfo(
            calling_ae_title=request.calling_ae_title,
            called_ae_title=request.called_ae_title,
            address=self._slot.address,
            tls_certificate=certificate,
            tls_fingerprint=fingerprint,
            implementation=ImplementationInfo(
                items.implementation_class_uid or "", items.implementation_version_name or ""
            ),
        )

    async def _serve_straight(self, store: StoreService) -> None:
        """Serve messages on the straight path, as long as they are common and nothing else is to be done.

        An instance that has to wait for the disk is completed here, and the straight path continues behind it.
        """
        straight, notifications = self._straight, self._notifications
        for _ in range(_BEGUN_IN_A_TURN):
            if straight is None or self._stopping or notifications.expected or notifications.is_due or store.pending:
                return
            store.send_responses()
            begun = await straight.serve()
            if begun is None:
                return
            await store.resume(begun)

    async def _serve_next(self, store: StoreService) -> None:
        """Serve the peer's next message, from its command to the response."""
        event = await self._next_request(store)
        match event:
            case CommandReceived(context, CStoreRQ() as command):
                await store.serve(context, command)
                if self._straight is not None:
                    self._straight.learn(context, command)
            case CommandReceived(context, CEchoRQ() as command):
                await self._echo(context, command)
            case CommandReceived(context, NActionRQ() | NEventReportRQ() as command) if self._is_normalized(context):
                await self._perform(store.association, context, command)
            case CommandReceived(_, NEventReportRSP() as command) if self._notifications.match_response(command):
                await self._skip_data_set(command)
            case CommandReceived(_, command):
                await self._skip_data_set(command)
                self._answer_unexpected(event)
            case CommandMalformed(_, error):
                await self._skip_data_set(error.command)
                self._answer_unexpected(event)
            case ReleaseRequested():
                await store.pending.wait()
                store.send_responses()
                self._core.confirm_release()
                raise AssociationEnded(None)
            case _:
                raise AssociationEnded(event)

    async def _next_request(self, store: StoreService) -> CoreEvent:
        """Wait for the peer's next command; meanwhile send responses and notifications that become ready."""
        while True:
            store.send_responses()
            self._notifications.send_next()
            if self._stopping:
                if not store.pending:
                    raise _Stopping
                await store.pending.wait()
                continue
            try:
                with self._connection.interruptible():
                    return await self._next(self._idle.started(self._connection.take_quiet_since()))
            except (_WakeUp, _Stopping):
                continue
            except TimerExpiredError:
                # A peer that awaits a response or a notification has no reason to send anything.
                if not (store.pending or self._notifications.expected):
                    raise

    async def _next(self, timer: Deadline) -> CoreEvent:
        """Send the core's output and wait for its next event. Raises `AssociationEnded` and `TimerExpiredError`.

        `timer` bounds the wait for a whole command: single bytes of it do not restart the timer.
        """
        event = self._connection.next_event_nowait() or await self._connection.next_event(timer)
        if event is None or isinstance(event, Aborted | ConnectionLost):
            raise AssociationEnded(event)
        return event

    async def _skip_data_set(self, command: Command | RawCommand) -> None:
        if not command.has_data_set:
            return
        # Only a malformed C-STORE has the data set of an instance: any other data set is short.
        is_store = isinstance(command, RawCommand) and command.command_field == CStoreRQ.COMMAND_FIELD
        await self._data_sets.skip(self._settings.limits.instance_bytes if is_store else 0)

    async def _echo(self, context: AcceptedContext, command: CEchoRQ) -> None:
        """Answer a C-ECHO request (PS3.7 9.1.5)."""
        await self._skip_data_set(command)
        is_verification = command.affected_sop_class_uid == context.abstract_syntax == VERIFICATION
        status = SUCCESS if is_verification else WRONG_SOP_CLASS
        self._core.send_command(context.context_id, response_to(command, status))

    def _is_normalized(self, context: AcceptedContext) -> bool:
        return context.abstract_syntax in self._settings.normalized.sop_classes

    async def _perform(
        self, association: AssociationInfo, context: AcceptedContext, command: NActionRQ | NEventReportRQ
    ) -> None:
        """Serve a DIMSE-N request (PS3.7 10.1).

        A long data set waits in a temporary file until there is memory for it; the peer is throttled meanwhile.
        """
        settings = self._settings
        spool = SpooledDataSet(b"", SHORT_BYTES, None, settings.memory)
        try:
            status = await self._receive_normalized(spool, command)
            if status is None:
                async with settings.dimse_n_memory.held(association.host, spool.size):
                    data = await asyncio.to_thread(spool.read_all) if spool.size > SHORT_BYTES else spool.read_all()
                    spool.close()
                    status = await self._call_service(association, context, command, data)
        finally:
            spool.close()
        if not status.accepted:
            self._log.warning("request_refused", command=type(command).__name__, status=str(status))
        self._core.send_command(context.context_id, response_to(command, status))

    async def _receive_normalized(self, spool: SpooledDataSet, command: NActionRQ | NEventReportRQ) -> Status | None:
        """Receive the data set of a DIMSE-N request; return the status if it cannot be served."""
        max_bytes = self._settings.limits.dimse_n_bytes
        if not command.has_data_set:
            return None
        failure = await self._data_sets.receive(spool.write, max_bytes)
        if failure is not None:
            self._log.error("data_set_not_held", reason=reason_of(failure))
            return RESOURCE_LIMITATION
        return _DATA_SET_TOO_LONG if self._data_sets.size > max_bytes else None

    async def _call_service(
        self, association: AssociationInfo, context: AcceptedContext, command: NActionRQ | NEventReportRQ, data: bytes
    ) -> Status:
        settings = self._settings
        operation = NormalizedOperation(
            association, settings.storage, context, command, data, self._notifications, settings.dimse_n_memory
        )
        try:
            return await settings.normalized.perform(operation)
        except BaseException as error:  # noqa: BLE001  # a service is the user's code: any exception becomes a status
            self._log.error("request_failed", command=type(command).__name__, exc_info=as_exception(error))
            return PROCESSING_FAILURE

    def _answer_unexpected(self, event: CommandReceived | CommandMalformed) -> None:
        reason = self._exchange.answer_unexpected(event, "only C-STORE and C-ECHO are served")
        if reason:
            self._log.warning("request_refused", reason=reason)

    def _describe_end(self, event: CoreEvent | None) -> str:
        match event:
            case Aborted(reason, by_peer=True):
                return f"aborted by the peer: {reason.meaning}"
            case Aborted(reason, detail=detail):
                return f"aborted, {reason.meaning}: {detail}"
            case ConnectionLost():
                return "the connection was lost"
            case _:
                return str(self._core.error or self._connection.expired or "closed in order")

    def _end(self, how: str) -> None:
        """Free the association's place in the limits, and log and count its end."""
        self._slot.release()
        deviations = {str(name): number for name, number in self._core.deviations.items()} | self._counts.deviations
        self._connection.counters.deviations(deviations)
        if isinstance(self._core.error, LimitExceededError):
            self._connection.counters.limit(self._core.error.limit)
        # A load balancer connects and closes again every few seconds.
        is_of_interest = self._requested or self._core.error or self._connection.expired
        self._log.log(
            logging.INFO if is_of_interest else logging.DEBUG,
            "association_ended",
            how=how,
            stored=self._counts.stored,
            refused=self._counts.refused,
            deviations=deviations,
        )

    def _report_end(self, association: AssociationInfo) -> None:
        if self._settings.on_association_end is None:
            return
        try:
            self._settings.on_association_end(association)
        except BaseException as error:  # noqa: BLE001  # the user's code; the peer still gets its A-RELEASE-RP or A-ABORT
            self._log.error("on_association_end_raised", exc_info=as_exception(error))

    async def _flush(self) -> None:
        """Send the last PDU, as far as the abort timer allows."""
        try:
            await self._connection.flush(self._connection.timeouts.timer("abort").started())
        except TimerExpiredError as expired:
            self._connection.counters.timer(expired.timer)
        except OSError:
            pass

    async def _await_close(self) -> None:
        """Wait until the peer closes the transport connection, as long as ARTIM allows (Sta13, PS3.8 9.2).

        If this side closed it with bytes unread, TCP would reset it, and the last PDU could be lost.
        """
        while self._core.state is State.STA13:
            await self._connection.next_event(self._idle.started())
            if self._connection.expired is not None:
                self._log.info("connection_timed_out", reason=str(self._connection.expired))
