"""What an association-requestor does, as steps (PS3.7 9.1, PS3.8 7): asyncio and blocking clients run the same ones."""

from __future__ import annotations

import contextlib
import itertools
import ssl
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, TypeVar

from dicomport.core import (
    Aborted,
    AcceptedContext,
    Association,
    AssociationAccepted,
    AssociationRejected,
    CommandMalformed,
    CommandReceived,
    ConnectionLost,
    CoreEvent,
    Outcome,
    ReleaseConfirmed,
    ReleaseRequested,
    Role,
)
from dicomport.net import (
    FLUSH,
    AbortedError,
    AssociationError,
    Flush,
    LostError,
    RejectedError,
    Steps,
    Timeouts,
    Timer,
    next_event,
    tls_words,
)
from dicomport.scu.instances import Instance, NotSendableError
from dicomport.standard import UNRECOGNIZED_OPERATION, VERIFICATION, Category, Status, describe
from dicomport.wire import (
    DEFAULT_LIMITS,
    AssociateRQ,
    CCancelRQ,
    CEchoRQ,
    CEchoRSP,
    Command,
    ContextResult,
    CStoreRQ,
    CStoreRSP,
    Deviation,
    FileMetaError,
    Limits,
    Priority,
    RawCommand,
    Response,
)

__all__ = ["NoContextError", "Requestor", "StoreResponse"]

_CHUNK_BYTES: Final = 1 << 20
"""What is read of an instance and handed to the socket at a time."""

_CHUNK_PDUS: Final = 2048
"""Into how many P-DATA-TFs that is cut at most: each costs memory of its own, and a peer may ask for tiny ones."""

_LAST_MESSAGE_ID: Final = 0xFFFF

R = TypeVar("R", bound=Response)


class NoContextError(AssociationError):
    """The association has no Presentation Context for the instance; the association goes on."""


@dataclass(frozen=True, slots=True)
class StoreResponse:
    """The peer's answer to a C-STORE request."""

    sop_instance_uid: str
    """Of the instance that was sent."""
    status: Status
    """With Error Comment and Offending Element where the peer gave them."""

    @property
    def accepted(self) -> bool:
        """Whether the peer took the instance: a success or a warning."""
        return self.status.accepted

    @property
    def category(self) -> Category:
        """The category of the status."""
        return self.status.category

    @property
    def error_comment(self) -> str:
        """Error Comment (0000,0902), empty where there was none."""
        return self.status.comment


class Requestor:
    """One association from the requestor's side. Its methods are steps, for one runner at a time."""

    def __init__(self, request: AssociateRQ, timeouts: Timeouts, limits: Limits = DEFAULT_LIMITS) -> None:
        self.core = Association(Role.REQUESTOR, limits=limits)
        self.core.request(request)
        self.outcome: Outcome | None = None
        """What was agreed on, once `establish` is done."""
        self._timeouts = timeouts
        self._by_syntaxes: dict[tuple[str, str], AcceptedContext] = {}
        self._chunk_bytes = _CHUNK_BYTES
        self._message_id = 0

    def establish(self) -> Steps[Outcome]:
        """Ask for the association over an open transport connection. Raises `AssociationError`."""
        self.core.transport_opened()
        event = yield from self._next(self._timeouts.timer("acse").started())
        if isinstance(event, AssociationRejected):
            raise RejectedError(event.rejection)
        if not isinstance(event, AssociationAccepted):
            raise LostError(f"the peer answered the association request with {event}")
        self.outcome = event.outcome
        if event.outcome.peer_maximum_length:
            self._chunk_bytes = min(_CHUNK_BYTES, _CHUNK_PDUS * event.outcome.peer_maximum_length)
        for context in self.core.contexts.values():
            self._by_syntaxes.setdefault((context.abstract_syntax, context.transfer_syntax), context)
        return event.outcome

    def echo(self) -> Steps[Status]:
        """Verify the association (PS3.7 9.1.5). Raises `AssociationError`."""
        context = next((c for c in self.core.contexts.values() if c.abstract_syntax == VERIFICATION), None)
        if context is None:
            raise NoContextError("the association has no presentation context for verification")
        message_id = self._next_message_id()
        self.core.send_command(context.context_id, CEchoRQ(message_id=message_id, affected_sop_class_uid=VERIFICATION))
        response = yield from self._response(message_id, CEchoRSP)
        return _status(response)

    def store(
        self,
        instance: Instance,
        *,
        priority: Priority = Priority.MEDIUM,
        move_originator_ae_title: str = "",
        move_originator_message_id: int | None = None,
    ) -> Steps[StoreResponse]:
        """Send one instance, its bytes as they are, and wait for the answer (PS3.7 9.1.1).

        Raises `NoContextError` where the peer does not take the SOP Class in this transfer syntax, `NotSendableError`
        when the instance can't be read, which aborts the association if its message has begun, and
        `AssociationError`.
        """
        context = self._context_for(instance)
        message_id = self._next_message_id()
        command = CStoreRQ(
            message_id=message_id,
            affected_sop_class_uid=instance.sop_class_uid,
            affected_sop_instance_uid=instance.sop_instance_uid,
            priority=priority,
            move_originator_ae_title=move_originator_ae_title,
            move_originator_message_id=move_originator_message_id,
        )
        chunks = instance.chunks(self._chunk_bytes)
        try:
            # Before anything is sent: a file that can't be read at all costs no association.
            first = next(chunks)
        except (OSError, FileMetaError) as error:
            raise NotSendableError(f"can't be read: {error}") from error
        self.core.send_command(context.context_id, command)
        try:
            yield from self._send_data(context.context_id, itertools.chain((first,), chunks), instance.sent_size)
        except (OSError, FileMetaError) as error:
            # A message that has begun can't be taken back.
            yield from self.abort()
            raise NotSendableError(f"can't be read to its end: {error}") from error
        response = yield from self._response(message_id, CStoreRSP)
        return StoreResponse(instance.sop_instance_uid, _status(response))

    def release(self) -> Steps[None]:
        """Release the association (PS3.8 7.2), in a collision the peer's side too. Raises `AssociationError`."""
        self.core.release()
        timer = self._timeouts.timer("release").started()
        while True:
            event = yield from self._next(timer)
            if isinstance(event, ReleaseRequested):
                self.core.confirm_release()
            if isinstance(event, ReleaseConfirmed):
                return

    def abort(self) -> Steps[None]:
        """Abort the association (PS3.8 7.3), without waiting for the peer."""
        self.core.abort()
        try:
            yield Flush(self._timeouts.timer("abort").started())
        except (OSError, AssociationError):
            # Whom it was meant for has gone, or does not read: that is what an abort is about.
            return

    def _send_data(self, context_id: int, chunks: Iterable[memoryview], size: int) -> Steps[None]:
        for chunk in chunks:
            size -= len(chunk)
            self.core.send_data(context_id, chunk, last=size == 0)
            try:
                yield FLUSH
            except OSError:
                # The connection is gone, but the peer may have said why before: the wait for its response will tell.
                return

    def _response(self, message_id: int, kind: type[R]) -> Steps[R]:
        """Wait for the response to one request; whatever else the peer says meanwhile is answered or passed over."""
        # Counted from here on, where the last byte of the request has left, whatever else the peer says meanwhile.
        timer = self._timeouts.timer("dimse").started()
        while True:
            event = yield from self._next(timer)
            match event:
                case CommandReceived(_, command) if isinstance(command, kind) and (
                    command.message_id_being_responded_to == message_id
                ):
                    return command
                case CommandReceived(context, command):
                    self._answer_unexpected(context, command)
                case CommandMalformed(context, error):
                    self.core.send_command(context.context_id, error.command.refusal(error.status))
                case ReleaseRequested():
                    self.core.confirm_release()
                    # Whom it is confirmed to may have gone.
                    with contextlib.suppress(OSError):
                        yield FLUSH
                    raise LostError("the peer released the association")
                case _:
                    pass  # A data set that belongs to one of these.

    def _answer_unexpected(self, context: AcceptedContext, command: Command | RawCommand) -> None:
        raw = command if isinstance(command, RawCommand) else command.to_raw()
        if raw.is_response:
            # A late response must never be taken for the one that is awaited.
            self.core.deviations[Deviation.UNEXPECTED_RESPONSE] += 1
        elif not isinstance(command, CCancelRQ):
            self.core.send_command(context.context_id, raw.refusal(UNRECOGNIZED_OPERATION.code))

    def _next(self, timer: Timer) -> Steps[CoreEvent]:
        """Wait for the next event; once the association is over, raise how it ended."""
        try:
            event = yield from next_event(self.core, timer)
        except AssociationError:
            # After a timeout an answer may still come; only a new association can tell it from the next one's.
            yield from self.abort()
            raise
        match event:
            case ConnectionLost(ssl.SSLError() as error):
                raise LostError(f"the peer closed the connection: {tls_words(error)}") from error
            case None | ConnectionLost():
                raise LostError("the peer closed the connection")
            case Aborted():
                raise AbortedError(event)
            case _:
                return event

    def _context_for(self, instance: Instance) -> AcceptedContext:
        context = self._by_syntaxes.get((instance.sop_class_uid, instance.transfer_syntax_uid))
        if context is None:
            raise NoContextError(self._why_not(instance))
        return context

    def _why_not(self, instance: Instance) -> str:
        """Say why there is no context for an instance."""
        what = f"{describe(instance.sop_class_uid)} in {describe(instance.transfer_syntax_uid)}"
        outcomes = (
            [c for c in self.outcome.contexts if c.abstract_syntax == instance.sop_class_uid] if self.outcome else []
        )
        accepted = [describe(c.transfer_syntax) for c in outcomes if c.result is ContextResult.ACCEPTED]
        if accepted:
            return f"the peer does not take {what}, only in {', '.join(accepted)}: it would have to be converted"
        if outcomes:
            return f"the peer does not take {what}: {outcomes[0].reason}"
        return f"no presentation context was proposed for {what}"

    def _next_message_id(self) -> int:
        self._message_id = self._message_id % _LAST_MESSAGE_ID + 1
        return self._message_id


def _status(response: Response) -> Status:
    return Status.of(response.status, response.error_comment, response.offending_element)
