"""Anything may come from a peer: nothing but events comes of it, and after an abort nothing."""

import contextlib
from collections.abc import Callable
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.core.peer import (
    CT,
    DATA,
    ECHO,
    ECHO_PDU,
    LAST_COMMAND,
    LAST_DATA,
    POLICY,
    REJECT,
    RELEASE_RP,
    RELEASE_RQ,
    REQUEST,
    SETUPS,
    STORE_SET,
    USER_ABORT,
    associate_ac,
    associate_rq,
    output,
    p_data,
    pdu,
    pdv,
)

from dicomport.core import (
    Aborted,
    Association,
    AssociationAccepted,
    AssociationRejected,
    AssociationRequested,
    CommandReceived,
    ConnectionLost,
    CoreEvent,
    DataReceived,
    ReleaseConfirmed,
    ReleaseRequested,
    Role,
    State,
    StateError,
    negotiate,
)
from dicomport.testing import CorePair
from dicomport.wire import Abort, CEchoRSP, CStoreRQ, CStoreRSP, Limits, decode

LAST_EVENTS: Final = (Aborted, AssociationRejected, ConnectionLost)
"""After one of these there is no other."""

LIMITS: Final = Limits(associate_pdu_bytes=2000, p_data_pdu_bytes=4000, command_bytes=500, idle_fragments=5)


def respond(core: Association, event: CoreEvent) -> None:
    """Do what a driver does on an event; what the state does not allow is refused, and that is all."""
    with contextlib.suppress(StateError):
        match event:
            case AssociationRequested(request):
                core.answer(negotiate(request, POLICY, core.deviations))
            case AssociationAccepted(outcome):
                for context_id in outcome.accepted:
                    core.send_command(context_id, ECHO)
                core.release()
            case CommandReceived(context):
                core.send_command(context.context_id, CEchoRSP(message_id_being_responded_to=1, status=0))
            case ReleaseRequested() | ReleaseConfirmed():
                core.confirm_release()


def drive(core: Association, pieces: list[bytes]) -> list[CoreEvent]:
    """Feed the pieces as a driver does, and check what must hold whatever they are."""
    events: list[CoreEvent] = []
    over = False
    for piece in pieces:
        buffer = bytearray(piece)
        core.receive(buffer)
        while (event := core.next_event()) is not None:
            assert not over, f"{event} after {events[-1]}"
            if isinstance(event, DataReceived):
                event = DataReceived(bytes(event.data), event.last)
            events.append(event)
            over = isinstance(event, LAST_EVENTS)
            respond(core, event)
        buffer[:] = bytes(len(buffer))
        if core.closing:
            assert core.state is State.STA1
            break
    check_output(core)
    return events


def check_output(core: Association) -> None:
    """All that is sent is whole PDUs that can be read; after an abort there are only aborts (AA-7)."""
    data = output(core)
    aborted = False
    while data:
        size = 6 + int.from_bytes(data[2:6])
        sent = decode(data[:size])
        assert isinstance(sent, Abort) or not aborted
        aborted = isinstance(sent, Abort)
        data = data[size:]


def quiet(core: Association) -> None:
    """Whatever is done to a core that is over, nothing comes of it."""
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


def pieces_of(data: bytes, sizes: list[int]) -> list[bytes]:
    """Cut the bytes into pieces of these sizes, over and over."""
    if not sizes:
        return [data]
    pieces, at, turn = [], 0, 0
    while at < len(data):
        pieces.append(data[at : at + sizes[turn % len(sizes)]])
        at += len(pieces[-1])
        turn += 1
    return pieces


SIZES: Final = st.lists(st.integers(1, 50) | st.integers(1, 500), max_size=8)


def start(where: str) -> Association:
    core = SETUPS[where]()
    if core.state is State.STA1 and core.role is Role.ACCEPTOR:
        core.transport_opened()
    return core


STARTS: Final = st.sampled_from(sorted(SETUPS))


@settings(max_examples=200, deadline=None)
@given(where=STARTS, data=st.binary(max_size=300), sizes=SIZES)
def test_random_bytes(where: str, data: bytes, sizes: list[int]) -> None:
    core = start(where)
    drive(core, pieces_of(data, sizes))
    quiet(core)


PDUS: Final = st.sampled_from(
    [
        associate_rq(),
        associate_ac(),
        REJECT,
        RELEASE_RQ,
        RELEASE_RP,
        USER_ABORT,
        ECHO_PDU,
        p_data(pdv(3, LAST_COMMAND, STORE_SET)),
        p_data(pdv(3, DATA, b"data")),
        p_data(pdv(3, LAST_DATA, b"data")),
        p_data(pdv(3, LAST_COMMAND, STORE_SET), pdv(3, LAST_DATA, b"data")),
        p_data(pdv(5, DATA, b"data")),
        pdu(4),
    ]
)

FRAMED: Final = st.builds(pdu, st.integers(0, 8), st.binary(max_size=60)) | st.lists(
    st.builds(pdv, st.sampled_from([1, 3, 5]), st.integers(0, 255), st.binary(max_size=40)), max_size=4
).map(lambda values: p_data(*values))


@settings(max_examples=250, deadline=None)
@given(where=STARTS, pdus=st.lists(PDUS | FRAMED, max_size=12), sizes=SIZES)
def test_pdus_in_any_order(where: str, pdus: list[bytes], sizes: list[int]) -> None:
    core = start(where)
    drive(core, pieces_of(b"".join(pdus), sizes))
    quiet(core)


@settings(max_examples=100, deadline=None)
@given(where=STARTS, pdus=st.lists(PDUS | FRAMED, max_size=8), sizes=SIZES)
def test_the_split_decides_nothing(where: str, pdus: list[bytes], sizes: list[int]) -> None:
    data = b"".join(pdus)
    whole, cut = start(where), start(where)
    lasting = [
        [event for event in drive(core, pieces) if not isinstance(event, DataReceived)]
        for core, pieces in ((whole, [data]), (cut, pieces_of(data, sizes)))
    ]
    # Errors say where they happened in words that name no offset of the stream, and so are the same too.
    assert list(map(repr, lasting[0])) == list(map(repr, lasting[1]))
    assert (whole.state, whole.artim, whole.closing, whole.deviations) == (
        cut.state,
        cut.artim,
        cut.closing,
        cut.deviations,
    )


def recorded() -> dict[Role, bytes]:
    """Record what each side sends in a conversation with all there is in it."""
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
    return {role: pair.sent(role) for role in Role}


RECORDED: Final = recorded()


def fresh(role: Role) -> Association:
    """Give the core that hears what the other side sent, with limits that a mutation can reach."""
    core = Association(role, limits=LIMITS)
    if role is Role.REQUESTOR:
        core.request(REQUEST)
    core.transport_opened()
    output(core)
    return core


def heard_by(role: Role) -> bytes:
    return RECORDED[Role.ACCEPTOR if role is Role.REQUESTOR else Role.REQUESTOR]


MUTATIONS: Final[tuple[Callable[[bytearray, int, bytes], None], ...]] = (
    lambda data, at, noise: data.__setitem__(slice(at, at + len(noise)), noise),
    lambda data, at, noise: data.__setitem__(slice(at, at), noise),
    lambda data, at, noise: data.__delitem__(slice(at, at + len(noise))),
    lambda data, at, noise: data.__setitem__(slice(at, at), data[at : at + 10 * len(noise)]),
    lambda data, at, _noise: data.__delitem__(slice(at, None)),
)


@settings(max_examples=300, deadline=None)
@given(
    role=st.sampled_from(Role),
    mutations=st.lists(
        st.tuples(st.integers(0, len(MUTATIONS) - 1), st.floats(0, 1), st.binary(min_size=1, max_size=6)),
        min_size=1,
        max_size=5,
    ),
    sizes=SIZES,
)
def test_mutated_conversations(role: Role, mutations: list[tuple[int, float, bytes]], sizes: list[int]) -> None:
    data = bytearray(heard_by(role))
    for kind, where, noise in mutations:
        MUTATIONS[kind](data, int(where * len(data)), noise)
    core = fresh(role)
    drive(core, pieces_of(bytes(data), sizes))
    quiet(core)


@pytest.mark.parametrize("role", list(Role))
def test_every_byte_of_a_conversation_changed(role: Role) -> None:
    """A sweep over every position, so that each length and type is wrong once (robustness A3)."""
    valid = heard_by(role)
    for at in range(len(valid)):
        for flip in (0x01, 0xFF):
            data = bytearray(valid)
            data[at] ^= flip
            core = fresh(role)
            drive(core, [bytes(data)])
            quiet(core)


@pytest.mark.parametrize("role", list(Role))
def test_every_end_of_a_conversation(role: Role) -> None:
    """The connection is lost after each byte: what was whole was told, the loss is told last (robustness P17)."""
    valid = heard_by(role)
    told = len(drive(fresh(role), [valid]))
    before = 0
    for at in range(len(valid)):
        core = fresh(role)
        events = drive(core, [valid[:at]])
        assert before <= len(events) <= told
        before = len(events)
        # In Sta2 and Sta13 there is nobody to tell; in Sta1 it is closed as it was to be.
        alive = core.state not in {State.STA1, State.STA2, State.STA13}
        core.transport_closed()
        assert core.next_event() == (ConnectionLost() if alive else None)
        quiet(core)


LOCAL: Final[dict[str, Callable[[Association], None]]] = {
    "request": lambda core: core.request(REQUEST),
    "answer": lambda core: core.answer(negotiate(REQUEST, POLICY)),
    "command": lambda core: core.send_command(1, ECHO),
    "data": lambda core: core.send_data(3, b"data", last=True),
    "release": lambda core: core.release(),
    "confirm": lambda core: core.confirm_release(),
    "abort": lambda core: core.abort(),
    "opened": lambda core: core.transport_opened(),
    "expired": lambda core: core.artim_expired(),
}


@settings(max_examples=100, deadline=None)
@given(where=STARTS, turns=st.lists(st.sampled_from(sorted(LOCAL)) | PDUS, max_size=25))
def test_a_local_user_who_asks_for_anything_at_any_time(where: str, turns: list[str | bytes]) -> None:
    """What the state does not allow is a `StateError` that changes nothing, and nothing else comes of it."""
    core = start(where)
    for turn in turns:
        if isinstance(turn, bytes):
            core.receive(turn)
            while core.next_event() is not None:
                pass
            continue
        output(core)
        before = (core.state, core.artim, core.closing)
        try:
            LOCAL[turn](core)
        except StateError:
            assert (core.state, core.artim, core.closing, output(core)) == (*before, b"")
    core.abort()
    quiet(core)
