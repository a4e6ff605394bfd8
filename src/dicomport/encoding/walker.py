"""Walk forward over the elements of a data set in memory, by their headers (PS3.5 7.1, 7.5)."""

from __future__ import annotations

from typing import Final

from dicomport.encoding.errors import DataSetError
from dicomport.encoding.headers import (
    DELIMITER_GROUP,
    IMPLICIT_LITTLE,
    ITEM,
    ITEM_DELIMITER,
    SEQUENCE_DELIMITER,
    SHORT_HEADER,
    UNDEFINED_LENGTH,
    Encoding,
    Header,
    format_tag,
)

MAX_DEPTH: Final = 100
"""Sequences of undefined length within one another; real data sets have fewer than ten."""


class Walker:
    """Position in encoded elements, from which the next header is read.

    Each method takes the offset at which the data set, item or sequence ends at the latest. A `delimited` one ends with
    its delimiter. After a header, read or skip the value, or walk over its items, before the next header.
    All methods raise `DataSetError`.
    """

    __slots__ = ("_headers_left", "_max_headers", "at", "data", "encoding", "start")

    def __init__(
        self, data: bytes | memoryview, encoding: Encoding, at: int = 0, *, max_headers: int | None = None
    ) -> None:
        """Begin at an offset, and read at most `max_headers` headers of elements, items and delimiters."""
        self._max_headers = max_headers
        # Without a limit, the number is negative.
        self._headers_left = -1 if max_headers is None else max_headers
        self.data = data
        self.encoding = encoding
        self.at = at
        """Offset of the next byte to read."""
        self.start = at
        """Offset of the last header."""

    def element(self, end: int, *, delimited: bool = False) -> tuple[int, bytes, int] | None:
        """Read the next header: tag, VR and length of the value. Return None at the end of the data set or item."""
        if self.at == end and not delimited:
            return None
        tag, vr, length, body = self._header(end)
        if delimited and tag == ITEM_DELIMITER:
            self.at = body
            return None
        if tag >> 16 == DELIMITER_GROUP:
            raise self.error(f"{format_tag(tag)} in the place of an element")
        self.at = body
        return tag, vr, length

    def item(self, end: int, *, delimited: bool = False) -> int | None:
        """Read the next item's header and return its length. Return None at the end of the sequence."""
        if self.at == end and not delimited:
            return None
        tag, _, length, body = self._header(end)
        if delimited and tag == SEQUENCE_DELIMITER:
            self.at = body
            return None
        if tag != ITEM:
            raise self.error(f"{format_tag(tag)} in the place of an item")
        self.at = body
        return length

    def end_of(self, length: int, end: int) -> int:
        """Return where a value or item of defined length ends that begins here."""
        if self.at + length > end:
            raise self.error("ends inside an element")
        return self.at + length

    def skip(self, vr: bytes, length: int, end: int, depth: int = 0) -> int:
        """Pass over a value. Return where it ends, its delimiter excluded."""
        if length != UNDEFINED_LENGTH:
            self.at = self.end_of(length, end)
            return self.at
        if depth == MAX_DEPTH:
            raise self.error(f"more than {MAX_DEPTH} sequences within one another")
        outer = self.encoding
        self.encoding = self.inner_encoding(vr)
        while (item_length := self.item(end, delimited=True)) is not None:
            self.skip_item(item_length, end, depth + 1)
        self.encoding = outer
        return self.at - SHORT_HEADER

    def skip_item(self, length: int, end: int, depth: int = 0) -> int:
        """Pass over an item. Return where it ends, its delimiter excluded."""
        if length != UNDEFINED_LENGTH:
            self.at = self.end_of(length, end)
            return self.at
        while (element := self.element(end, delimited=True)) is not None:
            self.skip(element[1], element[2], end, depth)
        return self.at - SHORT_HEADER

    def inner_encoding(self, vr: bytes) -> Encoding:
        """Return the encoding inside a sequence: that of UN is Implicit VR Little Endian (PS3.5 6.2.2)."""
        return IMPLICIT_LITTLE if vr == b"UN" else self.encoding

    def error(self, problem: str) -> DataSetError:
        """Return an error with the offset of the last header."""
        return DataSetError(f"{problem}, at offset {self.start}")

    def _header(self, end: int) -> Header:
        self.start = self.at
        if not self._headers_left:
            raise self.error(f"more than {self._max_headers} elements and items")
        self._headers_left -= 1
        header = self.encoding.read(self.data, self.at, end)
        if header is None:
            raise self.error("ends inside a header")
        return header
