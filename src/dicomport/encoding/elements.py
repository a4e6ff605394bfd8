"""Walk over the elements of a data set, of which a piece is in memory (PS3.5 7): where each ends.

Theory of operation
-------------------
`ElementWalker` reads headers only: a value of defined length, also of a sequence, is skipped and costs nothing for each
of its bytes. An element of undefined length is walked, as only a delimiter shows its end: the place, encoding and tag
around it are pushed onto a stack of bounded depth. In Implicit VR, the walk passes from item to item of a sequence of
defined length, as nothing else shows that the sequence is longer than its length.

The walk resolves no doubt. `StopError` ends it; `DoubtError` and `PaddingError` interrupt it, and `StreamWalker`, which
has the pieces, decides where it continues.

The loop over elements, `_elements`, repeats `Encoding.read` inline, as it runs for each element of each instance. A
property test shows that it agrees with `Walker`, which is strict and needs the data set in memory.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final, NoReturn, TypeAlias

from dicomport.encoding.deviations import ProblemKind, ScanFlag, ScanProblem
from dicomport.encoding.doubts import (
    NUL,
    PLACEHOLDERS,
    SPACE,
    Doubt,
    DoubtError,
    Meaning,
    Padding,
    PaddingError,
    Place,
    StopError,
)
from dicomport.encoding.fragments import FragmentCount
from dicomport.encoding.headers import (
    AFTER_COMMANDS,
    AFTER_FILE_META,
    DELIMITER_GROUP,
    EXPLICIT_LITTLE,
    EXTENDED_OFFSET_TABLE,
    FILE_META_GROUP,
    IMPLICIT_LITTLE,
    ITEM,
    ITEM_DELIMITER,
    LONG_HEADER,
    PIXEL_DATA,
    SEQUENCE_DELIMITER,
    SHORT_HEADER,
    UNDEFINED_LENGTH,
    Encoding,
    Header,
    format_tag,
)
from dicomport.encoding.limits import ScanLimits
from dicomport.encoding.vr import FRAGMENT_VRS, KNOWN_VRS, LONG_VRS, SHORT_VRS, is_vr

_NO_VR: Final = b"??"
"""Some senders write this for an unknown VR; like DCMTK, read a 16-bit length after it."""

_TAG_BYTES: Final = 4
_ITEM_START: Final = 0xFE
"""The first byte of an item's tag in little endian."""
_SPACES: Final = 0x20202020
"""Four spaces as a tag or a length."""

Value: TypeAlias = tuple[bytes, bytes]
"""VR (empty in Implicit VR) and bytes of a wanted value, which is cut one byte above the limit."""


class ElementWalker:
    """The place in a data set, and the walk from there to the end of the piece in memory."""

    __slots__ = (
        *("_base", "_encoding", "_extended", "_fragments", "_is_resumed", "_items_end", "_kept"),
        *("_last", "_left", "_limits"),
        *("_odd_end", "_place", "_room", "_sequence_end", "_stack", "_taking", "_walked", "_wanted", "_zero_item_end"),
        *("flags", "values"),
    )

    def __init__(self, encoding: Encoding, wanted: Collection[int], limits: ScanLimits) -> None:
        self.values: dict[int, Value] = {}
        """The wanted values by tag, of the data set itself and not of its items; a truncated one is left out."""
        self.flags: set[ScanFlag] = set()
        self._limits = limits
        self._wanted = wanted
        # Place, encoding and last tag of the walk, and on the stack those around it.
        self._place = Place.DATA_SET
        self._encoding = encoding
        self._last = -1
        self._stack: list[tuple[Place, Encoding, int]] = []
        self._walked = 0
        # Length of the missing part of the current value; if it is wanted, its tag and VR, its first bytes, and the
        # number of bytes to add to them.
        self._left = 0
        self._taking: tuple[int, bytes] | None = None
        self._kept = bytearray()
        self._room = 0
        # The offset of the current piece in the data set, and where the last sequence of defined length and the last
        # odd value end.
        self._base = 0
        self._sequence_end = self._odd_end = -1
        # The end of the last 8 NULs in the place of an item, and of the sequence whose items are passed.
        self._zero_item_end = self._items_end = -1
        # Whether the walk has continued at a header in an item that was searched.
        self._is_resumed = False
        # The fragments of the data set's encapsulated pixels, and the length of their table.
        self._fragments: FragmentCount | None = None
        self._extended: int | None = None

    def _walk(self, view: memoryview | bytes, at: int) -> int:
        """Walk from the header at `at`; return the offset of a header that is cut short, or the end."""
        while True:
            before = at, self._place, self._encoding
            if self._place is Place.DATA_SET:
                at = self._elements(view, at)
            elif self._place is Place.UNKNOWN_ITEM:
                at = self._unknown_item(view, at)
            elif self._place is Place.COUNTED_ITEMS:
                at = self._counted_items(view, at)
            else:
                at = self._items(view, at)
            if (at, self._place, self._encoding) == before:
                return at

    def _elements(self, view: memoryview | bytes, at: int) -> int:
        """Walk the elements of a data set or item until the end of `view` or a change of place."""
        unpack, short_vrs = self._encoding.unpack_element, self._encoding.short_vrs
        wanted = () if self._stack else self._wanted
        implicit, last, end = not self._encoding.explicit, self._last, len(view)
        while end - at >= SHORT_HEADER:
            group, number, vr, size = unpack(view, at)
            tag = group << 16 | number
            start = at + SHORT_HEADER
            if (
                vr not in short_vrs
                or size == UNDEFINED_LENGTH
                or group == DELIMITER_GROUP
                or (implicit and size >= SHORT_HEADER and (end - start < _TAG_BYTES or view[start] == _ITEM_START))
            ):
                start, size = self._unusual(view, at)
                if size < 0:
                    return start
            if tag <= last or tag < AFTER_FILE_META:
                self._misplaced(view, tag, at)
            self._last = last = tag
            self._walked += 1
            if self._walked > self._limits.elements:
                raise StopError
            if size & 1:
                self.flags.add(ScanFlag.ODD_LENGTH)
                self._odd_end = self._base + start + size
            at = start + size
            if tag in wanted:
                self._take(tag, vr, view[start:at], size)
            if at > end:
                if tag == _SPACES == size:
                    self._spaces(view, start - SHORT_HEADER)
                self._left = at - end
                return end
        return at

    def _counted_sequence(self, view: memoryview | bytes, tag: int, at: int, size: int) -> tuple[int, int]:
        """Enter a sequence of defined length, if the value begins with the tag of an item; return as `_unusual`."""
        start = at + SHORT_HEADER
        if len(view) - start < _TAG_BYTES:
            return at, -1
        is_item = bytes(view[start : start + _TAG_BYTES]) == self._encoding.item(ITEM, 0)[:_TAG_BYTES]
        if not is_item or size & 1 or (tag in self._wanted and not self._stack):
            return start, size
        if tag <= self._last or tag < AFTER_FILE_META:
            self._misplaced(view, tag, at)
        self._last = tag
        self._count()
        self._enter(Place.COUNTED_ITEMS, self._encoding)
        self._items_end = self._base + start + size
        return start, -1

    def _counted_items(self, view: memoryview | bytes, at: int) -> int:
        """Pass the items of a sequence of defined length until the end of `view`, the sequence, or its length."""
        while True:
            rest = self._items_end - self._base - at
            header = self._encoding.read_item(view, at, len(view))
            if header is None and rest >= SHORT_HEADER:
                return at
            tag, size = header or (0, 0)
            passed = rest
            if tag == ITEM and size != UNDEFINED_LENGTH and rest >= SHORT_HEADER:
                passed = SHORT_HEADER + size
            self._count()
            if passed >= rest:
                self._leave()
            if passed >= rest + SHORT_HEADER:
                self._left = rest - SHORT_HEADER
                problem = self._problem(tag, at, "an item that is longer than its sequence")
                raise DoubtError(at + SHORT_HEADER, Doubt(problem, None, Meaning.ITEM_LENGTH, skip=passed - rest))
            if passed > rest:
                # With the last bytes of the sequence, half a header looks like a header.
                self.flags.add(ScanFlag.UNDERCOUNTED_SEQUENCE)
            at += passed
            if at > len(view):
                self._left = at - len(view)
                return len(view)
            if passed >= rest:
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
            raise StopError

    def _misplaced(self, view: memoryview | bytes, tag: int, at: int) -> None:
        """Flag a tag that is out of order, or stop at a command's."""
        if tag < AFTER_COMMANDS:
            self._no_header(view, tag, at, "an element of a command set")
        if tag == _SPACES:
            self._spaces(view, at)
        if tag >> 16 == FILE_META_GROUP:
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
            return self._delimiter(view, tag, at, size), -1
        if vr and vr not in KNOWN_VRS:
            value = self._unknown_vr(view, at, header)
            if value is None:
                return at, -1
            start, size = value
        if size == UNDEFINED_LENGTH:
            self._undefined(view, tag, vr, at)
            return start, -1
        if vr == b"SQ":
            self._sequence_end = self._base + start + size
        elif tag == EXTENDED_OFFSET_TABLE and not self._stack:
            self._extended = size
        elif not vr and size >= SHORT_HEADER and tag < PIXEL_DATA:
            return self._counted_sequence(view, tag, at, size)
        return start, size

    def _unknown_vr(self, view: memoryview | bytes, at: int, header: Header) -> tuple[int, int] | None:
        """Return where the value of an element with an unknown VR begins, and its length; None if it is cut short."""
        _, vr, size, start = header
        if size == 0 and is_vr(vr):
            # PS3.5 6.2: future VRs have two reserved bytes and a 32-bit length. DCMTK reads every unknown VR like
            # this, pydicom none; here zeros in the reserved bytes decide.
            if len(view) - at < LONG_HEADER:
                return None
            size, start = self._encoding.read_long_length(view, at), at + LONG_HEADER
        elif not (is_vr(vr) or vr == _NO_VR):
            self._no_vr(view, at, header)
        self.flags.add(ScanFlag.UNKNOWN_VR)
        return start, size

    def _undefined(self, view: memoryview | bytes, tag: int, vr: bytes, at: int) -> None:
        """Enter an element of undefined length (PS3.5 7.1.2)."""
        if tag <= self._last or tag < AFTER_FILE_META:
            self._misplaced(view, tag, at)
        self._last = tag
        self._count()
        if vr == b"SQ" or (not vr and tag != PIXEL_DATA):
            self._enter(Place.SEQUENCE, self._encoding)
        elif vr == b"UN":
            # PS3.5 6.2.2: a sequence in Implicit VR Little Endian.
            self._enter(Place.UNKNOWN, IMPLICIT_LITTLE)
        elif vr in FRAGMENT_VRS or not vr:
            self._enter(Place.FRAGMENTS, self._encoding)
            if tag == PIXEL_DATA and len(self._stack) == 1:
                self._fragments = FragmentCount()
        else:
            raise StopError(self._problem(tag, at, "a VR that cannot be of undefined length"))

    def _enter(self, place: Place, encoding: Encoding) -> None:
        if len(self._stack) >= self._limits.depth:
            raise StopError
        self._stack.append((self._place, self._encoding, self._last))
        self._place, self._encoding, self._last = place, encoding, -1

    def _leave(self) -> None:
        self._place, self._encoding, self._last = self._stack.pop()
        self._fragments = None

    def _delimiter(self, view: memoryview | bytes, tag: int, at: int, size: int) -> int:
        """End an item at its delimiter (PS3.5 7.5), or flag a misplaced one; return where to continue."""
        self._count()
        body = at + SHORT_HEADER
        if tag == ITEM and self._base + at == self._sequence_end and size != UNDEFINED_LENGTH:
            # Another item of a sequence whose length leaves it out.
            self.flags.add(ScanFlag.UNDERCOUNTED_SEQUENCE)
            self._sequence_end = self._base + body + size
            self._left = max(body + size - len(view), 0)
            return min(body + size, len(view))
        if tag not in (ITEM_DELIMITER, SEQUENCE_DELIMITER):
            self._no_header(view, tag, at, "an item outside of a sequence")
        if size or not self._stack or tag == SEQUENCE_DELIMITER:
            self.flags.add(ScanFlag.BAD_ITEM_TAG)
        if self._stack:
            self._leave()
            if tag == SEQUENCE_DELIMITER:
                # The item's own delimiter is missing; both end here.
                self._leave()
        elif self._is_resumed:
            # A search has taken a delimiter of the sequence for one of those around it.
            raise StopError(self._problem(tag, at, "a delimiter outside of a sequence"))
        return body

    def _items(self, view: memoryview | bytes, at: int) -> int:
        """Walk items or fragments until the end of `view` or a change of place (PS3.5 7.5, A.4)."""
        fragments = self._place is Place.FRAGMENTS
        end = len(view)
        while (header := self._encoding.read_item(view, at, end)) is not None:
            tag, size = header
            self._count()
            if tag == SEQUENCE_DELIMITER:
                if size:
                    self.flags.add(ScanFlag.BAD_ITEM_TAG)
                self._leave()
                return at + SHORT_HEADER
            if fragments:
                self._fragment(view, tag, size, at)
            elif tag != ITEM:
                if self._place is Place.UNKNOWN and self._is_big(view, at):
                    return at
                self._bad_item(tag, size, at)
            at += SHORT_HEADER
            if size == UNDEFINED_LENGTH:
                is_unknown = self._place is Place.UNKNOWN
                self._enter(Place.UNKNOWN_ITEM if is_unknown else Place.DATA_SET, self._encoding)
                return at
            if size & 1:
                self.flags.add(ScanFlag.ODD_LENGTH)
            at += size
            if at > end:
                self._left = at - end
                return end
        return at

    def _bad_item(self, tag: int, size: int, at: int) -> None:
        """Read any tag as that of an item, like pydicom: some angiography software writes others."""
        self.flags.add(ScanFlag.BAD_ITEM_TAG)
        if not (tag or size):
            self._zero_item_end = self._base + at + SHORT_HEADER

    def _is_big(self, view: memoryview | bytes, at: int) -> bool:
        """Return whether the items of a UN are in Explicit VR Big Endian like the data set, and walk them so."""
        outer = self._stack[-1][1]
        tag, _ = outer.read_item(view, at, len(view)) or (0, 0)
        if tag != ITEM or outer.byte_order == "little":
            return False
        self.flags.add(ScanFlag.EXPLICIT_ITEM_IN_UN)
        self._place, self._encoding = Place.SEQUENCE, outer
        return True

    def _fragment(self, view: memoryview | bytes, tag: int, size: int, at: int) -> None:
        """Check the header of a fragment, and count it."""
        if tag != ITEM or size == UNDEFINED_LENGTH:
            problem = self._problem(tag, at, "no fragment of pixel data")
            is_padding = not (tag or size) and self._fragments is not None
            raise PaddingError(at, Padding(problem, NUL)) if is_padding else StopError(problem)
        if self._fragments is not None:
            self._fragments.begin(size)
            at += SHORT_HEADER
            self._fragments.add(view[at : at + size])

    def _unknown_item(self, view: memoryview | bytes, at: int) -> int:
        """Detect the encoding of an item in a UN, by its first element: some writers use Explicit VR."""
        if len(view) - at < SHORT_HEADER:
            return at
        header = EXPLICIT_LITTLE.read(view, at, len(view))
        if header is None:
            return at
        tag, vr, _, _ = header
        self._place = Place.DATA_SET
        if vr in SHORT_VRS:
            self._encoding = EXPLICIT_LITTLE
            problem = self._problem(tag, at, "no VR")
            self._raise_doubt(header, at, Doubt(problem, ScanFlag.EXPLICIT_ITEM_IN_UN, Meaning.IMPLICIT))
        if vr in LONG_VRS and not any(view[at + 6 : at + SHORT_HEADER]):
            # In Implicit VR, the length would be odd.
            self._encoding = EXPLICIT_LITTLE
            self.flags.add(ScanFlag.EXPLICIT_ITEM_IN_UN)
        return at

    def _no_header(self, view: memoryview | bytes, tag: int, at: int, what: str) -> NoReturn:
        """Continue at bytes that cannot be a header: in padding, in a sequence that is too long, or not at all."""
        problem = self._problem(tag, at, what)
        is_after_sequence = self._base + at == self._sequence_end
        if not any(view[at : at + SHORT_HEADER]) and self._walked and not (self._stack and is_after_sequence):
            raise PaddingError(at, Padding(problem, NUL))
        if is_after_sequence:
            raise DoubtError(at, Doubt(problem, ScanFlag.UNDERCOUNTED_SEQUENCE, Meaning.SEARCH))
        raise StopError(problem)

    def _spaces(self, view: memoryview | bytes, at: int) -> None:
        """Continue in padding if 8 spaces are in the place of a header."""
        if bytes(view[at : at + SHORT_HEADER]) == SPACE * SHORT_HEADER and self._walked and not self._stack:
            raise PaddingError(at, Padding(self._problem(_SPACES, at, "no element"), SPACE))

    def _no_vr(self, view: memoryview | bytes, at: int, header: Header) -> NoReturn:
        """Read a 16-bit length after bytes that are not a VR; the next header decides whether it is one."""
        tag, vr, size, _ = header
        self._spaces(view, at)
        problem = self._problem(tag, at, "no VR")
        if self._base + at == self._odd_end and not view[at]:
            # A NUL makes the length of the value before even, but is not counted in it.
            raise DoubtError(at + 1, Doubt(problem, ScanFlag.ODD_PADDING, Meaning.NONE))
        is_after_sequence = self._base + at == self._sequence_end
        is_element = self._last < tag < PIXEL_DATA and vr in PLACEHOLDERS and not size & 1
        if tag < AFTER_FILE_META or not self._walked or (is_after_sequence and not is_element):
            self._no_header(view, tag, at, "no VR")
        other = Meaning.NONE
        if is_after_sequence:
            other = Meaning.SEARCH
        elif self._stack and self._encoding.byte_order == "little":
            # Some writers change to Implicit VR in items.
            other = Meaning.IMPLICIT
        elif not size:
            other = Meaning.LONG_LENGTH
        self._raise_doubt(header, at, Doubt(problem, ScanFlag.UNKNOWN_VR, other, vr))

    def _raise_doubt(self, header: Header, at: int, doubt: Doubt) -> NoReturn:
        """Skip an element by a 16-bit length that is in doubt."""
        tag, vr, size, body = header
        if tag <= self._last:
            self.flags.add(ScanFlag.REPEATED_ELEMENT if tag == self._last else ScanFlag.UNSORTED)
        if size & 1:
            self.flags.add(ScanFlag.ODD_LENGTH)
        self._last = tag
        self._count()
        if not self._stack and tag in self._wanted:
            doubt.taken = None if tag in self.values else tag
            self._take(tag, b"UN", b"", size)
        self._left = size
        doubt.skip = int.from_bytes(vr, "little") + (size << 16) - size
        raise DoubtError(body, doubt)

    def _problem(self, tag: int, at: int, what: str) -> ScanProblem:
        return ScanProblem(ProblemKind.UNDECODABLE, f"{format_tag(tag)} at offset {self._base + at}: {what}")
