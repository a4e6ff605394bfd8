"""A data set from one of the plain encodings to another: values stay as they are, but for the order of their bytes.

pydicom would decode each value and encode it again, and text that is not in its character set, or a number that is
not written as it should be, would come out as something else. Here no value is looked into. What has to be known for
that is which VR an element has, and the dictionary says it where the encoding does not.
"""

from __future__ import annotations

import array
import functools
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, TypeAlias

from pydicom.datadict import dictionary_VR

from dicomport.scu.inputs.instance import NotSendableError
from dicomport.standard import TransferSyntax

__all__ = ["PIXEL_DATA", "Replacements", "transcode"]

PIXEL_DATA: Final = 0x7FE00010
_BITS_ALLOCATED: Final = 0x00280100
_PIXEL_REPRESENTATION: Final = 0x00280103
_FACTS: Final = frozenset((_BITS_ALLOCATED, _PIXEL_REPRESENTATION))
_NO_GROUPS: Final = frozenset((0x0000, 0x0002, 0xFFFE))
"""Of commands, of file headers and of delimiters."""

# PS3.5 7.5.
_ITEM: Final = 0xFFFEE000
_ITEM_END: Final = 0xFFFEE00D
_SEQUENCE_END: Final = 0xFFFEE0DD
_UNDEFINED: Final = 0xFFFFFFFF

_LONG: Final = frozenset((b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"))
"""VRs whose length has 32 bits (PS3.5 7.1.2)."""
_SHORT: Final = frozenset(
    (
        *(b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FD", b"FL", b"IS", b"LO", b"LT", b"PN", b"SH", b"SL"),
        *(b"SS", b"ST", b"TM", b"UI", b"UL", b"US"),
    )
)
_WORDS: Final = {
    **dict.fromkeys((b"AT", b"OW", b"SS", b"US"), "H"),
    **dict.fromkeys((b"FL", b"OF", b"OL", b"SL", b"UL"), "I"),
    **dict.fromkeys((b"FD", b"OD", b"OV", b"SV", b"UV"), "Q"),
}
"""VRs with an order of bytes (PS3.5 7.3), and the words that it is of."""

_BYTES: Final = frozenset((b"OB", b"OW"))
_US_OR_SS: Final = b"US or SS"
_MAX_SHORT: Final = 0xFFFF
_DEEPEST: Final = 100
"""Sequences within sequences; real ones have a handful."""


@dataclass(frozen=True, slots=True)
class _Encoding:
    implicit: bool
    order: str
    """Of bytes, as `struct` has it."""

    def tag(self, tag: int, length: int) -> bytes:
        """Write an item's header or a delimiter."""
        return struct.pack(f"{self.order}HHL", tag >> 16, tag & 0xFFFF, length)

    def header(self, tag: int, vr: bytes, length: int) -> bytes:
        """Write an element's header."""
        if self.implicit:
            return self.tag(tag, length)
        if vr not in _LONG:
            if length <= _MAX_SHORT:
                return struct.pack(f"{self.order}HH2sH", tag >> 16, tag & 0xFFFF, vr, length)
            vr = b"UN"  # PS3.5 6.2.2: what does not fit into 16 bits
        return struct.pack(f"{self.order}HH2s2xL", tag >> 16, tag & 0xFFFF, vr, length)


_IMPLICIT: Final = _Encoding(implicit=True, order="<")

Replacements: TypeAlias = Mapping[int, "tuple[bytes, bytes] | None"]
"""By tag, the VR and the value that an element gets; None where it is left out."""


def transcode(
    data: bytes,
    source: TransferSyntax,
    target: TransferSyntax,
    replacements: Replacements = MappingProxyType({}),
) -> bytes:
    """Write a data set in another encoding, with other elements in the place of some; neither of the two is deflated.

    Lengths of groups, which are retired (PS3.5 7.2) and would be wrong, are left out. Elements that the dictionary
    does not know become UN. Raises `NotSendableError` for what can't be read without doubt.
    """
    transcoder = _Transcoder(memoryview(data), 0, _encoding(source), _encoding(target))
    try:
        return b"".join(transcoder.data_set(len(data), replacements).parts)
    except struct.error:
        raise NotSendableError("the data set would have a sequence of more than 4 GiB") from None


def _encoding(syntax: TransferSyntax) -> _Encoding:
    return _Encoding(implicit=syntax.implicit_vr, order="<" if syntax.little_endian else ">")


@dataclass(slots=True)
class _Written:
    """What was written of a data set, or of a sequence."""

    parts: list[bytes | bytearray | memoryview] = field(default_factory=list)
    size: int = 0
    ambiguous: list[bytearray] = field(default_factory=list)
    """Where US is written and SS is meant should pixels be signed, which may be known only later."""

    def write(self, *parts: bytes | bytearray | memoryview) -> None:
        self.parts += parts
        self.size += sum(map(len, parts))

    def take(self, other: _Written) -> None:
        self.parts += other.parts
        self.size += other.size
        self.ambiguous += other.ambiguous


class _Transcoder:
    """Reads through encoded elements, and writes them."""

    def __init__(self, data: memoryview, at: int, source: _Encoding, target: _Encoding) -> None:
        self._data = data
        self._at = at
        self._source = source
        self._target = target
        self._swapped = source.order != target.order

    def data_set(
        self,
        limit: int,
        replacements: Replacements = MappingProxyType({}),
        *,
        delimited: bool = False,
        depth: int = 0,
    ) -> _Written:
        """Write a data set that ends at `limit`, or before it with a delimiter."""
        written = _Written()
        facts: dict[int, int] = {}
        while not self._over(limit, _ITEM_END if delimited else None):
            tag = self._tag(limit)
            if tag >> 16 in _NO_GROUPS:
                raise self._damaged(f"an element of group {tag >> 16:04X} is none of a data set")
            vr, length = self._vr_and_length(tag, limit)
            if tag in replacements:
                self._replace(written, tag, replacements[tag])
                self._pass_over(length, limit)
            elif length == _UNDEFINED or vr == b"SQ":
                self._sequence(written, tag, vr, length, limit, depth=depth)
            else:
                value = self._value(length, limit)
                if tag in _FACTS and length == 2:
                    (facts[tag],) = struct.unpack(f"{self._source.order}H", value)
                if tag & 0xFFFF or not tag:
                    self._element(written, tag, vr, value, facts)
        if _PIXEL_REPRESENTATION in facts:
            for vr_cell in written.ambiguous:
                vr_cell[:] = b"SS" if facts[_PIXEL_REPRESENTATION] else b"US"
            written.ambiguous.clear()
        return written

    def _replace(self, written: _Written, tag: int, element: tuple[bytes, bytes] | None) -> None:
        if element is not None:
            vr, value = element
            written.write(self._target.header(tag, vr, len(value)), value)

    def _element(self, written: _Written, tag: int, vr: bytes, value: memoryview, facts: dict[int, int]) -> None:
        if vr == _US_OR_SS:
            header = self._target.header(tag, b"US", len(value))
            if not self._target.implicit and len(value) <= _MAX_SHORT:
                cell = bytearray(header[4:6])
                written.ambiguous.append(cell)
                written.write(header[:4], cell, header[6:], value)
                return
            vr = b"US"
        if self._swapped:
            if tag == PIXEL_DATA and vr == b"OW" and facts.get(_BITS_ALLOCATED, 0) > 16:
                raise NotSendableError("programs disagree on the order of the bytes of its pixels (PS3.5 7.3)")
            value = self._swap(vr, value)
        written.write(self._target.header(tag, vr, len(value)), value)

    def _swap(self, vr: bytes, value: memoryview) -> memoryview:
        if vr == b"UN" and value:
            raise NotSendableError("it has an element of unknown VR, whose order of bytes is not known either")
        if vr not in _WORDS:
            return value
        words = array.array(_WORDS[vr])
        if len(value) % words.itemsize:
            raise self._damaged("half a number")
        words.frombytes(value)
        words.byteswap()
        return memoryview(words).cast("B")

    def _sequence(self, written: _Written, tag: int, vr: bytes, length: int, limit: int, *, depth: int) -> None:
        if depth == _DEEPEST:
            raise NotSendableError(f"it has sequences within sequences, more than {_DEEPEST} deep")
        delimited = length == _UNDEFINED
        if delimited and vr in _BYTES:
            raise NotSendableError("it has compressed pixels where there should be none")
        end = limit if delimited else self._end(length, limit)
        if vr == b"UN" and not self._source.implicit:
            # PS3.5 6.2.2: what is in there is in Implicit VR Little Endian, whatever is around it.
            if self._swapped:
                raise NotSendableError("it has an element of unknown VR, whose order of bytes is not known either")
            inner = _Transcoder(self._data, self._at, _IMPLICIT, _IMPLICIT)
            items = inner.items(end, delimited=delimited, depth=depth + 1)
            self._at = inner._at
        else:
            vr = b"SQ"
            items = self.items(end, delimited=delimited, depth=depth + 1)
        written.write(self._target.header(tag, vr, _UNDEFINED if delimited else items.size))
        written.take(items)
        if delimited:
            written.write(self._target.tag(_SEQUENCE_END, 0))

    def items(self, limit: int, *, delimited: bool, depth: int) -> _Written:
        """Write the items of a sequence that ends at `limit`, or before it with a delimiter."""
        written = _Written()
        while not self._over(limit, _SEQUENCE_END if delimited else None):
            if self._tag(limit) != _ITEM:
                raise self._damaged("something else is where an item belongs")
            (length,) = struct.unpack_from(f"{self._source.order}L", self._data, self._at + 4)
            self._at += 8
            if length == _UNDEFINED:
                written.write(self._target.tag(_ITEM, _UNDEFINED))
                written.take(self.data_set(limit, delimited=True, depth=depth))
                written.write(self._target.tag(_ITEM_END, 0))
            else:
                item = self.data_set(self._end(length, limit), depth=depth)
                written.write(self._target.tag(_ITEM, item.size))
                written.take(item)
        return written

    def _over(self, limit: int, delimiter: int | None) -> bool:
        if delimiter is None:
            return self._at == limit
        if self._tag(limit) != delimiter:
            return False
        self._at += 8
        return True

    def _tag(self, limit: int) -> int:
        if self._at + 8 > limit:
            raise self._damaged("it ends within an element's header")
        group, number = struct.unpack_from(f"{self._source.order}HH", self._data, self._at)
        return int(group) << 16 | int(number)

    def _vr_and_length(self, tag: int, limit: int) -> tuple[bytes, int]:
        """Read the rest of an element's header."""
        if self._source.implicit:
            (length,) = struct.unpack_from("<L", self._data, self._at + 4)
            self._at += 8
            return _vr_of(tag, sequence=length == _UNDEFINED), length
        vr = bytes(self._data[self._at + 4 : self._at + 6])
        if vr in _SHORT:
            (length,) = struct.unpack_from(f"{self._source.order}H", self._data, self._at + 6)
            self._at += 8
            return vr, length
        if vr not in _LONG:
            raise self._damaged(f"({tag >> 16:04X},{tag & 0xFFFF:04X}) has no VR that is known")
        if self._at + 12 > limit:
            raise self._damaged("it ends within an element's header")
        (length,) = struct.unpack_from(f"{self._source.order}L", self._data, self._at + 8)
        self._at += 12
        return vr, length

    def _value(self, length: int, limit: int) -> memoryview:
        end = self._end(length, limit)
        value = self._data[self._at : end]
        self._at = end
        return value

    def _end(self, length: int, limit: int) -> int:
        if self._at + length > limit:
            raise self._damaged("it ends within an element")
        return self._at + length

    def _pass_over(self, length: int, limit: int) -> None:
        """Go on behind a value, or the fragments of encapsulated pixels (PS3.5 A.4)."""
        if length != _UNDEFINED:
            self._at = self._end(length, limit)
            return
        while not self._over(limit, _SEQUENCE_END):
            if self._tag(limit) != _ITEM:
                raise self._damaged("something else is where a fragment belongs")
            (length,) = struct.unpack_from(f"{self._source.order}L", self._data, self._at + 4)
            self._at += 8
            self._at = self._end(length, limit)

    def _damaged(self, how: str) -> NotSendableError:
        return NotSendableError(f"the data set is damaged, or not encoded as it says: {how}, at byte {self._at}")


@functools.lru_cache(maxsize=4096)
def _vr_of(tag: int, *, sequence: bool) -> bytes:
    """Tell the VR of an element of Implicit VR."""
    if tag >> 16 & 1:
        known = "LO" if 0x10 <= tag & 0xFFFF <= 0xFF else "UN"
    elif tag & 0xFFFF == 0:
        known = "UL"
    else:
        try:
            known = dictionary_VR(tag)
        except KeyError:
            known = "UN"
    if sequence:
        # PS3.5 7.5.1: nothing else has an undefined length, but pixels that are compressed.
        return b"OB" if tag == PIXEL_DATA else b"SQ"
    # PS3.5 A.1: of those with a choice, each is OW here, but for the numbers.
    return _US_OR_SS if known == "US or SS" else b"OW" if " or " in known else known.encode()
