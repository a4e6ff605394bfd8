"""The handling of bytes in `dicomport.wire`: values that can be encoded and decoded again, or the room's own errors."""

from __future__ import annotations

import contextlib
from collections import Counter
from dataclasses import fields
from typing import Final

from dicomport.commitment.data_sets import CommitmentDataSetError, CommitmentRequest, CommitmentResult
from dicomport.wire import (
    AsynchronousOperationsWindow,
    Command,
    CommandError,
    Deviation,
    EncodeError,
    FileMeta,
    FileMetaError,
    PresentationContextAC,
    PresentationContextRQ,
    ProtocolError,
    ProtocolLimits,
    RawCommand,
    Response,
    RoleSelection,
    SOPClassCommonExtendedNegotiation,
    SOPClassExtendedNegotiation,
    TruncatedFileMetaError,
    UserIdentityAC,
    UserIdentityRQ,
    UserInformation,
    decode,
    decode_command,
    decode_file_meta,
    encode,
    encode_command,
    encode_file_meta,
)
from dicomport.wire.cursor import Cursor

__all__ = ["COMMITMENTS", "ITEMS", "command_set", "commitment", "file_meta", "item", "pdu"]

_PART_OF_THE_VALUE: Final = frozenset((Deviation.REPEATED_ITEM, Deviation.AE_TITLE_BLANK))
"""Deviations that are part of a value, so its encoding has them again; all others belong to the decoded bytes."""

_PART_OF_A_REFUSAL: Final = frozenset((Deviation.UID_PADDING,))
"""UIDs are sent back as received."""

_TIGHT: Final = ProtocolLimits(presentation_contexts=2, transfer_syntaxes_per_context=2, user_items=3)
_UNRECOGNIZED_OPERATION: Final = 0x0211
_GROUP_0002: Final = 128 + 4
_MAX_SHORT_VALUE: Final = 0xFFFF

ITEMS: Final = (
    PresentationContextRQ,
    PresentationContextAC,
    UserInformation,
    AsynchronousOperationsWindow,
    RoleSelection,
    SOPClassExtendedNegotiation,
    SOPClassCommonExtendedNegotiation,
    UserIdentityRQ,
    UserIdentityAC,
)
"""The items and sub-items that have a class; the first byte of the target's data selects one."""

COMMITMENTS: Final = tuple(
    (kind, syntax)
    for kind in (CommitmentRequest, CommitmentResult)
    for syntax in ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99")
)
"""The data sets of storage commitment and their transfer syntaxes; the first byte of the target's data selects one."""

_MAX_INFLATED: Final = 1 << 16


def pdu(data: bytes) -> None:
    """Decode a PDU, as it is and with a correct PDU length.

    The result is `ProtocolError`, or a value whose encoding decodes to the same value. The encoding has only those
    deviations from the standard that are part of the value, regardless of the peer's deviations. Tighter limits only
    cause more refusals.
    """
    for octets in (data, data[:2] + max(0, len(data) - 6).to_bytes(4, "big") + data[6:]):
        try:
            value = decode(octets)
        except ProtocolError:
            continue
        notes: Counter[Deviation] = Counter()
        assert decode(encode(value), notes=notes) == value
        assert notes.keys() <= _PART_OF_THE_VALUE
        with contextlib.suppress(ProtocolError):
            assert decode(octets, limits=_TIGHT) == value


def item(data: bytes) -> None:
    """Decode the body of an item or sub-item; the first byte selects its class.

    The result is `ProtocolError`, or a value whose encoding, an item of its type, decodes to the same value.
    """
    kind, body = ITEMS[(data[0] if data else 0) % len(ITEMS)], data[1 : 1 + 0xFFFF]
    try:
        value = kind.decode(Cursor(body, "item"))
    except ProtocolError:
        return
    cursor = Cursor(value.encode(), "item")
    written, inside = cursor.item()
    assert (written, kind.decode(inside)) == (kind.KIND, value)
    inside.end()
    cursor.end()
    assert cursor.notes.keys() <= _PART_OF_THE_VALUE


def command_set(data: bytes) -> None:
    """Decode a command set.

    The result is a value whose encoding decodes to the same value, without a deviation; or a `CommandError`, whose
    refusal can be sent; or another `ProtocolError`. An unknown request can be refused. The only deviations of a refusal
    are its UIDs, which are sent back as received.
    """
    try:
        command = decode_command(data)
    except CommandError as error:
        answer = _sent(
            error.command.refusal(error.status, offending=(error.offending,), comment="not so"), _PART_OF_A_REFUSAL
        )
        assert isinstance(answer, Response)
        assert (answer.status, answer.offending_element) == (error.status, (error.offending,))
        return
    except ProtocolError:
        return
    assert _sent(command) == command
    if isinstance(command, RawCommand) and not command.is_response:
        assert _sent(command.refusal(_UNRECOGNIZED_OPERATION), _PART_OF_A_REFUSAL).has_data_set is False


def _sent(command: Command | RawCommand, deviations: frozenset[Deviation] = frozenset()) -> Command | RawCommand:
    notes: Counter[Deviation] = Counter()
    received = decode_command(encode_command(command), notes)
    assert notes.keys() <= deviations
    return received


def file_meta(data: bytes) -> None:
    """Decode the start of a file, as it is and after a preamble and "DICM".

    The result is `FileMetaError`, or a value and an offset inside the data. The value depends only on the bytes up to
    the first header of the data set; with fewer bytes, the decoder requests more. The value's encoding decodes to the
    same value, unless one of its texts is longer than its VR allows. The deviations do not depend on earlier calls.
    """
    for octets in (data, bytes(128) + b"DICM" + data):
        notes: list[Deviation] = []
        try:
            meta, offset = decode_file_meta(octets, notes)
        except FileMetaError:
            continue
        start = 0 if Deviation.FILE_META_WITHOUT_PREAMBLE in notes else _GROUP_0002
        assert start <= offset < len(octets)
        again: list[Deviation] = []
        assert decode_file_meta(octets[: offset + 8], again) == (meta, offset)
        assert again == notes
        for size in {offset, (start + offset) // 2} - set(range(2)):
            with contextlib.suppress(TruncatedFileMetaError):
                assert decode_file_meta(octets[:size]) is None, f"{size} bytes of {offset} are enough"
        _written(meta)


def _written(meta: FileMeta) -> None:
    try:
        octets = encode_file_meta(meta)
    except EncodeError:
        assert max(len(getattr(meta, field.name)) for field in fields(meta)) > _MAX_SHORT_VALUE
        return
    assert decode_file_meta(octets + bytes(8)) == (meta, len(octets))


def commitment(data: bytes) -> None:
    """Decode a data set of storage commitment; the first byte selects its class and transfer syntax.

    The result is `CommitmentDataSetError`, whose status can be sent, or a value whose encoding decodes to the same
    value.
    """
    kind, syntax = COMMITMENTS[(data[0] if data else 0) % len(COMMITMENTS)]
    try:
        value = kind.decode(data[1:], syntax, _MAX_INFLATED)
    except CommitmentDataSetError as error:
        assert not error.status.accepted
        return
    assert kind.decode(value.encode(syntax), syntax, _MAX_INFLATED) == value
