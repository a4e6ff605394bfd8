"""Encapsulated pixels without a sequence delimiter: the proof that no fragment is missing (PS3.5 A.4).

Pixels that were cut exactly between two fragments look like pixels whose writer has left out the delimiter. So these
are whole only if the number of frames is known, from an offset table or from Number of Frames, and all frames are
there. The number of fragments alone proves that only if each frame is one fragment. That is seen from the marker
at the end of a JPEG codestream, which a part of a codestream lacks, and in RLE it is a rule of the standard.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

from dicomport.encoding.deviations import ScanFlag
from dicomport.encoding.headers import SHORT_HEADER

_HEAD: Final = 8
_TAIL: Final = 16

_CODESTREAM_STARTS: Final = (b"\xff\xd8\xff", b"\xff\x4f\xff\x51")
"""Start of image of JPEG and JPEG-LS (ISO/IEC 10918-1 B.2.1, 14495-1 C.1), start of codestream of JPEG 2000."""
_CODESTREAM_END: Final = b"\xff\xd9"
"""End of image, and of codestream; padding may follow it (PS3.5 A.4)."""

_MAX_RLE_SEGMENTS: Final = 15
_RLE_HEADER_BYTES: Final = 64
_TABLE_ENTRY: Final = 4
_EXTENDED_TABLE_ENTRY: Final = 8

_NUMBER_OF_FRAMES: Final = 0x00280008
_MAX_DIGITS: Final = 12


class FragmentCount:
    """Counts the fragments of one element while they stream through, and keeps the proof that none is missing."""

    __slots__ = ("_codestreams", "_entries", "_head", "_last_entry", "_number", "_offset", "_size", "_starts", "_tail")

    def __init__(self) -> None:
        self._number = -1
        """Number of fragments: the first item is the Basic Offset Table."""
        self._entries = self._last_entry = 0
        """Number of entries of the Basic Offset Table, and the last of them."""
        self._starts = self._codestreams = 0
        """Number of fragments that begin a codestream, and of those that end one."""
        self._offset = self._size = 0
        """Offset of the current fragment from the first one, and its length with its header."""
        self._head = self._tail = b""

    def begin(self, size: int) -> None:
        """Begin the next item, of `size` bytes."""
        self._end()
        self._number += 1
        self._offset += self._size
        if self._number:
            self._size = SHORT_HEADER + size
        else:
            self._entries = size // _TABLE_ENTRY
        self._head = self._tail = b""

    def add(self, piece: bytes | memoryview) -> None:
        """Add the next bytes of the item."""
        if len(self._head) < _HEAD:
            self._head += piece[: _HEAD - len(self._head)]
        self._tail = (self._tail + bytes(piece[-_TAIL:]))[-_TAIL:]

    def end(self, frames: int | None, extended_bytes: int | None, zeros: int) -> ScanFlag | None:
        """End the last item, followed by `zeros` NULs and the end of the data set.

        Return the deviation if this can be a whole data set, otherwise None. `frames` is Number of Frames, None without
        one; `extended_bytes` is the length of the Extended Offset Table (PS3.3 C.7.6.3.1.8), None without one.
        """
        is_complete = self._is_complete(frames, extended_bytes and extended_bytes // _EXTENDED_TABLE_ENTRY)
        # Pixels that were cut are not followed by a few NULs.
        is_replaced = 0 < zeros < SHORT_HEADER
        if is_replaced and is_complete is not False:
            return ScanFlag.ZEROS_FOR_DELIMITER
        return ScanFlag.MISSING_DELIMITER if is_complete else None

    def _is_complete(self, frames: int | None, extended_entries: int | None) -> bool | None:
        """Return whether no fragment is missing; None without proof of either."""
        self._end()
        expected = extended_entries or self._entries or frames or 1
        if self._number < expected or (self._starts and not self._ends_codestream()):
            return False
        if frames not in (None, expected):
            return None
        is_complete = self._number == expected
        if self._starts:
            # With a Basic Offset Table, a frame may have several fragments.
            is_complete = (is_complete or self._entries > 0) and self._codestreams == expected
        elif extended_entries is None and self._entries:
            is_complete = is_complete and expected > 1 and self._last_entry == self._offset
        elif extended_entries is None:
            is_complete = is_complete and (expected > 1 or self._is_rle())
        return is_complete or None

    def _end(self) -> None:
        """End the current item."""
        if self._number > 0:
            self._starts += self._head.startswith(_CODESTREAM_STARTS)
            self._codestreams += self._ends_codestream()
        elif self._entries:
            self._last_entry = int.from_bytes(self._tail[-_TABLE_ENTRY:], "little")

    def _ends_codestream(self) -> bool:
        return self._tail.rstrip(b"\0").endswith(_CODESTREAM_END)

    def _is_rle(self) -> bool:
        """Return whether the fragment begins with the header of an RLE frame (PS3.5 G.5), which is one fragment."""
        segments, first = int.from_bytes(self._head[:4], "little"), int.from_bytes(self._head[4:8], "little")
        return 1 <= segments <= _MAX_RLE_SEGMENTS and first == _RLE_HEADER_BYTES


def number_of_frames(values: Mapping[int, tuple[bytes, bytes]], wanted: Collection[int]) -> int | None:
    """Return Number of Frames; None without one, 0 if it is invalid or not among the wanted values."""
    if _NUMBER_OF_FRAMES not in wanted:
        return 0
    value = values.get(_NUMBER_OF_FRAMES)
    if value is None:
        return None
    text = value[1].strip(b" \0")
    return int(text) if text.isdigit() and len(text) <= _MAX_DIGITS else 0
