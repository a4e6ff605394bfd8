"""Headers of data elements, items and delimiters: read and written in the three encodings (PS3.5 7.1, 7.5)."""

from __future__ import annotations

import struct
from typing import Final, Literal, TypeAlias

from dicomport.encoding.vr import LONG_VRS, SHORT_VRS
from dicomport.standard import TransferSyntax

DELIMITER_GROUP: Final = 0xFFFE
ITEM: Final = 0xFFFEE000
ITEM_DELIMITER: Final = 0xFFFEE00D
SEQUENCE_DELIMITER: Final = 0xFFFEE0DD
UNDEFINED_LENGTH: Final = 0xFFFFFFFF
PIXEL_DATA: Final = 0x7FE00010
EXTENDED_OFFSET_TABLE: Final = 0x7FE00001

# Group 0000 is a command's (PS3.7 6.3), 0002 is File Meta Information (PS3.10 7.1); 0004 is a DICOMDIR's.
AFTER_COMMANDS: Final = 0x00010000
FILE_META_GROUP: Final = 0x0002
AFTER_FILE_META: Final = 0x00030000
"""The first tag that a data set may begin with."""

SHORT_HEADER: Final = 8
"""Length of a header with a 16-bit length, of every header in Implicit VR, and of an item's: bytes."""
LONG_HEADER: Final = 12
"""Length of a header with a VR and a 32-bit length, bytes."""

ByteOrder: TypeAlias = Literal["little", "big"]

Header: TypeAlias = tuple[int, bytes, int, int]
"""Tag, VR (empty in Implicit VR and in group FFFE), length of the value, and offset at which the value begins."""


class Encoding:
    """One of the three encodings of a data set: Implicit VR Little Endian, Explicit VR Little Endian or Big Endian."""

    __slots__ = (
        *("byte_order", "explicit", "number", "short_vrs", "tagged_length", "unpack_element"),
        *("_element", "_length", "_long"),
    )

    def __init__(self, *, explicit: bool, byte_order: ByteOrder) -> None:
        order = "<" if byte_order == "little" else ">"
        self.explicit = explicit
        self.byte_order: ByteOrder = byte_order
        self.short_vrs = SHORT_VRS if explicit else frozenset((b"",))
        """The VRs for which `unpack_element` unpacks the whole header."""
        self._element = struct.Struct(f"{order}HH2sH" if explicit else f"{order}HH0sL")
        self.unpack_element = self._element.unpack_from
        """Unpack group, element number, VR and length of an element with one of `short_vrs`."""
        self.tagged_length = struct.Struct(f"{order}HHL")
        """Group, element number and length of an item or delimiter, and of an element in Implicit VR."""
        self.number = struct.Struct(f"{order}H")
        """A value of VR US."""
        self._length = struct.Struct(f"{order}L")
        self._long = struct.Struct(f"{order}HH2s2xL")

    def read(self, data: bytes | memoryview, at: int, end: int) -> Header | None:
        """Read the header at offset `at`. Return None if it ends after `end`.

        The length of an unknown VR is read as a 16-bit one.
        """
        body = at + SHORT_HEADER
        if body > end:
            return None
        group, number, vr, length = self.unpack_element(data, at)
        tag = group << 16 | number
        if group == DELIMITER_GROUP:
            return tag, b"", self._length.unpack_from(data, at + 4)[0], body
        if vr not in LONG_VRS:
            return tag, vr, length, body
        if at + LONG_HEADER > end:
            return None
        return tag, vr, self.read_long_length(data, at), at + LONG_HEADER

    def read_item(self, data: bytes | memoryview, at: int, end: int) -> tuple[int, int] | None:
        """Read tag and length in the form of an item's header, with any tag. Return None if it ends after `end`."""
        if at + SHORT_HEADER > end:
            return None
        group, number, length = self.tagged_length.unpack_from(data, at)
        return group << 16 | number, length

    def read_long_length(self, data: bytes | memoryview, at: int) -> int:
        """Read the length of the header of `LONG_HEADER` bytes at offset `at`."""
        return int(self._length.unpack_from(data, at + SHORT_HEADER)[0])

    def header(self, tag: int, vr: bytes, length: int) -> bytes:
        """Encode the header of an element. Raises `struct.error` for a length that the VR cannot have."""
        layout = self._long if self.explicit and vr in LONG_VRS else self._element
        return layout.pack(tag >> 16, tag & 0xFFFF, vr, length)

    def item(self, tag: int, length: int) -> bytes:
        """Encode the header of an item, or a delimiter."""
        return self.tagged_length.pack(tag >> 16, tag & 0xFFFF, length)


IMPLICIT_LITTLE: Final = Encoding(explicit=False, byte_order="little")
EXPLICIT_LITTLE: Final = Encoding(explicit=True, byte_order="little")
EXPLICIT_BIG: Final = Encoding(explicit=True, byte_order="big")


def encoding_of(syntax: TransferSyntax | None) -> Encoding:
    """Return the encoding of a transfer syntax, whether deflated or not.

    Syntaxes of compressed images, and unknown ones, are Explicit VR Little Endian (PS3.5 A.4).
    """
    if syntax is None or (syntax.little_endian and not syntax.implicit_vr):
        return EXPLICIT_LITTLE
    return IMPLICIT_LITTLE if syntax.implicit_vr else EXPLICIT_BIG


def format_tag(tag: int) -> str:
    """Return a tag as the standard writes it: "(7FE0,0010)"."""
    return f"({tag >> 16:04X},{tag & 0xFFFF:04X})"
