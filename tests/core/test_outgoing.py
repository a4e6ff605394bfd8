"""Messages on the way out: how the bytes are cut, and that they are not copied (PS3.8 9.3.5, Annexes D.1 and E)."""

from dataclasses import replace

import pytest
from hypothesis import given, strategies as st
from tests.core.associations import ECHO, POLICY, established, feed, opened, output, proposing
from tests.core.messages import CT, ECHO_PDU, associate_ac, associate_rq

from dicomport.core import Association, AssociationAccepted, AssociationRequested, Role, StateError, negotiate
from dicomport.wire import Buffer, CStoreRQ, EncodeError, PDataTF, PresentationDataValue, RawCommand, decode

MAXIMUM = 1 << 18
"""Maximum bytes sent to a peer with no limit or a higher one."""


def facing(maximum_length: int, role: Role) -> Association:
    """Return a core whose peer announced this maximum length."""
    if role is Role.REQUESTOR:
        core = proposing()
        [event] = feed(core, associate_ac(maximum_length=maximum_length))
        assert isinstance(event, AssociationAccepted)
        assert event.outcome.peer_maximum_length == maximum_length
    else:
        core = opened()
        [event] = feed(core, associate_rq(maximum_length=maximum_length))
        assert isinstance(event, AssociationRequested)
        core.answer(negotiate(event.request, POLICY))
    output(core)
    return core


def split_pdus(data: bytes) -> list[bytes]:
    pdus = []
    while data:
        size = 6 + int.from_bytes(data[2:6])
        pdus.append(data[:size])
        data = data[size:]
    return pdus


def values(pdus: list[bytes]) -> list[PresentationDataValue]:
    found = []
    for pdu in pdus:
        value = decode(pdu)
        assert isinstance(value, PDataTF)
        # One PDV in each PDU.
        [one] = value.values
        found.append(one)
    return found


def test_the_bytes_of_a_data_set() -> None:
    core = facing(12, Role.ACCEPTOR)
    core.send_data(3, b"0123456789abcdefg", last=True)
    assert core.take_output() == [
        bytes.fromhex("04 00 0000000c 00000008 03 00"),
        b"012345",
        bytes.fromhex("04 00 0000000c 00000008 03 00"),
        b"6789ab",
        bytes.fromhex("04 00 0000000b 00000007 03 02"),
        b"cdefg",
    ]


def test_the_bytes_of_a_command() -> None:
    core = established()
    core.send_command(1, ECHO)
    header, body = core.take_output()
    assert bytes(header) == bytes.fromhex("04 00 0000004a 00000046 01 03")
    assert bytes(header) + bytes(body) == ECHO_PDU


def test_the_bytes_of_an_empty_data_set() -> None:
    core = established()
    core.send_data(3, b"", last=True)
    assert output(core) == bytes.fromhex("04 00 00000006 00000002 03 02")
    core.send_data(255 - 252, b"", last=False)
    assert output(core) == bytes.fromhex("04 00 00000006 00000002 03 00")


@pytest.mark.parametrize("role", list(Role))
@pytest.mark.parametrize(
    ("maximum_length", "longest"),
    [
        (8, 8),
        (9, 8),
        (12, 12),
        (4096, 4096),
        (4097, 4096),
        (16384, 16384),
        (MAXIMUM - 2, MAXIMUM - 2),
        (MAXIMUM, MAXIMUM),
        (MAXIMUM + 2, MAXIMUM),
        (0xFFFFFFFF, MAXIMUM),
        (0, MAXIMUM),
    ],
)
def test_no_pdu_is_longer_than_the_peer_s_maximum(role: Role, maximum_length: int, longest: int) -> None:
    core = facing(maximum_length, role)
    data = bytes(range(256)) * (1 if longest < 100 else 3000)
    core.send_data(3, data, last=True)
    pdus = split_pdus(output(core))
    bodies = [len(pdu) - 6 for pdu in pdus]
    assert set(bodies[:-1]) == {longest}
    assert bodies[-1] <= longest
    fragments = values(pdus)
    assert b"".join(fragment.data for fragment in fragments) == data
    assert all(len(fragment.data) % 2 == 0 for fragment in fragments)
    assert [fragment.is_last for fragment in fragments] == [False] * (len(fragments) - 1) + [True]
    assert {(fragment.context_id, fragment.is_command) for fragment in fragments} == {(3, False)}


@pytest.mark.parametrize("maximum_length", [8, 12, 70])
def test_a_command_is_cut_too(maximum_length: int) -> None:
    core = facing(maximum_length, Role.REQUESTOR)
    core.send_command(1, ECHO)
    pdus = split_pdus(output(core))
    assert len(pdus) > 1
    fragments = values(pdus)
    assert all(fragment.is_command for fragment in fragments)
    assert [fragment.is_last for fragment in fragments] == [False] * (len(fragments) - 1) + [True]
    assert b"".join(fragment.data for fragment in fragments) == ECHO_PDU[12:]


@given(
    pieces=st.lists(st.binary(max_size=80).filter(lambda data: len(data) % 2 == 0), min_size=1, max_size=5),
    maximum_length=st.integers(8, 60),
)
def test_pieces_of_a_data_set_are_one_data_set(pieces: list[bytes], maximum_length: int) -> None:
    core = facing(maximum_length, Role.REQUESTOR)
    for at, piece in enumerate(pieces):
        core.send_data(3, piece, last=at == len(pieces) - 1)
    pdus = split_pdus(output(core))
    fragments = values(pdus)
    assert b"".join(fragment.data for fragment in fragments) == b"".join(pieces)
    assert [fragment.is_last for fragment in fragments] == [False] * (len(fragments) - 1) + [True]
    assert all(len(fragment.data) % 2 == 0 for fragment in fragments)
    assert all(len(pdu) - 6 <= maximum_length for pdu in pdus)


@pytest.mark.parametrize("data", [bytes(40_000), bytearray(40_000), memoryview(bytes(50_000))[:40_000]])
def test_data_is_not_copied(data: Buffer) -> None:
    core = established()
    core.send_data(3, data, last=True)
    sent = core.take_output()
    parts = sent[1::2]
    assert [len(part) for part in parts] == [16378, 16378, 7244]
    owner = data.obj if isinstance(data, memoryview) else data
    for part in parts:
        assert isinstance(part, memoryview)
        assert part.obj is owner


def test_the_output_is_taken_once() -> None:
    core = established()
    core.send_command(1, ECHO)
    assert core.take_output() != []
    assert core.take_output() == []


def test_several_requests_are_one_output_in_their_order() -> None:
    core = established()
    core.send_command(3, CStoreRQ(message_id=1, affected_sop_class_uid=CT, affected_sop_instance_uid="1.2"))
    core.send_data(3, b"data", last=True)
    core.send_command(1, ECHO)
    sent = values(split_pdus(output(core)))
    assert [(value.context_id, value.is_command, value.is_last) for value in sent] == [
        (3, True, True),
        (3, False, True),
        (1, True, True),
    ]


def test_a_raw_command_is_sent_as_it_is() -> None:
    core = established()
    core.send_command(1, RawCommand({0x0100: b"\x30\x00", 0x0110: b"\x07\x00"}))
    assert output(core)[12:] == bytes.fromhex(
        "0000 0000 04000000 14000000 0000 0001 02000000 3000 0000 1001 02000000 0700"
    )


def test_a_command_that_cannot_be_encoded_sends_nothing() -> None:
    core = established()
    with pytest.raises(EncodeError):
        core.send_command(1, replace(ECHO, message_id=0x10000))
    assert output(core) == b""
    assert core.established


def test_a_refused_send_leaves_the_output_as_it_was() -> None:
    core = established()
    core.send_command(1, ECHO)
    core.release()
    with pytest.raises(StateError):
        core.send_data(3, b"data", last=True)
    assert output(core)[: len(ECHO_PDU)] == ECHO_PDU
