"""Command sets as elements: Implicit VR Little Endian, group 0000 (PS3.7 6.3.1 and Annex E)."""

from __future__ import annotations

import enum
import itertools
import struct
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Self

from dicomport.encoding.headers import IMPLICIT_LITTLE, format_tag
from dicomport.encoding.templates import Templates
from dicomport.wire.deviations import Deviation
from dicomport.wire.errors import EncodeError, ProtocolError

__all__ = ["RESPONSE", "CommandError", "Element", "RawCommand"]

RESPONSE: Final = 0x8000
"""The bit of the Command Field that tells a response from its request (PS3.7 E.1)."""

NO_DATA_SET: Final = 0x0101
"""The one value of Command Data Set Type that says that none follows (PS3.7 E.1)."""

_GROUP: Final = 0x0000
_pack_header: Final = IMPLICIT_LITTLE.tagged_length.pack
_US: Final = IMPLICIT_LITTLE.number
_UL: Final = struct.Struct("<L")
_AT = struct.Struct("<HH")


class Element(enum.IntEnum):
    """The elements of group 0000 that the commands here use (PS3.7 E.1), by element number."""

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


# A member of an enum takes ten times as long to look up as a name of the module (Python 3.11).
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


@dataclass(frozen=True, slots=True)
class RawCommand:
    """A command set as it came: values by element number, undecoded. Commands that are not known stay in this form."""

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
        """Build the response that refuses this request; the UIDs go back as they came.

        Without a Message ID nothing can be answered: then it raises `ProtocolError`.
        """
        answer: dict[int, bytes] = {
            Element.COMMAND_FIELD: encode_number(self.command_field | RESPONSE),
            Element.MESSAGE_ID_BEING_RESPONDED_TO: encode_number(self.message_id),
            Element.COMMAND_DATA_SET_TYPE: encode_number(NO_DATA_SET),
            Element.STATUS: encode_number(status),
        }
        for asked, answered in _ANSWERED_UIDS.items():
            if self.elements.get(asked):
                # Our own elements are of even length (PS3.7 6.3.1), whatever the peer's were.
                answer[answered] = self.elements[asked] + b"\0" * (len(self.elements[asked]) % 2)
        if offending:
            answer[Element.OFFENDING_ELEMENT] = encode_tags(offending)
        if comment:
            answer[Element.ERROR_COMMENT] = encode_text(comment)
        return RawCommand(answer)

    def encode(self) -> bytes:
        """Write the command set, elements in order, the group length first (PS3.7 6.3.1)."""
        try:
            numbers = sorted(self.elements)
            values = [*map(self.elements.__getitem__, numbers)]
            headers = map(_pack_header, itertools.repeat(_GROUP), numbers, map(len, values))
            body = b"".join(itertools.chain.from_iterable(zip(headers, values, strict=False)))
        except struct.error:
            raise EncodeError(f"{sorted(self.elements)} are not all element numbers") from None
        return _pack_header(_GROUP, _GROUP_LENGTH, 4) + _UL.pack(len(body)) + body

    @classmethod
    def decode(cls, data: bytes, notes: Counter[Deviation]) -> Self:
        """Read a whole command set. A wrong group length, wrong order and repetition are put up with and counted."""
        found = _templates.match(len(data), data)
        elements = _read(data, notes) if found is None else found[0]
        if elements.pop(_GROUP_LENGTH, b"") != _UL.pack(max(0, len(data) - 12)):
            notes[Deviation.GROUP_LENGTH_WRONG] += 1
        return cls(elements)


_templates: Final = Templates()
"""Command sets by length."""


def _read(data: bytes, notes: Counter[Deviation]) -> dict[int, bytes]:
    """Read a command set's elements one by one; if nothing is wrong with them, remember them as a template."""
    elements: dict[int, bytes] = {}
    in_order = True
    at, last, end = 0, -1, len(data)
    while at < end:
        header = IMPLICIT_LITTLE.read(data, at, end)
        if header is None:
            raise ProtocolError(f"command set: {end - at} bytes are left over at offset {at}")
        number, _, size, start = header
        if number >> 16 != _GROUP or size > end - start:
            raise ProtocolError(f"command set: no element at offset {at}: {format_tag(number)}, {size} bytes")
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


class CommandError(ProtocolError):
    """A request with an element missing or malformed that can be answered all the same (PS3.7 Annex C)."""

    def __init__(self, message: str, command: RawCommand, *, status: int, offending: int) -> None:
        super().__init__(message)
        self.command = command
        self.status = status
        self.offending = offending


def decode_number(raw: bytes) -> int:
    """Read a value of VR US; raises `struct.error` for any other length."""
    return int(_US.unpack(raw)[0])


def encode_number(value: int) -> bytes:
    """Write a value of VR US."""
    try:
        return _US.pack(value)
    except struct.error:
        raise EncodeError(f"{value} is outside 0..65535") from None


def decode_tags(raw: bytes) -> tuple[int, ...]:
    """Read values of VR AT; raises `struct.error` for a length that is no multiple of four."""
    return tuple(group << 16 | element for group, element in _AT.iter_unpack(raw))


def encode_tags(tags: tuple[int, ...]) -> bytes:
    """Write values of VR AT."""
    try:
        return b"".join(_AT.pack(tag >> 16, tag & 0xFFFF) for tag in tags)
    except struct.error:
        raise EncodeError(f"{tags} are no tags") from None


def decode_text(raw: bytes) -> str:
    """Read a value of VR UI, AE or LO without its padding."""
    return raw.decode("latin-1").strip("\0 ")


def encode_text(text: str) -> bytes:
    """Write a value of VR AE or LO, padded to even length with a space (PS3.5 6.2)."""
    raw = _latin1(text)
    return raw + b" " * (len(raw) % 2)


def encode_uid(uid: str) -> bytes:
    """Write a value of VR UI, padded to even length with a NUL (PS3.5 9.1)."""
    raw = _latin1(uid)
    return raw + b"\0" * (len(raw) % 2)


def _latin1(text: str) -> bytes:
    # Not ASCII: what a peer sent in a request goes back to it in the response as it was.
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        raise EncodeError(f"{text!r} has characters that a command set can't hold") from None
