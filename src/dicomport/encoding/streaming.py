"""Walk over the elements of a data set that arrives in pieces (PS3.5 7): where each ends, and the values of a few.

Theory of operation
-------------------
`StreamWalker.feed` reads headers only: a value of defined length, also of a sequence, is skipped and costs nothing for
each of its bytes. An element of undefined length is walked, as only a delimiter shows its end: the place, encoding and
tag around it are pushed onto a stack of bounded depth. Between two pieces the walker holds the stack, and a header and
a wanted value cut short; the pieces themselves are not kept.

The loop over elements, `_elements`, repeats `Encoding.read` inline, as it runs for each element of each instance. A
property test shows that it agrees with `Walker`, which is strict and needs the data set in memory.
"""

from __future__ import annotations

import enum
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final, NamedTuple, NoReturn, TypeAlias

from dicomport.encoding.headers import (
    DELIMITER_GROUP,
    IMPLICIT_LITTLE,
    ITEM,
    ITEM_DELIMITER,
    LONG_HEADER,
    PIXEL_DATA,
    SEQUENCE_DELIMITER,
    SHORT_HEADER,
    UNDEFINED_LENGTH,
    Encoding,
    format_tag,
)
from dicomport.encoding.vr import FRAGMENT_VRS, KNOWN_VRS, is_vr

_NO_VR: Final = b"??"
"""Some senders write this for an unknown VR; like DCMTK, read a 16-bit length after it."""

# Group 0000 is a command's (PS3.7 6.3), 0002 is File Meta Information (PS3.10 7.1); 0004 is a DICOMDIR's.
_AFTER_COMMANDS: Final = 0x00010000
_FILE_META: Final = 0x0002
AFTER_FILE_META: Final = 0x00030000
"""The first tag that a data set may begin with."""


class ProblemKind(enum.StrEnum):
    """The reason why a data set is not whole."""

    TRUNCATED = "truncated"
    """The data set ends inside an element, sequence or deflated stream."""
    UNDECODABLE = "undecodable"
    """The bytes are not elements in the transfer syntax."""


class ScanFlag(enum.StrEnum):
    """A deviation in a data set that can be whole nevertheless; NOT_WALKED leaves that unproven."""

    BAD_ITEM_TAG = "bad-item-tag"
    """Another tag in the place of an item's, a misplaced delimiter, or a delimiter with a length (PS3.5 7.5)."""
    FILE_META_ELEMENT = "file-meta-element"
    """An element of group 0002 in the data set (PS3.10 7.1)."""
    IMPLICIT_ITEM = "implicit-item"
    """An item in Implicit VR in a data set in Explicit VR, not in a UN (PS3.5 7.1)."""
    NOT_WALKED = "not-walked"
    """Not walked to its end: a limit was exceeded, or the transfer syntax is unknown and not like Explicit VR."""
    ODD_LENGTH = "odd-length"
    """A value, item or fragment of odd length (PS3.5 7.1.1)."""
    OVER_LONG_VALUE = "over-long-value"
    """A wanted value above the limit, or a UID of more than 64 characters (PS3.5 9.1)."""
    REPEATED_ELEMENT = "repeated-element"
    """An element right after one with the same tag, or a second one with a wanted tag; the first counts."""
    TRAILING_BYTES = "trailing-bytes"
    """More than a NUL after a deflated stream (PS3.5 A.5): some writers leave the trailer of gzip or zlib there."""
    UNKNOWN_TRANSFER_SYNTAX = "unknown-transfer-syntax"
    """Read as Explicit VR Little Endian if the data set begins like that, otherwise NOT_WALKED."""
    UNKNOWN_VR = "unknown-vr"
    """A VR that PS3.5 6.2 does not define."""
    UNSORTED = "unsorted"
    """A tag lower than the one before (PS3.5 7.1)."""


@dataclass(frozen=True, slots=True)
class ScanProblem:
    """The reason why a data set is not whole, and its place."""

    kind: ProblemKind
    detail: str
    """For the local log: tag and offset (after inflating), without any value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanLimits:
    """Limits of the work for one data set. Above them, the data set is flagged NOT_WALKED and the scan stops."""

    depth: int = 256
    """Nested sequences and items, each counted: real data sets have fewer than 20."""
    elements: int = 2_000_000
    """Elements and items walked, at about a microsecond each: tenfold those of a large multi-frame image."""
    value_bytes: int = 1024
    """Maximum length of a wanted value: the longest legal one, a name of 3 x 64 characters of 4 bytes, is below it."""
    inflated_bytes: int = 16 << 20
    """Maximum length after inflating: 512 KiB can become 512 MiB (PS3.5 A.5)."""


DEFAULT_SCAN_LIMITS: Final = ScanLimits()

Value: TypeAlias = tuple[bytes, bytes]
"""VR (empty in Implicit VR) and bytes of a wanted value, which is cut one byte above the limit."""


class Matched(NamedTuple):
    """The first elements of a data set, found by example and not walked."""

    end: int
    """Offset of the end of the last element, which may not have arrived yet."""
    last: int
    """Tag of the last element."""
    number: int
    """Number of elements."""
    values: dict[int, Value]
    """The wanted values by tag."""


class _Place(enum.Enum):
    DATA_SET = enum.auto()
    SEQUENCE = enum.auto()
    FRAGMENTS = enum.auto()


class _StopError(Exception):
    """The walk stops before the end of the data set, for a problem or at a limit."""

    def __init__(self, problem: ScanProblem | None = None) -> None:
        self.problem = problem


class StreamWalker:
    """Walk over a data set that arrives in pieces."""

    __slots__ = (
        *("_base", "_encoding", "_header", "_kept", "_last", "_left", "_limits", "_place", "_room", "_stack"),
        *("_stopped", "_taking", "_walked", "_wanted", "flags", "problem", "values"),
    )

    def __init__(self, encoding: Encoding, wanted: Collection[int], limits: ScanLimits = DEFAULT_SCAN_LIMITS) -> None:
        self.values: dict[int, Value] = {}
        """The wanted values by tag, of the data set itself and not of its items; a truncated one is left out."""
        self.flags: set[ScanFlag] = set()
        self.problem: ScanProblem | None = None
        self._limits = limits
        self._wanted = wanted
        # Place, encoding and last tag of the walk, and on the stack those around it.
        self._place = _Place.DATA_SET
        self._encoding = encoding
        self._last = -1
        self._stack: list[tuple[_Place, Encoding, int]] = []
        self._walked = 0
        self._stopped = False
        # Length of the missing part of the current value; if it is wanted, its tag and VR, its first bytes, and the
        # number of bytes to add to them.
        self._left = 0
        self._taking: tuple[int, bytes] | None = None
        self._kept = bytearray()
        self._room = 0
        # A header cut short, and the offset of the current piece in the data set.
        self._header = bytearray()
        self._base = 0

    @property
    def stopped(self) -> bool:
        """Whether a problem or a limit has stopped the walk: further bytes are ignored."""
        return self._stopped

    def begin_after(self, matched: Matched, size: int) -> None:
        """Begin after elements that were matched in the first `size` bytes; feed only the bytes after their end."""
        self._base = min(matched.end, size)
        self._left = matched.end - self._base
        self._last, self._walked, self.values = matched.last, matched.number, matched.values

    def feed(self, view: memoryview | bytes) -> None:
        """Walk over the next piece, of which only a header or a wanted value cut short is kept."""
        size = len(view)
        at = 0
        try:
            while at < size and not self._stopped:
                if self._left:
                    at = self._pass(view, at)
                elif self._header:
                    at = self._complete_header(view, at)
                else:
                    at = self._walk(view, at)
                    self._header += view[at:]
                    break
        except _StopError as stop:
            self._stop(stop.problem)
        self._base += size

    def end(self) -> None:
        """Check the end of the data set. A data set that is cut between two of its elements is not detected."""
        if self._stopped:
            return
        if self._left:
            self._truncated(f"{self._left} bytes before the end of a value")
        elif self._header:
            self._truncated("inside a header")
        elif self._stack:
            self._truncated("inside a sequence of undefined length")
        elif not self._walked:
            self._stop(ScanProblem(ProblemKind.UNDECODABLE, "empty"))

    def _truncated(self, where: str) -> None:
        self._stop(ScanProblem(ProblemKind.TRUNCATED, f"ends {where}, at offset {self._base}"))

    def _stop(self, problem: ScanProblem | None) -> None:
        self._stopped = True
        self.problem = problem
        if problem is None:
            self.flags.add(ScanFlag.NOT_WALKED)
        self._stack.clear()
        self._header.clear()
        self._kept.clear()

    def _walk(self, view: memoryview | bytes, at: int) -> int:
        """Walk from the header at `at`; return the offset of a header that is cut short, or the end."""
        while True:
            before = at, self._encoding
            at = self._elements(view, at) if self._place is _Place.DATA_SET else self._items(view, at)
            if (at, self._encoding) == before:
                return at

    def _complete_header(self, view: memoryview | bytes, at: int) -> int:
        """Add the missing bytes to a header that was cut short, and walk from it when it is complete."""
        header, base = self._header, self._base
        needed = SHORT_HEADER if len(header) < SHORT_HEADER else LONG_HEADER
        piece = view[at : at + needed - len(header)]
        header += piece
        at += len(piece)
        if len(header) == needed:
            self._base = base + at - needed
            # A long header is not complete with the length of a short one; then nothing was walked.
            if self._walk(bytes(header), 0):
                header.clear()
            self._base = base
        return at

    def _pass(self, view: memoryview | bytes, at: int) -> int:
        """Skip the part of the current value that has arrived."""
        end = min(at + self._left, len(view))
        self._left -= end - at
        if self._taking is not None:
            piece = view[at : min(end, at + self._room)]
            self._kept += piece
            self._room -= len(piece)
            if not self._left:
                tag, vr = self._taking
                self.values[tag] = vr, bytes(self._kept)
                self._taking = None
        return end

    def _elements(self, view: memoryview | bytes, at: int) -> int:
        """Walk the elements of a data set or item until the end of `view` or a change of place."""
        unpack, short_vrs = self._encoding.unpack_element, self._encoding.short_vrs
        wanted = () if self._stack else self._wanted
        last, end = self._last, len(view)
        while end - at >= SHORT_HEADER:
            group, number, vr, size = unpack(view, at)
            tag = group << 16 | number
            start = at + SHORT_HEADER
            if vr not in short_vrs or size == UNDEFINED_LENGTH or group == DELIMITER_GROUP:
                start, size = self._unusual(view, at)
                if size < 0:
                    return start
            if tag <= last or tag < AFTER_FILE_META:
                self._misplaced(tag, at)
            self._last = last = tag
            self._walked += 1
            if self._walked > self._limits.elements:
                raise _StopError
            if size & 1:
                self.flags.add(ScanFlag.ODD_LENGTH)
            at = start + size
            if tag in wanted:
                self._take(tag, vr, view[start:at], size)
            if at > end:
                self._left = at - end
                return end
        return at

    def _take(self, tag: int, vr: bytes, there: memoryview | bytes, size: int) -> None:
        """Keep a wanted value, or its first bytes, of which `there` have arrived."""
        if tag in self.values:
            self.flags.add(ScanFlag.REPEATED_ELEMENT)
            return
        # The byte above the limit distinguishes a value that was cut from one of exactly that length.
        max_bytes = self._limits.value_bytes + 1
        if size >= max_bytes:
            self.flags.add(ScanFlag.OVER_LONG_VALUE)
        if len(there) == size:
            self.values[tag] = vr, bytes(there[:max_bytes])
        else:
            self._taking = tag, vr
            self._kept[:] = there[:max_bytes]
            self._room = max_bytes - len(self._kept)

    def _count(self) -> None:
        self._walked += 1
        if self._walked > self._limits.elements:
            raise _StopError

    def _misplaced(self, tag: int, at: int) -> None:
        """Flag a tag that is out of order, or stop at a command's."""
        if tag < _AFTER_COMMANDS:
            # Zeros after the data set would be empty elements in Implicit VR too.
            self._undecodable(tag, at, "an element of a command set")
        if tag >> 16 == _FILE_META:
            self.flags.add(ScanFlag.FILE_META_ELEMENT)
        if tag == self._last:
            self.flags.add(ScanFlag.REPEATED_ELEMENT)
        elif tag < self._last:
            self.flags.add(ScanFlag.UNSORTED)

    def _unusual(self, view: memoryview | bytes, at: int) -> tuple[int, int]:
        """Read a header that is not a plain short one. Return where the value begins and its length.

        Return a length of -1, and where to continue, after a change of place or for a header cut short.
        """
        header = self._encoding.read(view, at, len(view))
        if header is None:
            return at, -1
        tag, vr, size, start = header
        if tag >> 16 == DELIMITER_GROUP:
            self._delimiter(tag, at, size)
            return start, -1
        if vr and vr not in KNOWN_VRS:
            if size == 0 and is_vr(vr):
                # PS3.5 6.2: future VRs have two reserved bytes and a 32-bit length. DCMTK reads every unknown VR like
                # this, pydicom none; here zeros in the reserved bytes decide.
                if len(view) - at < LONG_HEADER:
                    return at, -1
                size, start = self._encoding.read_long_length(view, at), at + LONG_HEADER
            elif not (is_vr(vr) or vr == _NO_VR):
                return self._no_vr(tag, at)
            self.flags.add(ScanFlag.UNKNOWN_VR)
        if size == UNDEFINED_LENGTH:
            self._undefined(tag, vr, at)
            return start, -1
        return start, size

    def _no_vr(self, tag: int, at: int) -> tuple[int, int]:
        """Stop at bytes that are not a VR; in an item, continue in Implicit VR, as some writers do."""
        if not self._stack or self._encoding.byte_order == "big":
            self._undecodable(tag, at, "no VR")
        self.flags.add(ScanFlag.IMPLICIT_ITEM)
        self._encoding = IMPLICIT_LITTLE
        return at, -1

    def _undefined(self, tag: int, vr: bytes, at: int) -> None:
        """Enter an element of undefined length (PS3.5 7.1.2)."""
        if tag <= self._last or tag < AFTER_FILE_META:
            self._misplaced(tag, at)
        self._last = tag
        self._count()
        if vr == b"SQ" or (not vr and tag != PIXEL_DATA):
            self._enter(_Place.SEQUENCE, self._encoding)
        elif vr == b"UN":
            # PS3.5 6.2.2: a sequence in Implicit VR Little Endian.
            self._enter(_Place.SEQUENCE, IMPLICIT_LITTLE)
        elif vr in FRAGMENT_VRS or not vr:
            self._enter(_Place.FRAGMENTS, self._encoding)
        else:
            self._undecodable(tag, at, "a VR that can't be of undefined length")

    def _enter(self, place: _Place, encoding: Encoding) -> None:
        if len(self._stack) >= self._limits.depth:
            raise _StopError
        self._stack.append((self._place, self._encoding, self._last))
        self._place, self._encoding, self._last = place, encoding, -1

    def _leave(self) -> None:
        self._place, self._encoding, self._last = self._stack.pop()

    def _delimiter(self, tag: int, at: int, size: int) -> None:
        """End an item at its delimiter (PS3.5 7.5), or flag a misplaced one."""
        if tag not in (ITEM_DELIMITER, SEQUENCE_DELIMITER):
            self._undecodable(tag, at, "an item outside of a sequence")
        if size or not self._stack or tag == SEQUENCE_DELIMITER:
            self.flags.add(ScanFlag.BAD_ITEM_TAG)
        self._count()
        if self._stack:
            self._leave()
            if tag == SEQUENCE_DELIMITER:
                # The item's own delimiter is missing; both end here.
                self._leave()

    def _items(self, view: memoryview | bytes, at: int) -> int:
        """Walk items or fragments until the end of `view` or a change of place (PS3.5 7.5, A.4)."""
        fragments = self._place is _Place.FRAGMENTS
        end = len(view)
        while (header := self._encoding.read_item(view, at, end)) is not None:
            tag, size = header
            self._count()
            if tag == SEQUENCE_DELIMITER:
                if size:
                    self.flags.add(ScanFlag.BAD_ITEM_TAG)
                self._leave()
                return at + SHORT_HEADER
            if fragments and (tag != ITEM or size == UNDEFINED_LENGTH):
                self._undecodable(tag, at, "no fragment of pixel data")
            if tag != ITEM:
                # Some angiography software writes other tags here; pydicom reads them as items too.
                self.flags.add(ScanFlag.BAD_ITEM_TAG)
            at += SHORT_HEADER
            if size == UNDEFINED_LENGTH:
                self._enter(_Place.DATA_SET, self._encoding)
                return at
            if size & 1:
                self.flags.add(ScanFlag.ODD_LENGTH)
            at += size
            if at > end:
                self._left = at - end
                return end
        return at

    def _undecodable(self, tag: int, at: int, what: str) -> NoReturn:
        where = f"{format_tag(tag)} at offset {self._base + at}"
        raise _StopError(ScanProblem(ProblemKind.UNDECODABLE, f"{where}: {what}"))
