"""Command sets against bytes typed from PS3.7 9.3, 10.3 and Annex E."""

import struct
from collections import Counter
from dataclasses import replace
from typing import Final

import pytest
from tests.wire.command_goldens import COMMANDS, COMMITMENT, COMMITMENT_INSTANCE, CT, VERIFICATION
from tests.wire.golden import Golden, golden

from dicomport.wire import (
    CCancelRQ,
    CEchoRQ,
    CEchoRSP,
    Command,
    CommandError,
    CStoreRQ,
    CStoreRSP,
    Deviation,
    Element,
    EncodeError,
    NActionRQ,
    NEventReportRQ,
    Priority,
    ProtocolError,
    RawCommand,
    Response,
    decode_command,
    encode_command,
)

STORE: Final = COMMANDS["C-STORE-RQ without what is optional"][0].data
STORE_VALUE: Final = COMMANDS["C-STORE-RQ without what is optional"][1]
NO_GROUP_LENGTH: Final = 12
"""The offset of the first element after the group length."""


def command_set(*elements: tuple[int, bytes], length: int | None = None) -> bytes:
    """Write elements as they are given; the group length is right unless told."""
    body = b"".join(struct.pack("<HHL", 0, number, len(value)) + value for number, value in elements)
    return struct.pack("<HHLL", 0, 0, 4, len(body) if length is None else length) + body


def elements_of(data: bytes) -> list[tuple[int, bytes]]:
    """Return the elements of a valid command set without the group length."""
    elements: list[tuple[int, bytes]] = []
    at = NO_GROUP_LENGTH
    while at < len(data):
        _, number, size = struct.unpack_from("<HHL", data, at)
        elements.append((number, data[at + 8 : at + 8 + size]))
        at += 8 + size
    return elements


def with_element(data: bytes, number: int, value: bytes | None) -> bytes:
    """Replace or remove one element."""
    changed = [(n, v if n != number else value) for n, v in elements_of(data)]
    return command_set(*((n, v) for n, v in changed if v is not None))


def decode_counted(data: bytes) -> tuple[Command | RawCommand, Counter[Deviation]]:
    notes: Counter[Deviation] = Counter()
    return decode_command(data, notes), notes


@pytest.mark.parametrize(("octets", "value"), COMMANDS.values(), ids=COMMANDS)
def test_each_command_is_the_bytes_of_the_standard(octets: Golden, value: Command) -> None:
    assert decode_counted(octets.data) == (value, Counter())
    assert encode_command(value) == octets.data
    assert encode_command(value.to_raw()) == octets.data


@pytest.mark.parametrize("octets", [octets for octets, _ in COMMANDS.values()], ids=COMMANDS)
def test_a_command_cut_anywhere_is_a_value_or_a_protocol_error(octets: Golden) -> None:
    for data in octets.truncations():
        survives(data)
    elements = elements_of(octets.data)
    ends = [NO_GROUP_LENGTH]
    for _, raw in elements:
        ends.append(ends[-1] + 8 + len(raw))
    for size in set(range(len(octets.data))) - {0, *ends}:  # anywhere but between two elements
        with pytest.raises(ProtocolError):
            decode_command(octets.data[:size])


@pytest.mark.parametrize("octets", [octets for octets, _ in COMMANDS.values()], ids=COMMANDS)
def test_a_wrong_length_field_is_a_value_or_a_protocol_error(octets: Golden) -> None:
    for data in octets.mutations():
        survives(data)


@pytest.mark.parametrize("octets", [octets.data for octets, _ in COMMANDS.values()], ids=COMMANDS)
def test_any_one_octet_may_be_wrong(octets: bytes) -> None:
    for offset, octet in enumerate(octets):
        for wrong in (0x00, 0x7F, 0xFF, octet ^ 1, octet ^ 0x80):
            survives(octets[:offset] + bytes((wrong,)) + octets[offset + 1 :])


def survives(data: bytes) -> None:
    try:
        command = decode_command(data)
    except CommandError as error:
        answer = error.command.refusal(error.status, offending=(error.offending,))
        assert isinstance(decode_command(encode_command(answer)), Response | RawCommand)
    except ProtocolError:
        return
    else:
        assert decode_command(encode_command(command)) == command


# Of each request: element, status, the offending element as it is written into the answer.
MANDATORY: Final = [
    ("C-STORE-RQ", 0x0002, 0x0212, "00 00 02 00"),
    ("C-STORE-RQ", 0x1000, 0x0117, "00 00 00 10"),
    ("C-ECHO-RQ", 0x0002, 0x0212, "00 00 02 00"),
    ("N-EVENT-REPORT-RQ", 0x0002, 0x0212, "00 00 02 00"),
    ("N-EVENT-REPORT-RQ", 0x1000, 0x0212, "00 00 00 10"),
    ("N-EVENT-REPORT-RQ", 0x1002, 0x0212, "00 00 02 10"),
    ("N-ACTION-RQ", 0x0003, 0x0212, "00 00 03 00"),
    ("N-ACTION-RQ", 0x1001, 0x0212, "00 00 01 10"),
    ("N-ACTION-RQ", 0x1008, 0x0212, "00 00 08 10"),
]
_UIDS: Final = {0x0002: 0x0002, 0x0003: 0x0002, 0x1000: 0x1000, 0x1001: 0x1000}
"""The elements of a request's UIDs in its response (PS3.7 10.3.4.2)."""


@pytest.mark.parametrize(("name", "element", "status", "offending"), MANDATORY)
@pytest.mark.parametrize("value", [None, b"", b"\0", b" \0 ", b"\0\0\0\0"])
def test_a_request_without_a_mandatory_element_is_refused_with_its_status(
    name: str, element: int, status: int, offending: str, value: bytes | None
) -> None:
    octets = COMMANDS[name][0].data
    broken = with_element(octets, element, value)
    with pytest.raises(CommandError) as caught:
        decode_command(broken)
    error = caught.value
    assert (error.status, error.offending) == (status, element)
    assert f"(0000,{element:04X})" in str(error)
    assert error.command.elements == dict(elements_of(broken))

    request = dict(elements_of(broken))
    expected = {
        0x0100: bytes((request[0x0100][0], request[0x0100][1] | 0x80)),
        0x0120: request[0x0110],
        0x0800: b"\x01\x01",
        0x0900: struct.pack("<H", status),
        0x0901: bytes.fromhex(offending),
        0x0902: b"no such thing ",
    } | {
        answered: request[asked] + b"\0" * (len(request[asked]) % 2)
        for asked, answered in _UIDS.items()
        if request.get(asked)
    }
    answer = error.command.refusal(error.status, offending=(error.offending,), comment="no such thing")
    assert encode_command(answer) == command_set(*sorted(expected.items()))


@pytest.mark.parametrize(
    ("name", "element", "value"),
    [
        ("C-STORE-RQ", 0x0700, b"\0"),
        ("C-STORE-RQ", 0x0700, b"\0\0\0\0"),
        ("C-STORE-RQ", 0x1031, b"\1\0\0"),
        ("N-EVENT-REPORT-RQ", 0x1002, b"\1"),
        ("N-ACTION-RQ", 0x1008, b"\1\0\0\0"),
    ],
)
def test_a_malformed_number_of_a_request_is_a_mistyped_argument(name: str, element: int, value: bytes) -> None:
    with pytest.raises(CommandError, match="is malformed") as caught:
        decode_command(with_element(COMMANDS[name][0].data, element, value))
    assert (caught.value.status, caught.value.offending) == (0x0212, element)


def test_a_store_without_its_instance_uid_is_refused_as_in_the_standard() -> None:
    with pytest.raises(CommandError) as caught:
        decode_command(with_element(STORE, 0x1000, None))
    error = caught.value
    expected = golden(
        """
        00 00 00 00 [04 00 00 00] [68 00 00 00]                         # group length
        00 00 02 00 [1A 00 00 00] '1.2.840.10008.5.1.4.1.1.2' 00        # Affected SOP Class UID
        00 00 00 01 [02 00 00 00] 01 80                                 # Command Field
        00 00 20 01 [02 00 00 00] FF FF                                 # Message ID Being Responded To
        00 00 00 08 [02 00 00 00] 01 01                                 # Command Data Set Type: none
        00 00 00 09 [02 00 00 00] 17 01                                 # Status: invalid object instance
        00 00 01 09 [04 00 00 00] 00 00 00 10                           # Offending Element: (0000,1000)
        00 00 02 09 [0A 00 00 00] 'is missing'                          # Error Comment
        """,
        "little",
    )
    answer = error.command.refusal(error.status, offending=(error.offending,), comment="is missing")
    assert encode_command(answer) == expected.data
    assert decode_command(expected.data) == CStoreRSP(
        message_id_being_responded_to=0xFFFF,
        status=0x0117,
        affected_sop_class_uid=CT,
        offending_element=(0x00001000,),
        error_comment="is missing",
    )


def test_a_command_error_is_a_protocol_error_with_an_abort_reason() -> None:
    assert issubclass(CommandError, ProtocolError)
    with pytest.raises(ProtocolError):
        decode_command(with_element(STORE, 0x1000, None))


@pytest.mark.parametrize("name", [name for name in COMMANDS if "RQ" in name])
@pytest.mark.parametrize("element", [0x0100, 0x0110, 0x0800])
@pytest.mark.parametrize("value", [None, b"", b"\1", b"\1\0\0", b"\1\0\0\0"])
def test_without_field_id_or_data_set_type_the_association_ends(name: str, element: int, value: bytes | None) -> None:
    if name == "C-CANCEL-RQ" and element == 0x0110:  # the Message ID of a C-CANCEL
        element = 0x0120
    with pytest.raises(ProtocolError) as caught:
        decode_command(with_element(COMMANDS[name][0].data, element, value))
    assert not isinstance(caught.value, CommandError)


@pytest.mark.parametrize("name", [name for name in COMMANDS if "RSP" in name])
@pytest.mark.parametrize("element", [0x0100, 0x0120, 0x0800, 0x0900])
@pytest.mark.parametrize("value", [None, b"", b"\0", b"\0\0\0"])
def test_a_response_that_lacks_something_is_never_answered(name: str, element: int, value: bytes | None) -> None:
    with pytest.raises(ProtocolError) as caught:
        decode_command(with_element(COMMANDS[name][0].data, element, value))
    assert not isinstance(caught.value, CommandError)


@pytest.mark.parametrize("tags", [b"\0\0", b"\0\0\0\0\0\0"])
def test_a_response_with_half_a_tag_is_a_protocol_error(tags: bytes) -> None:
    octets = COMMANDS["C-STORE-RSP with a failure"][0].data
    with pytest.raises(ProtocolError, match=r"\(0000,0901\) is malformed"):
        decode_command(with_element(octets, 0x0901, tags))


def test_a_response_needs_no_uids() -> None:
    octets = command_set((0x0100, b"\x30\x80"), (0x0120, b"\1\0"), (0x0800, b"\1\1"), (0x0900, b"\0\0"))
    assert decode_counted(octets) == (CEchoRSP(message_id_being_responded_to=1, status=0), Counter())


@pytest.mark.parametrize("data_set_type", [b"\0\0", b"\1\0", b"\2\1", b"\xff\xff", b"\xfe\xfe"])
def test_any_data_set_type_but_0101h_announces_a_data_set(data_set_type: bytes) -> None:
    for name in ("C-STORE-RQ", "C-ECHO-RQ", "C-STORE-RSP"):
        command = decode_command(with_element(COMMANDS[name][0].data, 0x0800, data_set_type))
        assert command.has_data_set
    assert not decode_command(with_element(STORE, 0x0800, b"\1\1")).has_data_set


def test_a_missing_priority_is_medium_and_counted() -> None:
    for value in (None, b""):
        assert decode_counted(with_element(STORE, 0x0700, value)) == (STORE_VALUE, {Deviation.PRIORITY_MISSING: 1})
    for name in ("C-ECHO-RQ", "N-ACTION-RQ", "C-STORE-RSP"):
        assert not decode_counted(COMMANDS[name][0].data)[1]


def test_a_priority_outside_the_standard_is_kept() -> None:
    command = decode_command(with_element(STORE, 0x0700, b"\7\0"))
    assert isinstance(command, CStoreRQ)
    assert command.priority == 7
    assert [(priority.name, priority.value) for priority in Priority] == [("MEDIUM", 0), ("HIGH", 1), ("LOW", 2)]


@pytest.mark.parametrize("length", [0, 1, 0x59, 0x5B, 0xFFFFFFFF])
def test_a_wrong_group_length_is_counted(length: int) -> None:
    octets = command_set(*elements_of(STORE), length=length)
    assert decode_counted(octets) == (STORE_VALUE, {Deviation.GROUP_LENGTH_WRONG: 1})


def test_a_missing_or_malformed_group_length_is_counted() -> None:
    missing = STORE[NO_GROUP_LENGTH:]
    empty = bytes(8) + missing
    short = bytes.fromhex("0000 0000 02000000 5A00") + missing
    for octets in (missing, empty, short):
        assert decode_counted(octets) == (STORE_VALUE, {Deviation.GROUP_LENGTH_WRONG: 1})


def test_elements_out_of_order_are_counted() -> None:
    elements = elements_of(STORE)
    swapped = command_set(elements[1], elements[0], *elements[2:])
    assert decode_counted(swapped) == (STORE_VALUE, {Deviation.ELEMENTS_UNSORTED: 1})
    backwards = command_set(*reversed(elements))
    assert decode_counted(backwards) == (STORE_VALUE, {Deviation.ELEMENTS_UNSORTED: 5})
    group_length_last = STORE[NO_GROUP_LENGTH:] + STORE[:NO_GROUP_LENGTH]
    assert decode_counted(group_length_last) == (STORE_VALUE, {Deviation.ELEMENTS_UNSORTED: 1})


def test_the_first_of_repeated_elements_is_significant_and_others_counted() -> None:
    elements = elements_of(STORE)
    other = (0x1000, b"9.9.9.99")
    assert decode_counted(command_set(*elements, other)) == (STORE_VALUE, {Deviation.ELEMENT_REPEATED: 1})
    assert decode_counted(command_set(*elements, other, other)) == (STORE_VALUE, {Deviation.ELEMENT_REPEATED: 2})
    assert decode_counted(command_set(*elements, *elements)) == (STORE_VALUE, {Deviation.ELEMENT_REPEATED: 6})
    twice = STORE[:NO_GROUP_LENGTH] + command_set(*elements)
    assert decode_counted(twice) == (
        STORE_VALUE,
        {Deviation.ELEMENT_REPEATED: 1, Deviation.GROUP_LENGTH_WRONG: 1},
    )


def test_empty_optional_elements_are_absent() -> None:
    optional = [(number, b"") for number in (0x1030, 0x1031)]
    assert decode_command(command_set(*elements_of(STORE), *optional)) == STORE_VALUE
    response, value = COMMANDS["C-STORE-RSP"]
    emptied = {**dict(elements_of(response.data)), 0x0002: b"", 0x0901: b"", 0x0902: b"", 0x0903: b"", 0x1000: b""}
    assert isinstance(value, CStoreRSP)
    assert decode_command(command_set(*sorted(emptied.items()))) == replace(
        value, affected_sop_class_uid="", affected_sop_instance_uid=""
    )


def test_unknown_elements_of_known_commands_are_ignored() -> None:
    """PS3.7 E.2 has retired ones that old peers still send, such as (0000,0001) and (0000,5020)."""
    octets = command_set((0x0001, b"\x9a\0\0\0"), *elements_of(STORE), (0x5020, b"x "))
    assert decode_counted(octets) == (STORE_VALUE, Counter())


@pytest.mark.parametrize("padding", [b"", b"\0", b" ", b"\0\0\0", b" \0"])
def test_padding_of_uids_and_text_is_removed(padding: bytes) -> None:
    octets = with_element(STORE, 0x1000, b"1.2.3.4" + padding)
    # A NUL makes the length even; all else is counted (PS3.5 9.1).
    counted = {} if padding == b"\0" else {Deviation.UID_PADDING: 1}
    assert decode_counted(octets) == (STORE_VALUE, counted)
    moved = command_set(*elements_of(STORE), (0x1030, b" AE" + padding))
    assert decode_command(moved) == replace(STORE_VALUE, move_originator_ae_title="AE")  # type: ignore[call-arg]


def test_text_of_any_bytes_is_encoded_unchanged() -> None:
    every = bytes(range(1, 32)) + bytes(range(33, 256)) + b"\0!"
    octets = with_element(STORE, 0x1000, every)
    command = decode_command(octets)
    assert encode_command(command) == octets


def test_a_command_set_in_explicit_vr_is_a_protocol_error() -> None:
    octets = golden(
        """
        00 00 00 00 'UL' [04 00] 38 00 00 00                            # group length
        00 00 02 00 'UI' [12 00] '1.2.840.10008.1.1' 00                 # Affected SOP Class UID
        00 00 00 01 'US' [02 00] 30 00                                  # Command Field
        00 00 10 01 'US' [02 00] 01 00                                  # Message ID
        00 00 00 08 'US' [02 00] 01 01                                  # Command Data Set Type: none
        """,
        "little",
    )
    with pytest.raises(ProtocolError, match="not an element at offset 0") as caught:
        decode_command(octets.data)
    assert not isinstance(caught.value, CommandError)


@pytest.mark.parametrize(
    "octets",
    [
        "",
        "00",
        "0000 0000 040000",
        "0800 1800 02000000 3100",  # another group
        "0000 0001 02000000 30",
        "0000 0001 FFFFFFFF 3000",
        "0000 0000 04000000 00000000",
        "0000 0000 00000004 00000000 0000 0002",  # Big Endian
    ],
)
def test_an_invalid_command_set_is_a_protocol_error(octets: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        decode_command(bytes.fromhex(octets))
    assert not isinstance(caught.value, CommandError)


@pytest.mark.parametrize("field", [0x0020, 0x0010, 0x0021, 0x0110, 0x0120, 0x0140, 0x0150, 0x0000, 0x7FFF])
def test_an_unknown_request_is_kept_raw_and_can_be_refused(field: int) -> None:
    """PS3.7 C.4.2.1.9 and its siblings: 0211H, unrecognized operation."""
    elements = [
        (0x0002, b"1.2.840.10008.5.1.4.1.2.2.1\0"),
        (0x0100, struct.pack("<H", field)),
        (0x0110, b"\4\0"),
        (0x0700, b"\0\0"),
        (0x0800, b"\0\0"),
    ]
    command, notes = decode_counted(command_set(*elements))
    assert isinstance(command, RawCommand)
    assert not notes
    assert command.elements == dict(elements)
    assert (command.command_field, command.message_id, command.has_data_set) == (field, 4, True)
    assert not command.is_response
    answer = command.refusal(0x0211)
    assert answer.is_response
    assert encode_command(answer) == command_set(
        (0x0002, b"1.2.840.10008.5.1.4.1.2.2.1\0"),
        (0x0100, struct.pack("<H", field | 0x8000)),
        (0x0120, b"\4\0"),
        (0x0800, b"\1\1"),
        (0x0900, b"\x11\x02"),
    )


def test_an_unknown_response_is_kept_raw() -> None:
    """A C-FIND-RSP, which has a Message ID Being Responded To alone."""
    elements = [(0x0100, b"\x20\x80"), (0x0120, b"\4\0"), (0x0800, b"\1\1"), (0x0900, b"\0\0")]
    command = decode_command(command_set(*elements))
    assert command == RawCommand(dict(elements))
    assert command.is_response
    with pytest.raises(ProtocolError, match=r"\(0000,0110\) is missing or malformed"):
        _ = command.message_id


@pytest.mark.parametrize("missing", [0x0110, 0x0800])
def test_an_unknown_request_without_message_id_is_a_protocol_error(missing: int) -> None:
    elements = [(0x0100, b"\x20\0"), (0x0110, b"\4\0"), (0x0800, b"\1\1")]
    with pytest.raises(ProtocolError):
        decode_command(command_set(*(element for element in elements if element[0] != missing)))


def test_a_known_request_can_be_refused_too() -> None:
    value = COMMANDS["N-ACTION-RQ"][1]
    assert encode_command(value.to_raw().refusal(0x0211)) == command_set(
        (0x0002, COMMITMENT.encode()),
        (0x0100, b"\x30\x81"),
        (0x0120, b"\2\1"),
        (0x0800, b"\1\1"),
        (0x0900, b"\x11\2"),
        (0x1000, COMMITMENT_INSTANCE.encode()),
    )


def test_elements_have_the_numbers_of_the_standard() -> None:
    """PS3.7 E.1."""
    assert {element.name: element.value for element in Element} == {
        "GROUP_LENGTH": 0x0000,
        "AFFECTED_SOP_CLASS_UID": 0x0002,
        "REQUESTED_SOP_CLASS_UID": 0x0003,
        "COMMAND_FIELD": 0x0100,
        "MESSAGE_ID": 0x0110,
        "MESSAGE_ID_BEING_RESPONDED_TO": 0x0120,
        "PRIORITY": 0x0700,
        "COMMAND_DATA_SET_TYPE": 0x0800,
        "STATUS": 0x0900,
        "OFFENDING_ELEMENT": 0x0901,
        "ERROR_COMMENT": 0x0902,
        "ERROR_ID": 0x0903,
        "AFFECTED_SOP_INSTANCE_UID": 0x1000,
        "REQUESTED_SOP_INSTANCE_UID": 0x1001,
        "EVENT_TYPE_ID": 0x1002,
        "ACTION_TYPE_ID": 0x1008,
        "MOVE_ORIGINATOR_AE_TITLE": 0x1030,
        "MOVE_ORIGINATOR_MESSAGE_ID": 0x1031,
    }


@pytest.mark.parametrize(
    "command",
    [
        CEchoRQ(message_id=65536, affected_sop_class_uid=VERIFICATION),
        CEchoRQ(message_id=-1, affected_sop_class_uid=VERIFICATION),
        CEchoRQ(message_id=1, affected_sop_class_uid="一"),
        CStoreRQ(message_id=1, affected_sop_class_uid=CT, affected_sop_instance_uid="1.2", priority=65536),
        CStoreRQ(
            message_id=1, affected_sop_class_uid=CT, affected_sop_instance_uid="1.2", move_originator_ae_title="一"
        ),
        CStoreRQ(
            message_id=1, affected_sop_class_uid=CT, affected_sop_instance_uid="1.2", move_originator_message_id=65536
        ),
        CStoreRSP(message_id_being_responded_to=65536, status=0),
        CStoreRSP(message_id_being_responded_to=1, status=65536),
        CStoreRSP(message_id_being_responded_to=1, status=0, error_id=-1),
        CStoreRSP(message_id_being_responded_to=1, status=0, error_comment="一"),
        CStoreRSP(message_id_being_responded_to=1, status=0, offending_element=(2**32,)),
        CStoreRSP(message_id_being_responded_to=1, status=0, offending_element=(-1,)),
        NActionRQ(message_id=1, requested_sop_class_uid="1", requested_sop_instance_uid="1", action_type_id=65536),
        NEventReportRQ(message_id=1, affected_sop_class_uid="1", affected_sop_instance_uid="1", event_type_id=65536),
        CCancelRQ(message_id_being_responded_to=65536),
        RawCommand({0x10000: b""}),
        RawCommand({-1: b""}),
    ],
)
def test_a_value_out_of_range_is_an_encode_error(command: Command | RawCommand) -> None:
    with pytest.raises(EncodeError):
        encode_command(command)


def test_a_refusal_with_an_invalid_status_or_comment_is_an_encode_error() -> None:
    raw = STORE_VALUE.to_raw()
    with pytest.raises(EncodeError):
        raw.refusal(65536)
    with pytest.raises(EncodeError):
        raw.refusal(0x0110, comment="一")
    with pytest.raises(EncodeError):
        raw.refusal(0x0110, offending=(2**32,))


def test_commands_are_frozen_and_compare_by_value() -> None:
    value = COMMANDS["C-STORE-RQ"][1]
    assert value == COMMANDS["C-STORE-RQ"][1].from_raw(value.to_raw())
    with pytest.raises(AttributeError):
        value.has_data_set = False  # type: ignore[misc]


@pytest.mark.timeout(20)
def test_a_mebibyte_of_empty_elements_is_read_in_bounded_time() -> None:
    repeated = struct.pack("<HHL", 0, 0x0100, 0) * (1 << 17)
    with pytest.raises(ProtocolError):
        decode_command(repeated)
    notes: Counter[Deviation] = Counter()
    assert decode_command(command_set(*elements_of(STORE)) + repeated, notes) == STORE_VALUE
    assert notes[Deviation.ELEMENT_REPEATED] == 1 << 17


def test_nothing_is_allocated_for_a_declared_length() -> None:
    with pytest.raises(ProtocolError, match="4294967295 bytes"):
        decode_command(bytes.fromhex("0000 0000 FFFFFFFF"))
