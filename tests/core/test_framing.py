"""Framing of received bytes: the byte of each rejection, and tolerated deviations (PS3.8 9.3.1, 9.3.5)."""

import itertools
import tracemalloc
from collections.abc import Iterable
from dataclasses import replace
from typing import Final

import pytest
from tests.core.associations import POLICY, REQUEST, drain, established, feed, opened, output, proposing
from tests.core.messages import (
    COMMAND,
    DATA,
    ECHO_PDU,
    INVALID,
    LAST_COMMAND,
    LAST_DATA,
    RELEASE_RQ,
    STORE_PDU,
    STORE_SET,
    UNEXPECTED,
    UNRECOGNIZED,
    USER_ABORT,
    associate_rq,
    one_by_one,
    p_data,
    pdu,
    pdv,
)

from dicomport.core import (
    Aborted,
    Association,
    AssociationRequested,
    CommandReceived,
    CoreEvent,
    DataReceived,
    ReleaseRequested,
    Role,
    State,
    negotiate,
)
from dicomport.testing import joined
from dicomport.wire import DEFAULT_PROTOCOL_LIMITS, AbortReason, Deviation, LimitExceededError, ProtocolLimits

HTTP: Final = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
SSH: Final = b"SSH-2.0-x\r\n"
CLIENT_HELLO: Final = bytes.fromhex("16 03 01 00a5 01 0000a1 0303")


def refused(core: Association, *pieces: bytes, answer: bytes = INVALID) -> Aborted:
    """Receive invalid bytes in Sta6; return the abort."""
    *_, event = feed(core, *pieces)
    assert isinstance(event, Aborted)
    assert output(core) == answer
    assert core.state is State.STA13
    assert core.error is not None
    assert core.error.reason is event.reason
    return event


# Another protocol is recognized by its first byte (robustness P1, P2, T3).


@pytest.mark.parametrize("sent", [HTTP, SSH, CLIENT_HELLO, b"\x00", b"\x08", b"\xff", b"\r\n"])
@pytest.mark.parametrize("whole", [True, False])
def test_another_protocol_is_refused_at_its_first_byte(sent: bytes, *, whole: bool) -> None:
    core = opened()
    before = core.artim
    assert feed(core, sent if whole else sent[:1]) == []
    # In Sta2 it is AA-1, whose abort has the user as its source.
    assert output(core) == USER_ABORT
    assert core.state is State.STA13
    assert core.artim not in {0, before}
    assert core.error is not None
    assert core.error.reason is AbortReason.UNRECOGNIZED_PDU
    # The remaining bytes are ignored.
    assert feed(core, sent, associate_rq(), USER_ABORT) == []
    assert output(core) == b""


@pytest.mark.parametrize("kind", [0x00, 0x08, 0x47, 0xFF])
def test_an_unknown_pdu_type_is_rejected_at_its_first_byte(kind: int) -> None:
    refused(established(), bytes((kind,)), answer=UNRECOGNIZED)


# Declared lengths (robustness P3, P4).


@pytest.mark.parametrize("kind", range(1, 8))
@pytest.mark.parametrize("length", [0xFFFFFFFF, 0x7FFFFFFF, (16 << 20) + 1])
def test_nothing_is_allocated_for_a_declared_length(kind: int, length: int) -> None:
    core = opened()
    header = pdu(kind, length=length)
    tracemalloc.start()
    try:
        feed(core, header)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 64 << 10
    assert output(core) == USER_ABORT
    assert core.error is not None


def test_a_header_is_checked_when_it_is_complete() -> None:
    header = pdu(1, length=0xFFFFFFFF)
    core = established()
    assert feed(core, *one_by_one(header[:5])) == []
    refused(core, header[5:])


@pytest.mark.parametrize("kind", [1, 2])
def test_an_associate_pdu_has_a_maximum_length(kind: int) -> None:
    limits = replace(DEFAULT_PROTOCOL_LIMITS, associate_pdu_bytes=1000)
    awaiting = opened if kind == 1 else proposing
    assert feed(awaiting(limits), pdu(kind, length=1000)) == []
    for core in (awaiting(limits), established(limits=limits)):
        feed(core, pdu(kind, length=1001))
        assert isinstance(core.error, LimitExceededError)
        assert core.error.limit == "associate_pdu_bytes"


@pytest.mark.parametrize("kind", [1, 2])
def test_an_unexpected_associate_pdu_is_rejected_at_its_header(kind: int) -> None:
    """Robustness P15: a second one, instead of a data set."""
    size = DEFAULT_PROTOCOL_LIMITS.associate_pdu_bytes
    core = established()
    feed(core, p_data(pdv(1, LAST_COMMAND, STORE_SET)))
    refused(core, pdu(kind, length=size), answer=UNEXPECTED)
    piece = bytes(1 << 16)
    tracemalloc.start()
    try:
        for _ in range(size // len(piece)):
            assert feed(core, piece) == []
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 64 << 10
    assert output(core) == b""
    # Later PDUs are received: here an abort of the peer.
    assert feed(core, USER_ABORT) == []
    assert core.closing


@pytest.mark.parametrize("length", [0, 1, 67])
def test_a_request_too_short_for_its_fields_is_refused(length: int) -> None:
    core = opened()
    assert feed(core, pdu(1, bytes(length))) == []
    assert output(core) == USER_ABORT
    assert core.error is not None
    assert core.error.reason is AbortReason.INVALID_PDU_PARAMETER_VALUE


@pytest.mark.parametrize("kind", [3, 5, 6, 7])
@pytest.mark.parametrize("length", [0, 3, 5, 0xFFFFFFFF])
def test_a_pdu_of_four_bytes_has_four(kind: int, length: int) -> None:
    refused(established(), pdu(kind, length=length))


def test_reserved_bytes_are_ignored() -> None:
    core = established()
    assert feed(core, bytes.fromhex("05 ff 00000004 ffffffff")) == [ReleaseRequested()]


@pytest.mark.parametrize("length", [1, 5])
def test_a_p_data_too_short_for_a_pdv_is_refused_at_its_header(length: int) -> None:
    refused(established(), pdu(4, length=length))


def test_an_empty_p_data_is_tolerated() -> None:
    core = established()
    [event] = feed(core, pdu(4), pdu(4), ECHO_PDU)
    assert isinstance(event, CommandReceived)
    assert core.deviations == {Deviation.EMPTY_P_DATA: 2}


@pytest.mark.parametrize("tail", range(1, 6))
def test_bytes_after_the_last_pdv_are_refused(tail: int) -> None:
    core = established()
    command, abort = feed(core, pdu(4, ECHO_PDU[6:] + bytes(tail)))
    assert isinstance(command, CommandReceived)
    assert isinstance(abort, Aborted)
    assert output(core) == INVALID


@pytest.mark.parametrize("length", [0, 1, 7, 0x80000000, 0xFFFFFFFC, 0xFFFFFFFD, 0xFFFFFFFE, 0xFFFFFFFF])
def test_a_pdv_is_not_shorter_than_its_header_nor_longer_than_its_pdu(length: int) -> None:
    refused(established(), p_data(pdv(1, COMMAND, b"four", length=length)))


def test_a_pdv_length_is_checked_before_its_data_arrive() -> None:
    refused(established(), pdu(4, pdv(1, COMMAND, length=0xFFFFFFFE), length=1000))


# Progress (robustness P6, P7).


def test_empty_pdvs_can_t_go_on_for_ever() -> None:
    core = established(limits=replace(DEFAULT_PROTOCOL_LIMITS, idle_fragments=10))
    feed(core, STORE_PDU)
    empty = pdv(3, DATA)
    assert len(feed(core, p_data(*[empty] * 7), p_data(*[empty] * 3))) == 10
    assert core.deviations[Deviation.EMPTY_FRAGMENT] == 10
    refused(core, p_data(empty))


def test_empty_p_data_can_t_go_on_for_ever() -> None:
    core = established(limits=replace(DEFAULT_PROTOCOL_LIMITS, idle_fragments=10))
    assert feed(core, pdu(4) * 10) == []
    refused(core, pdu(4))


def test_the_default_limit_of_empty_pdvs() -> None:
    core = established()
    feed(core, STORE_PDU)
    *data, abort = feed(core, *itertools.repeat(p_data(*[pdv(3, DATA)] * 100), 20))
    assert len(data) == DEFAULT_PROTOCOL_LIMITS.idle_fragments
    assert isinstance(abort, Aborted)


def test_a_byte_of_data_is_progress() -> None:
    core = established(limits=replace(DEFAULT_PROTOCOL_LIMITS, idle_fragments=10))
    feed(core, STORE_PDU)
    for _ in range(5):
        feed(core, p_data(*[pdv(3, DATA)] * 9), pdu(4), p_data(pdv(3, DATA, b"xy")))
    assert core.established


def test_a_command_has_a_maximum_length() -> None:
    limits = replace(DEFAULT_PROTOCOL_LIMITS, command_bytes=1000)
    core = established(limits=limits)
    assert feed(core, p_data(pdv(1, COMMAND, bytes(1000)))) == []
    abort = refused(core, p_data(pdv(1, COMMAND, b"x")))
    assert abort.detail == "a command set of more than 1000 bytes (limit command_bytes)"


def test_a_command_of_more_than_64_kib_is_refused_early() -> None:
    core = established()
    header = pdu(4, pdv(1, LAST_COMMAND, length=1 << 20), length=(1 << 20) + 4)
    assert feed(core, header, bytes(65536)) == []
    refused(core, b"x")


def test_a_command_has_a_greatest_number_of_fragments() -> None:
    core = established()
    fragment = p_data(pdv(1, COMMAND, b"xy"))
    assert feed(core, fragment * DEFAULT_PROTOCOL_LIMITS.command_fragments) == []
    abort = refused(core, fragment)
    assert abort.detail == "a command set in more than 256 fragments (limit command_fragments)"


def test_the_fragments_are_counted_for_each_command() -> None:
    core = established(limits=replace(DEFAULT_PROTOCOL_LIMITS, command_fragments=4))
    echo = ECHO_PDU[12:]
    in_four = [p_data(pdv(1, COMMAND, echo[at : at + 20])) for at in (0, 20, 40)] + [
        p_data(pdv(1, LAST_COMMAND, echo[60:]))
    ]
    assert [type(event) for event in feed(core, *in_four * 3)] == [CommandReceived] * 3


def test_parts_of_a_fragment_are_not_counted_as_fragments() -> None:
    core = established(limits=replace(DEFAULT_PROTOCOL_LIMITS, command_fragments=1))
    assert [type(event) for event in feed(core, *one_by_one(ECHO_PDU))] == [CommandReceived]


# Longer than it may be (robustness P12).


def test_a_p_data_longer_than_announced_is_accepted_and_counted() -> None:
    core = established()
    feed(core, STORE_PDU)
    exact, longer, much_longer = (p_data(pdv(3, DATA, bytes(size - 6))) for size in (16384, 16385, 1 << 20))
    events = feed(core, exact)
    assert core.deviations[Deviation.PDU_LONGER_THAN_ANNOUNCED] == 0
    events += feed(core, longer, much_longer)
    assert core.deviations[Deviation.PDU_LONGER_THAN_ANNOUNCED] == 2
    assert joined(events) == [DataReceived(bytes(16384 + 16385 + (1 << 20) - 18), last=False)]


@pytest.mark.parametrize("role", list(Role))
def test_the_local_maximum_is_the_announced_one(role: Role) -> None:
    core = established(role)
    feed(core, p_data(pdv(1, COMMAND, bytes(16379))))
    assert core.deviations[Deviation.PDU_LONGER_THAN_ANNOUNCED] == 1


def test_without_an_announced_maximum_no_p_data_is_too_long() -> None:
    core = opened()
    [event] = feed(core, associate_rq())
    assert isinstance(event, AssociationRequested)
    core.answer(negotiate(event.request, replace(POLICY, maximum_length=0)))
    feed(core, STORE_PDU, p_data(pdv(3, DATA, bytes(1 << 20))))
    assert not core.deviations
    assert core.established


def test_a_p_data_above_the_limit_is_rejected_at_its_header() -> None:
    core = established()
    feed(core, STORE_PDU)
    most = DEFAULT_PROTOCOL_LIMITS.p_data_pdu_bytes
    assert feed(core, pdu(4, pdv(3, DATA, length=most - 4), length=most), bytes(most - 7)) != []
    # One byte of the body is missing.
    assert [event.data for event in feed(core, b"x") if isinstance(event, DataReceived)] == [b"x"]
    refused(core, pdu(4, length=most + 1))


def test_a_data_set_is_never_kept() -> None:
    core = established()
    feed(core, STORE_PDU, pdu(4, pdv(3, LAST_DATA, length=(8 << 20) + 2), length=(8 << 20) + 6))
    buffer = bytearray(64 << 10)
    tracemalloc.start()
    try:
        for _ in range(128):
            core.receive(buffer)
            event = core.next_event()
            assert isinstance(event, DataReceived)
            assert isinstance(event.data, memoryview)
            assert event.data.obj is buffer
            last = event.last
            del event
            assert core.next_event() is None
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert last
    assert peak < 64 << 10


# Odd ones (robustness P10).


def test_odd_fragments_are_accepted_and_counted() -> None:
    core = established()
    feed(core, STORE_PDU)
    events = feed(core, p_data(pdv(3, DATA, b"abc"), pdv(3, DATA, b"d"), pdv(3, LAST_DATA, b"ef")))
    assert joined(events) == [DataReceived(b"abcdef", last=True)]
    assert core.deviations == {Deviation.ODD_FRAGMENT: 2}


# One packing of the bytes means what another means (robustness P11).

DATA_SET: Final = bytes(range(200))


def packings() -> dict[str, bytes]:
    command = pdv(3, LAST_COMMAND, STORE_SET)
    hundred = [pdv(3, DATA, DATA_SET[at : at + 2]) for at in range(0, 198, 2)] + [pdv(3, LAST_DATA, DATA_SET[198:])]
    assert len(hundred) == 100
    return {
        "a PDU each": p_data(command) + p_data(pdv(3, LAST_DATA, DATA_SET)),
        "command and data set in one PDU": p_data(command, pdv(3, LAST_DATA, DATA_SET)),
        "100 PDVs in one PDU": p_data(command) + p_data(*hundred),
        "command and 100 PDVs in one PDU": p_data(command, *hundred),
        "100 PDUs": p_data(command) + b"".join(p_data(value) for value in hundred),
        "command in fragments": p_data(pdv(3, COMMAND, STORE_SET[:4]), pdv(3, COMMAND, STORE_SET[4:50]))
        + p_data(pdv(3, COMMAND, b""), pdv(3, LAST_COMMAND, STORE_SET[50:]), pdv(3, DATA, DATA_SET[:2]))
        + p_data(pdv(3, LAST_DATA, DATA_SET[2:])),
        "the last fragment is empty": p_data(command, pdv(3, DATA, DATA_SET), pdv(3, LAST_DATA)),
        "empty ones between": p_data(command) + pdu(4) + p_data(pdv(3, DATA), pdv(3, LAST_DATA, DATA_SET)) + pdu(4),
        "reserved bits of the control header": p_data(pdv(3, 0xFF, STORE_SET), pdv(3, 0xFE, DATA_SET)),
    }


def cuts(data: bytes) -> dict[str, Iterable[bytes]]:
    return {
        "whole": [data],
        "byte by byte": one_by_one(data),
        "by seven": (data[at : at + 7] for at in range(0, len(data), 7)),
        "empty pieces": [b"", data[:3], b"", data[3:], b""],
    }


@pytest.mark.parametrize("packing", packings())
@pytest.mark.parametrize("cut", cuts(b""))
def test_every_packing_in_every_cut_is_the_same(packing: str, cut: str) -> None:
    core = established()
    data = packings()[packing] + RELEASE_RQ
    command, content, release = joined(feed(core, *cuts(data)[cut]))
    assert isinstance(command, CommandReceived)
    assert command.context.context_id == 3
    assert content == DataReceived(DATA_SET, last=True)
    assert release == ReleaseRequested()


@pytest.mark.parametrize("cut", cuts(b""))
def test_a_whole_association_in_one_stream(cut: str) -> None:
    """The request is answered between two frames of one buffer, as a driver does."""
    data = associate_rq() + packings()["a PDU each"] + ECHO_PDU + RELEASE_RQ
    core = opened()
    events: list[CoreEvent] = []
    for piece in cuts(data)[cut]:
        core.receive(piece)
        while (event := core.next_event()) is not None:
            if isinstance(event, AssociationRequested):
                core.answer(negotiate(event.request, POLICY))
            events.append(DataReceived(bytes(event.data), event.last) if isinstance(event, DataReceived) else event)
    assert [type(event) for event in joined(events)] == [
        AssociationRequested,
        CommandReceived,
        DataReceived,
        CommandReceived,
        ReleaseRequested,
    ]
    assert joined(events)[0] == AssociationRequested(replace(REQUEST, user_information=REQUEST.user_information))


def test_a_split_anywhere_is_the_same() -> None:
    data = packings()["command in fragments"] + RELEASE_RQ
    whole = joined(feed(established(), data))
    for at in range(1, len(data)):
        assert joined(feed(established(), data[:at], data[at:])) == whole


def test_limits_are_the_core_s_own() -> None:
    core = opened(ProtocolLimits(presentation_contexts=1))
    assert feed(core, associate_rq()) == []
    assert output(core) == USER_ABORT
    assert "2 presentation contexts, the maximum is 1" in str(core.error)


def test_an_empty_buffer_has_no_frame() -> None:
    core = established()
    assert drain(core) == []
    assert feed(core, b"", b"") == []
    core.receive(bytearray(ECHO_PDU))
    assert [type(event) for event in drain(core)] == [CommandReceived]
    core.receive(memoryview(ECHO_PDU))
    assert [type(event) for event in drain(core)] == [CommandReceived]
