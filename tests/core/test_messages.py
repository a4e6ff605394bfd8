"""Assembly of received DIMSE messages, and errors that end the association (PS3.7 6.3, PS3.8 Annex E)."""

from typing import Final

import pytest
from tests.core.associations import established, feed, output, releasing
from tests.core.messages import (
    COMMAND,
    DATA,
    ECHO_PDU,
    ECHO_SET,
    INVALID,
    LAST_COMMAND,
    LAST_DATA,
    RELEASE_RP,
    RELEASE_RQ,
    STORE_PDU,
    STORE_SET,
    UNEXPECTED,
    VERIFICATION,
    associate_ac,
    associate_rq,
    command_set,
    echo_elements,
    number,
    p_data,
    pdu,
    pdv,
    store_elements,
)

from dicomport.core import (
    Aborted,
    Association,
    CommandMalformed,
    CommandReceived,
    DataReceived,
    ReleaseConfirmed,
    ReleaseRequested,
    Role,
    State,
)
from dicomport.testing import joined
from dicomport.wire import AbortReason, CEchoRQ, CEchoRSP, CStoreRQ, Deviation, RawCommand

DATA_PDU: Final = p_data(pdv(3, LAST_DATA, b"data"))
DATA_EVENT: Final = DataReceived(b"data", last=True)


def refused(core: Association, data: bytes, *, saying: str) -> None:
    """Receive a violation of the protocol: its only event is the abort, and no event follows."""
    [event] = feed(core, data)
    assert isinstance(event, Aborted)
    assert event.reason is AbortReason.INVALID_PDU_PARAMETER_VALUE
    assert not event.by_peer
    assert saying in event.detail
    assert output(core) == INVALID
    assert core.state is State.STA13
    assert feed(core, ECHO_PDU, DATA_PDU, RELEASE_RQ) == []
    assert output(core) == b""


# Contexts (robustness P18, C7).


@pytest.mark.parametrize("context_id", [0, 2, 5, 255])
@pytest.mark.parametrize("control", [COMMAND, DATA, LAST_COMMAND, LAST_DATA])
def test_a_fragment_on_a_context_that_was_not_accepted(context_id: int, control: int) -> None:
    refused(established(), p_data(pdv(context_id, control, ECHO_SET)), saying=f"presentation context {context_id}, ")


def test_a_fragment_on_a_context_that_was_not_accepted_inside_a_data_set() -> None:
    core = established()
    feed(core, STORE_PDU)
    refused(core, p_data(pdv(5, DATA, b"data")), saying="presentation context 5")


def test_the_data_set_on_another_context_than_its_command() -> None:
    core = established()
    feed(core, STORE_PDU)
    refused(core, p_data(pdv(1, LAST_DATA, b"data")), saying="on context 1, but no data set was announced")


def test_a_command_on_two_contexts() -> None:
    core = established()
    assert feed(core, p_data(pdv(3, COMMAND, STORE_SET[:20]))) == []
    refused(core, p_data(pdv(1, LAST_COMMAND, STORE_SET[20:])), saying="on context 1 inside a command on 3")


@pytest.mark.parametrize("context_id", [1, 3])
@pytest.mark.parametrize("begun", [b"", p_data(pdv(3, DATA, b"data"))])
def test_a_command_inside_a_data_set(context_id: int, begun: bytes) -> None:
    core = established()
    feed(core, STORE_PDU, begun)
    refused(core, p_data(pdv(context_id, LAST_COMMAND, ECHO_SET)), saying="inside the data set on context 3")


@pytest.mark.parametrize("control", [DATA, LAST_DATA])
def test_a_data_set_without_a_command(control: int) -> None:
    refused(established(), p_data(pdv(3, control, b"data")), saying="no data set was announced")


def test_data_inside_a_command() -> None:
    core = established()
    feed(core, p_data(pdv(3, COMMAND, STORE_SET[:20])))
    refused(core, DATA_PDU, saying="no data set was announced")


def test_data_after_the_last_of_the_data_set() -> None:
    core = established()
    feed(core, STORE_PDU, DATA_PDU)
    refused(core, DATA_PDU, saying="no data set was announced")


# Another PDU than the data set (robustness P15, P16, C3).


def test_a_second_request_instead_of_the_data_set() -> None:
    core = established()
    feed(core, STORE_PDU)
    [event] = feed(core, associate_rq())
    assert isinstance(event, Aborted)
    assert event.reason is AbortReason.UNEXPECTED_PDU
    assert output(core) == UNEXPECTED
    assert feed(core, DATA_PDU) == []


@pytest.mark.parametrize("data", [associate_ac(), pdu(1, bytes(4)), pdu(2, bytes(4))])
def test_an_associate_pdu_instead_of_the_data_set(data: bytes) -> None:
    core = established()
    feed(core, STORE_PDU)
    [event] = feed(core, data)
    assert isinstance(event, Aborted)
    assert output(core) == UNEXPECTED
    assert feed(core, DATA_PDU) == []


def test_the_release_is_confirmed_inside_a_message() -> None:
    """The peer gives up its message: there is no association left to abort."""
    core = releasing(Role.REQUESTOR)
    feed(core, p_data(pdv(3, COMMAND, STORE_SET[:20])))
    assert feed(core, RELEASE_RP) == [ReleaseConfirmed()]
    assert core.closing


def test_a_release_between_messages() -> None:
    core = established()
    feed(core, STORE_PDU, DATA_PDU)
    assert feed(core, RELEASE_RQ) == [ReleaseRequested()]


# A data set that the command denied (robustness C4).


@pytest.mark.parametrize("after", [ECHO_PDU, RELEASE_RQ])
def test_a_data_set_that_the_command_denied_is_swallowed(after: bytes) -> None:
    core = established()
    denied = p_data(pdv(3, LAST_COMMAND, command_set(store_elements(data_set_type=0x0101))))
    [event] = feed(core, denied)
    assert isinstance(event, CommandReceived)
    assert not event.command.has_data_set
    assert feed(core, p_data(pdv(3, DATA, b"da"), pdv(3, DATA)), *[p_data(pdv(3, LAST_DATA, b"ta"))]) == []
    assert core.deviations[Deviation.DATA_SET_UNANNOUNCED] == 1
    [event] = feed(core, after)
    assert isinstance(event, CommandReceived | ReleaseRequested)


def test_one_data_set_is_swallowed_and_no_second() -> None:
    core = established()
    feed(core, ECHO_PDU, p_data(pdv(1, LAST_DATA, b"data")))
    refused(core, p_data(pdv(1, LAST_DATA, b"data")), saying="no data set was announced")


def test_no_data_set_is_swallowed_on_another_context() -> None:
    core = established()
    feed(core, ECHO_PDU)
    refused(core, DATA_PDU, saying="no data set was announced")


def test_the_next_command_ends_an_unannounced_data_set() -> None:
    core = established()
    events = feed(core, ECHO_PDU, p_data(pdv(1, DATA, b"data")), STORE_PDU)
    assert [type(event) for event in events] == [CommandReceived, CommandReceived]
    refused(core, p_data(pdv(1, LAST_DATA, b"data")), saying="no data set was announced")


# Commands (robustness C1, C2, C5, C6).


def test_a_command_is_read() -> None:
    core = established()
    [event] = feed(core, ECHO_PDU)
    assert event == CommandReceived(core.contexts[1], CEchoRQ(message_id=7, affected_sop_class_uid=VERIFICATION))
    [event] = feed(core, STORE_PDU)
    assert isinstance(event, CommandReceived)
    assert isinstance(event.command, CStoreRQ)
    assert (event.command.message_id, event.command.has_data_set) == (7, True)


def test_a_response_is_read() -> None:
    core = established(Role.REQUESTOR)
    elements = {0x0100: number(0x8030), 0x0120: number(7), 0x0800: number(0x0101), 0x0900: number(0)}
    [event] = feed(core, p_data(pdv(1, LAST_COMMAND, command_set(elements))))
    assert event == CommandReceived(core.contexts[1], CEchoRSP(message_id_being_responded_to=7, status=0))


@pytest.mark.parametrize("message_id", [0, 1, 0xFFFF])
def test_message_ids_may_repeat_and_wrap(message_id: int) -> None:
    core = established()
    echo = p_data(pdv(1, LAST_COMMAND, command_set(echo_elements(message_id))))
    events = feed(core, echo, echo)
    assert len(events) == 2
    for event in events:
        assert isinstance(event, CommandReceived)
        assert isinstance(event.command, CEchoRQ)
        assert event.command.message_id == message_id


def test_an_unknown_command_is_returned_raw() -> None:
    core = established()
    find = {0x0002: b"1.2 ", 0x0100: number(0x0020), 0x0110: number(9), 0x0800: number(1)}
    [command, data] = feed(core, p_data(pdv(3, LAST_COMMAND, command_set(find))), DATA_PDU)
    assert command == CommandReceived(core.contexts[3], RawCommand(find))
    assert data == DATA_EVENT


@pytest.mark.parametrize("data", [b"", pdv(3, LAST_DATA, b"data")], ids=["no data set", "data set"])
@pytest.mark.parametrize(
    ("element", "value", "status"),
    [
        (0x0002, None, 0x0212),
        (0x0002, b"", 0x0212),
        (0x1000, None, 0x0117),
        (0x1000, b"", 0x0117),
        (0x0700, b"\0", 0x0212),
    ],
)
def test_a_malformed_command_is_for_the_user_to_refuse(
    element: int, value: bytes | None, status: int, data: bytes
) -> None:
    core = established()
    elements = store_elements(data_set_type=0 if data else 0x0101)
    del elements[element]
    if value is not None:
        elements[element] = value
        elements = dict(sorted(elements.items()))
    malformed, *rest = feed(core, p_data(pdv(3, LAST_COMMAND, command_set(elements)), data))
    assert isinstance(malformed, CommandMalformed)
    assert malformed.context == core.contexts[3]
    assert (malformed.error.status, malformed.error.offending) == (status, element)
    assert malformed.error.command.message_id == 7
    # Its data set, if any, is still received, and the association continues.
    assert rest == ([DATA_EVENT] if data else [])
    assert [type(event) for event in feed(core, ECHO_PDU)] == [CommandReceived]


@pytest.mark.parametrize("element", [0x0100, 0x0110, 0x0800])
@pytest.mark.parametrize("value", [None, b"", b"\1", b"\1\0\0"])
def test_a_command_that_cannot_be_answered_ends_the_association(element: int, value: bytes | None) -> None:
    elements = echo_elements()
    del elements[element]
    if value is not None:
        elements[element] = value
        elements = dict(sorted(elements.items()))
    refused(established(), p_data(pdv(1, LAST_COMMAND, command_set(elements))), saying=f"(0000,{element:04X})")


@pytest.mark.parametrize(
    "data",
    [b"", b"\0", ECHO_SET[:-1], ECHO_SET + b"\0", ECHO_SET[12:-3], b"\x08\0" + ECHO_SET[2:], b"\xff" * 40],
)
def test_an_invalid_command_set_ends_the_association(data: bytes) -> None:
    refused(established(), p_data(pdv(1, LAST_COMMAND, data)), saying="command set")


def test_tolerated_errors_of_a_command_set_are_counted() -> None:
    core = established()
    elements = echo_elements()
    body = command_set(dict(reversed(elements.items())))[12:] + command_set({0x0110: number(8)})[12:]
    [event] = feed(core, p_data(pdv(1, LAST_COMMAND, body)))
    assert event == CommandReceived(core.contexts[1], CEchoRQ(message_id=7, affected_sop_class_uid=VERIFICATION))
    assert core.deviations == {
        Deviation.GROUP_LENGTH_WRONG: 1,
        Deviation.ELEMENTS_UNSORTED: 3,
        Deviation.ELEMENT_REPEATED: 1,
    }


# Messages one after another (robustness C9).


def test_many_messages_without_an_answer() -> None:
    core = established()
    events = joined(feed(core, (STORE_PDU + DATA_PDU + ECHO_PDU) * 100))
    assert [type(event) for event in events] == [CommandReceived, DataReceived, CommandReceived] * 100
    assert output(core) == b""


def test_an_empty_data_set_is_one() -> None:
    core = established()
    command, data = feed(core, STORE_PDU, p_data(pdv(3, LAST_DATA)))
    assert isinstance(command, CommandReceived)
    assert data == DataReceived(b"", last=True)
    assert core.established
