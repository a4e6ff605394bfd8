"""A walk over the elements of a data set while it streams through (PS3.5 7): where each ends, and a few values.

Only headers are read. A value of defined length is passed over and costs nothing for each of its bytes, a sequence of
defined length too; those of undefined length are walked, as only their delimiters say where they end.
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

__all__ = [
    "AFTER_FILE_META",
    "DEFAULT_SCAN_LIMITS",
    "Matched",
    "ProblemKind",
    "ScanFlag",
    "ScanLimits",
    "ScanProblem",
    "StreamWalker",
    "Value",
]

_NO_VR: Final = b"??"
"""What some senders write when they know no VR for an element; a 16-bit length follows, as DCMTK reads it."""

# Group 0000 is a command's (PS3.7 6.3), 0002 is File Meta Information (PS3.10 7.1); 0004 is a DICOMDIR's.
_AFTER_COMMANDS: Final = 0x00010000
_FILE_META: Final = 0x0002
AFTER_FILE_META: Final = 0x00030000
"""The first tag that a data set may begin with."""


class ProblemKind(enum.StrEnum):
    """What keeps a data set from being whole."""

    TRUNCATED = "truncated"
    """It ends inside an element, sequence or deflated stream."""
    UNDECODABLE = "undecodable"
    """Its bytes are no elements in its transfer syntax."""


class ScanFlag(enum.StrEnum):
    """What is wrong with a data set, or unusual, and doesn't keep it from being whole; NOT_WALKED: nor proves it."""

    BAD_ITEM_TAG = "bad-item-tag"
    """Another tag where an item's must be, a delimiter where none must be, or a delimiter with a length (PS3.5 7.5)."""
    FILE_META_ELEMENT = "file-meta-element"
    """An element of group 0002 in the data set (PS3.10 7.1)."""
    IMPLICIT_ITEM = "implicit-item"
    """An item in Implicit VR in a data set in Explicit VR, not in a UN (PS3.5 7.1)."""
    NOT_WALKED = "not-walked"
    """Not walked to its end: a limit was met, or the transfer syntax is unknown and looks like no other."""
    ODD_LENGTH = "odd-length"
    """A value, item or fragment of odd length (PS3.5 7.1.1)."""
    OVER_LONG_VALUE = "over-long-value"
    """A wanted value longer than what is kept, or a UID of more than 64 characters (PS3.5 9.1)."""
    REPEATED_ELEMENT = "repeated-element"
    """An element right after one with the same tag, or a wanted one for the second time: the first counts."""
    TRAILING_BYTES = "trailing-bytes"
    """More than a NUL follows a deflated stream (PS3.5 A.5): some writers leave the trailer of gzip or zlib there."""
    UNKNOWN_TRANSFER_SYNTAX = "unknown-transfer-syntax"
    """Read as Explicit VR Little Endian when it looks like that, else NOT_WALKED."""
    UNKNOWN_VR = "unknown-vr"
    """A VR that PS3.5 6.2 does not know."""
    UNSORTED = "unsorted"
    """A tag lower than the one before (PS3.5 7.1)."""


@dataclass(frozen=True, slots=True)
class ScanProblem:
    """Why a data set is not whole."""

    kind: ProblemKind
    detail: str
    """For the local log: tag and offset (of a deflated data set, in what was inflated). None of a peer's text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanLimits:
    """What a scan spends on one data set. Beyond it the data set is flagged NOT_WALKED, and nothing more is spent."""

    depth: int = 256
    """Sequences and items within each other, each counted. Real ones stay below 20; each costs a place on the stack."""
    elements: int = 2_000_000
    """Elements and items walked, at about a microsecond each: tenfold those of a large multi-frame image."""
    value_bytes: int = 1024
    """Kept of each wanted value: the longest legal one, a name of 3 x 64 characters of 4 bytes, is below it."""
    inflated_bytes: int = 16 << 20
    """Inflated of a deflated data set, whose 512 KiB can become 512 MiB (PS3.5 A.5)."""


DEFAULT_SCAN_LIMITS: Final = ScanLimits()


Value: TypeAlias = tuple[bytes, bytes]
"""A wanted value as it came: its VR, empty in Implicit VR, and no more than a byte above what is kept of it."""


class Matched(NamedTuple):
    """The first elements of a data set, passed over without a walk."""

    end: int
    """Where the last one ends, bytes from the start of the data set; there need not be as many yet."""
    last: int
    """The tag of the last one."""
    number: int
    values: dict[int, Value]
    """Those that are wanted."""


class _Place(enum.Enum):
    DATA_SET = enum.auto()
    SEQUENCE = enum.auto()
    FRAGMENTS = enum.auto()


class _StopError(Exception):
    """The walk is over before the data set is: with a problem, or at a limit."""

    def __init__(self, problem: ScanProblem | None = None) -> None:
        self.problem = problem


class StreamWalker:
    """Walk a data set that comes in pieces. What it holds: a header cut short, a value cut short, a bounded stack."""

    __slots__ = (
        "_base",
        "_encoding",
        "_header",
        "_kept",
        "_last",
        "_left",
        "_limits",
        "_over",
        "_place",
        "_room",
        "_stack",
        "_taking",
        "_walked",
        "_wanted",
        "flags",
        "problem",
        "values",
    )

    def __init__(self, encoding: Encoding, wanted: Collection[int], limits: ScanLimits = DEFAULT_SCAN_LIMITS) -> None:
        self.values: dict[int, Value] = {}
        """The wanted values by tag, of the data set itself and not of its items; none that was cut short."""
        self.flags: set[ScanFlag] = set()
        self.problem: ScanProblem | None = None
        self._limits = limits
        self._wanted = wanted
        # Where the walk is, and the tag before; on the stack the places around it.
        self._place = _Place.DATA_SET
        self._encoding = encoding
        self._last = -1
        self._stack: list[tuple[_Place, Encoding, int]] = []
        self._walked = 0
        self._over = False
        # How much of the present value is still to come; if it is wanted, its tag and VR, its first bytes, and how
        # many more of them are kept.
        self._left = 0
        self._taking: tuple[int, bytes] | None = None
        self._kept = bytearray()
        self._room = 0
        # A header cut short, and where in the data set the bytes at hand begin.
        self._header = bytearray()
        self._base = 0

    @property
    def over(self) -> bool:
        """Whether more bytes change nothing: there is a problem, or a limit was met."""
        return self._over

    def begin_after(self, matched: Matched, size: int) -> None:
        """Begin behind elements that were found to be in order in the first `size` bytes; what is fed begins there."""
        self._base = min(matched.end, size)
        self._left = matched.end - self._base
        self._last, self._walked, self.values = matched.last, matched.number, matched.values

    def feed(self, view: memoryview | bytes) -> None:
        """Walk on through `view`, of which nothing is kept but a header or a wanted value cut short."""
        size = len(view)
        at = 0
        try:
            while at < size and not self._over:
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
        """Judge where the data set ended: between two of its elements it may, so that a cut there can't be told."""
        if self._over:
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
        self._over = True
        self.problem = problem
        if problem is None:
            self.flags.add(ScanFlag.NOT_WALKED)
        self._stack.clear()
        self._header.clear()
        self._kept.clear()

    def _walk(self, view: memoryview | bytes, at: int) -> int:
        """Walk on from a header at `at`; return where a header is cut short, or the end."""
        while True:
            before = at, self._encoding
            at = self._elements(view, at) if self._place is _Place.DATA_SET else self._items(view, at)
            if (at, self._encoding) == before:
                return at

    def _complete_header(self, view: memoryview | bytes, at: int) -> int:
        """Add to a header cut short what it lacks, and walk on from it once that is there."""
        header, base = self._header, self._base
        needed = SHORT_HEADER if len(header) < SHORT_HEADER else LONG_HEADER
        piece = view[at : at + needed - len(header)]
        header += piece
        at += len(piece)
        if len(header) == needed:
            self._base = base + at - needed
            # A long header isn't complete with the length of a short one, and then nothing was walked.
            if self._walk(bytes(header), 0):
                header.clear()
            self._base = base
        return at

    def _pass(self, view: memoryview | bytes, at: int) -> int:
        """Pass over what is there of the present value."""
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
        """Walk the elements of a data set or item to the end of `view`, or to where the place changes."""
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
        """Keep a wanted value of which the bytes `there` are there, or begin to."""
        if tag in self.values:
            self.flags.add(ScanFlag.REPEATED_ELEMENT)
            return
        # One byte more than is wanted tells a value that was cut from one that fits.
        most = self._limits.value_bytes + 1
        if size >= most:
            self.flags.add(ScanFlag.OVER_LONG_VALUE)
        if len(there) == size:
            self.values[tag] = vr, bytes(there[:most])
        else:
            self._taking = tag, vr
            self._kept[:] = there[:most]
            self._room = most - len(self._kept)

    def _count(self) -> None:
        self._walked += 1
        if self._walked > self._limits.elements:
            raise _StopError

    def _misplaced(self, tag: int, at: int) -> None:
        """Meet a tag that is lower than it should be: no reason to stop, unless it is a command's."""
        if tag < _AFTER_COMMANDS:
            # Zeros after the data set, too, would be elements of no length in Implicit VR.
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
        """Meet bytes that are no VR: in an item, writers are known to go on in Implicit VR."""
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
            # PS3.5 6.2.2: it was a sequence in Implicit VR Little Endian, and still is.
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
        """Meet a tag of group FFFE among elements (PS3.5 7.5): the item's end, or one that should not be there."""
        if tag not in (ITEM_DELIMITER, SEQUENCE_DELIMITER):
            self._undecodable(tag, at, "an item outside of a sequence")
        if size or not self._stack or tag == SEQUENCE_DELIMITER:
            self.flags.add(ScanFlag.BAD_ITEM_TAG)
        self._count()
        if self._stack:
            self._leave()
            if tag == SEQUENCE_DELIMITER:
                # The item's own delimiter is missing; where both end is no question.
                self._leave()

    def _items(self, view: memoryview | bytes, at: int) -> int:
        """Walk a sequence's items, or fragments, to the end of `view` or where the place changes (PS3.5 7.5, A.4)."""
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
                # Some reformats for angiography have others there; pydicom, too, takes them for items.
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
