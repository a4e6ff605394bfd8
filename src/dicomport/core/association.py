"""One side of one association, without I/O: bytes and expired timers in; events and bytes to send out.

A driver (a socket, a test, another core) does four things:

- it reports the transport connection's events: `transport_opened`, `transport_closed`, `artim_expired`;
- it lends received bytes with `receive` and calls `next_event` until that returns None;
- it sends the result of `take_output`, and then closes the transport connection if `closing` is true;
- it runs ARTIM as `artim` requires.

For any bytes of the peer, these methods return events only: `next_event` alone answers a peer's errors. Any exception
other than `StateError` is a defect of this package.
"""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Mapping, Sequence

from dicomport.core.errors import StateError
from dicomport.core.events import (
    Aborted,
    AssociationAccepted,
    AssociationRejected,
    AssociationRequested,
    ConnectionLost,
    CoreEvent,
    ReleaseConfirmed,
    ReleaseRequested,
)
from dicomport.core.framing import ControlPdu, Fragment, Framer, PDataHeader
from dicomport.core.known_requests import KnownRequests
from dicomport.core.machine import Machine, describe_unexpected
from dicomport.core.messages import MessageAssembler, split_into_pdus
from dicomport.core.negotiation import (
    MIN_MAXIMUM_LENGTH,
    AcceptedContext,
    Negotiation,
    NegotiationResult,
    resolve_reply,
)
from dicomport.core.states import Action, Event, State
from dicomport.wire import (
    DEFAULT_PROTOCOL_LIMITS,
    Abort,
    AbortReason,
    AssociateAC,
    AssociateRJ,
    AssociateRQ,
    Buffer,
    Command,
    Deviation,
    Pdu,
    ProtocolError,
    ProtocolLimits,
    RawCommand,
    RejectReason,
    ReleaseRP,
    ReleaseRQ,
    decode,
    encode_command,
    strip_traceback,
)

_MAX_SENT = 1 << 18
"""Maximum bytes of a P-DATA-TF body sent to a peer that accepts more or has no limit."""


class Role(enum.Enum):
    """The side of the association (PS3.8 7.1)."""

    REQUESTOR = "requestor"
    ACCEPTOR = "acceptor"


class Association:
    """One side of one association."""

    def __init__(
        self,
        role: Role,
        *,
        limits: ProtocolLimits = DEFAULT_PROTOCOL_LIMITS,
        known_requests: KnownRequests | None = None,
    ) -> None:
        """Begin without a connection; an acceptor may look up its peer's request in those that its server knows."""
        self.role = role
        self.deviations: Counter[Deviation] = Counter()
        """The peer's tolerated deviations from the standard."""
        self.error: ProtocolError | None = None
        """The first violation of the protocol by the peer, if any."""
        self._limits = limits
        self._machine = Machine()
        self._framer = Framer(limits, self.deviations)
        self._framer.unexpected = frozenset((AssociateAC.KIND if role is Role.ACCEPTOR else AssociateRQ.KIND,))
        self._known_requests = known_requests
        self._request: AssociateRQ | None = None
        self._contexts: Mapping[int, AcceptedContext] = {}
        self._assembler = MessageAssembler(self._contexts, limits, self.deviations)
        self._max_sent = 0

    @property
    def state(self) -> State:
        """The state of PS3.8 9.2.1."""
        return self._machine.state

    @property
    def established(self) -> bool:
        """Whether messages can be exchanged."""
        return self._machine.state is State.STA6

    @property
    def artim(self) -> int:
        """0 while ARTIM is stopped, otherwise a number that changes with each start (PS3.8 9.1.5)."""
        return self._machine.artim

    @property
    def closing(self) -> bool:
        """Whether the driver must close the transport connection after the output is sent."""
        return self._machine.closing

    @property
    def unrecognized(self) -> bytes:
        """The first bytes of an unknown PDU type, probably another protocol; otherwise empty."""
        return self._framer.unrecognized

    @property
    def contexts(self) -> Mapping[int, AcceptedContext]:
        """The accepted Presentation Contexts by id."""
        return self._contexts

    @property
    def has_output(self) -> bool:
        """Whether there are bytes to send."""
        return bool(self._machine.outbox)

    def take_output(self) -> list[Buffer]:
        """Return and clear the bytes to send, as a gather list; it has views of the data of `send_data`."""
        output, self._machine.outbox = self._machine.outbox, []
        return output

    # The transport connection and the timer.

    def transport_opened(self) -> None:
        """Report that the transport connection is open: the requestor's (Evt2) or the acceptor's (Evt5)."""
        if self._request is not None:
            self._machine.step(Event.EVT2, send=(self._request.encode(),))
        else:
            self._machine.step(Event.EVT5)

    def transport_closed(self, error: Exception | None = None) -> None:
        """Report that the transport connection was closed or not established (Evt17), with the error if any."""
        self._machine.step(Event.EVT17, indicate=ConnectionLost(error))

    def artim_expired(self) -> None:
        """Report that ARTIM has expired (Evt18)."""
        self._machine.step(Event.EVT18)

    def receive(self, data: Buffer) -> None:
        """Lend received bytes. The caller must not change them until `next_event` returns None."""
        self._framer.feed(memoryview(data))

    def next_event(self) -> CoreEvent | None:
        """Return the next event, or None if more bytes are needed."""
        machine = self._machine
        indications = machine.indications
        while not indications:
            if machine.state is _IDLE or machine.closing:
                return None
            in_transfer = machine.state in _DATA_TRANSFER
            try:
                frame = self._framer.next_frame(in_transfer=in_transfer)
                if frame is None:
                    return None
                if not isinstance(frame, Fragment):
                    self._handle_frame(frame)
                # In any other state the P-DATA-TF was rejected or ignored at its header.
                elif in_transfer and (event := self._assembler.add(frame)) is not None:
                    return event
            except ProtocolError as error:
                self.error = self.error or strip_traceback(error)
                self._machine.step(Event.EVT19, reason=error.reason, detail=str(error))
        return indications.popleft()

    # A driver that reads or writes whole messages itself (dicomport.scp.straight, dicomport.scu.sending.straight).

    @property
    def last_command(self) -> bytes:
        """The command set of the last message received, encoded."""
        return self._assembler.last_command

    def encoded(self, context_id: int, command: Command) -> bytes:
        """Return the bytes that `send_command` would send."""
        data = encode_command(command)
        return b"".join(split_into_pdus(context_id, data, is_command=True, last=True, maximum_length=self._max_sent))

    def split_data(self, context_id: int, data: Buffer) -> list[Buffer]:
        """Return the gather list that `send_data` would send for a whole data set: header and view in turn."""
        return list(split_into_pdus(context_id, data, is_command=False, last=True, maximum_length=self._max_sent))

    def enter(self) -> tuple[memoryview, int] | None:
        """Leave the next messages to the driver, which reads them itself until it calls `leave`.

        Return the lent bytes that are not read yet, and the maximum length in bytes of a P-DATA-TF's body without a
        deviation. None inside of a message.
        """
        machine = self._machine
        if machine.state is not _ESTABLISHED or machine.indications or machine.closing:
            return None
        after_response = self.role is _REQUESTOR
        return self._framer.enter() if self._assembler.enter(after_response=after_response) else None

    def leave(
        self,
        rest: memoryview,
        *,
        context_id: int = 0,
        fragment_left: int = 0,
        is_last: bool = False,
        response_context: int = 0,
        unsent: Sequence[Buffer] = (),
    ) -> None:
        """Read the following bytes. `rest` has those received that the driver has not read, and is lent.

        `context_id` is that of the data set in which they begin, 0 between two messages; `fragment_left` the number of
        bytes left of the current fragment, and `is_last` whether that is the last one. `response_context` is that of
        the last response that the driver has read, 0 if none. `unsent` are bytes of messages.
        """
        self._machine.outbox.extend(unsent)
        self._assembler.leave(context_id, response_context)
        self._framer.leave(rest, fragment_left, (context_id, False, is_last))

    # Requests of the local user. Each raises StateError if the state does not allow it.

    def request(self, request: AssociateRQ) -> None:
        """Request an association (Evt1); the request is sent when the transport connection is open."""
        self._machine.step(Event.EVT1)
        self._request = request
        self._framer.set_local_maximum(request.user_information.maximum_length or 0)

    def answer(self, negotiation: Negotiation) -> None:
        """Answer the peer's request (Evt7, Evt8)."""
        reply = negotiation.reply
        if isinstance(reply, AssociateAC) and negotiation.outcome is not None:
            self._machine.step(Event.EVT7, send=(negotiation.encoded or reply.encode(),))
            self._framer.set_local_maximum(reply.user_information.maximum_length or 0)
            self._establish(negotiation.outcome)
        else:
            self._machine.step(Event.EVT8, send=(reply.encode(),))

    def send_command(self, context_id: int, command: Command | RawCommand) -> None:
        """Send a command set (Evt9). If it announces a data set, call `send_data` next."""
        self._send(context_id, encode_command(command), is_command=True, last=True)

    def send_data(self, context_id: int, data: Buffer, *, last: bool) -> None:
        """Send some bytes of a data set (Evt9), an even number unless they are the last; they are not copied."""
        self._send(context_id, data, is_command=False, last=last)

    def _send(self, context_id: int, data: Buffer, *, is_command: bool, last: bool) -> None:
        if context_id not in self._contexts:
            raise StateError(f"presentation context {context_id} was not accepted")
        cut = split_into_pdus(context_id, data, is_command=is_command, last=last, maximum_length=self._max_sent)
        self._machine.step(_P_DATA_REQUEST, send=cut)

    def release(self) -> None:
        """Request the release (Evt11)."""
        self._machine.step(Event.EVT11, send=(ReleaseRQ().encode(),))

    def confirm_release(self) -> None:
        """Confirm the release that the peer requested (Evt14).

        In a release collision, the acceptor calls it after `ReleaseConfirmed`, the requestor before (PS3.8 Table 9-10).
        """
        self._machine.step(Event.EVT14, send=(ReleaseRP().encode(),))

    def abort(self) -> None:
        """Abort the association (Evt15); without an association, only close the transport connection."""
        try:
            self._machine.step(Event.EVT15)
        except StateError:
            self._machine.closing = True
        self._framer.unexpected = _ASSOCIATE

    # The peer's frames.

    def _handle_frame(self, frame: ControlPdu | PDataHeader) -> None:
        # After the first PDU, neither A-ASSOCIATE PDU is allowed any more (Table 9-10).
        unexpected, self._framer.unexpected = self._framer.unexpected, _ASSOCIATE
        if isinstance(frame, PDataHeader):
            self._step(Event.EVT10)
        elif frame.kind in unexpected:
            # The PDU is an error in this state, regardless of its content.
            self._step(Event.EVT6 if frame.kind == AssociateRQ.KIND else Event.EVT3)
        else:
            self._handle_pdu(frame)

    def _handle_pdu(self, frame: ControlPdu) -> None:
        match self._decode(frame):
            case AssociateRQ() as request:
                self._handle_request(request)
            case AssociateAC() as reply if self._request is not None:
                self._handle_acceptance(self._request, reply)
            case AssociateRJ() as rejection:
                self._step(Event.EVT4, AssociationRejected(rejection))
            case ReleaseRQ():
                self._handle_release_request()
            case ReleaseRP():
                self._step(Event.EVT13, ReleaseConfirmed())
            case Abort(reason):
                self._step(Event.EVT16, Aborted(reason, by_peer=True))

    def _decode(self, frame: ControlPdu) -> Pdu:
        if frame.kind == AssociateRQ.KIND and self._known_requests is not None:
            return self._known_requests.decode(frame.data, self.deviations)
        return decode(frame.data, limits=self._limits, notes=self.deviations)

    def _handle_request(self, request: AssociateRQ) -> None:
        # PS3.8 9.3.2: only bit 0 of the protocol version is tested.
        if not request.protocol_version & 1:
            self._machine.reject_as_provider(AssociateRJ(RejectReason.PROTOCOL_VERSION_NOT_SUPPORTED).encode())
        else:
            self._step(Event.EVT6, AssociationRequested(request))

    def _handle_acceptance(self, request: AssociateRQ, reply: AssociateAC) -> None:
        outcome = resolve_reply(request, reply, self.deviations)
        if 0 < outcome.peer_maximum_length < MIN_MAXIMUM_LENGTH:
            raise ProtocolError(f"a maximum length of {outcome.peer_maximum_length} bytes is too short for data")
        self._establish(outcome)
        self._step(Event.EVT3, AssociationAccepted(outcome))

    def _handle_release_request(self) -> None:
        if self._machine.state in _DATA_TRANSFER and not self._assembler.between_messages:
            raise ProtocolError("A-RELEASE-RQ inside a message", AbortReason.UNEXPECTED_PDU)
        if self._step(Event.EVT12, ReleaseRequested()) is Action.AR_8 and self.role is Role.ACCEPTOR:
            self._machine.collide_as_acceptor()

    def _step(self, event: Event, indicate: CoreEvent | None = None) -> Action:
        state = self._machine.state
        action = self._machine.step(event, indicate=indicate, reason=AbortReason.UNEXPECTED_PDU)
        if action in _UNEXPECTED:
            self.error = self.error or ProtocolError(describe_unexpected(event, state), AbortReason.UNEXPECTED_PDU)
        return action

    def _establish(self, outcome: NegotiationResult) -> None:
        self._contexts = outcome.accepted
        self._assembler = MessageAssembler(self._contexts, self._limits, self.deviations)
        self._max_sent = min(outcome.peer_maximum_length or _MAX_SENT, _MAX_SENT)


_ASSOCIATE = frozenset((AssociateRQ.KIND, AssociateAC.KIND))
# Looking up an enum member takes ten times as long as a module's name (Python 3.11); each fragment and message needs
# these.
_IDLE = State.STA1
_REQUESTOR = Role.REQUESTOR
_ESTABLISHED = State.STA6
_P_DATA_REQUEST = Event.EVT9
_DATA_TRANSFER = frozenset((State.STA6, State.STA7))
_UNEXPECTED = frozenset((Action.AA_1, Action.AA_8))
