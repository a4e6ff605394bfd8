"""Convert a data set between uncompressed encodings: values stay byte for byte, except their byte order.

pydicom would decode and encode each value: text outside its character set, or a number in an invalid format, would
change. Here values are not decoded. Only the VR of each element is needed: from the encoding, or from the dictionary.
"""

from __future__ import annotations

import array
import functools
import struct
from collections.abc import Mapping
from dataclasses import field
from types import MappingProxyType
from typing import Final, TypeAlias

from pydicom.datadict import dictionary_VR

from dicomport.encoding.errors import DataSetError
from dicomport.encoding.headers import (
    ITEM,
    ITEM_DELIMITER,
    PIXEL_DATA,
    SEQUENCE_DELIMITER,
    UNDEFINED_LENGTH,
    Encoding,
    encoding_of,
)
from dicomport.encoding.vr import KNOWN_VRS, LONG_VRS, WORD_FORMATS
from dicomport.encoding.walker import MAX_DEPTH, Walker
from dicomport.scu.inputs.instance import NotSendableError
from dicomport.standard import TransferSyntax
from dicomport.values import slotted

_BITS_ALLOCATED: Final = 0x00280100
_PIXEL_REPRESENTATION: Final = 0x00280103
_FACTS: Final = frozenset((_BITS_ALLOCATED, _PIXEL_REPRESENTATION))
_COMMAND_OR_FILE_META: Final = frozenset((0x0000, 0x0002))
_US_OR_SS: Final = b"US or SS"
_MAX_SHORT: Final = 0xFFFF

Replacements: TypeAlias = Mapping[int, "tuple[bytes, bytes] | None"]
"""VR and value that replace an element, by tag; None to leave the element out."""


def transcode(
    data: bytes,
    source: TransferSyntax,
    target: TransferSyntax,
    replacements: Replacements = MappingProxyType({}),
) -> bytes:
    """Return a data set in another encoding, with some elements replaced; neither of the two is deflated.

    Group lengths, which are retired (PS3.5 7.2) and would be wrong, are left out. Elements that the dictionary does not
    know become UN. Raises `NotSendableError` for a data set that cannot be read without doubt.
    """
    walker = Walker(memoryview(data), encoding_of(source))
    try:
        return b"".join(_Transcoder(walker, encoding_of(target)).data_set(len(data), replacements).parts)
    except struct.error:
        raise NotSendableError("the data set would have a sequence of more than 4 GiB") from None
    except DataSetError as error:
        raise NotSendableError(f"the data set is damaged, or not in its transfer syntax: {error}") from None


@slotted
class _Written:
    """The encoded part of a data set or sequence."""

    parts: list[bytes | bytearray | memoryview] = field(default_factory=list)
    size: int = 0
    ambiguous: list[bytearray] = field(default_factory=list)
    """Positions of VR US that become SS if Pixel Representation, which may follow later, is signed."""

    def write(self, *parts: bytes | bytearray | memoryview) -> None:
        self.parts += parts
        self.size += sum(map(len, parts))

    def append(self, other: _Written) -> None:
        self.parts += other.parts
        self.size += other.size
        self.ambiguous += other.ambiguous


class _Transcoder:
    """Walks over encoded elements, and encodes them again."""

    def __init__(self, walker: Walker, target: Encoding) -> None:
        self._walker = walker
        self._target = target
        self._swapped = walker.encoding.byte_order != target.byte_order

    def data_set(
        self,
        end: int,
        replacements: Replacements = MappingProxyType({}),
        *,
        delimited: bool = False,
        depth: int = 0,
    ) -> _Written:
        """Encode a data set that ends at `end`, or before it with a delimiter."""
        walker = self._walker
        written = _Written()
        facts: dict[int, int] = {}
        while (element := walker.element(end, delimited=delimited)) is not None:
            tag, vr, length = element
            vr = self._checked_vr(tag, vr, length)
            if tag in replacements:
                self._replace(written, tag, replacements[tag])
                walker.skip(vr, length, end)
            elif length == UNDEFINED_LENGTH or vr == b"SQ":
                self._sequence(written, tag, vr, length, end, depth=depth)
            else:
                value = memoryview(walker.data)[walker.at : walker.skip(vr, length, end)]
                if tag in _FACTS and length == walker.encoding.number.size:
                    (facts[tag],) = walker.encoding.number.unpack(value)
                if tag & 0xFFFF or not tag:
                    self._element(written, tag, vr, value, facts)
        if _PIXEL_REPRESENTATION in facts:
            for vr_cell in written.ambiguous:
                vr_cell[:] = b"SS" if facts[_PIXEL_REPRESENTATION] else b"US"
            written.ambiguous.clear()
        return written

    def _checked_vr(self, tag: int, vr: bytes, length: int) -> bytes:
        """Return the VR of an element; in Implicit VR, that of the dictionary."""
        if tag >> 16 in _COMMAND_OR_FILE_META:
            raise self._walker.error(f"an element of group {tag >> 16:04X} in a data set")
        if not self._walker.encoding.explicit:
            return _vr_of(tag, sequence=length == UNDEFINED_LENGTH)
        if vr not in KNOWN_VRS:
            raise self._walker.error("an element of unknown VR")
        return vr

    def _replace(self, written: _Written, tag: int, element: tuple[bytes, bytes] | None) -> None:
        if element is not None:
            vr, value = element
            written.write(self._header(tag, vr, len(value)), value)

    def _element(self, written: _Written, tag: int, vr: bytes, value: memoryview, facts: dict[int, int]) -> None:
        if vr == _US_OR_SS:
            header = self._header(tag, b"US", len(value))
            if self._target.explicit and len(value) <= _MAX_SHORT:
                cell = bytearray(header[4:6])
                written.ambiguous.append(cell)
                written.write(header[:4], cell, header[6:], value)
                return
            vr = b"US"
        if self._swapped:
            if tag == PIXEL_DATA and vr == b"OW" and facts.get(_BITS_ALLOCATED, 0) > 16:
                raise NotSendableError("programs disagree on the byte order of its pixels (PS3.5 7.3)")
            value = self._swap(vr, value)
        written.write(self._header(tag, vr, len(value)), value)

    def _header(self, tag: int, vr: bytes, length: int) -> bytes:
        # PS3.5 6.2.2: a value that is too long for the 16-bit length of its VR becomes UN.
        return self._target.header(tag, vr if length <= _MAX_SHORT or vr in LONG_VRS else b"UN", length)

    def _swap(self, vr: bytes, value: memoryview) -> memoryview:
        if vr == b"UN" and value:
            raise NotSendableError("it has an element of unknown VR, whose byte order is unknown too")
        if vr not in WORD_FORMATS:
            return value
        words = array.array(WORD_FORMATS[vr])
        if len(value) % words.itemsize:
            raise self._walker.error("a value that ends inside a number")
        words.frombytes(value)
        words.byteswap()
        return memoryview(words).cast("B")

    def _sequence(self, written: _Written, tag: int, vr: bytes, length: int, end: int, *, depth: int) -> None:
        if depth == MAX_DEPTH:
            raise NotSendableError(f"it has more than {MAX_DEPTH} sequences within one another")
        delimited = length == UNDEFINED_LENGTH
        if delimited and vr in (b"OB", b"OW"):
            raise NotSendableError("it has compressed pixels, but its transfer syntax is uncompressed")
        walker, source, target = self._walker, self._walker.encoding, self._target
        if vr != b"UN" or not source.explicit:
            vr = b"SQ"
        elif self._swapped:
            raise NotSendableError("it has an element of unknown VR, whose byte order is unknown too")
        else:
            walker.encoding = self._target = walker.inner_encoding(vr)
        items = self._items(end if delimited else walker.end_of(length, end), delimited=delimited, depth=depth + 1)
        walker.encoding, self._target = source, target
        written.write(self._header(tag, vr, UNDEFINED_LENGTH if delimited else items.size))
        written.append(items)
        if delimited:
            written.write(target.item(SEQUENCE_DELIMITER, 0))

    def _items(self, end: int, *, delimited: bool, depth: int) -> _Written:
        """Encode the items of a sequence that ends at `end`, or before it with a delimiter."""
        walker, target = self._walker, self._target
        written = _Written()
        while (length := walker.item(end, delimited=delimited)) is not None:
            if length == UNDEFINED_LENGTH:
                written.write(target.item(ITEM, UNDEFINED_LENGTH))
                written.append(self.data_set(end, delimited=True, depth=depth))
                written.write(target.item(ITEM_DELIMITER, 0))
            else:
                item = self.data_set(walker.end_of(length, end), depth=depth)
                written.write(target.item(ITEM, item.size))
                written.append(item)
        return written


@functools.lru_cache(maxsize=4096)
def _vr_of(tag: int, *, sequence: bool) -> bytes:
    """Return the VR of an element in Implicit VR, from the dictionary."""
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
