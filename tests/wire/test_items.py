"""Items and sub-items against bytes typed from PS3.8 9.3.2, 9.3.3 and PS3.7 Annex D.3.3."""

from collections import Counter
from typing import Final

import pytest
from tests.wire.golden import Golden, golden
from tests.wire.pdu_goldens import CT, ITEMS, Item

from dicomport.wire import (
    AsynchronousOperationsWindow,
    ContextResult,
    Deviation,
    EncodeError,
    LimitExceededError,
    PresentationContextAC,
    PresentationContextRQ,
    ProtocolError,
    ProtocolLimits,
    RoleSelection,
    SOPClassCommonExtendedNegotiation,
    SOPClassExtendedNegotiation,
    UnknownItem,
    UserIdentityAC,
    UserIdentityRQ,
    UserInformation,
)
from dicomport.wire.cursor import Cursor


def decode_item(
    data: bytes, item: type[Item], notes: Counter[Deviation] | None = None, limits: ProtocolLimits | None = None
) -> Item:
    cursor = Cursor(data, "test", limits=limits or ProtocolLimits(), notes=notes)
    kind, body = cursor.item()
    assert kind == item.KIND
    value = item.decode(body)
    body.end()
    cursor.end()
    return value


def decode_user_information(octets: str, notes: Counter[Deviation] | None = None) -> UserInformation:
    data = golden(octets).data
    return UserInformation.decode(Cursor(data, "test", notes=notes))


@pytest.mark.parametrize(("octets", "value"), ITEMS.values(), ids=ITEMS)
def test_each_item_is_the_bytes_of_the_standard(octets: Golden, value: Item) -> None:
    notes: Counter[Deviation] = Counter()
    assert decode_item(octets.data, type(value), notes) == value
    assert value.encode() == octets.data
    assert not notes


@pytest.mark.parametrize(("octets", "value"), ITEMS.values(), ids=ITEMS)
def test_a_truncated_item_is_a_value_or_a_protocol_error(octets: Golden, value: Item) -> None:
    for data in octets.truncations():
        with pytest.raises(ProtocolError):
            decode_item(data, type(value))
        if len(data) >= 4:  # once more, the item's own length being right
            survives(data[:2] + (len(data) - 4).to_bytes(2, "big") + data[4:], type(value))
    for data in octets.mutations():
        survives(data, type(value))


def survives(data: bytes, item: type[Item]) -> None:
    try:
        value = decode_item(data, item)
    except ProtocolError:
        return
    assert decode_item(value.encode(), item) == value


def test_a_reserved_result_is_a_rejection_and_counted() -> None:
    for code in range(5, 256):
        notes: Counter[Deviation] = Counter()
        data = bytes((0x21, 0, 0, 8, 1, 0, code, 0, 0x40, 0, 0, 0))
        assert decode_item(data, PresentationContextAC, notes) == PresentationContextAC(1, ContextResult.NO_REASON)
        assert notes == {Deviation.RESULT_RESERVED: 1}


def test_results_have_words_for_the_log() -> None:
    assert [result.meaning for result in ContextResult] == [
        "accepted",
        "rejected by the peer's user",
        "rejected by the peer without a reason",
        "the peer does not support the SOP Class",
        "the peer supports none of the transfer syntaxes",
    ]


def test_an_answer_may_come_without_a_transfer_syntax_or_with_more() -> None:
    bare = golden("21 00 [00 04]  01 00 03 00")
    assert decode_item(bare.data, PresentationContextAC) == PresentationContextAC(
        1, ContextResult.ABSTRACT_SYNTAX_NOT_SUPPORTED
    )
    crowded = golden("""
        21 00 [00 18]  01 00 00 00
        99 00 [00 02] 01 02
        40 00 [00 03] '1.2'
        40 00 [00 03] '1.3'
    """)
    assert decode_item(crowded.data, PresentationContextAC) == PresentationContextAC(1, ContextResult.ACCEPTED, "1.2")


def test_a_proposal_may_have_no_sub_items() -> None:
    assert decode_item(golden("20 00 [00 04]  01 00 00 00").data, PresentationContextRQ) == PresentationContextRQ(
        1, "", ()
    )


def test_the_first_of_repeated_abstract_syntaxes_is_significant() -> None:
    octets = golden("20 00 [00 12]  01 00 00 00  30 00 [00 03] '1.2'  30 00 [00 03] '1.3'")
    value = PresentationContextRQ(1, "1.2", (), (UnknownItem(0x30, b"1.3"),))
    assert decode_item(octets.data, PresentationContextRQ) == value
    assert value.encode() == octets.data


def test_256_transfer_syntaxes_are_accepted_and_257_are_not() -> None:
    for kind in (0x40, 0x99):
        sub_item = bytes((kind, 0, 0, 0))
        body = b"\1\0\0\0" + sub_item * 256
        value = PresentationContextRQ.decode(Cursor(body, "test"))
        assert len(value.transfer_syntaxes) + len(value.unknown) == 256
        with pytest.raises(ProtocolError, match="transfer syntaxes per context, "):
            PresentationContextRQ.decode(Cursor(body + sub_item, "test"))
    with pytest.raises(ProtocolError, match="transfer syntaxes per context, "):
        PresentationContextRQ.decode(Cursor(body, "test", limits=ProtocolLimits(transfer_syntaxes_per_context=10)))


def test_a_repeated_abstract_syntax_is_counted() -> None:
    cursor = Cursor(golden("01 00 00 00  30 00 [00 03] '1.2'  30 00 [00 03] '1.3'").data, "test")
    PresentationContextRQ.decode(cursor)
    assert cursor.notes == {Deviation.REPEATED_ITEM: 1}


@pytest.mark.parametrize("fields", [(0, 0), (49146, 0), (0, 49146), (24573, 24573)])
def test_a_user_identity_has_a_limit(fields: tuple[int, int]) -> None:
    """Two bytes, and two lengths of two bytes, belong to it."""
    limits = ProtocolLimits(user_identity_bytes=48 << 10)
    primary, secondary = (bytes(size) for size in fields)
    value = UserIdentityRQ(2, True, primary, secondary)
    assert UserIdentityRQ.decode(Cursor(value.encode()[4:], "test", limits=limits)) == value
    if primary or secondary:
        longer = UserIdentityRQ(2, True, primary + b"1", secondary)
        with pytest.raises(LimitExceededError, match="49153 user identity bytes, the maximum is 49152"):
            UserIdentityRQ.decode(Cursor(longer.encode()[4:], "test", limits=limits))


def test_1024_user_items_are_accepted_and_1025_are_not() -> None:
    sub_item = bytes.fromhex("F0 00 0000")
    assert len(UserInformation.decode(Cursor(sub_item * 1024, "test")).unknown) == 1024
    with pytest.raises(ProtocolError, match="1025 user items, the maximum is 1024"):
        UserInformation.decode(Cursor(sub_item * 1025, "test"))


def test_of_a_repeated_single_sub_item_the_first_counts() -> None:
    notes: Counter[Deviation] = Counter()
    value = decode_user_information(
        """
        51 00 [00 04] 00 00 40 00
        51 00 [00 04] 00 00 00 01
        53 00 [00 04] 00 02 00 03
        53 00 [00 04] 00 00 00 00
        51 00 [00 04] 00 00 00 02
        52 00 [00 03] '1.2'
        52 00 [00 03] '1.3'
        55 00 [00 01] 'A'
        55 00 [00 01] 'B'
        58 00 [00 07] 01 00 [00 01] 'a' [00 00]
        58 00 [00 07] 01 00 [00 01] 'b' [00 00]
        59 00 [00 02] [00 00]
        59 00 [00 03] [00 01] 01
        """,
        notes,
    )
    assert value == UserInformation(
        maximum_length=16384,
        implementation_class_uid="1.2",
        implementation_version_name="A",
        operations_window=AsynchronousOperationsWindow(2, 3),
        user_identity=UserIdentityRQ(1, False, b"a"),
        user_identity_response=UserIdentityAC(),
    )
    assert notes == {Deviation.REPEATED_ITEM: 7}


def test_sub_items_that_may_repeat_are_all_kept_in_their_order() -> None:
    notes: Counter[Deviation] = Counter()
    value = decode_user_information(
        """
        54 00 [00 07] [00 03] '1.2' 01 00
        56 00 [00 05] [00 03] '1.2'
        54 00 [00 07] [00 03] '1.2' 00 01
        56 00 [00 05] [00 03] '1.1'
        57 00 [00 08] [00 01] '1' [00 01] '2' [00 00]
        57 00 [00 08] [00 01] '1' [00 01] '2' [00 00]
        """,
        notes,
    )
    assert value.roles == (RoleSelection("1.2", scu=True, scp=False), RoleSelection("1.2", scu=False, scp=True))
    assert [item.sop_class_uid for item in value.extended] == ["1.2", "1.1"]
    assert len(value.common_extended) == 2
    assert not notes


@pytest.mark.parametrize(
    ("octets", "name"),
    [
        ("", None),
        ("55 00 [00 00]", ""),
        ("55 00 [00 02] 00 20", ""),
        ("55 00 [00 08] 'PEER_10 '", "PEER_10"),
        ("55 00 [00 08] 'PEER' 00{4}", "PEER"),
        ("55 00 [00 11] 'SEVENTEEN_CHARS_X'", "SEVENTEEN_CHARS_X"),
        ("55 00 [00 02] C4 DF", "Äß"),
    ],
)
def test_implementation_version_names_of_any_length_are_accepted(octets: str, name: str | None) -> None:
    assert decode_user_information(octets).implementation_version_name == name


def test_bytes_appended_to_57h_are_ignored() -> None:
    """PS3.7 D.3.3.6: the rest is reserved for later versions of the sub-item."""
    octets = golden("57 00 [00 0D]  [00 03] '1.2'  [00 01] '1'  [00 00]  AA BB CC")
    assert decode_item(octets.data, SOPClassCommonExtendedNegotiation) == SOPClassCommonExtendedNegotiation("1.2", "1")


def test_any_role_but_zero_is_the_role() -> None:
    assert decode_item(golden("54 00 [00 05]  [00 01] '1' FF 02").data, RoleSelection) == RoleSelection("1", True, True)


@pytest.mark.parametrize(
    "octets",
    [
        "51 00 [00 03] 00 40 00",
        "51 00 [00 05] 00 00 40 00 00",
        "51 00 [00 00]",
        "53 00 [00 02] 00 01",
        "53 00 [00 06] 00 01 00 01 00 01",
        "54 00 [00 04] [00 01] '1' 01",
        "54 00 [00 06] [00 01] '1' 01 00 00",
        "54 00 [00 02] [00 09]",
        "56 00 [00 01] 00",
        "56 00 [00 03] [00 02] '1'",
        "57 00 [00 06] [00 01] '1' [00 01] '2'",
        "57 00 [00 0A] [00 01] '1' [00 01] '2' [00 02] [00 01]",
        "57 00 [00 09] [00 01] '1' [00 01] '2' [00 01] 00",
        "58 00 [00 06] 01 00 [00 00] [00 01]",
        "58 00 [00 07] 01 00 [00 00] [00 00] FF",
        "58 00 [00 04] 01 00 [00 00]",
        "59 00 [00 03] [00 00] FF",
        "59 00 [00 01] 00",
        "5A 00 [00 01]",
        "5A 00 00",
        "5A",
    ],
)
def test_a_sub_item_of_the_wrong_size_is_a_protocol_error(octets: str) -> None:
    with pytest.raises(ProtocolError):
        decode_user_information(octets)


def test_secrets_stay_out_of_the_log() -> None:
    request, response = UserIdentityRQ(2, True, b"hidden-user", b"hidden-pass"), UserIdentityAC(b"hidden-ticket")
    assert "hidden" not in repr(UserInformation(user_identity=request, user_identity_response=response))
    assert "identity_type=2" in repr(request)


def test_secrets_stay_out_of_errors() -> None:
    body = golden("58 00 [00 16] 02 00 [00 06] 'hidden' [00 FF] 'hidden'").data
    with pytest.raises(ProtocolError) as caught:
        UserInformation.decode(Cursor(body, "test"))
    assert "hidden" not in str(caught.value)


TOO_LONG: Final = "1" * 65536


@pytest.mark.parametrize(
    "item",
    [
        PresentationContextRQ(256, CT, ()),
        PresentationContextRQ(-1, CT, ()),
        PresentationContextRQ(1, TOO_LONG, ()),
        PresentationContextRQ(1, CT, (TOO_LONG,)),
        PresentationContextRQ(1, "一", ()),
        PresentationContextRQ(1, CT, ("一",)),
        PresentationContextAC(256, ContextResult.ACCEPTED, CT),
        PresentationContextAC(1, ContextResult.ACCEPTED, "一"),
        AsynchronousOperationsWindow(65536, 1),
        AsynchronousOperationsWindow(1, 65536),
        AsynchronousOperationsWindow(1, -1),
        RoleSelection(TOO_LONG, scu=True, scp=True),
        RoleSelection("一", scu=True, scp=True),
        SOPClassExtendedNegotiation(CT, bytes(65520)),
        SOPClassCommonExtendedNegotiation(CT, "一"),
        SOPClassCommonExtendedNegotiation(CT, CT, (CT,) * 3000),
        UserIdentityRQ(256, True, b""),
        UserIdentityRQ(1, True, bytes(65536)),
        UserIdentityRQ(1, True, bytes(40000), bytes(40000)),
        UserIdentityAC(bytes(65536)),
        UserInformation(maximum_length=2**32),
        UserInformation(maximum_length=-1),
        UserInformation(implementation_class_uid="一"),
        UserInformation(implementation_version_name="一"),
        UserInformation(unknown=(UnknownItem(-1, b""),)),
        UserInformation(unknown=(UnknownItem(0xF0, bytes(40000)), UnknownItem(0xF0, bytes(40000)))),
    ],
)
def test_a_value_out_of_range_is_an_encode_error(item: Item) -> None:
    with pytest.raises(EncodeError):
        item.encode()
