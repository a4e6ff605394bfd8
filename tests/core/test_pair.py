"""The test kit's pair of cores, which other tests stand on."""

import itertools
from dataclasses import replace

import pytest
from tests.core.associations import ECHO, POLICY, REQUEST
from tests.core.messages import CT, ECHO_PDU, RELEASE_RQ, USER_ABORT

from dicomport.core import (
    Association,
    AssociationRequested,
    CommandReceived,
    ConnectionLost,
    CoreEvent,
    DataReceived,
    ReleaseRequested,
    Role,
    State,
    StateError,
)
from dicomport.testing import CorePair, joined
from dicomport.wire import CStoreRQ, ProtocolLimits


def associated(*sizes: int) -> CorePair:
    pair = CorePair(sizes=sizes)
    pair.associate(REQUEST, POLICY)
    for role in Role:
        pair.take(role)
    return pair


def test_a_pair_begins_unconnected() -> None:
    pair = CorePair()
    assert not pair.connected
    assert (pair.requestor.role, pair.acceptor.role) == (Role.REQUESTOR, Role.ACCEPTOR)
    assert [pair.sent(role) for role in Role] == [b"", b""]
    pair.exchange()
    pair.cut()
    assert [pair.events(role) for role in Role] == [[], []]


def test_connect_leaves_the_answer_to_the_test() -> None:
    pair = CorePair(sizes=(2,))
    pair.connect(REQUEST)
    assert pair.connected
    assert pair.events(Role.ACCEPTOR) == [AssociationRequested(REQUEST)]
    assert pair.acceptor.state is State.STA3
    assert pair.sent(Role.REQUESTOR) == REQUEST.encode()


def test_associate_answers_and_counts_the_deviations_of_the_request() -> None:
    pair = CorePair()
    twice = replace(REQUEST, presentation_contexts=REQUEST.presentation_contexts * 2)
    negotiation = pair.associate(twice, POLICY)
    assert pair.sent(Role.ACCEPTOR) == negotiation.reply.encode()
    assert pair.requestor.established
    assert pair.acceptor.established
    assert sum(pair.acceptor.deviations.values()) == 2


def test_associate_needs_a_request_to_answer() -> None:
    with pytest.raises(ValueError, match="expected AssociationRequested"):
        CorePair().associate(replace(REQUEST, protocol_version=2), POLICY)


def test_a_pair_serves_once() -> None:
    pair = associated()
    with pytest.raises(StateError):
        pair.connect(REQUEST)


@pytest.mark.parametrize("sizes", [(0,), (4, -1)])
def test_a_piece_has_a_byte_or_more(sizes: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="expected 1 or more each"):
        CorePair(sizes=sizes)


def test_sent_is_of_one_side() -> None:
    pair = associated(4)
    before = {role: pair.sent(role) for role in Role}
    pair.requestor.send_command(1, ECHO)
    pair.requestor.release()
    pair.exchange()
    assert pair.sent(Role.REQUESTOR) == before[Role.REQUESTOR] + ECHO_PDU + RELEASE_RQ
    assert pair.sent(Role.ACCEPTOR) == before[Role.ACCEPTOR]


def test_take_returns_each_event_once() -> None:
    pair = associated()
    pair.requestor.send_command(1, ECHO)
    pair.exchange()
    assert [type(event) for event in pair.take(Role.ACCEPTOR)] == [CommandReceived]
    assert pair.take(Role.ACCEPTOR) == []
    pair.requestor.release()
    pair.exchange()
    assert pair.take(Role.ACCEPTOR) == [ReleaseRequested()]
    assert len(pair.events(Role.ACCEPTOR)) == 3


def test_pieces_are_of_the_sizes_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    lengths: list[int] = []
    receive = Association.receive

    def spy(core: Association, data: bytearray) -> None:
        if core.role is Role.ACCEPTOR:
            lengths.append(len(data))
        receive(core, data)

    monkeypatch.setattr(Association, "receive", spy)
    pair = associated(1, 7, 100)
    pair.requestor.send_command(1, ECHO)
    pair.exchange()
    assert sum(lengths) == len(pair.sent(Role.REQUESTOR))
    short = [length for length, size in zip(lengths, itertools.cycle((1, 7, 100)), strict=False) if length != size]
    # A piece is shorter where nothing more was sent: at the end of the request, at the end of the command.
    assert len(short) <= 2
    assert max(lengths) == 100


def test_the_data_of_events_outlive_the_receive_buffer() -> None:
    pair = associated(10)
    pair.requestor.send_command(3, CStoreRQ(message_id=1, affected_sop_class_uid=CT, affected_sop_instance_uid="1.2.3"))
    pair.requestor.send_data(3, b"the very bytes of a data set", last=True)
    pair.exchange()
    pieces = [event for event in pair.take(Role.ACCEPTOR) if isinstance(event, DataReceived)]
    assert len(pieces) > 2
    assert all(isinstance(piece.data, bytes) for piece in pieces)
    assert joined(pieces) == [DataReceived(b"the very bytes of a data set", last=True)]


@pytest.mark.parametrize("role", list(Role))
def test_close_delivers_what_its_side_sent(role: Role) -> None:
    pair = associated(1)
    pair.requestor.send_command(1, ECHO)
    pair.acceptor.send_command(1, ECHO)
    pair.close(role)
    other = Role.ACCEPTOR if role is Role.REQUESTOR else Role.REQUESTOR
    assert not pair.connected
    assert pair.take(role) == [ConnectionLost()]
    assert [type(event) for event in pair.take(other)] == [CommandReceived, ConnectionLost]
    assert {pair.requestor.state, pair.acceptor.state} == {State.STA1}
    # It is closed: there is nothing more to close, and no news of it.
    pair.close(other)
    assert pair.take(other) == []


def test_close_before_an_abort_was_answered() -> None:
    pair = associated()
    pair.requestor.abort()
    pair.close(Role.REQUESTOR)
    assert pair.sent(Role.REQUESTOR).endswith(USER_ABORT)
    assert pair.take(Role.REQUESTOR) == []
    assert pair.acceptor.closing


def test_cut_loses_bytes_in_transit() -> None:
    pair = associated()
    before = {role: pair.sent(role) for role in Role}
    pair.requestor.send_command(1, ECHO)
    pair.acceptor.send_command(1, ECHO)
    pair.cut()
    for role in Role:
        assert pair.take(role) == [ConnectionLost()]
        assert pair.sent(role) == before[role]
    pair.exchange()
    assert [pair.sent(role) for role in Role] == list(before.values())


def test_limits_are_for_both_sides() -> None:
    pair = CorePair(limits=ProtocolLimits(associate_pdu_bytes=100))
    pair.connect(REQUEST)
    assert pair.acceptor.error is not None
    assert "the maximum is 100" in str(pair.acceptor.error)


def test_joined_joins_the_pieces_of_one_data_set_and_no_more() -> None:
    events: list[CoreEvent] = [
        ReleaseRequested(),
        DataReceived(memoryview(b"a"), last=False),
        DataReceived(b"", last=False),
        DataReceived(b"b", last=True),
        DataReceived(b"c", last=False),
        ConnectionLost(),
    ]
    assert joined(events) == [
        ReleaseRequested(),
        DataReceived(b"ab", last=True),
        DataReceived(b"c", last=False),
        ConnectionLost(),
    ]
    assert joined([]) == []
