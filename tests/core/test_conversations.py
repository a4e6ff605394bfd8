"""Two cores and whole conversations: the same events however the link cuts the bytes."""

import itertools
from collections.abc import Sequence
from typing import Final

import pytest
from hypothesis import given, settings, strategies as st
from tests.core.associations import POLICY, REQUEST, policy_with_another_title
from tests.core.messages import CT, VERIFICATION

from dicomport.core import (
    Aborted,
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
    negotiate,
)
from dicomport.testing import CorePair, joined
from dicomport.wire import (
    AbortReason,
    AssociateRJ,
    CEchoRQ,
    CEchoRSP,
    CStoreRQ,
    CStoreRSP,
    Deviation,
    RejectReason,
)

ECHO_RQ: Final = CEchoRQ(message_id=1, affected_sop_class_uid=VERIFICATION)
ECHO_RSP: Final = CEchoRSP(message_id_being_responded_to=1, status=0, affected_sop_class_uid=VERIFICATION)
STORE_RQ: Final = CStoreRQ(message_id=2, affected_sop_class_uid=CT, affected_sop_instance_uid="1.2.3.4")
STORE_RSP: Final = CStoreRSP(
    message_id_being_responded_to=2, status=0, affected_sop_class_uid=CT, affected_sop_instance_uid="1.2.3.4"
)

DATA_SETS: Final = {
    "of 0 bytes": b"",
    "of 1 PDU": bytes(range(256)),
    "of 1 PDU to the byte": bytes(16378),
    "of many PDUs": bytes(itertools.islice(itertools.cycle(range(251)), 3 * 16378 + 12)),
}

SPLITS: Final[dict[str, tuple[int, ...]]] = {
    "whole": (),
    "byte by byte": (1,),
    "by headers": (6, 6),
    "odd": (5, 1, 7, 1000),
}


def converse(data: bytes, sizes: Sequence[int]) -> CorePair:
    """Exchange a C-ECHO and a C-STORE on one association, and release it."""
    pair = CorePair(sizes=sizes)
    requestor, acceptor = pair.requestor, pair.acceptor
    pair.associate(REQUEST, POLICY)
    requestor.send_command(1, ECHO_RQ)
    pair.exchange()
    acceptor.send_command(1, ECHO_RSP)
    pair.exchange()
    requestor.send_command(3, STORE_RQ)
    requestor.send_data(3, data, last=True)
    pair.exchange()
    acceptor.send_command(3, STORE_RSP)
    pair.exchange()
    requestor.release()
    pair.exchange()
    acceptor.confirm_release()
    pair.exchange()
    return pair


def expected(data: bytes) -> dict[Role, list[CoreEvent]]:
    """Return the expected events of each side."""
    negotiation = negotiate(REQUEST, POLICY)
    assert negotiation.outcome is not None
    contexts = negotiation.outcome.accepted
    probe = CorePair()
    probe.associate(REQUEST, POLICY)
    [accepted] = probe.take(Role.REQUESTOR)
    assert isinstance(accepted, AssociationAccepted)
    assert accepted.outcome.accepted == contexts
    return {
        Role.REQUESTOR: [
            accepted,
            CommandReceived(contexts[1], ECHO_RSP),
            CommandReceived(contexts[3], STORE_RSP),
            ReleaseConfirmed(),
        ],
        Role.ACCEPTOR: [
            AssociationRequested(REQUEST),
            CommandReceived(contexts[1], ECHO_RQ),
            CommandReceived(contexts[3], STORE_RQ),
            DataReceived(data, last=True),
            ReleaseRequested(),
        ],
    }


def check(pair: CorePair, data: bytes) -> None:
    for role, events in expected(data).items():
        assert joined(pair.events(role)) == events
    for core in (pair.requestor, pair.acceptor):
        assert core.state is State.STA1
        assert core.artim == 0
        # A data set of no bytes has no other form than an empty fragment, an odd one none but an odd fragment.
        odd = [Deviation.ODD_FRAGMENT] if len(data) % 2 else []
        assert list(core.deviations) == ((odd if data else [Deviation.EMPTY_FRAGMENT]) if core is pair.acceptor else [])
        assert core.error is None
    assert not pair.connected


@pytest.mark.parametrize("size", DATA_SETS)
@pytest.mark.parametrize("split", SPLITS)
def test_a_conversation_is_the_same_for_every_split(size: str, split: str) -> None:
    data = DATA_SETS[size]
    pair = converse(data, SPLITS[split])
    check(pair, data)
    whole = converse(data, ())
    assert [pair.sent(role) for role in Role] == [whole.sent(role) for role in Role]


@settings(max_examples=60, deadline=None)
@given(
    data=st.binary(max_size=600),
    sizes=st.lists(st.integers(1, 40) | st.integers(1, 400), min_size=1, max_size=20),
)
def test_a_conversation_is_the_same_for_any_split(data: bytes, sizes: list[int]) -> None:
    check(converse(data, sizes), data)


@settings(max_examples=25, deadline=None)
@given(sizes=st.lists(st.integers(1, 20_000), min_size=1, max_size=20))
def test_a_long_data_set_is_the_same_for_any_split(sizes: list[int]) -> None:
    data = DATA_SETS["of many PDUs"]
    check(converse(data, sizes), data)


def test_fragments_of_output_are_views_of_the_data() -> None:
    """A fragment is sent at once, in as many parts as it was received, regardless of later ones."""
    pair = converse(DATA_SETS["of many PDUs"], ())
    lengths = [len(event.data) for event in pair.events(Role.ACCEPTOR) if isinstance(event, DataReceived)]
    assert lengths == [16378, 16378, 16378, 12]
    assert [event.last for event in pair.events(Role.ACCEPTOR) if isinstance(event, DataReceived)] == [
        False,
        False,
        False,
        True,
    ]


def test_a_data_set_in_pieces_of_the_sender_is_one_data_set() -> None:
    pair = CorePair()
    pair.associate(REQUEST, POLICY)
    pair.take(Role.ACCEPTOR)
    pair.requestor.send_command(3, STORE_RQ)
    for piece, last in ((b"ab", False), (b"", False), (b"cd", False), (b"", True)):
        pair.requestor.send_data(3, piece, last=last)
    pair.exchange()
    command, *data = joined(pair.take(Role.ACCEPTOR))
    assert isinstance(command, CommandReceived)
    assert data == [DataReceived(b"abcd", last=True)]


def test_both_sides_may_ask_for_the_release_at_once() -> None:
    pair = CorePair(sizes=(3,))
    pair.associate(REQUEST, POLICY)
    for role in Role:
        pair.take(role)
    pair.requestor.release()
    pair.acceptor.release()
    pair.exchange()
    assert pair.take(Role.REQUESTOR) == pair.take(Role.ACCEPTOR) == [ReleaseRequested()]
    pair.requestor.confirm_release()
    pair.exchange()
    assert pair.take(Role.ACCEPTOR) == [ReleaseConfirmed()]
    pair.acceptor.confirm_release()
    pair.exchange()
    assert pair.take(Role.REQUESTOR) == [ReleaseConfirmed()]
    assert not pair.connected
    assert {pair.requestor.state, pair.acceptor.state} == {State.STA1}


@pytest.mark.parametrize("role", list(Role))
def test_either_side_may_abort(role: Role) -> None:
    pair = CorePair(sizes=(1,))
    pair.associate(REQUEST, POLICY)
    pair.take(other := Role.ACCEPTOR if role is Role.REQUESTOR else Role.REQUESTOR)
    pair.take(role)
    (pair.requestor if role is Role.REQUESTOR else pair.acceptor).abort()
    pair.exchange()
    assert pair.take(other) == [Aborted(AbortReason.SERVICE_USER, by_peer=True)]
    assert pair.take(role) == []
    assert not pair.connected
    assert {pair.requestor.state, pair.acceptor.state} == {State.STA1}


def test_an_association_that_is_rejected() -> None:
    pair = CorePair(sizes=(1,))
    negotiation = pair.associate(REQUEST, policy_with_another_title())
    assert negotiation.outcome is None
    assert pair.take(Role.REQUESTOR) == [
        AssociationRejected(AssociateRJ(RejectReason.CALLED_AE_TITLE_NOT_RECOGNIZED)),
    ]
    assert not pair.connected
    assert pair.acceptor.artim == 0


@pytest.mark.parametrize("size", [1, 20, 16384 + 40])
def test_a_connection_lost_inside_a_data_set(size: int) -> None:
    """The received bytes cause events; the events also show that the message is incomplete (robustness P17)."""
    pair = CorePair(sizes=(size,))
    pair.associate(REQUEST, POLICY)
    pair.take(Role.ACCEPTOR)
    pair.requestor.send_command(3, STORE_RQ)
    pair.requestor.send_data(3, bytes(20_000), last=False)
    pair.close(Role.REQUESTOR)
    command, data, lost = joined(pair.take(Role.ACCEPTOR))
    assert isinstance(command, CommandReceived)
    assert data == DataReceived(bytes(20_000), last=False)
    assert lost == ConnectionLost()
    assert pair.acceptor.state is State.STA1
