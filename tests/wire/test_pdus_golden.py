"""PDUs against bytes typed from PS3.8 9.3."""

from collections import Counter
from dataclasses import replace
from typing import Final

import pytest
from tests.wire.golden import Golden, golden, with_pdu_length
from tests.wire.pdu_goldens import ASSOCIATE_AC, ASSOCIATE_RQ, ASSOCIATE_RQ_VALUE, PDUS

from dicomport.wire import (
    APPLICATION_CONTEXT,
    PDU_HEADER,
    PDV_HEADER,
    Abort,
    AbortReason,
    AssociateRJ,
    AssociateRQ,
    Deviation,
    EncodeError,
    PDataTF,
    Pdu,
    PresentationContextRQ,
    PresentationDataValue,
    ProtocolError,
    ProtocolLimits,
    RejectReason,
    UnknownItem,
    UserInformation,
    decode,
    encode,
)

# PS3.8 Table 9-21.
REJECTIONS: Final = {
    (1, 1): "USER_NO_REASON",
    (1, 2): "APPLICATION_CONTEXT_NAME_NOT_SUPPORTED",
    (1, 3): "CALLING_AE_TITLE_NOT_RECOGNIZED",
    (1, 7): "CALLED_AE_TITLE_NOT_RECOGNIZED",
    (2, 1): "ACSE_NO_REASON",
    (2, 2): "PROTOCOL_VERSION_NOT_SUPPORTED",
    (3, 0): "PRESENTATION_NO_REASON",
    (3, 1): "TEMPORARY_CONGESTION",
    (3, 2): "LOCAL_LIMIT_EXCEEDED",
}

# PS3.8 Table 9-26.
ABORTS: Final = {
    (0, 0): "SERVICE_USER",
    (2, 0): "NOT_SPECIFIED",
    (2, 1): "UNRECOGNIZED_PDU",
    (2, 2): "UNEXPECTED_PDU",
    (2, 4): "UNRECOGNIZED_PDU_PARAMETER",
    (2, 5): "UNEXPECTED_PDU_PARAMETER",
    (2, 6): "INVALID_PDU_PARAMETER_VALUE",
}

PAIRS: Final = [(first, second) for first in range(256) for second in range(256)]


def associate(items: bytes, *, called: bytes = b"SCP".ljust(16), calling: bytes = b"SCU".ljust(16)) -> bytes:
    body = b"\0\1\0\0" + called + calling + bytes(32) + items
    return b"\1\0" + len(body).to_bytes(4, "big") + body


def decode_associate(data: bytes, notes: Counter[Deviation] | None = None) -> AssociateRQ:
    pdu = decode(data, notes=notes)
    assert isinstance(pdu, AssociateRQ)
    return pdu


@pytest.mark.parametrize(("octets", "value"), PDUS.values(), ids=PDUS)
def test_each_pdu_is_the_bytes_of_the_standard(octets: Golden, value: Pdu) -> None:
    notes: Counter[Deviation] = Counter()
    assert decode(octets.data, notes=notes) == value
    assert encode(value) == octets.data
    assert not notes


def test_headers_are_the_standards() -> None:
    assert PDU_HEADER.pack(4, 0x01020304) == bytes.fromhex("04 00 01020304")
    assert PDV_HEADER.pack(0x01020304, 5, 3) == bytes.fromhex("01020304 05 03")


@pytest.mark.parametrize("pair", REJECTIONS)
@pytest.mark.parametrize("transient", [False, True])
def test_each_rejection_is_its_pair_of_numbers(pair: tuple[int, int], *, transient: bool) -> None:
    octets = bytes((3, 0, 0, 0, 0, 4, 0, 2 if transient else 1, *pair))
    value = AssociateRJ(RejectReason[REJECTIONS[pair]], transient=transient)
    assert decode(octets) == value
    assert encode(value) == octets
    assert (value.reason.source, value.reason.reason) == pair


@pytest.mark.parametrize("pair", ABORTS)
def test_each_abort_is_its_pair_of_numbers(pair: tuple[int, int]) -> None:
    octets = bytes((7, 0, 0, 0, 0, 4, 0, 0, *pair))
    value = Abort(AbortReason[ABORTS[pair]])
    assert decode(octets) == value
    assert encode(value) == octets
    assert (value.reason.source, value.reason.reason) == pair


def test_an_abort_is_the_users_by_default() -> None:
    assert encode(Abort()) == bytes.fromhex("07 00 00000004 00 00 00 00")


def test_no_other_reject_or_abort_can_be_built() -> None:
    assert {reason.value for reason in RejectReason} == set(REJECTIONS)
    assert {reason.value for reason in AbortReason} == set(ABORTS)
    with pytest.raises(ValueError, match=r"\(1, 4\)"):
        RejectReason((1, 4))
    with pytest.raises(ValueError, match=r"\(2, 3\)"):
        AbortReason((2, 3))


def test_each_reserved_reject_reason_is_its_sources_no_reason() -> None:
    for source, reason in PAIRS:
        notes: Counter[Deviation] = Counter()
        value = decode(bytes((3, 0, 0, 0, 0, 4, 0, 1, source, reason)), notes=notes)
        assert isinstance(value, AssociateRJ)
        if (source, reason) in REJECTIONS:
            assert not notes
        else:
            assert value.reason.value == {2: (2, 1), 3: (3, 0)}.get(source, (1, 1))
            assert notes == {Deviation.REJECT_REASON_RESERVED: 1}


def test_every_reserved_abort_reason_reads_as_not_specified() -> None:
    for source, reason in PAIRS:
        notes: Counter[Deviation] = Counter()
        value = decode(bytes((7, 0, 0, 0, 0, 4, 0, 0, source, reason)), notes=notes)
        if source == 0:  # PS3.8 9.3.8: the reason is not significant then
            assert (value, notes) == (Abort(AbortReason.SERVICE_USER), Counter())
        elif (source, reason) in ABORTS:
            assert (value, notes) == (Abort(AbortReason((source, reason))), Counter())
        else:
            assert (value, notes) == (Abort(AbortReason.NOT_SPECIFIED), {Deviation.ABORT_REASON_RESERVED: 1})


def test_reasons_have_words_for_the_log() -> None:
    assert RejectReason.CALLED_AE_TITLE_NOT_RECOGNIZED.meaning == "called AE title not recognized"
    assert RejectReason.LOCAL_LIMIT_EXCEEDED.meaning == "local limit exceeded"
    assert AbortReason.SERVICE_USER.meaning == "service-user"
    assert AbortReason.UNEXPECTED_PDU.meaning == "service-provider: unexpected pdu"


def test_reserved_octets_are_not_tested() -> None:
    """PS3.8 9.3: reserved fields shall not be tested when received."""
    data = bytearray(ASSOCIATE_RQ.data)
    data[1] = data[8] = data[9] = data[75] = data[100] = 0xFF  # of the PDU, after the version, of 10H, of 20H
    data[42:74] = b"\xff" * 32
    assert decode(bytes(data)) == ASSOCIATE_RQ_VALUE
    assert decode(bytes.fromhex("05 FF 00000004 FFFFFFFF")) == decode(bytes.fromhex("05 00 00000004 00000000"))
    assert decode(bytes.fromhex("03 FF 00000004 FF 01 01 01")) == AssociateRJ(RejectReason.USER_NO_REASON)
    assert decode(bytes.fromhex("07 FF 00000004 FF FF 02 02")) == Abort(AbortReason.UNEXPECTED_PDU)


def test_reserved_bits_of_the_message_control_header_are_not_tested() -> None:
    """PS3.8 E.2: bits 2 through 7 are not checked by the receiver."""
    value = PresentationDataValue(1, is_command=False, is_last=True, data=b"\5")
    assert decode(bytes.fromhex("04 00 00000007 00000003 01 FE 05")) == PDataTF((value,))


def test_every_bit_of_the_protocol_version_is_kept() -> None:
    """PS3.8 9.3.2: only bit 0 is tested."""
    data = bytearray(associate(b""))
    data[6:8] = b"\x80\x03"
    assert decode_associate(bytes(data)).protocol_version == 0x8003


def test_the_application_context_of_dicom_is_the_default() -> None:
    assert APPLICATION_CONTEXT == "1.2.840.10008.3.1.1.1"
    assert ASSOCIATE_RQ_VALUE.application_context == APPLICATION_CONTEXT


def test_missing_items_are_read_as_empty_ones() -> None:
    notes: Counter[Deviation] = Counter()
    pdu = decode_associate(associate(b""), notes)
    assert pdu.application_context == ""
    assert pdu.presentation_contexts == ()
    assert pdu.user_information == UserInformation()
    assert not notes


def test_items_may_come_in_any_order() -> None:
    items = golden("""
        50 00 [00 08]  51 00 [00 04] 00 00 10 00
        20 00 [00 0F]  01 00 00 00  30 00 [00 03] '1.2'  40 00 [00 00]
        10 00 [00 03] '1.3'
    """)
    pdu = decode_associate(associate(items.data))
    assert pdu.application_context == "1.3"
    assert pdu.presentation_contexts == (PresentationContextRQ(1, "1.2", ("",)),)
    assert pdu.user_information.maximum_length == 4096


def test_the_first_of_repeated_items_is_significant() -> None:
    items = golden("""
        10 00 [00 03] '1.2'
        50 00 [00 08]  51 00 [00 04] 00 00 10 00
        10 00 [00 03] '9.9'
        50 00 [00 00]
    """)
    notes: Counter[Deviation] = Counter()
    pdu = decode_associate(associate(items.data), notes)
    assert notes == {Deviation.REPEATED_ITEM: 2}
    assert pdu.application_context == "1.2"
    assert pdu.user_information.maximum_length == 4096
    assert pdu.unknown == (UnknownItem(0x10, b"9.9"), UnknownItem(0x50, b""))
    assert encode(pdu) == associate(items.data)


def test_an_answer_in_a_request_is_an_unknown_item() -> None:
    items = golden("21 00 [00 08]  01 00 00 00  40 00 [00 00]")
    pdu = decode_associate(associate(items.data))
    assert (pdu.presentation_contexts, pdu.unknown) == ((), (UnknownItem(0x21, items.data[4:]),))


@pytest.mark.parametrize(
    ("octets", "title", "counted"),
    [
        (b"STORESCU        ", "STORESCU", False),
        (b"  STORE SCU     ", "STORE SCU", False),
        (b"SIXTEEN_CHARS_16", "SIXTEEN_CHARS_16", False),
        (b"STORESCU\0\0\0\0\0\0\0\0", "STORESCU", True),
        (b"STORE   \0       ", "STORE", True),
        (b"STORE\0GARBAGE\xff\xfe\x1b", "STORE", True),
        (b"K\xd6LN            ", "KÖLN", False),
        (b"A\\B\n\x1b[2J        "[:16], "A\\B\n\x1b[2J", False),
    ],
)
def test_ae_titles_are_read_leniently(octets: bytes, title: str, *, counted: bool) -> None:
    notes: Counter[Deviation] = Counter()
    pdu = decode_associate(associate(b"", called=octets, calling=b"OTHER".ljust(16)), notes)
    assert (pdu.called_ae_title, pdu.calling_ae_title) == (title, "OTHER")
    assert notes == ({Deviation.AE_TITLE_WITH_NUL: 1} if counted else {})


@pytest.mark.parametrize("blank", [b" " * 16, bytes(16), b"\0GARBAGE........"])
def test_blank_ae_titles_of_requests_are_counted(blank: bytes) -> None:
    for called, calling in ((blank, b"OTHER".ljust(16)), (b"OTHER".ljust(16), blank), (blank, blank)):
        notes: Counter[Deviation] = Counter()
        pdu = decode_associate(associate(b"", called=called, calling=calling), notes)
        assert pdu.called_ae_title == "" or pdu.calling_ae_title == ""
        assert notes[Deviation.AE_TITLE_BLANK] == 1
        notes.clear()
        decode(b"\2" + associate(b"", called=called, calling=calling)[1:], notes=notes)
        assert Deviation.AE_TITLE_BLANK not in notes


def test_padding_of_each_uid_is_removed_and_counted() -> None:
    items = golden("""
        10 00 [00 04] '1.2' 00
        20 00 [00 16]  01 00 00 00
            30 00 [00 04] '1.3' 00
            40 00 [00 06] ' 1.4 ' 00
        50 00 [00 4F]
            52 00 [00 05] '1.5  '
            54 00 [00 08] [00 04] '1.6' 00 01 00
            56 00 [00 06] [00 04] '1.7 '
            57 00 [00 14] [00 04] '1.8 ' [00 04] '1.9' 00 [00 06] [00 04] '1.4' 00
            55 00 [00 14] 00{20}
    """)
    notes: Counter[Deviation] = Counter()
    pdu = decode_associate(associate(items.data), notes)
    user = pdu.user_information
    assert pdu.application_context == "1.2"
    assert pdu.presentation_contexts == (PresentationContextRQ(1, "1.3", ("1.4",)),)
    assert (user.implementation_class_uid, user.roles[0].sop_class_uid) == ("1.5", "1.6")
    assert user.extended[0].sop_class_uid == "1.7"
    common = user.common_extended[0]
    assert (common.sop_class_uid, common.service_class_uid) == ("1.8", "1.9")
    assert common.related_general_sop_class_uids == ("1.4",)
    assert notes == {Deviation.UID_PADDING: 9}


@pytest.mark.parametrize("octets", [golden.data for golden, _ in PDUS.values()], ids=PDUS)
def test_a_pdu_cut_anywhere_is_a_protocol_error(octets: bytes) -> None:
    for size in range(len(octets)):
        with pytest.raises(ProtocolError):
            decode(octets[:size])
    with pytest.raises(ProtocolError, match="bytes follow"):
        decode(octets + b"\0")


@pytest.mark.parametrize("octets", [golden.data for golden, _ in PDUS.values()], ids=PDUS)
def test_a_pdu_of_another_length_is_a_value_or_a_protocol_error(octets: bytes) -> None:
    for size in range(6, len(octets)):
        survives(with_pdu_length(octets[:size]))
    for extra in (b"\0", b"\x51\0", b"\x10\0\0\1", b"\xff" * 7):
        survives(with_pdu_length(octets + extra))


@pytest.mark.parametrize("octets", [golden for golden, _ in PDUS.values()], ids=PDUS)
def test_a_wrong_length_field_is_a_value_or_a_protocol_error(octets: Golden) -> None:
    for data in octets.mutations():
        survives(data)
        survives(with_pdu_length(data))


@pytest.mark.parametrize("octets", [golden.data for golden, _ in PDUS.values()], ids=PDUS)
def test_any_one_octet_may_be_wrong(octets: bytes) -> None:
    for offset, octet in enumerate(octets):
        for wrong in (0x00, 0x7F, 0xFF, octet ^ 1, octet ^ 0x80):
            survives(octets[:offset] + bytes((wrong,)) + octets[offset + 1 :])


def survives(data: bytes) -> None:
    try:
        pdu = decode(data)
    except ProtocolError:
        return
    assert decode(encode(pdu)) == pdu


@pytest.mark.parametrize(
    "octets",
    [
        "05 00 00000003 000000",
        "05 00 00000005 0000000000",
        "07 00 00000005 0000000000",
        "03 00 00000003 000101",
        "01 00 00000000",
        "04 00 00000006 00000000 01 03",  # a PDV length leaves room for its header
        "04 00 00000006 00000001 01 03",
        "04 00 00000005 00000002 01",
        "04 00 00000006 FFFFFFFF 01 03",
        "05 00 FFFFFFFF 00000000",
    ],
)
def test_missing_or_additional_bytes_abort_with_an_invalid_parameter(octets: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        decode(bytes.fromhex(octets))
    assert caught.value.reason is AbortReason.INVALID_PDU_PARAMETER_VALUE


def test_an_unknown_pdu_type_aborts_with_unrecognized_pdu() -> None:
    for kind in set(range(256)) - set(range(1, 8)):
        with pytest.raises(ProtocolError) as caught:
            decode(bytes((kind, 0, 0, 0, 0, 0)))
        assert caught.value.reason is AbortReason.UNRECOGNIZED_PDU


def test_an_error_names_the_structure_the_field_and_the_place() -> None:
    with pytest.raises(
        ProtocolError, match=r"AssociateRQ: called AE title needs 16 bytes, but only 3 are left \(offset 4\)"
    ):
        decode(bytes.fromhex("01 00 00000007 0001 0000 414243"))
    with pytest.raises(ProtocolError, match=r"AssociateRQ: AssociateRQ, item 10H needs 9 bytes, but only 1 are left"):
        decode(associate(b"\x10\0\0\x09x"))


def test_a_p_data_tf_without_pdvs_is_a_value() -> None:
    assert decode(bytes.fromhex("04 00 00000000")) == PDataTF(())


@pytest.mark.parametrize(
    "pdu",
    [
        replace(ASSOCIATE_RQ_VALUE, called_ae_title="SEVENTEEN_CHARS_X"),
        replace(ASSOCIATE_RQ_VALUE, calling_ae_title="SEVENTEEN_CHARS_X"),
        replace(ASSOCIATE_RQ_VALUE, calling_ae_title="STORESCU€"),
        replace(ASSOCIATE_RQ_VALUE, protocol_version=65536),
        replace(ASSOCIATE_RQ_VALUE, protocol_version=-1),
        replace(ASSOCIATE_RQ_VALUE, application_context="1" * 65536),
        replace(ASSOCIATE_RQ_VALUE, application_context="1.２"),  # noqa: RUF001
        replace(ASSOCIATE_RQ_VALUE, unknown=(UnknownItem(256, b""),)),
        replace(ASSOCIATE_RQ_VALUE, unknown=(UnknownItem(0xF0, bytes(65536)),)),
        replace(ASSOCIATE_RQ_VALUE, presentation_contexts=(PresentationContextRQ(256, "1.2", ("1.2",)),)),
        replace(ASSOCIATE_RQ_VALUE, presentation_contexts=(PresentationContextRQ(1, "1.2", ("1.2",) * 20000),)),
        PDataTF((PresentationDataValue(256, is_command=True, is_last=True, data=b""),)),
        PDataTF((PresentationDataValue(-1, is_command=True, is_last=True, data=b""),)),
    ],
)
def test_a_value_out_of_range_is_an_encode_error(pdu: Pdu) -> None:
    with pytest.raises(EncodeError):
        encode(pdu)


def test_128_contexts_are_accepted_and_129_are_not() -> None:
    context = golden("20 00 [00 04] 01 00 00 00").data
    assert len(decode_associate(associate(context * 128)).presentation_contexts) == 128
    with pytest.raises(ProtocolError, match="the maximum is"):
        decode(associate(context * 129))


def test_1024_unknown_items_are_accepted_and_1025_are_not() -> None:
    item = golden("A0 00 [00 00]").data
    assert len(decode_associate(associate(item * 1024)).unknown) == 1024
    with pytest.raises(ProtocolError, match="the maximum is"):
        decode(associate(item * 1025))


def test_limits_may_be_set() -> None:
    context = golden("20 00 [00 04] 01 00 00 00").data
    with pytest.raises(ProtocolError, match="the maximum is"):
        decode(associate(context * 3), limits=ProtocolLimits(presentation_contexts=2))


MIB: Final = 1 << 20
DUPLICATED_ANSWERS: Final = golden("21 00 [FF FE]  01 00 00 00").data + golden("40 00 [00 00]").data * 16382 + b"\0\0"
FULL_ANSWER: Final = golden("21 00 [FF FC]  01 00 00 00").data + golden("40 00 [00 00]").data * 16382
RELATED: Final = golden("50 00 [FF FC]  57 00 [FF F8]  [00 00] [00 00] [FF F2]").data + bytes(65522)


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "data",
    [
        associate(golden("20 00 [00 04] 01 00 00 00").data * (MIB // 8)),
        associate(golden("20 00 [00 00]").data * (MIB // 4)),
        associate(golden("A0 00 [00 00]").data * (MIB // 4)),
        associate(golden("50 00 [00 00]").data * (MIB // 4)),
        associate(golden("10 00 [00 00]").data * (MIB // 4)),
        associate(golden("50 00 [FF FC]").data + golden("F0 00 [00 00]").data * 16383),
        associate(golden("50 00 [FF FC]").data + golden("52 00 [00 00]").data * 16383),
        associate(golden("20 00 [FF FC] 01 00 00 00").data + golden("40 00 [00 00]").data * 16382),
        associate(golden("20 00 [FF FC] 01 00 00 00").data + golden("30 00 [00 00]").data * 16382),
        b"\2" + associate(DUPLICATED_ANSWERS)[1:],
    ],
    ids=len,
)
def test_a_mebibyte_of_small_items_is_refused(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode(data)


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "data",
    [
        b"\2" + associate(FULL_ANSWER * 15)[1:],
        associate(RELATED),
        with_pdu_length(bytes(2) + bytes(4) + golden("[00 00 00 02] 01 00").data * (MIB // 6)).replace(b"\0", b"\4", 1),
    ],
    ids=["empty transfer syntaxes in answers", "empty related classes", "empty PDVs"],
)
def test_a_mebibyte_of_the_smallest_parts_is_read_in_bounded_time(data: bytes) -> None:
    assert data[0] == decode(data).KIND


def test_the_acceptance_differs_in_its_type_and_its_contexts_alone() -> None:
    pdu = decode(ASSOCIATE_AC.data)
    as_request = decode_associate(b"\1" + ASSOCIATE_AC.data[1:])
    assert as_request.user_information == getattr(pdu, "user_information", None)
    assert [item.kind for item in as_request.unknown] == [0x21, 0x21, 0x21]
