"""The state machine from outside, by bytes: every reachable state, every event (PS3.8 9.2).

The expected effects are typed here from Tables 9-6 to 9-9; the action is read from the grid of `test_states`, which
is Table 9-10 typed by hand.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import pytest
from tests.core.associations import (
    ECHO,
    POLICY,
    REQUEST,
    SETUPS,
    aborted_by_provider,
    aborted_by_us,
    answer,
    asked_to_release,
    collided,
    collided_further,
    connecting,
    drain,
    established,
    feed,
    idle,
    opened,
    output,
    policy_with_another_title,
    proposing,
    rejected_by_us,
    releasing,
    requested,
)
from tests.core.messages import (
    CT,
    ECHO_PDU,
    ECHO_SET,
    INVALID,
    LAST_COMMAND,
    REJECT,
    RELEASE_RP,
    RELEASE_RQ,
    STORE_PDU,
    UNEXPECTED,
    UNRECOGNIZED,
    USER_ABORT,
    associate_ac,
    associate_rq,
    one_by_one,
    p_data,
    pdu,
    pdv,
)
from tests.core.test_states import GRID

from dicomport.core import (
    Aborted,
    Association,
    AssociationAccepted,
    AssociationRejected,
    AssociationRequested,
    CommandReceived,
    ConnectionLost,
    CoreEvent,
    ReleaseConfirmed,
    ReleaseRequested,
    Role,
    State,
    StateError,
    negotiate,
)
from dicomport.wire import AbortReason, Deviation, RejectReason, decode


@dataclass(frozen=True)
class Effect:
    """The effects of an action (PS3.8 Tables 9-6 to 9-9)."""

    following: str
    sends: str = ""
    """Nothing; the PDU that the event asks for; an abort of the user; an abort of the provider."""
    tells: bool = False
    artim: str = ""
    closes: bool = False


EFFECTS: Final = {
    # Table 9-6
    "AE-1": Effect("Sta4"),
    "AE-2": Effect("Sta5", sends="asked"),
    "AE-3": Effect("Sta6", tells=True),
    "AE-4": Effect("Sta1", tells=True, closes=True),
    "AE-5": Effect("Sta2", artim="started"),
    "AE-6": Effect("Sta3", tells=True, artim="stopped"),
    "AE-7": Effect("Sta6", sends="asked"),
    "AE-8": Effect("Sta13", sends="asked", artim="started"),
    # Table 9-7
    "DT-1": Effect("Sta6", sends="asked"),
    "DT-2": Effect("Sta6", tells=True),
    # Table 9-8
    "AR-1": Effect("Sta7", sends="asked"),
    "AR-2": Effect("Sta8", tells=True),
    "AR-3": Effect("Sta1", tells=True, closes=True),
    "AR-4": Effect("Sta13", sends="asked", artim="started"),
    "AR-5": Effect("Sta1", artim="stopped"),
    "AR-6": Effect("Sta7", tells=True),
    "AR-7": Effect("Sta8", sends="asked"),
    "AR-8": Effect("Sta9", tells=True),  # Sta10 at the acceptor
    "AR-9": Effect("Sta11", sends="asked"),
    "AR-10": Effect("Sta12", tells=True),
    # Table 9-9
    "AA-1": Effect("Sta13", sends="user abort", artim="started"),
    "AA-2": Effect("Sta1", artim="stopped", closes=True),
    "AA-3": Effect("Sta1", tells=True, closes=True),
    "AA-4": Effect("Sta1", tells=True),
    "AA-5": Effect("Sta1", artim="stopped"),
    "AA-6": Effect("Sta13"),
    "AA-7": Effect("Sta13", sends="provider abort"),
    "AA-8": Effect("Sta13", sends="provider abort", tells=True, artim="started"),
}


@dataclass(frozen=True)
class Stimulus:
    """A cause of an event, the bytes that it sends, and its event for the user."""

    event: str
    apply: Callable[[Association], object]
    asked: bytes = b""
    told: type[CoreEvent] | None = None
    reason: bytes = b""
    """The abort of the provider that answers it, where it is out of place."""
    local: bool = False
    needs: Role | None = None
    """The side on which the driver has this event."""


def peer(event: str, data: bytes, told: type[CoreEvent] | None = None, reason: bytes = UNEXPECTED) -> Stimulus:
    def apply(core: Association) -> None:
        core.receive(data)

    return Stimulus(event, apply, told=told, reason=reason)


def peer_byte_by_byte(event: str, data: bytes, told: type[CoreEvent]) -> Stimulus:
    def apply(core: Association) -> None:
        # Of a PDU that is out of place the header may be the event; of any other all of it.
        for piece in one_by_one(data[:5]):
            core.receive(piece)
            assert drain(core) == []
        core.receive(data[5:])

    return Stimulus(event, apply, told=told, reason=UNEXPECTED)


def user(event: str, apply: Callable[[Association], object], asked: bytes = b"") -> Stimulus:
    return Stimulus(event, apply, asked=asked, local=True)


ACCEPTANCE: Final = negotiate(REQUEST, POLICY)
REJECTION: Final = negotiate(REQUEST, policy_with_another_title())

STIMULI: Final = {
    # The local user.
    "request": user("Evt1", lambda core: core.request(REQUEST)),
    "accept": user("Evt7", lambda core: core.answer(ACCEPTANCE), ACCEPTANCE.reply.encode()),
    "reject": user("Evt8", lambda core: core.answer(REJECTION), bytes.fromhex("03 00 00000004 00 01 01 07")),
    "send": user("Evt9", lambda core: core.send_command(1, ECHO), ECHO_PDU),
    "release": user("Evt11", lambda core: core.release(), RELEASE_RQ),
    "confirm": user("Evt14", lambda core: core.confirm_release(), RELEASE_RP),
    # The transport connection and the timer.
    "confirmed": Stimulus("Evt2", lambda core: core.transport_opened(), asked=REQUEST.encode(), needs=Role.REQUESTOR),
    "indicated": Stimulus("Evt5", lambda core: core.transport_opened(), needs=Role.ACCEPTOR),
    "closed": Stimulus("Evt17", lambda core: core.transport_closed(), told=ConnectionLost),
    "expired": Stimulus("Evt18", lambda core: core.artim_expired()),
    # The peer.
    "AC": peer("Evt3", associate_ac(), AssociationAccepted),
    "RJ": peer("Evt4", REJECT, AssociationRejected),
    "RQ": peer("Evt6", associate_rq(), AssociationRequested),
    "RQ, byte by byte": peer_byte_by_byte("Evt6", associate_rq(), AssociationRequested),
    "P-DATA": peer("Evt10", ECHO_PDU, CommandReceived),
    "RELEASE-RQ": peer("Evt12", RELEASE_RQ, ReleaseRequested),
    "RELEASE-RQ, byte by byte": peer_byte_by_byte("Evt12", RELEASE_RQ, ReleaseRequested),
    "RELEASE-RP": peer("Evt13", RELEASE_RP, ReleaseConfirmed),
    "ABORT by user": peer("Evt16", USER_ABORT, Aborted),
    "ABORT by provider": peer("Evt16", UNEXPECTED, Aborted),
    "unknown PDU 00": peer("Evt19", b"\x00", reason=UNRECOGNIZED),
    "unknown PDU 08": peer("Evt19", pdu(8, bytes(4)), reason=UNRECOGNIZED),
    "unknown PDU FF": peer("Evt19", pdu(0xFF, bytes(4)), reason=UNRECOGNIZED),
    "RELEASE-RQ too long": peer("Evt19", pdu(5, bytes(5)), reason=INVALID),
    "ABORT too short": peer("Evt19", pdu(7, bytes(3)), reason=INVALID),
    "RJ without a body": peer("Evt19", pdu(3), reason=INVALID),
    "RQ too long": peer("Evt19", pdu(1, length=0xFFFFFFFF), reason=INVALID),
    "P-DATA too long": peer("Evt19", pdu(4, length=0xFFFFFFFF), reason=INVALID),
}

# A-ABORT (Evt15) in a blank of the table only closes the connection: a separate test below checks it.

CASES: Final = [
    pytest.param(where, what, id=f"{where}: {what}")
    for where in SETUPS
    for what, stimulus in STIMULI.items()
    # Without a request there is no connection that could be confirmed to the requestor.
    if stimulus.needs in {None, SETUPS[where]().role} and (where, what) != ("Sta1, requestor", "confirmed")
]


def resolve_reply(core: Association) -> tuple[int, bool]:
    """Clear the output and events of the setup; return the levels."""
    assert drain(core) == []
    assert output(core) == b""
    return core.artim, core.closing


def state(core: Association) -> State:
    """Return the current state: the type checker treats a property as a constant."""
    return core.state


def state_name(core: Association) -> str:
    return core.state.name.capitalize()


@pytest.mark.parametrize("where", SETUPS)
def test_each_setup_leads_to_its_state(where: str) -> None:
    core = SETUPS[where]()
    resolve_reply(core)
    assert state_name(core) == where.split(",", maxsplit=1)[0]
    assert not core.closing
    assert core.established == (core.state is State.STA6)
    # ARTIM runs while a request, or the close of the connection, is waited for, and at no other time.
    assert bool(core.artim) == (core.state in {State.STA2, State.STA13})


def test_the_setups_are_every_state() -> None:
    assert {where.split(",")[0] for where in SETUPS} == {f"Sta{number}" for number in range(1, 14)}


@pytest.mark.parametrize(("where", "what"), CASES)
def test_an_event_in_a_state(where: str, what: str) -> None:
    core, stimulus = SETUPS[where](), STIMULI[what]
    artim, closing = resolve_reply(core)
    before = state_name(core)
    cell = GRID[before, stimulus.event]
    if cell == ".":
        if stimulus.local:
            with pytest.raises(StateError):
                stimulus.apply(core)
        else:
            stimulus.apply(core)
        assert drain(core) == []
        assert (state_name(core), output(core), core.artim, core.closing) == (before, b"", artim, closing)
        return
    stimulus.apply(core)
    events = drain(core)
    effect = EFFECTS[cell]
    if cell == "AR-8" and core.role is Role.ACCEPTOR:
        effect = replace(effect, following="Sta10")
    assert state_name(core) == effect.following
    sent = {"": b"", "asked": stimulus.asked, "user abort": USER_ABORT, "provider abort": stimulus.reason}[effect.sends]
    assert output(core) == sent
    assert core.closing == effect.closes
    if effect.artim == "started":
        assert core.artim not in {0, artim}
    else:
        assert core.artim == (0 if effect.artim == "stopped" else artim)
    if cell == "AA-8":
        [abort] = events
        assert isinstance(abort, Aborted)
        assert (abort.reason.source, abort.reason.reason) == (sent[8], sent[9])
        assert not abort.by_peer
        assert abort.detail
    elif effect.tells:
        assert [type(event) for event in events] == [stimulus.told]
    else:
        assert events == []
    # The same again: there are no more events.
    assert drain(core) == []
    assert output(core) == b""


@pytest.mark.parametrize("where", SETUPS)
def test_the_user_aborts(where: str) -> None:
    core = SETUPS[where]()
    artim, _ = resolve_reply(core)
    before = state_name(core)
    core.abort()
    assert drain(core) == []
    cell = GRID[before, "Evt15"]
    assert cell == {"Sta1": ".", "Sta2": ".", "Sta13": ".", "Sta4": "AA-2"}.get(before, "AA-1")
    if cell == "AA-1":
        assert (state_name(core), output(core), core.closing) == ("Sta13", USER_ABORT, False)
        assert core.artim not in {0, artim}
    else:
        # There is no association to abort: all that is left to do is to close the connection.
        assert (state_name(core), output(core), core.closing) == ("Sta1" if cell == "AA-2" else before, b"", True)


# PS3.8 9.3.2: of the protocol version only bit 0 is tested (AE-6, Table 9-6).


@pytest.mark.parametrize("version", [1, 3, 0x8001, 0xFFFF])
def test_a_protocol_version_with_bit_0_is_accepted(version: int) -> None:
    core = opened()
    [event] = feed(core, associate_rq(version=version))
    assert isinstance(event, AssociationRequested)
    assert event.request.protocol_version == version
    assert (core.state, core.artim, output(core)) == (State.STA3, 0, b"")


@pytest.mark.parametrize("version", [0, 2, 0xFFFE])
def test_a_protocol_version_without_bit_0_is_rejected_by_the_provider(version: int) -> None:
    core = opened()
    before = core.artim
    assert feed(core, associate_rq(version=version)) == []
    # Rejected-permanent, by the provider's ACSE function, protocol-version-not-supported (PS3.8 Table 9-21).
    assert output(core) == bytes.fromhex("03 00 00000004 00 01 02 02")
    assert state(core) is State.STA13
    assert core.artim not in {0, before}
    assert not core.closing


def test_the_protocol_version_of_an_unexpected_request_is_ignored() -> None:
    core = established()
    [event] = feed(core, associate_rq(version=0))
    assert isinstance(event, Aborted)
    assert output(core) == UNEXPECTED


@pytest.mark.parametrize("first", [associate_ac(), REJECT, RELEASE_RQ, RELEASE_RP, ECHO_PDU], ids=bytes.hex)
def test_a_request_after_another_pdu_is_unexpected(first: bytes) -> None:
    """The header suffices: after an abort no A-ASSOCIATE-RJ is sent for any version, and ARTIM continues."""
    core = opened()
    feed(core, first)
    assert (output(core), core.state) == (USER_ABORT, State.STA13)
    before = core.artim
    assert feed(core, associate_rq(version=2)[:6]) == []
    assert (output(core), core.state, core.artim) == (UNEXPECTED, State.STA13, before)


def test_an_acceptance_after_an_abort_is_ignored() -> None:
    """Abort after the first part of the PDU: its parameters are ignored (AA-6)."""
    core = proposing()
    acceptance = associate_ac(maximum_length=3)
    assert feed(core, acceptance[:20]) == []
    core.abort()
    assert output(core) == USER_ABORT
    assert feed(core, acceptance[20:] + associate_ac(maximum_length=3)) == []
    assert (output(core), core.state, core.contexts) == (b"", State.STA13, {})
    assert feed(core, USER_ABORT) == []
    assert core.closing


# ARTIM (PS3.8 9.1.5): a number for each start.


def test_artim_is_stopped_by_a_request_and_restarted_by_its_rejection() -> None:
    core = idle(Role.ACCEPTOR)
    assert core.artim == 0
    core.transport_opened()
    first = core.artim
    feed(core, associate_rq())
    assert core.artim == 0
    core.answer(REJECTION)
    assert core.artim not in {0, first}
    core.transport_closed()
    assert core.artim == 0


def test_artim_is_restarted_by_an_abort_while_it_runs() -> None:
    core = opened()
    first = core.artim
    assert first
    assert feed(core, RELEASE_RQ) == []
    assert output(core) == USER_ABORT
    assert core.artim not in {0, first}


def test_artim_is_not_restarted_by_ignored_pdus_or_aa_7() -> None:
    core = aborted_by_us(Role.ACCEPTOR)
    running = core.artim
    assert feed(core, ECHO_PDU, RELEASE_RQ, associate_rq()) == []
    assert core.artim == running
    assert output(core) == UNEXPECTED


@pytest.mark.parametrize("setup", [opened, rejected_by_us, lambda: aborted_by_us(Role.REQUESTOR)])
def test_artim_runs_out(setup: Callable[[], Association]) -> None:
    core = setup()
    core.artim_expired()
    assert (core.state, core.artim, core.closing, output(core)) == (State.STA1, 0, True, b"")
    assert drain(core) == []
    # ARTIM cannot expire twice, and closing the connection is not an event any more.
    core.artim_expired()
    core.transport_closed()
    assert feed(core, associate_rq()) == []
    assert (core.state, core.artim, output(core)) == (State.STA1, 0, b"")


# Source and reason of an abort (PS3.8 Table 9-26).


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (b"\x00\x00", AbortReason.SERVICE_USER),
        (b"\x00\x06", AbortReason.SERVICE_USER),  # a user's reason is not significant
        (b"\x02\x00", AbortReason.NOT_SPECIFIED),
        (b"\x02\x02", AbortReason.UNEXPECTED_PDU),
        (b"\x01\x03", AbortReason.NOT_SPECIFIED),
    ],
)
def test_the_peer_s_abort_has_its_reason(sent: bytes, reason: AbortReason) -> None:
    core = established()
    assert feed(core, pdu(7, b"\xff\xff" + sent)) == [Aborted(reason, by_peer=True)]
    assert core.closing
    assert core.deviations[Deviation.ABORT_REASON_RESERVED] == (sent == b"\x01\x03")


def test_the_peer_s_rejection_has_its_reason() -> None:
    core = proposing()
    [event] = feed(core, pdu(3, bytes((0, 2, 3, 2))))
    assert isinstance(event, AssociationRejected)
    assert event.rejection.reason is RejectReason.LOCAL_LIMIT_EXCEEDED
    assert event.rejection.transient
    assert (core.state, core.closing) == (State.STA1, True)


def test_an_error_of_the_peer_is_kept_with_its_description() -> None:
    core = established()
    assert not core.error
    [event] = feed(core, pdu(5, bytes(5)))
    error = core.error
    assert error is not None
    assert error.reason is AbortReason.INVALID_PDU_PARAMETER_VALUE
    assert isinstance(event, Aborted)
    assert event.detail == str(error)


def test_an_unexpected_pdu_is_described() -> None:
    core = established()
    [event] = feed(core, associate_rq())
    assert isinstance(event, Aborted)
    assert "A-ASSOCIATE-RQ" in event.detail
    assert State.STA6.meaning in event.detail


# PS3.8 7.2.3 and Table 9-10: both sides ask for the release at once.


def test_a_release_collision_at_the_requestor() -> None:
    core = collided(Role.REQUESTOR)
    assert state(core) is State.STA9
    core.confirm_release()
    assert output(core) == RELEASE_RP
    assert state(core) is State.STA11
    assert feed(core, RELEASE_RP) == [ReleaseConfirmed()]
    assert (core.state, core.closing, core.artim) == (State.STA1, True, 0)


def test_a_release_collision_at_the_acceptor() -> None:
    core = collided(Role.ACCEPTOR)
    assert state(core) is State.STA10
    with pytest.raises(StateError):
        core.confirm_release()
    assert feed(core, RELEASE_RP) == [ReleaseConfirmed()]
    assert state(core) is State.STA12
    core.confirm_release()
    assert output(core) == RELEASE_RP
    assert (core.state, core.closing) == (State.STA13, False)
    assert core.artim
    core.transport_closed()
    assert drain(core) == []
    assert (core.state, core.artim) == (State.STA1, 0)


def test_data_is_received_after_a_release_request() -> None:
    core = releasing(Role.REQUESTOR)
    assert [type(event) for event in feed(core, ECHO_PDU)] == [CommandReceived]
    assert feed(core, RELEASE_RP) == [ReleaseConfirmed()]
    assert core.closing


def test_data_is_still_sent_before_a_release_is_confirmed() -> None:
    core = asked_to_release(Role.ACCEPTOR)
    core.send_command(1, ECHO)
    core.confirm_release()
    assert output(core) == ECHO_PDU + RELEASE_RP


@pytest.mark.parametrize("setup", [established, lambda: releasing(Role.ACCEPTOR)])
@pytest.mark.parametrize("begun", [STORE_PDU, p_data(pdv(1, LAST_COMMAND & 1, ECHO_SET[:8]))])
def test_a_release_inside_a_message_is_unexpected(setup: Callable[[], Association], begun: bytes) -> None:
    core = setup()
    feed(core, begun)
    [event] = feed(core, RELEASE_RQ)
    assert event == Aborted(AbortReason.UNEXPECTED_PDU, by_peer=False, detail="A-RELEASE-RQ inside a message")
    assert output(core) == UNEXPECTED
    assert state(core) is State.STA13


# The user's side of it.


def test_no_connection_could_be_had() -> None:
    core = connecting()
    core.transport_closed()
    assert drain(core) == [ConnectionLost()]
    assert state(core) is State.STA1


def test_a_refused_request_of_the_user_changes_nothing() -> None:
    core = established(Role.REQUESTOR)
    with pytest.raises(StateError, match="A-ASSOCIATE request"):
        core.request(replace(REQUEST, called_ae_title="OTHER"))
    with pytest.raises(StateError, match="presentation context 5 was not accepted"):
        core.send_command(5, ECHO)
    with pytest.raises(StateError, match="presentation context 5 was not accepted"):
        core.send_data(5, b"", last=True)
    assert (core.state, output(core)) == (State.STA6, b"")
    assert set(core.contexts) == {1, 3}
    assert core.contexts[3].abstract_syntax == CT


@pytest.mark.parametrize("setup", [lambda: idle(Role.REQUESTOR), opened, requested, connecting, proposing])
def test_there_is_no_context_before_the_association(setup: Callable[[], Association]) -> None:
    core = setup()
    assert not core.contexts
    with pytest.raises(StateError):
        core.send_data(1, b"data", last=True)


def test_nothing_can_be_sent_after_the_association() -> None:
    core = aborted_by_provider(Role.ACCEPTOR)
    with pytest.raises(StateError):
        core.send_data(1, b"data", last=True)
    assert output(core) == b""


def test_an_acceptance_without_an_outcome_is_not_one() -> None:
    core = requested()
    core.answer(ACCEPTANCE._replace(reply=REJECTION.reply, outcome=None))
    assert state(core) is State.STA13


def test_an_abort_of_the_user_discards_a_partial_pdu() -> None:
    core = established()
    data = p_data(pdv(3, LAST_COMMAND, b"not a command set"))
    assert feed(core, data[:20]) == []
    core.abort()
    output(core)
    assert feed(core, data[20:], pdv(3, 0)) == []


@pytest.mark.parametrize("role", list(Role))
def test_a_connection_closed_after_the_release_is_no_news(role: Role) -> None:
    core = collided_further(role)
    if role is Role.ACCEPTOR:
        core.confirm_release()
    else:
        feed(core, RELEASE_RP)
    core.transport_closed()
    assert drain(core) == []
    assert state(core) is State.STA1


def test_the_request_is_sent_when_the_connection_is_open() -> None:
    core = connecting()
    assert output(core) == b""
    core.transport_opened()
    assert decode(output(core)) == REQUEST


def test_an_answer_establishes_the_negotiated_contexts() -> None:
    core = requested()
    negotiation = answer(core)
    assert output(core) == negotiation.reply.encode()
    assert negotiation.outcome is not None
    assert core.contexts == negotiation.outcome.accepted
