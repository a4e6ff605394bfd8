"""Small data sets, whole in memory: the few elements that DIMSE-N needs, read and written (PS3.5 7)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from dicomport.encoding.headers import ITEM, encoding_of
from dicomport.encoding.inflate import deflate, inflate
from dicomport.encoding.walker import Walker
from dicomport.standard import find_transfer_syntax

_MAX_ELEMENTS: Final = 1000
"""Elements of a data set or item, not those of its items: DIMSE-N has fewer than ten."""
_MAX_HEADERS: Final = 1_000_000
"""Elements, items and delimiters in one walk: twice those of 16 MiB of references to instances."""


class Span(NamedTuple):
    """Offsets of a value, an item or a data set; its delimiter is excluded."""

    start: int
    end: int


class DataSetReader:
    """Finds elements in an encoded data set, without copying their values.

    The number of elements is limited, as 16 MiB have room for two million empty ones.
    """

    def __init__(self, data: bytes, transfer_syntax_uid: str, max_bytes: int) -> None:
        """Inflate a deflated data set, to at most `max_bytes`. Raises `DataSetError`, `DataSetTooLongError`."""
        syntax = find_transfer_syntax(transfer_syntax_uid)
        self._data = inflate(data, max_bytes) if syntax is not None and syntax.deflated else data
        self._encoding = encoding_of(syntax)
        self.whole = Span(0, len(self._data))
        """The data set itself."""

    def elements(self, span: Span) -> dict[int, Span]:
        """Return the values of a data set or item by tag, the first of each. Raises `DataSetError`."""
        found: dict[int, Span] = {}
        walker = Walker(self._data, self._encoding, span.start, max_headers=_MAX_HEADERS)
        number = 0
        while (element := walker.element(span.end)) is not None:
            number += 1
            if number > _MAX_ELEMENTS:
                raise walker.error(f"more than {_MAX_ELEMENTS} elements")
            tag, vr, length = element
            start = walker.at
            found.setdefault(tag, Span(start, walker.skip(vr, length, span.end)))
        return found

    def items(self, span: Span) -> Iterator[Span]:
        """Yield the items of a sequence, one by one. Raises `DataSetError`."""
        walker = Walker(self._data, self._encoding, span.start, max_headers=_MAX_HEADERS)
        while (length := walker.item(span.end)) is not None:
            start = walker.at
            yield Span(start, walker.skip_item(length, span.end))

    def value(self, span: Span) -> bytes:
        """Return the bytes of a value."""
        return self._data[span.start : span.end]

    def number(self, span: Span) -> int | None:
        """Return a value of VR US; None for any other length."""
        number = self._encoding.number
        return number.unpack_from(self._data, span.start)[0] if span.end - span.start == number.size else None


class DataSetWriter:
    """Encodes elements; the caller passes them to `finish` in ascending order of their tags."""

    def __init__(self, transfer_syntax_uid: str) -> None:
        syntax = find_transfer_syntax(transfer_syntax_uid)
        self._deflated = syntax is not None and syntax.deflated
        self._encoding = encoding_of(syntax)

    def uid(self, tag: int, uid: str) -> bytes:
        """Encode an element of VR UI, padded to even length with a NUL (PS3.5 9.1)."""
        value = uid.encode("latin-1")
        return self._element(tag, b"UI", value + b"\0" * (len(value) % 2))

    def number(self, tag: int, number: int) -> bytes:
        """Encode an element of VR US."""
        return self._element(tag, b"US", self._encoding.number.pack(number))

    def sequence(self, tag: int, items: Iterable[bytes]) -> bytes:
        """Encode a sequence of items, all of defined length (PS3.5 7.5.1)."""
        return self._element(tag, b"SQ", b"".join(self._encoding.item(ITEM, len(item)) + item for item in items))

    def finish(self, *elements: bytes) -> bytes:
        """Return a data set of these elements."""
        data = b"".join(elements)
        return deflate(data) if self._deflated else data

    def _element(self, tag: int, vr: bytes, value: bytes) -> bytes:
        return self._encoding.header(tag, vr, len(value)) + value
