"""An association from its requestor's side, as steps that run on asyncio and on a blocking socket (PS3.8 7, PS3.7 9).

Theory of operation
-------------------
Each method is a generator (see `dicomport.net.generators`): it drives the core and yields each wait. A runner, in one
task or one thread at a time, drives the generator to its end, so both kinds of programs run this code.

`request` sends one request and returns the status of its response. For several outstanding requests, the caller writes
each request to the core itself, calls `expect` once it has left, and collects the responses with `next_response`.
While it waits, each other message of the peer is received completely, within bounds, and then answered: an
N-EVENT-REPORT by `on_event_report`, any other request with a refusal. None of them restarts the response timer. The
timer runs from the last byte of the latest request or from the latest response. When it expires the association is
aborted, because a late response could then be mistaken for the next one.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import TypeAlias

from dicomport.core import (
    Aborted,
    AcceptedContext,
    AssociationAccepted,
    AssociationRejected,
    CommandMalformed,
    CommandReceived,
    ConnectionLost,
    CoreEvent,
    DataReceived,
    NegotiationResult,
    ReleaseConfirmed,
    ReleaseRequested,
    Role,
)
from dicomport.dimse.data_sets import DataSetBuffer
from dicomport.dimse.exchange import Exchange, Request, response_to
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
    create_association,
    describe_tls_error,
    next_event,
)
from dicomport.standard import Status
from dicomport.wire import AssociateRQ, Buffer, CommandError, NEventReportRQ, Response

OnEventReport: TypeAlias = Callable[[NEventReportRQ, bytes, str], Status]
"""Called with an N-EVENT-REPORT request, its data set and the transfer syntax of that; returns the response's status.
The data set is empty if the request has none or if it is too long."""


class NoContextError(DicomportError):
    """The association has no presentation context for the instance or service; the association stays open."""


class Requestor:
    """One association from its requestor's side. Each method is for one runner at a time."""

    def __init__(
        self,
        request: AssociateRQ,
        timeouts: Timeouts,
        on_event_report: OnEventReport | None = None,
        max_data_set_bytes: int = 0,
    ) -> None:
        """Prepare the request; `max_data_set_bytes` is the maximum length of the data set of an event report."""
        self.core = create_association(Role.REQUESTOR)
        self.core.request(request)
        self.exchange = Exchange(self.core)
        self.outcome: NegotiationResult | None = None
        """Result of the negotiation, once `establish` is done."""
        self._proposed_window = request.user_information.operations_window
        self._timeouts = timeouts
        self._on_event_report = on_event_report
        self._max_data_set_bytes = max_data_set_bytes
        self._response_timer = timeouts.timer("dimse")

    @property
    def window(self) -> int:
        """Maximum number of outstanding operations; 0 means unlimited (PS3.7 D.3.3.3)."""
        if self.outcome is None or self._proposed_window is None:
            return 1
        return self.outcome.operations_window.invoked

    def establish(self) -> Steps[NegotiationResult]:
        """Request the association over an open transport connection. Raises `AssociationError`."""
        self.core.transport_opened()
        event = yield from self._next(self._timeouts.timer("acse").started())
        if isinstance(event, AssociationRejected):
            raise RejectedError(event.rejection)
        if not isinstance(event, AssociationAccepted):
            raise ConnectionLostError(f"the peer answered the association request with {event}")
        self.outcome = event.outcome
        return event.outcome

    def find_context(self, abstract_syntax: str) -> AcceptedContext | None:
        """Return the first accepted presentation context for an abstract syntax."""
        return next((c for c in self.core.contexts.values() if c.abstract_syntax == abstract_syntax), None)

    def request(self, context: AcceptedContext, request: Request, data: Buffer = b"") -> Steps[Status]:
        """Send a request with its whole data set, and return the status of its response. Raises `AssociationError`."""
        self.core.send_command(context.context_id, request)
        if request.has_data_set:
            self.core.send_data(context.context_id, data, last=True)
        yield from self.flush()
        self.expect(request)
        _, status = yield from self.next_response()
        return status

    def expect(self, request: Request) -> None:
        """Register a request as outstanding and start the response timer: its last byte has been sent."""
        self.exchange.expect(request)
        self._response_timer = self._response_timer.started()

    @property
    def response_timer(self) -> Timer:
        """The timer of the outstanding responses."""
        return self._response_timer

    def restart_response_timer(self, since: float) -> None:
        """Start the response timer at this time on the monotonic clock."""
        self._response_timer = self._response_timer.started(since)

    def next_response(self) -> Steps[tuple[int, Status]]:
        """Wait for the response to any outstanding request; return its message id and status.

        Other messages are answered. Raises `AssociationError`.
        """
        while True:
            event = yield from self._next(self._response_timer)
            response = event.command if isinstance(event, CommandReceived) else None
            if isinstance(response, Response) and (status := self.exchange.match_response(response)) is not None:
                if self.exchange.outstanding:
                    self._response_timer = self._response_timer.started()
                return response.message_id_being_responded_to, status
            yield from self._answer(event, self._response_timer)

    def listen(self, timer: Timer, ended: Callable[[], bool]) -> Steps[None]:
        """Answer the peer's messages until `ended`; `timer` bounds each wait. Raises `AssociationError`."""
        while not ended():
            event = yield from self._next(timer)
            yield from self._answer(event, timer)

    def flush(self) -> Steps[bool]:
        """Send the core's output; return whether it was sent.

        If the connection is lost, the next wait for the peer raises the reason: the peer may have stated it before.
        Raises `TimerExpiredError`.
        """
        try:
            yield FLUSH
        except TimerExpiredError:
            raise
        except OSError:
            return False
        return True

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
            return  # The peer has disconnected or does not read: a usual reason for an abort.

    def _answer(self, event: CoreEvent, timer: Timer) -> Steps[None]:
        """Receive the rest of a message that is not an expected response, and answer it."""
        match event:
            case CommandReceived(context, NEventReportRQ() as report) if self._on_event_report is not None:
                data = (yield from self._data_set(timer)) if report.has_data_set else b""
                status = self._on_event_report(report, data, context.transfer_syntax)
                self.core.send_command(context.context_id, response_to(report, status))
            case CommandReceived(_, command) | CommandMalformed(_, CommandError(command=command)):
                if command.has_data_set:
                    yield from self._data_set(timer)
                self.exchange.answer_unexpected(event)
            case DataReceived():
                pass  # A response has no data set (PS3.7 9.3.5.2). If the peer sends one, the status was valid before.
            case ReleaseRequested():
                self.core.confirm_release()
                yield from self.flush()
                raise ConnectionLostError("the peer released the association")
            case _:
                raise ConnectionLostError(f"the peer sent {event} instead of a message")
        yield from self.flush()

    def _data_set(self, timer: Timer) -> Steps[bytes]:
        """Receive a data set; return it, or an empty one if it is too long to be kept."""
        data_set = DataSetBuffer(self._max_data_set_bytes)
        last = False
        while not last:
            event = yield from self._next(timer)
            if not isinstance(event, DataReceived):
                raise ConnectionLostError(f"the peer sent {event} inside a message")
            data_set.append(event.data)
            last = event.last
        return data_set.data or b""

    def _next(self, timer: Timer) -> Steps[CoreEvent]:
        """Wait for the next event; raise the reason once the association has ended."""
        try:
            event = yield from next_event(self.core, timer)
        except AssociationError:
            yield from self.abort()
            raise
        match event:
            case ConnectionLost(ssl.SSLError() as error):
                raise ConnectionLostError(f"the peer closed the connection: {describe_tls_error(error)}") from error
            case None | ConnectionLost():
                raise ConnectionLostError("the peer closed the connection")
            case Aborted():
                raise AbortedError(event)
            case _:
                return event
