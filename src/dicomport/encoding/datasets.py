"""Small data sets, whole in memory: the few elements that DIMSE-N needs, read and written (PS3.5 7)."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable
from typing import Final, NamedTuple

from dicomport.errors import DicomportError
from dicomport.standard import EXPLICIT_VR_LITTLE_ENDIAN, TransferSyntax, find_transfer_syntax

__all__ = ["DataSetError", "DataSetReader", "DataSetTooLongError", "DataSetWriter", "Span"]

# PS3.5 7.1.2: these VRs have two reserved bytes and a 32-bit length.
_LONG_VRS: Final = frozenset(
    (b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV")
)
_ITEM: Final = 0xFFFEE000
_ITEM_DELIMITER: Final = 0xFFFEE00D
_SEQUENCE_DELIMITER: Final = 0xFFFEE0DD
_DELIMITERS: Final = 0xFFFE
_UNDEFINED: Final = 0xFFFFFFFF

_DEEPEST: Final = 32
"""Sequences of undefined length within one another. In what is read here there is one."""

_RAW_DEFLATE: Final = -zlib.MAX_WBITS
"""PS3.5 A.5: a deflated data set has neither header nor checksum."""


class DataSetError(DicomportError, ValueError):
    """The bytes are no data set in this transfer syntax."""


class DataSetTooLongError(DataSetError):
    """Inflated, the data set is longer than what is taken."""


class Span(NamedTuple):
    """Where a value, an item or a data set lies, its delimiter excluded."""

    start: int
    end: int


class DataSetReader:
    """Finds elements in an encoded data set. What is not asked for is passed over; nothing is kept of it."""

    def __init__(self, data: bytes, transfer_syntax_uid: str, max_bytes: int) -> None:
        """Inflate the data set where it is deflated, to `max_bytes` at most. Raises `DataSetError`."""
        syntax = _syntax(transfer_syntax_uid)
        self._data = _inflated(data, max_bytes) if syntax.deflated else data
        self._explicit = not syntax.implicit_vr
        order = "<" if syntax.little_endian else ">"
        self._header = struct.Struct(f"{order}HHL")
        self._short = struct.Struct(f"{order}H")
        self._long = struct.Struct(f"{order}L")
        self.whole = Span(0, len(self._data))
        """Of the data set itself."""

    def elements(self, span: Span) -> dict[int, Span]:
        """Give the values of a data set or an item by tag, the first of each. Raises `DataSetError`."""
        found: dict[int, Span] = {}
        at = span.start
        while at < span.end:
            tag, value, at = self._element(at, span.end, 0)
            found.setdefault(tag, value)
        return found

    def items(self, span: Span) -> list[Span]:
        """Give the items of a sequence. Raises `DataSetError`."""
        found: list[Span] = []
        at = span.start
        while at < span.end:
            tag, value, at = self._item(at, span.end, 0)
            if tag != _ITEM:
                raise DataSetError(f"({tag >> 16:04X},{tag & 0xFFFF:04X}) between items")
            found.append(value)
        return found

    def value(self, span: Span) -> bytes:
        """Give the bytes of a value."""
        return self._data[span.start : span.end]

    def number(self, span: Span) -> int | None:
        """Read a value of VR US; None for any other length."""
        return self._short.unpack_from(self._data, span.start)[0] if span.end - span.start == 2 else None

    def _element(self, at: int, end: int, depth: int) -> tuple[int, Span, int]:
        """Read one element: its tag, its value, and where the next one begins."""
        tag, length, at = self._read_header(at, end)
        if tag >> 16 == _DELIMITERS:
            raise DataSetError(f"(FFFE,{tag & 0xFFFF:04X}) where an element belongs")
        if length != _UNDEFINED:
            return tag, Span(at, at + length), _inside(at + length, end)
        start = at
        while True:
            before = at
            tag_within, _, at = self._item(at, end, depth)
            if tag_within == _SEQUENCE_DELIMITER:
                return tag, Span(start, before), at

    def _item(self, at: int, end: int, depth: int) -> tuple[int, Span, int]:
        """Read one item, or the delimiter after the last one."""
        if depth == _DEEPEST:
            raise DataSetError("sequences are too deep within one another")
        tag, length, at = self._read_header(at, end)
        if tag not in (_ITEM, _SEQUENCE_DELIMITER):
            raise DataSetError(f"({tag >> 16:04X},{tag & 0xFFFF:04X}) where an item belongs")
        if length != _UNDEFINED or tag == _SEQUENCE_DELIMITER:
            length = 0 if tag == _SEQUENCE_DELIMITER else length
            return tag, Span(at, at + length), _inside(at + length, end)
        start = at
        while self._tag(at, end) != _ITEM_DELIMITER:
            _, _, at = self._element(at, end, depth + 1)
        return tag, Span(start, at), at + self._header.size

    def _tag(self, at: int, end: int) -> int:
        _inside(at + self._header.size, end)
        group, number, _ = self._header.unpack_from(self._data, at)
        return int(group) << 16 | int(number)

    def _read_header(self, at: int, end: int) -> tuple[int, int, int]:
        """Read tag and length, and where the value begins."""
        tag = self._tag(at, end)
        if not self._explicit or tag >> 16 == _DELIMITERS:
            return tag, int(self._long.unpack_from(self._data, at + 4)[0]), at + 8
        if self._data[at + 4 : at + 6] not in _LONG_VRS:
            return tag, int(self._short.unpack_from(self._data, at + 6)[0]), at + 8
        _inside(at + 12, end)
        return tag, int(self._long.unpack_from(self._data, at + 8)[0]), at + 12


def _inside(at: int, end: int) -> int:
    if at > end:
        raise DataSetError(f"it ends {at - end} bytes too early")
    return at


class DataSetWriter:
    """Writes elements; whoever calls it writes them in the order of their tags."""

    def __init__(self, transfer_syntax_uid: str) -> None:
        self._syntax = _syntax(transfer_syntax_uid)
        order = "<" if self._syntax.little_endian else ">"
        self._implicit_header = struct.Struct(f"{order}HHL")
        self._short_header = struct.Struct(f"{order}HH2sH")
        self._long_header = struct.Struct(f"{order}HH2s2xL")
        self._short = struct.Struct(f"{order}H")

    def uid(self, tag: int, uid: str) -> bytes:
        """Write an element of VR UI, padded to even length with a NUL (PS3.5 9.1)."""
        value = uid.encode("latin-1")
        return self._element(tag, b"UI", value + b"\0" * (len(value) % 2))

    def number(self, tag: int, number: int) -> bytes:
        """Write an element of VR US."""
        return self._element(tag, b"US", self._short.pack(number))

    def sequence(self, tag: int, items: Iterable[bytes]) -> bytes:
        """Write a sequence of items, all of defined length (PS3.5 7.5.1)."""
        header = self._implicit_header
        value = b"".join(header.pack(_ITEM >> 16, _ITEM & 0xFFFF, len(item)) + item for item in items)
        return self._element(tag, b"SQ", value)

    def finish(self, *elements: bytes) -> bytes:
        """Make a data set of its elements."""
        data = b"".join(elements)
        if not self._syntax.deflated:
            return data
        deflater = zlib.compressobj(wbits=_RAW_DEFLATE)
        deflated = deflater.compress(data) + deflater.flush()
        return deflated + b"\0" * (len(deflated) % 2)

    def _element(self, tag: int, vr: bytes, value: bytes) -> bytes:
        group, number = tag >> 16, tag & 0xFFFF
        if self._syntax.implicit_vr:
            return self._implicit_header.pack(group, number, len(value)) + value
        header = self._long_header if vr in _LONG_VRS else self._short_header
        return header.pack(group, number, vr, len(value)) + value


def _syntax(uid: str) -> TransferSyntax:
    # PS3.5 A.4: the syntaxes of compressed images differ from this one in pixel data alone.
    return find_transfer_syntax(uid) or EXPLICIT_VR_LITTLE_ENDIAN


def _inflated(data: bytes, max_bytes: int) -> bytes:
    inflater = zlib.decompressobj(wbits=_RAW_DEFLATE)
    try:
        plain = inflater.decompress(data, max_bytes + 1)
    except zlib.error:
        raise DataSetError("it is not deflated") from None
    if len(plain) > max_bytes:
        raise DataSetTooLongError(f"inflated it has more than {max_bytes} bytes")
    if not inflater.eof:
        raise DataSetError("it ends too early")
    return plain
