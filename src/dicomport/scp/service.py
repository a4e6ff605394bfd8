"""One association as its acceptor: verification and storage (PS3.4 Annexes A and B, PS3.7 9.1).

Every request is answered, whatever it is; what ends the association is told from what ends one operation.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import logging
from collections.abc import Callable, Collection
from typing import Final, NamedTuple, Never, TypeAlias

from dicomport.core import (
    Aborted,
    AcceptedContext,
    AssociationRequested,
    CommandMalformed,
    CommandReceived,
    ConnectionLost,
    CoreEvent,
    DataReceived,
    ImplementationInfo,
    ReleaseRequested,
    State,
)
from dicomport.errors import DicomportError
from dicomport.files import MemoryBudget
from dicomport.logs import get_logger, reason_of
from dicomport.net import Connection, ConnectionSlot, Deadline, TimerExpiredError
from dicomport.scp.access.acceptance import Gate
from dicomport.scp.access.peers import shown_certificate
from dicomport.scp.dimse_n import NormalizedOperation, NormalizedService, Notifications, response_to
from dicomport.scp.limits import Limits
from dicomport.scp.pending import Answers
from dicomport.scp.requests import AssociationInfo, StoreOperation
from dicomport.scp.sinks import Sink, Storage, status_of, study_of
from dicomport.standard import (
    INVALID_OBJECT_INSTANCE,
    OUT_OF_RESOURCES,
    PROCESSING_FAILURE,
    RESOURCE_LIMITATION,
    SOP_CLASS_NOT_SUPPORTED,
    SUCCESS,
    UNRECOGNIZED_OPERATION,
    VERIFICATION,
    Status,
    sop_classes,
)
from dicomport.wire import (
    AssociateRQ,
    Buffer,
    CCancelRQ,
    CEchoRQ,
    CEchoRSP,
    Command,
    CStoreRQ,
    CStoreRSP,
    Deviation,
    Element,
    LimitExceededError,
    NActionRQ,
    NEventReportRQ,
    NEventReportRSP,
    RawCommand,
)

__all__ = ["OnAnswer", "OnOver", "StorageService"]

OnAnswer: TypeAlias = Callable[[StoreOperation, Status, int], object]
"""Called with each C-STORE request as it is answered: the request, the status, the length of the data set in bytes."""

OnOver: TypeAlias = Callable[[AssociationInfo], object]
"""Called once for each association that was accepted, when it is over, however that came about."""

_MAX_UID: Final = 64
"""PS3.5 9.1."""


class _AssociationEnded(Exception):  # noqa: N818  # not an error: the way out of whatever goes on
    """The association is over; the event says how, None that its transport connection was closed in order."""

    def __init__(self, event: CoreEvent | None) -> None:
        super().__init__(event)
        self.event = event


class _Stopping(Exception):  # noqa: N818
    """The server stops while nothing is in flight here."""


class _WakeUp(Exception):  # noqa: N818
    """Something is to be sent while the peer asks nothing."""


def _wake(connection: Connection) -> None:
    """Let `_next_request` see to what is to be sent."""
    connection.interrupt(_WakeUp())


class _Answer(NamedTuple):
    """The answer to a C-STORE request."""

    operation: StoreOperation
    target: Sink | Status
    """The sink that took the instance, or the status that refused it."""
    status: Status
    size: int
    """Length of the data set, bytes."""


class StorageService:
    """Serves one association from its request to its end; `serve` runs in the task that owns the connection."""

    def __init__(
        self,
        connection: Connection,
        visitor: ConnectionSlot,
        gate: Gate,
        storage: Storage,
        *,
        limits: Limits,
        normalized: NormalizedService,
        memory: MemoryBudget,
        on_stored: OnAnswer | None,
        on_association_end: OnOver | None,
    ) -> None:
        self._connection = connection
        self._core = connection.core
        self._gate = gate
        self._storage = storage
        self._normalized = normalized
        # No method of this object: they would hold on to one another, and to all that there is of the association.
        wake = functools.partial(_wake, connection)
        self._notifications = Notifications(self._core, wake)
        self._answers: Answers[_Answer] = Answers(wake)
        self._on_answer = on_stored
        self._on_over = on_association_end
        self._visitor = visitor
        self._limits = limits
        self._memory = memory
        self._idle = connection.timeouts.timer("idle")
        self._log = get_logger("scp").with_peer(visitor.address)
        self._requested = False
        """Whether the peer has asked for an association."""
        self._stopping = False
        self._stored = self._refused = 0
        self._received = 0
        """Length of the latest data set, bytes."""

    def stop(self) -> None:
        """End the association as soon as nothing is in flight on it."""
        self._stopping = True
        self._connection.interrupt(_Stopping())

    async def serve(self) -> None:
        """Serve the association until it is over."""
        try:
            await self._serve_association()
        except _AssociationEnded as over:
            self._end(self._how(over.event))
        except LimitExceededError as error:
            self._connection.counters.limit(error.limit)
            self._end(f"aborted: {error}")
            self._core.abort()
        except (_Stopping, TimerExpiredError) as reason:
            self._end(f"aborted: {str(reason) or 'the server stops'}")
            self._core.abort()
            await self._send_last_words()
            return
        if self._stopping:
            await self._send_last_words()
            return
        with contextlib.suppress(_Stopping), self._connection.interruptible():
            await self._await_close()

    def _end(self, how: str) -> None:
        """Give the association's place back, and tell how it ended."""
        self._visitor.release()
        deviations = self._core.deviations
        self._connection.counters.deviations(deviations)
        if isinstance(self._core.error, LimitExceededError):
            self._connection.counters.limit(self._core.error.limit)
        # Who connects and closes again is a load balancer, every few seconds.
        spoke = self._requested or self._core.error or self._connection.expired
        self._log.log(
            logging.INFO if spoke else logging.DEBUG,
            "association_ended",
            how=how,
            stored=self._stored,
            refused=self._refused,
            deviations=dict(deviations),
        )

    def _how(self, event: CoreEvent | None) -> str:
        """Say how the association ended."""
        match event:
            case Aborted(reason, by_peer=True):
                return f"aborted by the peer: {reason.meaning}"
            case Aborted(reason, detail=detail):
                return f"aborted, {reason.meaning}: {detail}"
            case ConnectionLost():
                return "the connection was lost"
            case _:
                return str(self._core.error or self._connection.expired or "closed in order")

    async def _serve_association(self) -> Never:
        association = await self._establish()
        try:
            while True:
                await self._serve_next(association)
        except asyncio.CancelledError:
            self._answers.cancel()
            raise
        finally:
            # Whoever is gone has sent it whole all the same.
            await self._answers.wait()
            self._tell_answers()
            self._notifications.end()
            self._tell_over(association)

    def _tell_over(self, association: AssociationInfo) -> None:
        if self._on_over is None:
            return
        try:
            self._on_over(association)
        except Exception:  # noqa: BLE001  # it is the user's code; the peer still gets its A-RELEASE-RP or A-ABORT
            self._log.exception("on_association_end_raised")

    async def _establish(self) -> AssociationInfo:
        with self._connection.interruptible():
            event = await self._next(self._idle_timer())
        if not isinstance(event, AssociationRequested):
            raise _AssociationEnded(event)
        request = event.request
        self._requested = True
        self._log = self._log.bind(calling=request.calling_ae_title, called=request.called_ae_title)
        association = self._introduced(request)
        peer, negotiation = await self._gate.answer(request, association, self._visitor, self._core.deviations)
        self._core.answer(negotiation)
        if negotiation.outcome is None:
            self._log.warning("association_rejected", rule=peer.rule, reason=negotiation.reason)
            raise _AssociationEnded(None)
        self._storage = peer.storage or self._storage
        if peer.instance_bytes is not None:
            self._limits = dataclasses.replace(self._limits, instance_bytes=peer.instance_bytes)
        self._answers.window = negotiation.outcome.operations_window.invoked
        self._log.info(
            "association_accepted",
            rule=peer.rule,
            accepted=len(self._core.contexts),
            refused_contexts={
                context.abstract_syntax: context.reason
                for context in negotiation.outcome.contexts
                if context.context_id not in self._core.contexts
            },
        )
        return association

    def _introduced(self, request: AssociateRQ) -> AssociationInfo:
        certificate, fingerprint = shown_certificate(self._connection.stream.tls)
        items = request.user_information
        return AssociationInfo(
            calling_ae_title=request.calling_ae_title,
            called_ae_title=request.called_ae_title,
            address=self._visitor.address,
            tls_certificate=certificate,
            tls_fingerprint=fingerprint,
            implementation=ImplementationInfo(
                items.implementation_class_uid or "", items.implementation_version_name or ""
            ),
        )

    async def _serve_next(self, association: AssociationInfo) -> None:
        """Serve one message of the peer, from its command to our response."""
        event = await self._next_request()
        match event:
            case CommandReceived(context, CStoreRQ() as command):
                await self._store(StoreOperation(association, context, command, self._memory))
            case CommandReceived(context, CEchoRQ() as command):
                await self._echo(context, command)
            case CommandReceived(context, NActionRQ() | NEventReportRQ() as command) if self._is_normalized(context):
                await self._perform(association, context, command)
            case CommandReceived(_, NEventReportRSP() as command) if self._notifications.take(command):
                await self._drain(command)
            case CommandReceived(context, command):
                await self._refuse_unrecognized(context, command)
            case CommandMalformed(context, error):
                await self._drain(error.command)
                self._log.warning("request_refused", reason=str(error))
                refusal = error.command.refusal(
                    error.status, offending=(error.offending,), comment="element is missing or malformed"
                )
                self._core.send_command(context.context_id, refusal)
            case ReleaseRequested():
                await self._answers.wait()
                self._send_answers()
                self._core.confirm_release()
                raise _AssociationEnded(None)
            case _:
                raise _AssociationEnded(event)

    async def _next_request(self) -> CoreEvent:
        """Wait for what the peer asks next. As long as that is nothing, answers and notifications are sent."""
        while True:
            self._send_answers()
            self._notifications.send_next()
            if self._stopping:
                if not self._answers:
                    raise _Stopping
                await self._answers.wait()
                continue
            try:
                with self._connection.interruptible():
                    return await self._next(self._idle_timer())
            except (_WakeUp, _Stopping):
                continue
            except TimerExpiredError:
                # The peer may wait in silence for answers and notifications that are still being made.
                if not (self._answers or self._notifications.expected):
                    raise

    def _is_normalized(self, context: AcceptedContext) -> bool:
        return context.abstract_syntax in self._normalized.sop_classes

    async def _perform(
        self, association: AssociationInfo, context: AcceptedContext, command: NActionRQ | NEventReportRQ
    ) -> None:
        """Have a DIMSE-N request served (PS3.7 10.1)."""
        data = await self._whole_data_set(command)
        operation = NormalizedOperation(association, self._storage, context, command, data or b"", self._notifications)
        status = _DATA_SET_TOO_LONG
        if data is not None:
            try:
                status = await self._normalized.perform(operation)
            except Exception:  # noqa: BLE001  # see _begin
                self._log.exception("request_failed", command=type(command).__name__)
                status = PROCESSING_FAILURE
        if not status.accepted:
            self._log.warning("request_refused", command=type(command).__name__, status=str(status))
        self._core.send_command(context.context_id, response_to(operation, status))

    async def _whole_data_set(self, command: NActionRQ | NEventReportRQ) -> bytes | None:
        """Take a data set to its end; None for one that is longer than what is kept in memory."""
        self._received = 0
        self._connection.progress.restart()
        data = bytearray()
        last = not command.has_data_set
        while not last:
            part, last = await self._next_data()
            if self._received <= self._limits.normalized_bytes:
                data += part
        return bytes(data) if self._received <= self._limits.normalized_bytes else None

    async def _echo(self, context: AcceptedContext, command: CEchoRQ) -> None:
        await self._drain(command)
        status = SUCCESS if command.affected_sop_class_uid == context.abstract_syntax == VERIFICATION else _WRONG_CLASS
        self._core.send_command(
            context.context_id,
            CEchoRSP(
                message_id_being_responded_to=command.message_id,
                affected_sop_class_uid=command.affected_sop_class_uid,
                status=status.code,
                error_comment=status.comment,
            ),
        )

    async def _refuse_unrecognized(self, context: AcceptedContext, command: Command | RawCommand) -> None:
        await self._drain(command)
        raw = command if isinstance(command, RawCommand) else command.to_raw()
        if isinstance(command, CCancelRQ):
            return  # There is nothing here that it could cancel, and it is never answered (PS3.7 9.3.2.3).
        if raw.is_response:
            self._core.deviations[Deviation.UNEXPECTED_RESPONSE] += 1
            return
        self._log.warning("request_refused", reason=f"command {raw.command_field:04X}H is not served here")
        self._core.send_command(
            context.context_id, raw.refusal(UNRECOGNIZED_OPERATION.code, comment="only C-STORE and C-ECHO are served")
        )

    async def _store(self, operation: StoreOperation) -> None:
        self._received = 0
        target = await self._take(operation) if operation.command.has_data_set else _NO_DATA_SET
        await self._answers.add(self._answer(operation, target, self._received))

    async def _take(self, operation: StoreOperation) -> Sink | Status:
        try:
            return await self._receive(
                _refusal(operation, self._normalized.sop_classes) or await self._begin(operation)
            )
        except BaseException:
            self._log.warning("instance_incomplete", sop_instance_uid=operation.sop_instance_uid, size=self._received)
            raise

    async def _answer(self, operation: StoreOperation, target: Sink | Status, size: int) -> _Answer:
        return _Answer(operation, target, await self._commit(target), size)

    def _send_answers(self) -> None:
        for answer in self._tell_answers():
            command, status = answer.operation.command, answer.status
            self._core.send_command(
                answer.operation.context.context_id,
                CStoreRSP(
                    message_id_being_responded_to=command.message_id,
                    affected_sop_class_uid=command.affected_sop_class_uid,
                    affected_sop_instance_uid=command.affected_sop_instance_uid,
                    status=status.code,
                    offending_element=status.offending,
                    error_comment=status.comment,
                ),
            )

    def _tell_answers(self) -> list[_Answer]:
        answers = list(self._answers.take())
        for answer in answers:
            self._tell(*answer)
        return answers

    def _tell(self, operation: StoreOperation, target: Sink | Status, status: Status, size: int) -> None:
        if self._on_answer is not None:
            self._on_answer(operation, status, size)
        accepted = status.accepted
        self._stored += accepted
        self._refused += not accepted
        level = logging.INFO if accepted else logging.WARNING
        if not self._log.isEnabledFor(level):
            return
        self._log.log(
            level,
            "instance_stored" if accepted else "instance_refused",
            sop_class_uid=operation.sop_class_uid,
            sop_instance_uid=operation.sop_instance_uid,
            transfer_syntax_uid=operation.transfer_syntax_uid,
            study_instance_uid=study_of(target),
            size=size,
            status=str(status),
        )

    async def _begin(self, operation: StoreOperation) -> Sink | Status:
        try:
            return await self._storage.begin(operation)
        except Exception as error:  # noqa: BLE001  # a storage is the user's code: whatever it raises is answered
            return self._failure(error)

    async def _receive(self, target: Sink | Status) -> Sink | Status:
        """Take a data set to its end and give what has it; where the target is a status, the bytes go nowhere."""
        self._connection.progress.restart()
        last = False
        try:
            while not last:
                data, last = await self._next_data()
                if self._received > self._limits.instance_bytes:
                    target = await self._refuse_length(target)
                target = await self._write(target, data)
        except BaseException:
            await self._discard(target)
            raise
        return target

    async def _next_data(self) -> DataReceived:
        """Take the next bytes of a data set."""
        connection = self._connection
        event = connection.next_event_nowait() or await connection.next_event(connection.progress)
        if not isinstance(event, DataReceived):
            raise _AssociationEnded(event)
        self._received += len(event.data)
        if self._received > self._limits.instance_bytes + self._limits.drained_bytes:
            raise LimitExceededError(f"a data set of more than {self._received} bytes", "drained_bytes")
        return event

    async def _refuse_length(self, target: Sink | Status) -> Status:
        """Refuse a data set that is too long, unless it was refused before; the rest of it is passed over."""
        if isinstance(target, Status):
            return target
        self._connection.counters.limit("instance_bytes")
        await self._discard(target)
        return Status(OUT_OF_RESOURCES.code, f"longer than {self._limits.instance_bytes} bytes")

    async def _write(self, target: Sink | Status, data: Buffer) -> Sink | Status:
        if isinstance(target, Status):
            return target
        try:
            await target.write(data)
        except Exception as error:  # noqa: BLE001  # see _begin
            await self._discard(target)
            return self._failure(error)
        return target

    async def _commit(self, target: Sink | Status) -> Status:
        if isinstance(target, Status):
            return target
        try:
            return await target.commit()
        except Exception as error:  # noqa: BLE001  # see _begin
            await self._discard(target)
            return self._failure(error)

    async def _discard(self, target: Sink | Status) -> None:
        if isinstance(target, Status):
            return
        try:
            await target.discard()
        except Exception:  # noqa: BLE001  # see _begin; there is nobody left to tell
            self._log.exception("discard_failed")

    def _failure(self, error: Exception) -> Status:
        if isinstance(error, OSError) and not isinstance(error, DicomportError):
            self._log.error("storage_failed", reason=reason_of(error))
            return status_of(error)
        self._log.error("storage_raised", exc_info=error)
        return PROCESSING_FAILURE

    async def _drain(self, command: Command | RawCommand) -> None:
        """Pass over a data set that nobody wants."""
        if command.has_data_set:
            await self._receive(PROCESSING_FAILURE)

    def _idle_timer(self) -> Deadline:
        """Bound the wait for a whole command: nobody keeps an association by a byte now and then."""
        return self._idle.started()

    async def _next(self, bound: Deadline) -> CoreEvent:
        """Send pending bytes and wait for the next event; raise `_AssociationEnded` once the association has ended."""
        event = self._connection.next_event_nowait() or await self._connection.next_event(bound)
        if event is None or isinstance(event, Aborted | ConnectionLost):
            raise _AssociationEnded(event)
        return event

    async def _await_close(self) -> None:
        """Let the peer close the transport connection first, as long as ARTIM allows (Sta13, PS3.8 9.2).

        Closed from here with bytes unread, it would be reset, and our last PDU might be lost.
        """
        while self._core.state is State.STA13:
            await self._connection.next_event(self._idle_timer())
            if self._connection.expired is not None:
                self._log.info("connection_timed_out", reason=str(self._connection.expired))

    async def _send_last_words(self) -> None:
        try:
            await self._connection.flush(self._connection.timeouts.timer("abort").started())
        except TimerExpiredError as expired:
            self._connection.counters.timer(expired.timer)
        except OSError:
            pass


_WRONG_CLASS: Final = Status(SOP_CLASS_NOT_SUPPORTED.code, "SOP Class is not the one of the presentation context")
_NOT_STORAGE: Final = Status(SOP_CLASS_NOT_SUPPORTED.code, "the SOP Class is not one of storage")
_DATA_SET_TOO_LONG: Final = Status(RESOURCE_LIMITATION.code, "the data set is longer than what is taken here")
_NO_DATA_SET: Final = Status(INVALID_OBJECT_INSTANCE.code, "the request has no data set")
_UID_TOO_LONG: Final = Status(
    INVALID_OBJECT_INSTANCE.code, "SOP Instance UID is longer than 64 characters", (Element.AFFECTED_SOP_INSTANCE_UID,)
)


def _refusal(operation: StoreOperation, normalized: Collection[str]) -> Status | None:
    """Say what a C-STORE request is refused with before anybody looks at its data set, if it is."""
    asked, negotiated = operation.sop_class_uid, operation.context.abstract_syntax
    known = sop_classes.find(asked)
    if asked != negotiated and (known is None or known is not sop_classes.find(negotiated)):
        return _WRONG_CLASS
    if negotiated == VERIFICATION or negotiated in normalized:
        return _NOT_STORAGE
    if len(operation.sop_instance_uid) > _MAX_UID:
        return _UID_TOO_LONG
    return None
