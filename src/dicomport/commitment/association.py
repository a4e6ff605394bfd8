"""An association for storage commitment alone, from its requestor's side: an SCU that asks, or an SCP that reports.

The steps of either stand on those of every requestor (PS3.7 10.1.1 and 10.1.4).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Self, TypeAlias, Unpack

from dicomport.commitment.limits import DEFAULT_COMMITMENT_LIMITS
from dicomport.core import (
    AcceptedContext,
    CommandMalformed,
    CommandReceived,
    DataReceived,
    ReleaseRequested,
)
from dicomport.net import (
    FLUSH,
    Address,
    AssociationError,
    Connection,
    ConnectionLostError,
    Steps,
    Timeouts,
    Timer,
    TimerExpiredError,
    connect,
)
from dicomport.scu import NegotiationItems, NoContextError, Requestor, association_request
from dicomport.standard import STORAGE_COMMITMENT, STORAGE_COMMITMENT_INSTANCE, Status
from dicomport.wire import (
    AssociateRQ,
    Command,
    NActionRQ,
    NActionRSP,
    NEventReportRQ,
    NEventReportRSP,
    RawCommand,
    RoleSelection,
)
from dicomport.wire.commitment import CommitmentRequest, CommitmentResult

__all__ = ["ALL_COMMITTED", "REQUEST_STORAGE_COMMITMENT", "SOME_FAILED", "CommitmentAssociation", "TakeReport"]

REQUEST_STORAGE_COMMITMENT: Final = 1
"""The one Action Type (PS3.4 J.3.2.1.1)."""

ALL_COMMITTED: Final = 1
"""Event Type: the request was successful (PS3.4 J.3.3.1.1)."""

SOME_FAILED: Final = 2
"""Event Type: the request is complete, and there are failures (PS3.4 J.3.3.1.1)."""

TakeReport: TypeAlias = Callable[[NEventReportRQ, bytes, str], Status]
"""Takes a report with its data set and the transfer syntax of that, and says how it is answered."""

_MAX_BYTES: Final = DEFAULT_COMMITMENT_LIMITS.data_set_bytes


@dataclass(frozen=True, slots=True)
class _Message:
    context: AcceptedContext
    command: Command | RawCommand
    data: bytes


class _Requestor(Requestor):
    """The steps."""

    def __init__(self, request: AssociateRQ, timeouts: Timeouts, take: TakeReport | None) -> None:
        super().__init__(request, timeouts)
        self._take = take

    def open(self) -> Steps[None]:
        """Establish the association. Raises `NoContextError` where it can't be used, and `AssociationError`."""
        outcome = yield from self.establish()
        try:
            self._context()
            # A peer that says nothing of roles may take a report all the same; one that says no will not.
            if self._take is None and any(not role.scp for role in outcome.roles):
                raise NoContextError("the peer does not let us be the SCP of storage commitment")
        except NoContextError:
            with contextlib.suppress(AssociationError):
                yield from self.release()
            raise

    def ask(self, request: CommitmentRequest) -> Steps[Status]:
        """Ask for the commitment, and give the peer's answer to that."""
        context = self._context()
        command = NActionRQ(
            has_data_set=True,
            message_id=self._next_message_id(),
            requested_sop_class_uid=STORAGE_COMMITMENT,
            requested_sop_instance_uid=STORAGE_COMMITMENT_INSTANCE,
            action_type_id=REQUEST_STORAGE_COMMITMENT,
        )
        return (yield from self._exchange(command, request.encode(context.transfer_syntax), NActionRSP))

    def report(self, result: CommitmentResult) -> Steps[Status]:
        """Report, and give the peer's answer."""
        context = self._context()
        command = NEventReportRQ(
            has_data_set=True,
            message_id=self._next_message_id(),
            affected_sop_class_uid=STORAGE_COMMITMENT,
            affected_sop_instance_uid=STORAGE_COMMITMENT_INSTANCE,
            event_type_id=SOME_FAILED if result.failed else ALL_COMMITTED,
        )
        return (yield from self._exchange(command, result.encode(context.transfer_syntax), NEventReportRSP))

    def listen(self, timer: Timer, is_over: Callable[[], bool]) -> Steps[None]:
        """Take reports until it is over; the timer bounds each wait for one."""
        while not is_over():
            message = yield from self._next_message(timer)
            yield from self._serve(message)

    def _context(self) -> AcceptedContext:
        for context in self.core.contexts.values():
            if context.abstract_syntax == STORAGE_COMMITMENT:
                return context
        reasons = [context.reason for context in self.outcome.contexts] if self.outcome else []
        raise NoContextError(f"the peer does not take storage commitment: {', '.join(reasons)}")

    def _exchange(
        self, command: NActionRQ | NEventReportRQ, data: bytes, kind: type[NActionRSP | NEventReportRSP]
    ) -> Steps[Status]:
        context_id = self._context().context_id
        self.core.send_command(context_id, command)
        self.core.send_data(context_id, data, last=True)
        yield from self._flush()
        timer = self._timeouts.timer("dimse").started()
        while True:
            message = yield from self._next_message(timer)
            answer = message.command
            if isinstance(answer, kind) and answer.message_id_being_responded_to == command.message_id:
                return Status.of(answer.status, answer.error_comment, answer.offending_element)
            yield from self._serve(message)

    def _next_message(self, timer: Timer) -> Steps[_Message]:
        """Wait for a whole message; one that is malformed is refused."""
        while True:
            event = yield from self._next(timer)
            match event:
                case CommandReceived(context, command):
                    data = (yield from self._data_set(timer)) if command.has_data_set else b""
                    return _Message(context, command, data)
                case CommandMalformed(context, error):
                    if error.command.has_data_set:
                        yield from self._data_set(timer)
                    self.core.send_command(context.context_id, error.command.refusal(error.status))
                    yield from self._flush()
                case ReleaseRequested():
                    self.core.confirm_release()
                    yield from self._flush()
                    raise ConnectionLostError("the peer released the association")
                case _:
                    raise ConnectionLostError(f"the peer sent {event} where a message belongs")

    def _data_set(self, timer: Timer) -> Steps[bytes]:
        """Take a data set to its end; what is too long to be kept is empty."""
        data, size, last = bytearray(), 0, False
        while not last:
            event = yield from self._next(timer)
            if not isinstance(event, DataReceived):
                raise ConnectionLostError(f"the peer sent {event} inside a message")
            size += len(event.data)
            data += event.data if size <= _MAX_BYTES else b""
            last = event.last
        return bytes(data) if size <= _MAX_BYTES else b""

    def _serve(self, message: _Message) -> Steps[None]:
        """Answer what the peer says unasked."""
        command = message.command
        if isinstance(command, NEventReportRQ) and self._take is not None:
            status = self._take(command, message.data, message.context.transfer_syntax)
            self.core.send_command(
                message.context.context_id,
                NEventReportRSP(
                    message_id_being_responded_to=command.message_id,
                    affected_sop_class_uid=command.affected_sop_class_uid,
                    affected_sop_instance_uid=command.affected_sop_instance_uid,
                    status=status.code,
                    error_comment=status.comment,
                ),
            )
        else:
            self._answer_unexpected(message.context, command)
        yield from self._flush()

    def _flush(self) -> Steps[None]:
        try:
            yield FLUSH
        except TimerExpiredError:
            raise
        except OSError:
            # The next wait for the peer raises the reason.
            return


class _AssociationEnded(Exception):  # noqa: N818  # not an error: nothing more is awaited
    """`stop_listening` was called."""


class CommitmentAssociation:
    """An established association on asyncio. All of it raises `AssociationError`."""

    def __init__(self, connection: Connection, requestor: _Requestor) -> None:
        self._connection = connection
        self._requestor = requestor
        self._over = False
        self._closed = False

    @classmethod
    async def open(
        cls,
        address: Address,
        *,
        ae_title: str,
        called_ae_title: str,
        timeouts: Timeouts,
        take: TakeReport | None = None,
        **negotiation: Unpack[NegotiationItems],
    ) -> Self:
        """Connect and negotiate: with `take` as the SCU, without it as the SCP (PS3.7 D.3.3.4)."""
        if take is None:
            negotiation["roles"] = (RoleSelection(STORAGE_COMMITMENT, scu=False, scp=True),)
        request = association_request(
            [STORAGE_COMMITMENT], ae_title=ae_title, called_ae_title=called_ae_title, **negotiation
        )
        stream = await connect(address, timeouts)
        requestor = _Requestor(request, timeouts, take)
        connection = Connection(stream, requestor.core, timeouts)
        try:
            await connection.run(requestor.open())
        except BaseException:
            connection.close()
            raise
        return cls(connection, requestor)

    async def ask(self, request: CommitmentRequest) -> Status:
        """Ask for a commitment, and give the answer: the result comes later."""
        return await self._connection.run(self._requestor.ask(request))

    async def report(self, result: CommitmentResult) -> Status:
        """Report a result, and give the answer."""
        return await self._connection.run(self._requestor.report(result))

    async def listen(self, seconds: float) -> None:
        """Take reports until `stop_listening`; between two of them no more than so many seconds may go by."""
        with contextlib.suppress(_AssociationEnded), self._connection.interruptible():
            await self._connection.run(self._requestor.listen(Timer("report", seconds), lambda: self._over))

    def stop_listening(self) -> None:
        """Let `listen` return, once what is being sent is sent."""
        self._over = True
        self._connection.interrupt(_AssociationEnded())

    async def release(self) -> None:
        """Release the association, where it is not over already, and close."""
        try:
            if self._requestor.core.established:
                await self._connection.run(self._requestor.release())
        finally:
            self._close()

    async def abort(self) -> None:
        """Abort the association, and close; where it is closed already, nothing happens."""
        if not self._closed:
            try:
                await self._connection.run(self._requestor.abort())
            finally:
                self._close()

    def _close(self) -> None:
        self._closed = True
        self._connection.close()
