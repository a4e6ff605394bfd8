"""One side of one association, without I/O: bytes and expired timers in; events, bytes to send and a timer to run out.

A driver (a socket, a test, another core) does four things:

- it tells what happened to the transport connection: `transport_opened`, `transport_closed`, `artim_expired`;
- it lends received bytes with `receive` and takes what they mean with `next_event`, until that gives None;
- it sends what `take_output` gives, and closes the transport connection after that when `closing` is true;
- it lets ARTIM run as `artim` says.

Whatever the peer sends, nothing but events comes out of these; errors of the peer are answered here, in `next_event`,
and nowhere else. Any exception but a `StateError` is a defect of this package.
"""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Mapping

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
from dicomport.core.machine import Machine, out_of_place
from dicomport.core.messages import MessageAssembler, split_into_pdus
from dicomport.core.negotiation import (
    SMALLEST_USEFUL_LENGTH,
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

__all__ = ["Association", "Role"]

_MAX_SENT = 1 << 18
"""The longest P-DATA-TF body sent, bytes, to a peer that takes more or names no limit."""


class Role(enum.Enum):
    """Which side of the association this is (PS3.8 7.1)."""

    REQUESTOR = "requestor"
    ACCEPTOR = "acceptor"


class Association:
    """One side of one association."""

    def __init__(self, role: Role, *, limits: ProtocolLimits = DEFAULT_PROTOCOL_LIMITS) -> None:
        self.role = role
        self.deviations: Counter[Deviation] = Counter()
        """What the peer got wrong and was put up with."""
        self.error: ProtocolError | None = None
        """How the peer violated the protocol first, once it has."""
        self._limits = limits
        self._machine = Machine()
        self._framer = Framer(limits, self.deviations)
        self._framer.unexpected = frozenset((AssociateAC.KIND if role is Role.ACCEPTOR else AssociateRQ.KIND,))
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
        """0 while the ARTIM timer is stopped, else a number that changes each time it is started anew (PS3.8 9.1.5)."""
        return self._machine.artim

    @property
    def closing(self) -> bool:
        """Whether the transport connection is to be closed, once the output is sent."""
        return self._machine.closing

    @property
    def foreign(self) -> bytes:
        """How something began that is no PDU, as far as it had come; empty unless the peer sent such a thing."""
        return self._framer.foreign

    @property
    def contexts(self) -> Mapping[int, AcceptedContext]:
        """The accepted Presentation Contexts by id."""
        return self._contexts

    @property
    def has_output(self) -> bool:
        """Whether there is anything to be sent."""
        return bool(self._machine.outbox)

    def take_output(self) -> list[Buffer]:
        """Take what is to be sent, as a gather list; views in it are of what `send_data` was given."""
        output, self._machine.outbox = self._machine.outbox, []
        return output

    # The transport connection and the timer.

    def transport_opened(self) -> None:
        """Tell that the transport connection is there: as the requestor asked (Evt2), or at the acceptor (Evt5)."""
        if self._request is not None:
            self._machine.step(Event.EVT2, send=(self._request.encode(),))
        else:
            self._machine.step(Event.EVT5)

    def transport_closed(self, error: Exception | None = None) -> None:
        """Tell that the transport connection is gone, or could not be had (Evt17), and by which error if by one."""
        self._machine.step(Event.EVT17, indicate=ConnectionLost(error))

    def artim_expired(self) -> None:
        """Tell that ARTIM has run out (Evt18)."""
        self._machine.step(Event.EVT18)

    def receive(self, data: Buffer) -> None:
        """Lend received bytes. They must stay as they are until `next_event` gives None."""
        self._framer.feed(memoryview(data))

    def next_event(self) -> CoreEvent | None:
        """Give the next event, or None where more bytes are needed."""
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
                    self._take(frame)
                # In any other state the P-DATA-TF was refused or passed over when its header came.
                elif in_transfer and (event := self._assembler.take(frame)) is not None:
                    return event
            except ProtocolError as error:
                self.error = self.error or strip_traceback(error)
                self._machine.step(Event.EVT19, reason=error.reason, detail=str(error))
        return indications.popleft()

    # What the local user asks for. Each raises StateError where the state does not allow it.

    def request(self, request: AssociateRQ) -> None:
        """Ask for an association (Evt1); it is sent once the transport connection is there."""
        self._machine.step(Event.EVT1)
        self._request = request
        self._framer.set_local_maximum(request.user_information.maximum_length or 0)

    def answer(self, negotiation: Negotiation) -> None:
        """Answer the peer's request (Evt7, Evt8)."""
        reply = negotiation.reply
        if isinstance(reply, AssociateAC) and negotiation.outcome is not None:
            self._machine.step(Event.EVT7, send=(reply.encode(),))
            self._framer.set_local_maximum(reply.user_information.maximum_length or 0)
            self._establish(negotiation.outcome)
        else:
            self._machine.step(Event.EVT8, send=(reply.encode(),))

    def send_command(self, context_id: int, command: Command | RawCommand) -> None:
        """Send a command set (Evt9). Where it announces a data set, `send_data` must follow."""
        self._send(context_id, encode_command(command), is_command=True, last=True)

    def send_data(self, context_id: int, data: Buffer, *, last: bool) -> None:
        """Send some bytes of a data set (Evt9), of even length unless they are the last; they are not copied."""
        self._send(context_id, data, is_command=False, last=last)

    def _send(self, context_id: int, data: Buffer, *, is_command: bool, last: bool) -> None:
        if context_id not in self._contexts:
            raise StateError(f"presentation context {context_id} was not accepted")
        cut = split_into_pdus(context_id, data, is_command=is_command, last=last, maximum_length=self._max_sent)
        self._machine.step(_P_DATA_REQUEST, send=cut)

    def release(self) -> None:
        """Ask for the release (Evt11)."""
        self._machine.step(Event.EVT11, send=(ReleaseRQ().encode(),))

    def confirm_release(self) -> None:
        """Answer the peer's wish for the release (Evt14).

        In a release collision the acceptor does so after `ReleaseConfirmed`, the requestor before it (PS3.8 Table
        9-10).
        """
        self._machine.step(Event.EVT14, send=(ReleaseRP().encode(),))

    def abort(self) -> None:
        """Abort (Evt15). Where there is no association to abort, it only closes the transport connection."""
        try:
            self._machine.step(Event.EVT15)
        except StateError:
            self._machine.closing = True
        self._framer.unexpected = _ASSOCIATE

    # What the peer's frames mean.

    def _take(self, frame: ControlPdu | PDataHeader) -> None:
        # Whatever comes first decides about the association: after it neither A-ASSOCIATE PDU has a place (Table 9-10).
        unexpected, self._framer.unexpected = self._framer.unexpected, _ASSOCIATE
        if isinstance(frame, PDataHeader):
            self._step(Event.EVT10)
        elif frame.kind in unexpected:
            # What is wrong is that it came, whatever is in it.
            self._step(Event.EVT6 if frame.kind == AssociateRQ.KIND else Event.EVT3)
        else:
            self._take_pdu(frame)

    def _take_pdu(self, frame: ControlPdu) -> None:
        match decode(frame.data, limits=self._limits, notes=self.deviations):
            case AssociateRQ() as request:
                self._take_request(request)
            case AssociateAC() as reply if self._request is not None:
                self._take_acceptance(self._request, reply)
            case AssociateRJ() as rejection:
                self._step(Event.EVT4, AssociationRejected(rejection))
            case ReleaseRQ():
                self._take_release_request()
            case ReleaseRP():
                self._step(Event.EVT13, ReleaseConfirmed())
            case Abort(reason):
                self._step(Event.EVT16, Aborted(reason, by_peer=True))

    def _take_request(self, request: AssociateRQ) -> None:
        # PS3.8 9.3.2: of the protocol version only bit 0 is tested.
        if not request.protocol_version & 1:
            self._machine.reject_as_provider(AssociateRJ(RejectReason.PROTOCOL_VERSION_NOT_SUPPORTED).encode())
        else:
            self._step(Event.EVT6, AssociationRequested(request))

    def _take_acceptance(self, request: AssociateRQ, reply: AssociateAC) -> None:
        outcome = resolve_reply(request, reply, self.deviations)
        if 0 < outcome.peer_maximum_length < SMALLEST_USEFUL_LENGTH:
            raise ProtocolError(f"a maximum length of {outcome.peer_maximum_length} bytes leaves no room for data")
        self._establish(outcome)
        self._step(Event.EVT3, AssociationAccepted(outcome))

    def _take_release_request(self) -> None:
        if self._machine.state in _DATA_TRANSFER and not self._assembler.between_messages:
            raise ProtocolError("A-RELEASE-RQ inside a message", AbortReason.UNEXPECTED_PDU)
        if self._step(Event.EVT12, ReleaseRequested()) is Action.AR_8 and self.role is Role.ACCEPTOR:
            self._machine.collide_as_acceptor()

    def _step(self, event: Event, indicate: CoreEvent | None = None) -> Action:
        state = self._machine.state
        action = self._machine.step(event, indicate=indicate, reason=AbortReason.UNEXPECTED_PDU)
        if action in _UNEXPECTED:
            self.error = self.error or ProtocolError(out_of_place(event, state), AbortReason.UNEXPECTED_PDU)
        return action

    def _establish(self, outcome: NegotiationResult) -> None:
        self._contexts = outcome.accepted
        self._assembler = MessageAssembler(self._contexts, self._limits, self.deviations)
        self._max_sent = min(outcome.peer_maximum_length or _MAX_SENT, _MAX_SENT)


_ASSOCIATE = frozenset((AssociateRQ.KIND, AssociateAC.KIND))
# A member of an enum takes ten times as long to look up as a name of the module (Python 3.11), and these are asked for
# with each fragment and each message.
_IDLE = State.STA1
_P_DATA_REQUEST = Event.EVT9
_DATA_TRANSFER = frozenset((State.STA6, State.STA7))
_UNEXPECTED = frozenset((Action.AA_1, Action.AA_8))
