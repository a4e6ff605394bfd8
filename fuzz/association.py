"""A whole core: actions of the peer, the connection, the timer and the local user, in any order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final, TypeAlias, TypeVar

from tests.core.associations import ECHO, POLICY, REQUEST, SETUPS, established, output
from tests.core.messages import (
    CT,
    DATA,
    ECHO_PDU,
    LAST_COMMAND,
    LAST_DATA,
    REJECT,
    RELEASE_RP,
    RELEASE_RQ,
    STORE_PDU,
    STORE_SET,
    USER_ABORT,
    associate_ac,
    associate_rq,
    p_data,
    pdu,
    pdv,
)

from dicomport.core import (
    TRANSITIONS,
    Aborted,
    Association,
    AssociationAccepted,
    AssociationRejected,
    AssociationRequested,
    CommandReceived,
    ConnectionLost,
    CoreEvent,
    DataReceived,
    Event,
    ReleaseConfirmed,
    ReleaseRequested,
    Role,
    State,
    StateError,
    negotiate,
)
from dicomport.testing import CorePair, joined
from dicomport.wire import (
    Abort,
    AssociateRJ,
    CEchoRSP,
    CStoreRQ,
    CStoreRSP,
    ProtocolLimits,
    ReleaseRP,
    ReleaseRQ,
    decode,
)

__all__ = [
    "CANNED",
    "CONVERSATION",
    "LOCAL",
    "STARTS",
    "Program",
    "Turn",
    "association",
    "data_of",
    "program_of",
    "run",
]

Chosen = TypeVar("Chosen")

_LIMITS: Final = ProtocolLimits(
    associate_pdu_bytes=2000, p_data_pdu_bytes=4000, command_bytes=500, command_fragments=8, idle_fragments=5
)
"""Limits that a few bytes reach."""


def _fresh(role: Role) -> Association:
    """Return the core that waits for the other side's first PDU."""
    core = Association(role, limits=_LIMITS)
    if role is Role.REQUESTOR:
        core.request(REQUEST)
    core.transport_opened()
    output(core)
    return core


STARTS: Final[dict[str, Callable[[], Association]]] = {
    "acceptor": lambda: _fresh(Role.ACCEPTOR),
    "requestor": lambda: _fresh(Role.REQUESTOR),
    "established acceptor": lambda: established(Role.ACCEPTOR, _LIMITS),
    "established requestor": lambda: established(Role.REQUESTOR, _LIMITS),
    **SETUPS,
}
"""The start of a program: the first four have reachable limits; then every state, by every transition into it."""

CANNED: Final = (
    associate_rq(),
    associate_ac(),
    REJECT,
    RELEASE_RQ,
    RELEASE_RP,
    USER_ABORT,
    ECHO_PDU,
    STORE_PDU,
    p_data(pdv(3, DATA, b"data")),
    p_data(pdv(3, LAST_DATA, b"data")),
    p_data(pdv(3, LAST_COMMAND, STORE_SET), pdv(3, LAST_DATA, b"data")),
    p_data(pdv(5, DATA, b"data")),
    p_data(),
)
"""PDUs that a program refers to by index."""


def _conversation() -> dict[Role, bytes]:
    pair = CorePair()
    pair.associate(REQUEST, POLICY)
    store = CStoreRQ(message_id=2, affected_sop_class_uid=CT, affected_sop_instance_uid="1.2.3")
    for turn in range(2):
        pair.requestor.send_command(1, ECHO)
        pair.exchange()
        pair.acceptor.send_command(1, CEchoRSP(message_id_being_responded_to=7, status=0))
        pair.exchange()
        pair.requestor.send_command(3, store)
        pair.requestor.send_data(3, bytes(100 * turn), last=False)
        pair.requestor.send_data(3, b"the end.", last=True)
        pair.exchange()
        pair.acceptor.send_command(3, CStoreRSP(message_id_being_responded_to=2, status=0))
        pair.exchange()
    pair.requestor.release()
    pair.exchange()
    pair.acceptor.confirm_release()
    pair.exchange()
    return {Role.REQUESTOR: pair.sent(Role.ACCEPTOR), Role.ACCEPTOR: pair.sent(Role.REQUESTOR)}


CONVERSATION: Final = _conversation()
"""The PDUs that each side receives in a conversation that contains every kind."""

_Action: TypeAlias = tuple[Callable[[Association], None], tuple[Event, ...]]
"""Actions on a core, each with its event of PS3.8 9.2.2, or with several possible events."""

LOCAL: Final[dict[str, _Action]] = {
    "request": (lambda core: core.request(REQUEST), (Event.EVT1,)),
    "accept": (lambda core: core.answer(negotiate(REQUEST, POLICY)), (Event.EVT7,)),
    "command": (lambda core: core.send_command(1, ECHO), (Event.EVT9,)),
    "data": (lambda core: core.send_data(3, b"data", last=True), (Event.EVT9,)),
    "release": (lambda core: core.release(), (Event.EVT11,)),
    "confirm": (lambda core: core.confirm_release(), (Event.EVT14,)),
    "abort": (lambda core: core.abort(), (Event.EVT15,)),
    "opened": (lambda core: core.transport_opened(), (Event.EVT2, Event.EVT5)),
    "closed": (lambda core: core.transport_closed(), (Event.EVT17,)),
    "expired": (lambda core: core.artim_expired(), (Event.EVT18,)),
}
"""Requests of the local user, and notifications of a driver, which are possible at any time."""

Turn: TypeAlias = bytes | str
"""Bytes received, or the name of one of `LOCAL`."""


@dataclass(frozen=True, slots=True)
class Program:
    """An action on a core."""

    start: str
    """One of `STARTS`."""
    turns: tuple[Turn, ...]
    responding: bool = True
    """Whether the local user responds to events."""
    sizes: tuple[int, ...] = (1,)
    """The sizes of the pieces of received bytes, cyclically."""


def association(data: bytes) -> None:
    """Run the program that `program_of` derives from the data; `run` documents the invariants."""
    run(program_of(data))


def run(program: Program) -> list[CoreEvent]:
    """Run a program on a core and return the core's events.

    A wrong call of the local user raises `StateError` and changes nothing; no other exception is raised. Every
    following state is that of Table 9-10, or one that PDUs lead to. The core sends only complete, valid PDUs: only
    aborts after a rejection or an abort, no data after a release. It reports no event after the association's end. Its
    buffers are within the limits. The split of the received bytes changes nothing. After the end, no action on the core
    has an effect.
    """
    whole, cut = _Play(program, None), _Play(program, program.sizes)
    assert whole.outcome() == cut.outcome()
    for play in (whole, cut):
        _check_sent(play.sent)
        _check_quiet(play.core)
    return cut.events


_LAST_EVENTS: Final = (Aborted, AssociationRejected, ConnectionLost)
"""No event follows one of these."""

_CONNECTED: Final = frozenset(State) - {State.STA1, State.STA4}


class _Play:
    """One run of a program, and its visible effects."""

    def __init__(self, program: Program, sizes: tuple[int, ...] | None) -> None:
        self.core = STARTS[program.start]()
        self.sent = b""
        self.events: list[CoreEvent] = []
        self._responding = program.responding
        self._over = False
        for turn in program.turns:
            before = self.core.state
            if isinstance(turn, str):
                self._do(LOCAL[turn])
                self._listen()
            elif before in _CONNECTED:
                for piece in _pieces_of(turn, sizes):
                    self._receive(piece)
            # A driver closes the connection now, or has seen it close.
            if self.core.closing or (self.core.state is State.STA1 is not before):
                break

    def outcome(self) -> list[object]:
        """Return the effects that must not depend on the split of the bytes."""
        core, events = self.core, joined(self.events)
        return [*map(repr, events), core.state, core.artim, core.closing, core.deviations, repr(core.error), self.sent]

    def _do(self, action: _Action) -> None:
        core, (function, events) = self.core, action
        before, others = core.state, (core.artim, core.closing)
        try:
            function(core)
        except StateError:
            assert (core.state, core.artim, core.closing) == (before, *others)
            assert not core.take_output()
        else:
            assert core.state in {TRANSITIONS[before, event][1] for event in events}
            self.sent += output(core)

    def _receive(self, piece: bytes) -> None:
        core, buffer = self.core, bytearray(piece)
        core.receive(buffer)
        self._listen()
        assert len(core._framer._partial) <= core._limits.associate_pdu_bytes + 6
        assert len(core._assembler._command) <= core._limits.command_bytes
        buffer[:] = bytes(len(buffer))

    def _listen(self) -> None:
        core, before = self.core, self.core.state
        while (event := core.next_event()) is not None:
            assert core.state in _LED_TO[before]
            assert not self._over, f"{event} after {self.events[-1]}"
            if isinstance(event, DataReceived):
                event = DataReceived(bytes(event.data), event.last)
            self.events.append(event)
            self._over = isinstance(event, _LAST_EVENTS)
            self.sent += output(core)
            if self._responding:
                for action in _responses(event):
                    self._do(action)
            before = core.state
        assert core.state in _LED_TO[before]
        self.sent += output(core)


def _responses(event: CoreEvent) -> Iterator[_Action]:
    """Return a user's response to an event."""
    match event:
        case AssociationRequested(request):
            yield lambda core: core.answer(negotiate(request, POLICY, core.deviations)), (Event.EVT7, Event.EVT8)
        case AssociationAccepted(outcome):
            for context_id in outcome.accepted:
                yield lambda core, to=context_id: core.send_command(to, ECHO), (Event.EVT9,)  # type: ignore[misc]
            yield LOCAL["release"]
        case CommandReceived(context):
            answer = CEchoRSP(message_id_being_responded_to=1, status=0)
            yield lambda core: core.send_command(context.context_id, answer), (Event.EVT9,)
        case ReleaseRequested() | ReleaseConfirmed():
            yield LOCAL["confirm"]


_PDUS: Final = (
    *(Event.EVT3, Event.EVT4, Event.EVT6, Event.EVT10, Event.EVT12, Event.EVT13, Event.EVT16),
    Event.EVT19,
)
# If an action has two next states, the table has the first (PS3.8 Tables 9-6 and 9-8: AE-6, AR-8).
_SECOND_STATES: Final = {State.STA2: State.STA13, State.STA7: State.STA10}


def _led_to(state: State) -> frozenset[State]:
    """Return the states that PDUs can lead to."""
    found, new = {state}, {state}
    while new:
        new = {TRANSITIONS[old, event][1] for old in new for event in _PDUS} | {
            _SECOND_STATES[old] for old in new if old in _SECOND_STATES
        }
        new -= found
        found |= new
    return frozenset(found)


_LED_TO: Final = {state: _led_to(state) for state in State}

_FOLLOWERS: Final[dict[type, tuple[type, ...]]] = {
    AssociateRJ: (Abort,),
    ReleaseRQ: (ReleaseRP, Abort),
    ReleaseRP: (Abort,),
    Abort: (Abort,),
}
"""PDUs that may follow these."""


def _check_sent(data: bytes) -> None:
    allowed: tuple[type, ...] = (object,)
    while data:
        size = 6 + int.from_bytes(data[2:6])
        sent = decode(data[:size])
        data = data[size:]
        assert isinstance(sent, allowed)
        allowed = _FOLLOWERS.get(type(sent), allowed)


def _check_quiet(core: Association) -> None:
    core.transport_closed()
    while core.next_event() is not None:
        pass
    output(core)
    core.receive(associate_rq() + ECHO_PDU + RELEASE_RQ + USER_ABORT)
    assert core.next_event() is None
    core.artim_expired()
    core.transport_closed()
    assert core.next_event() is None
    assert (core.state, core.artim, output(core)) == (State.STA1, 0, b"")


def _pieces_of(data: bytes, sizes: tuple[int, ...] | None) -> Iterator[bytes]:
    """Split the bytes into pieces of these sizes, cyclically."""
    at = turn = 0
    while at < len(data):
        size = sizes[turn % len(sizes)] if sizes else len(data)
        yield data[at : at + size]
        at += size
        turn += 1


# Programs as bytes: the start, whether the user responds, the size of pieces, and then turns, each of a byte for its
# kind and the bytes of that kind. Missing bytes are zeros.


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def left(self) -> bool:
        return self._at < len(self._data)

    def counted(self) -> bytes:
        return self._take(self.number())

    def number(self) -> int:
        return int.from_bytes(self._take(1))

    def one_of(self, choices: Iterable[Chosen]) -> Chosen:
        listed = tuple(choices)
        return listed[self.number() % len(listed)]

    def _take(self, size: int) -> bytes:
        self._at += size
        return self._data[self._at - size : self._at]


def _damaged(reader: _Reader) -> bytes:
    octets = bytearray(reader.one_of(CANNED))
    octets[reader.number() % len(octets)] = reader.number()
    return bytes(octets)


_TURNS: Final[tuple[Callable[[_Reader], Turn], ...]] = (
    _Reader.counted,
    lambda reader: reader.one_of(CANNED),
    _damaged,
    lambda reader: pdu(reader.number(), reader.counted()),
    lambda reader: p_data(pdv(reader.number(), reader.number(), reader.counted())),
    lambda reader: reader.one_of(LOCAL),
)


def program_of(data: bytes) -> Program:
    """Derive a program from any bytes."""
    reader = _Reader(data)
    start, responding, size = reader.one_of(STARTS), not reader.number() % 2, reader.number()
    turns: list[Turn] = []
    while reader.left:
        turns.append(reader.one_of(_TURNS)(reader))
    return Program(start, tuple(turns), responding=responding, sizes=(size or 1,))


def data_of(program: Program) -> bytes:
    """Return bytes from which `program_of` derives an equal program; received bytes take as many turns as necessary."""
    data = bytes((list(STARTS).index(program.start), not program.responding, program.sizes[0]))
    for turn in program.turns:
        if isinstance(turn, str):
            data += bytes((5, list(LOCAL).index(turn)))
        elif turn in CANNED:
            data += bytes((1, CANNED.index(turn)))
        else:
            pieces = (turn[start : start + 255] for start in range(0, len(turn), 255))
            data += b"".join(bytes((0, len(piece))) + piece for piece in pieces)
    return data
