"""What an association-requestor does, as steps (PS3.7 9.1, PS3.8 7): asyncio and blocking clients run the same ones."""

from __future__ import annotations

import contextlib
import functools
import ssl
import time
from collections.abc import Iterator
from typing import Final

from dicomport.core import (
    Aborted,
    AcceptedContext,
    AssociationAccepted,
    AssociationRejected,
    CommandMalformed,
    CommandReceived,
    ConnectionLost,
    CoreEvent,
    NegotiationResult,
    ReleaseConfirmed,
    ReleaseRequested,
    Role,
)
from dicomport.errors import DicomportError
from dicomport.net import (
    FLUSH,
    AbortedError,
    AssociationError,
    ConnectionLostError,
    Flush,
    RejectedError,
    Steps,
    Timeouts,
    Timer,
    TimerExpiredError,
    association,
    next_event,
    tls_words,
)
from dicomport.scu.inputs.instance import Instance, NotSendableError
from dicomport.scu.inputs.locations import FileRegion
from dicomport.scu.results import StoreResponse, Timing
from dicomport.standard import UNRECOGNIZED_OPERATION, VERIFICATION, Status, describe
from dicomport.wire import (
    DEFAULT_PROTOCOL_LIMITS,
    AssociateRQ,
    CCancelRQ,
    CEchoRQ,
    CEchoRSP,
    Command,
    CStoreRQ,
    CStoreRSP,
    Deviation,
    FileMetaError,
    Priority,
    ProtocolLimits,
    RawCommand,
    Response,
)

__all__ = ["NoContextError", "Requestor"]

_CHUNK_BYTES: Final = 1 << 20
"""What is read of an instance and handed to the socket at a time."""

_CHUNK_PDUS: Final = 2048
"""Into how many P-DATA-TFs that is cut at most: each costs memory of its own, and a peer may ask for tiny ones."""

_LAST_MESSAGE_ID: Final = 0xFFFF


_plain: Final = functools.lru_cache(maxsize=64)(Status.of)
"""Statuses without a comment: the same for nearly all instances."""


class NoContextError(DicomportError):
    """The association has no Presentation Context for the instance; the association goes on."""


class Requestor:
    """One association from the requestor's side. Its methods are steps, for one runner at a time.

    `submit` and `next_response` are the two halves of a C-STORE, for as many operations at once as `window` allows.
    """

    def __init__(
        self, request: AssociateRQ, timeouts: Timeouts, limits: ProtocolLimits = DEFAULT_PROTOCOL_LIMITS
    ) -> None:
        self.core = association(Role.REQUESTOR, limits)
        self.core.request(request)
        self.outcome: NegotiationResult | None = None
        """What was agreed on, once `establish` is done."""
        self.round_trip = 0.0
        """Seconds that the peer took to answer the association request."""
        self.timing = Timing()
        self._proposed_window = request.user_information.operations_window
        self._timeouts = timeouts
        self._by_syntaxes: dict[tuple[str, str], AcceptedContext] = {}
        self._chunk_bytes = _CHUNK_BYTES
        self._ahead: tuple[FileRegion, memoryview, Iterator[memoryview]] | None = None
        """The beginning of the instance that is submitted next."""
        self._message_id = 0
        self._outstanding: dict[int, type[Response]] = {}
        """The requests that wait for their responses, by message id."""
        self._response_timer = timeouts.timer("dimse")
        """Runs from the moment that the last byte of the latest request has left, or the latest response has come."""

    @property
    def window(self) -> int:
        """How many operations may be outstanding at once; 0 is no limit (PS3.7 D.3.3.3)."""
        if self.outcome is None or self._proposed_window is None:
            return 1
        return self.outcome.operations_window.invoked

    def establish(self) -> Steps[NegotiationResult]:
        """Ask for the association over an open transport connection. Raises `AssociationError`."""
        self.core.transport_opened()
        started = time.perf_counter()
        event = yield from self._next(self._timeouts.timer("acse").started())
        self.round_trip = time.perf_counter() - started
        if isinstance(event, AssociationRejected):
            raise RejectedError(event.rejection)
        if not isinstance(event, AssociationAccepted):
            raise ConnectionLostError(f"the peer answered the association request with {event}")
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
        self._await_response(message_id, CEchoRSP)
        _, status = yield from self.next_response()
        return status

    def store(
        self,
        instance: Instance,
        *,
        priority: Priority = Priority.MEDIUM,
        move_originator_ae_title: str = "",
        move_originator_message_id: int | None = None,
    ) -> Steps[StoreResponse]:
        """Send one instance, its bytes as they are, and wait for the answer (PS3.7 9.1.1). Raises as `submit` does."""
        yield from self.submit(
            instance,
            priority=priority,
            move_originator_ae_title=move_originator_ae_title,
            move_originator_message_id=move_originator_message_id,
        )
        _, status = yield from self.next_response()
        return StoreResponse(instance.sop_instance_uid, status)

    def submit(
        self,
        instance: Instance,
        *,
        priority: Priority = Priority.MEDIUM,
        move_originator_ae_title: str = "",
        move_originator_message_id: int | None = None,
    ) -> Steps[int]:
        """Send one instance, its bytes as they are, and give the message id that the answer will have.

        Raises `NoContextError` where the peer does not take the SOP Class in this transfer syntax, `NotSendableError`
        when the instance can't be read, which aborts the association if its message has begun, and
        `AssociationError`.
        """
        context = self.context_for(instance.sop_class_uid, instance.transfer_syntax_uid)
        if context is None:
            raise NoContextError(self._why_not(instance))
        # Before anything is sent: a file that can't be read at all costs no association.
        first, chunks = self._begin(instance)
        message_id = self._next_message_id()
        self.core.send_command(
            context.context_id,
            CStoreRQ(
                message_id=message_id,
                affected_sop_class_uid=instance.sop_class_uid,
                affected_sop_instance_uid=instance.sop_instance_uid,
                priority=priority,
                move_originator_ae_title=move_originator_ae_title,
                move_originator_message_id=move_originator_message_id,
            ),
        )
        try:
            yield from self._send_data(context.context_id, first, chunks, instance.sent_size)
        except NotSendableError:
            # A message that has begun can't be taken back.
            yield from self.abort()
            raise
        self._await_response(message_id, CStoreRSP)
        return message_id

    def read_ahead(self, instance: Instance) -> None:
        """Read the beginning of the instance that is submitted next, where it is in a file.

        What is wrong with the file is told when it is submitted. Then it is read anew, should it have changed.
        """
        if isinstance(instance.source, FileRegion):
            with contextlib.suppress(NotSendableError):
                self._ahead = (instance.source, *self._begin(instance))

    def next_response(self) -> Steps[tuple[int, Status]]:
        """Wait for the response to any request that is outstanding; give its message id and the status.

        Whatever else the peer says meanwhile is answered or passed over. Raises `AssociationError`.
        """
        started = time.perf_counter()
        try:
            while True:
                event = yield from self._next(self._response_timer)
                match event:
                    case CommandReceived(_, Response() as command) if self._is_awaited(command):
                        return self._settle(command)
                    case CommandReceived(context, command):
                        self._answer_unexpected(context, command)
                    case CommandMalformed(context, error):
                        self.core.send_command(context.context_id, error.command.refusal(error.status))
                    case ReleaseRequested():
                        yield from self._confirm_release()
                        raise ConnectionLostError("the peer released the association")
                    case _:
                        pass  # A data set that belongs to one of these.
        finally:
            self.timing.waiting += time.perf_counter() - started

    def context_for(self, sop_class_uid: str, transfer_syntax_uid: str) -> AcceptedContext | None:
        """Give the accepted Presentation Context for a SOP Class in a transfer syntax, if there is one."""
        return self._by_syntaxes.get((sop_class_uid, transfer_syntax_uid))

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
        except OSError:
            # Whom it was meant for has gone, or does not read: that is what an abort is about.
            return

    def _begin(self, instance: Instance) -> tuple[memoryview, Iterator[memoryview]]:
        """Give an instance's first chunk, and the others. Raises `NotSendableError` when it can't be read."""
        ahead, self._ahead = self._ahead, None
        if ahead is not None:
            source, first, rest = ahead
            if source is instance.source and source.unchanged:
                return first, rest
        chunks = self._read(instance)
        return next(chunks), chunks

    def _read(self, instance: Instance) -> Iterator[memoryview]:
        """Give an instance's chunks. Raises `NotSendableError` when it can't be read."""
        chunks = instance.chunks(self._chunk_bytes)
        chunk: memoryview | None = None
        while True:
            started = time.perf_counter()
            try:
                chunk = next(chunks, None)
            except (OSError, FileMetaError) as error:
                how_far = "" if chunk is None else " to its end"
                raise NotSendableError(f"can't be read{how_far}: {error}") from error
            finally:
                self.timing.reading += time.perf_counter() - started
            if chunk is None:
                return
            yield chunk

    def _send_data(self, context_id: int, first: memoryview, rest: Iterator[memoryview], size: int) -> Steps[None]:
        chunk = first
        while True:
            size -= len(chunk)
            self.core.send_data(context_id, chunk, last=size == 0)
            started = time.perf_counter()
            try:
                yield FLUSH
            except TimerExpiredError:
                raise
            except OSError:
                # The connection is gone, but the peer may have said why before: the wait for its response will tell.
                return
            finally:
                self.timing.sending += time.perf_counter() - started
            if not size:
                return
            chunk = next(rest)

    def _settle(self, response: Response) -> tuple[int, Status]:
        """Give the message id and the status of a response that was awaited."""
        message_id = response.message_id_being_responded_to
        del self._outstanding[message_id]
        if self._outstanding:
            self._response_timer = self._response_timer.started()
        if response.error_comment or response.offending_element:
            return message_id, Status.of(response.status, response.error_comment, response.offending_element)
        return message_id, _plain(response.status)

    def _await_response(self, message_id: int, kind: type[Response]) -> None:
        self._outstanding[message_id] = kind
        self._response_timer = self._response_timer.started()

    def _is_awaited(self, response: Response) -> bool:
        kind = self._outstanding.get(response.message_id_being_responded_to)
        return kind is not None and isinstance(response, kind)

    def _confirm_release(self) -> Steps[None]:
        self.core.confirm_release()
        try:
            yield FLUSH
        except TimerExpiredError:
            raise
        except OSError:
            # The peer may have gone.
            return

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
                raise ConnectionLostError(f"the peer closed the connection: {tls_words(error)}") from error
            case None | ConnectionLost():
                raise ConnectionLostError("the peer closed the connection")
            case Aborted():
                raise AbortedError(event)
            case _:
                return event

    def describe_accepted_syntaxes(self, instance: Instance) -> str:
        """Say in what other transfer syntaxes the peer takes an instance's SOP Class; empty where in none."""
        accepted = [
            describe(context.transfer_syntax)
            for context in self.core.contexts.values()
            if context.abstract_syntax == instance.sop_class_uid
        ]
        return f"the peer does not take {_in_its_syntax(instance)}, only in {', '.join(accepted)}" if accepted else ""

    def _why_not(self, instance: Instance) -> str:
        """Say why there is no context for an instance."""
        instead = self.describe_accepted_syntaxes(instance)
        if instead:
            return f"{instead}: it would have to be converted"
        proposed = self.outcome.contexts if self.outcome else ()
        reason = next((c.reason for c in proposed if c.abstract_syntax == instance.sop_class_uid), "")
        what = _in_its_syntax(instance)
        return (
            f"the peer does not take {what}: {reason}" if reason else f"no presentation context was proposed for {what}"
        )

    def _next_message_id(self) -> int:
        """Give the next message id that no outstanding request has (PS3.7 9.1.1.1.1)."""
        self._message_id = self._message_id % _LAST_MESSAGE_ID + 1
        while self._message_id in self._outstanding:
            self._message_id = self._message_id % _LAST_MESSAGE_ID + 1
        return self._message_id


def _in_its_syntax(instance: Instance) -> str:
    return f"{describe(instance.sop_class_uid)} in {describe(instance.transfer_syntax_uid)}"
