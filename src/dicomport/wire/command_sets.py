"""Command sets as elements: Implicit VR Little Endian, group 0000 (PS3.7 6.3.1 and Annex E)."""

from __future__ import annotations

import enum
import itertools
import struct
from collections import Counter
from collections.abc import Mapping
from typing import Final, Self

from dicomport.encoding.headers import IMPLICIT_LITTLE, format_tag
from dicomport.encoding.templates import Templates
from dicomport.values import frozen
from dicomport.wire.deviations import Deviation
from dicomport.wire.errors import EncodeError, ProtocolError

RESPONSE: Final = 0x8000
"""The bit of the Command Field that is set in a response (PS3.7 E.1)."""

NO_DATA_SET: Final = 0x0101
"""Command Data Set Type of a message without a data set (PS3.7 E.1)."""

_GROUP: Final = 0x0000
_pack_header: Final = IMPLICIT_LITTLE.tagged_length.pack
_US: Final = IMPLICIT_LITTLE.number
_UL: Final = struct.Struct("<L")
_AT = struct.Struct("<HH")


class Element(enum.IntEnum):
    """The element numbers in group 0000 of the supported commands (PS3.7 E.1)."""

    GROUP_LENGTH = 0x0000
    AFFECTED_SOP_CLASS_UID = 0x0002
    REQUESTED_SOP_CLASS_UID = 0x0003
    COMMAND_FIELD = 0x0100
    MESSAGE_ID = 0x0110
    MESSAGE_ID_BEING_RESPONDED_TO = 0x0120
    PRIORITY = 0x0700
    COMMAND_DATA_SET_TYPE = 0x0800
    STATUS = 0x0900
    OFFENDING_ELEMENT = 0x0901
    ERROR_COMMENT = 0x0902
    ERROR_ID = 0x0903
    AFFECTED_SOP_INSTANCE_UID = 0x1000
    REQUESTED_SOP_INSTANCE_UID = 0x1001
    EVENT_TYPE_ID = 0x1002
    ACTION_TYPE_ID = 0x1008
    MOVE_ORIGINATOR_AE_TITLE = 0x1030
    MOVE_ORIGINATOR_MESSAGE_ID = 0x1031


# The lookup of an enum member takes ten times as long as that of a module's name (Python 3.11).
_GROUP_LENGTH: Final = Element.GROUP_LENGTH
_COMMAND_FIELD: Final = Element.COMMAND_FIELD
_COMMAND_DATA_SET_TYPE: Final = Element.COMMAND_DATA_SET_TYPE

# An N-ACTION-RQ has Requested UIDs, its response has Affected ones (PS3.7 10.3.4.2).
_ANSWERED_UIDS = {
    Element.REQUESTED_SOP_CLASS_UID: Element.AFFECTED_SOP_CLASS_UID,
    Element.REQUESTED_SOP_INSTANCE_UID: Element.AFFECTED_SOP_INSTANCE_UID,
    Element.AFFECTED_SOP_CLASS_UID: Element.AFFECTED_SOP_CLASS_UID,
    Element.AFFECTED_SOP_INSTANCE_UID: Element.AFFECTED_SOP_INSTANCE_UID,
}


@frozen
class RawCommand:
    """A command set with undecoded values, by element number; unknown commands stay in this form."""

    elements: Mapping[int, bytes]

    @property
    def command_field(self) -> int:
        """The Command Field (0000,0100)."""
        return self._mandatory_number(_COMMAND_FIELD)

    @property
    def is_response(self) -> bool:
        """Whether this is a response, known or not (PS3.7 E.1)."""
        return bool(self.command_field & RESPONSE)

    @property
    def message_id(self) -> int:
        """The Message ID (0000,0110)."""
        return self._mandatory_number(Element.MESSAGE_ID)

    @property
    def has_data_set(self) -> bool:
        """Whether a data set follows (0000,0800)."""
        return self._mandatory_number(_COMMAND_DATA_SET_TYPE) != NO_DATA_SET

    def _mandatory_number(self, element: Element) -> int:
        try:
            return decode_number(self.elements[element])
        except (KeyError, struct.error):
            raise ProtocolError(f"command set: (0000,{element:04X}) is missing or malformed") from None

    def refusal(self, status: int, *, offending: tuple[int, ...] = (), comment: str = "") -> RawCommand:
        """Return a response that refuses this request, with the UIDs of the request, byte for byte.

        Raises `ProtocolError` for a request without a Message ID, which cannot be answered.
        """
        answer: dict[int, bytes] = {
            Element.COMMAND_FIELD: encode_number(self.command_field | RESPONSE),
            Element.MESSAGE_ID_BEING_RESPONDED_TO: encode_number(self.message_id),
            Element.COMMAND_DATA_SET_TYPE: encode_number(NO_DATA_SET),
            Element.STATUS: encode_number(status),
        }
        for asked, answered in _ANSWERED_UIDS.items():
            if self.elements.get(asked):
                # The elements that we send have an even length (PS3.7 6.3.1).
                answer[answered] = self.elements[asked] + b"\0" * (len(self.elements[asked]) % 2)
        if offending:
            answer[Element.OFFENDING_ELEMENT] = encode_tags(offending)
        if comment:
            answer[Element.ERROR_COMMENT] = encode_text(comment)
        return RawCommand(answer)

    def encode(self) -> bytes:
        """Encode the command set in ascending order, with the group length first (PS3.7 6.3.1)."""
        try:
            numbers = sorted(self.elements)
            values = [*map(self.elements.__getitem__, numbers)]
            headers = map(_pack_header, itertools.repeat(_GROUP), numbers, map(len, values))
            body = b"".join(itertools.chain.from_iterable(zip(headers, values, strict=False)))
        except struct.error:
            raise EncodeError(f"{sorted(self.elements)}: not all are element numbers") from None
        return _pack_header(_GROUP, _GROUP_LENGTH, 4) + _UL.pack(len(body)) + body

    @classmethod
    def decode(cls, data: bytes, notes: Counter[Deviation]) -> Self:
        """Decode a whole command set. A wrong group length, wrong order and repetition are counted in `notes`."""
        found = _templates.match(len(data), data)
        elements = _read(data, notes) if found is None else found[0]
        if elements.pop(_GROUP_LENGTH, b"") != _UL.pack(max(0, len(data) - 12)):
            notes[Deviation.GROUP_LENGTH_WRONG] += 1
        return cls(elements)


_templates: Final = Templates()
"""Command sets by length."""


def _read(data: bytes, notes: Counter[Deviation]) -> dict[int, bytes]:
    """Read a command set's elements one by one; if all are in order, remember them as a template."""
    elements: dict[int, bytes] = {}
    in_order = True
    at, last, end = 0, -1, len(data)
    while at < end:
        header = IMPLICIT_LITTLE.read(data, at, end)
        if header is None:
            raise ProtocolError(f"command set: {end - at} bytes after the last element, at offset {at}")
        number, _, size, start = header
        if number >> 16 != _GROUP or size > end - start:
            raise ProtocolError(f"command set: not an element at offset {at}: {format_tag(number)}, {size} bytes")
        at = start + size
        if number in elements:
            notes[Deviation.ELEMENT_REPEATED] += 1
            in_order = False
        else:
            elements[number] = data[start:at]
            if number < last:
                notes[Deviation.ELEMENTS_UNSORTED] += 1
                in_order = False
        last = number
    if in_order:
        sizes = [(number, len(raw)) for number, raw in elements.items()]
        _templates.add(end, [(number, _pack_header(_GROUP, number, size), size) for number, size in sizes])
    return elements


def find_value(data: bytes, element: Element) -> slice | None:
    """Return the place of an element's value in an encoded command set, None if it is not there."""
    at, end = 0, len(data)
    while (header := IMPLICIT_LITTLE.read(data, at, end)) is not None:
        tag, _, size, start = header
        at = start + size
        if tag == element:
            return slice(start, at)
    return None


class CommandError(ProtocolError):
    """A request with a missing or malformed element, which can still be answered (PS3.7 Annex C)."""

    def __init__(self, message: str, command: RawCommand, *, status: int, offending: int) -> None:
        super().__init__(message)
        self.command = command
        self.status = status
        self.offending = offending


def decode_number(raw: bytes) -> int:
    """Decode a value of VR US. Raises `struct.error` for any other length."""
    return int(_US.unpack(raw)[0])


def encode_number(value: int) -> bytes:
    """Encode a value of VR US."""
    try:
        return _US.pack(value)
    except struct.error:
        raise EncodeError(f"{value} is outside 0..65535") from None


def decode_tags(raw: bytes) -> tuple[int, ...]:
    """Decode values of VR AT. Raises `struct.error` for a length that is not a multiple of four."""
    return tuple(group << 16 | element for group, element in _AT.iter_unpack(raw))


def encode_tags(tags: tuple[int, ...]) -> bytes:
    """Encode values of VR AT."""
    try:
        return b"".join(_AT.pack(tag >> 16, tag & 0xFFFF) for tag in tags)
    except struct.error:
        raise EncodeError(f"{tags}: a tag has 32 bits") from None


def decode_text(raw: bytes) -> str:
    """Decode a value of VR UI, AE or LO, without its padding."""
    return raw.decode("latin-1").strip("\0 ")


def encode_text(text: str) -> bytes:
    """Encode a value of VR AE or LO, padded to even length with a space (PS3.5 6.2)."""
    raw = _latin1(text)
    return raw + b" " * (len(raw) % 2)


def encode_uid(uid: str) -> bytes:
    """Encode a value of VR UI, padded to even length with a NUL (PS3.5 9.1)."""
    raw = _latin1(uid)
    return raw + b"\0" * (len(raw) % 2)


def _latin1(text: str) -> bytes:
    # Not ASCII: a response contains the same bytes as its request.
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        raise EncodeError(f"{text!r} has characters outside Latin 1, which a command set cannot contain") from None
