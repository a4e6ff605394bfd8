"""Walk over a data set that arrives in pieces (PS3.5 7), and resolve doubts about its bytes.

Theory of operation
-------------------
`StreamWalker.feed` walks over a piece as `ElementWalker` does. Between two pieces it holds the stack of that walk, a
header cut short and a wanted value cut short; the pieces themselves are not kept.

The walker tolerates what the receivers of other vendors accept, except truncation. NULs or spaces up to the end of the
data set are padding; NULs before another element are empty elements. For bytes with two meanings, the walk follows the
first one and keeps a `Doubt`, which the next header resolves. After a sequence that is longer than its length, the walk
searches for a header. It never looks ahead by more than a header, so the split into pieces changes nothing.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Final

from dicomport.encoding.deviations import ProblemKind, ScanFlag, ScanProblem
from dicomport.encoding.doubts import (
    NUL,
    SPACE,
    Doubt,
    DoubtError,
    Meaning,
    Padding,
    PaddingError,
    Place,
    StopError,
    find_delimiter,
    is_header,
)
from dicomport.encoding.elements import ElementWalker
from dicomport.encoding.fragments import number_of_frames
from dicomport.encoding.headers import (
    IMPLICIT_LITTLE,
    LONG_HEADER,
    SEQUENCE_DELIMITER,
    SHORT_HEADER,
    Encoding,
)
from dicomport.encoding.limits import DEFAULT_SCAN_LIMITS, ScanLimits

if TYPE_CHECKING:
    from dicomport.encoding.templates import Matched

_TAG_BYTES: Final = 4
_AFTER_SPACES: Final = 0x20210000
"""The first tag that cannot begin with two spaces, in an ascending order."""
_MAX_ZEROS: Final = 6
"""NULs in the place of a sequence delimiter: DCMTK rejects more."""


class StreamWalker(ElementWalker):
    """Walk over a data set that arrives in pieces."""

    __slots__ = ("_ahead", "_doubt", "_header", "_padding", "_searched", "_stopped", "problem")

    def __init__(self, encoding: Encoding, wanted: Collection[int], limits: ScanLimits = DEFAULT_SCAN_LIMITS) -> None:
        super().__init__(encoding, wanted, limits)
        self.problem: ScanProblem | None = None
        self._stopped = False
        # A header cut short.
        self._header = bytearray()
        # The doubt about the bytes before, the bytes of earlier pieces from which the walk continues, and the number of
        # offsets searched.
        self._doubt: Doubt | None = None
        self._ahead = b""
        self._searched = 0
        # The NULs or spaces that were passed, up to the end of the last piece.
        self._padding: Padding | None = None

    @property
    def stopped(self) -> bool:
        """Whether a problem or a limit has stopped the walk: further bytes are ignored."""
        return self._stopped

    def begin_after(self, matched: Matched, size: int) -> None:
        """Begin after elements that were matched in the first `size` bytes; feed only the bytes after their end."""
        self._base = min(matched.end, size)
        self._left = matched.end - self._base
        self._last, self._walked, self.values = matched.last, matched.number, matched.values
        if matched.vr == b"SQ":
            self._sequence_end = matched.end

    def feed(self, view: memoryview | bytes) -> None:
        """Walk over the next piece, of which only a header or a wanted value cut short is kept."""
        size = len(view)
        at = 0
        is_new = False  # Whether the last header, which was cut short, has to be read again.
        while (at < size or is_new) and not self._stopped:
            if self._ahead:
                self._base += at - len(self._ahead)
                view, at, self._ahead = b"".join((self._ahead, view[at:])), 0, b""
                size = len(view)
            is_new = False
            try:
                at = self._next(view, at)
            except StopError as stop:
                self._stop(stop.problem)
            except PaddingError as padding:
                at, self._padding, is_new = padding.at, padding.padding, bool(self._ahead)
            except DoubtError as doubted:
                at, self._doubt, is_new = doubted.at, doubted.doubt, bool(self._ahead)
        self._base += size

    def _next(self, view: memoryview | bytes, at: int) -> int:
        """Continue with the next byte of a piece; return where to continue."""
        if self._left:
            return self._pass(view, at)
        if self._padding is not None:
            return self._pad(view, at, self._padding)
        if self._doubt is not None:
            return self._resolve(view, at, self._doubt)
        if self._header:
            return self._complete_header(view, at)
        at = self._walk(view, at)
        self._header += view[at:]
        return len(view)

    def _pass(self, view: memoryview | bytes, at: int) -> int:
        """Skip the part of the current value that has arrived."""
        end = min(at + self._left, len(view))
        self._left -= end - at
        if self._fragments is not None:
            self._fragments.add(view[at:end])
        if self._taking is not None:
            piece = view[at : min(end, at + self._room)]
            self._kept += piece
            self._room -= len(piece)
            if not self._left:
                tag, vr = self._taking
                self.values[tag] = vr, bytes(self._kept)
                self._taking = None
        return end

    def _complete_header(self, view: memoryview | bytes, at: int) -> int:
        """Add the missing bytes to a header that was cut short, and walk from it when it is complete."""
        header, base = self._header, self._base
        needed = SHORT_HEADER if len(header) < SHORT_HEADER else LONG_HEADER
        piece = view[at : at + needed - len(header)]
        header += piece
        at += len(piece)
        if len(header) == needed:
            complete = bytes(header)
            self._base = base + at - needed
            try:
                # A long header is not complete with the length of a short one; then nothing was walked.
                del header[: self._walk(complete, 0)]
            except (DoubtError, PaddingError) as error:
                header.clear()
                self._ahead, error.at = complete[error.at :], at
                raise
            finally:
                self._base = base
        return at

    def _resolve(self, view: memoryview | bytes, at: int, doubt: Doubt) -> int:
        """Resolve a doubt by the header at `at`, or search for one; return where to continue."""
        in_item = bool(self._stack)
        while (found := is_header(self._encoding, view, at, doubt, last=self._last, in_item=in_item)) is not None:
            if found:
                self._add(doubt.flag)
                self._is_resumed = self._is_resumed or (doubt.is_search and in_item)
                self._doubt = None
                return at
            if not doubt.is_search:
                return self._choose_other(view, at, doubt)
            tag = find_delimiter(self._encoding, view, at)
            doubt.is_delimited = tag == SEQUENCE_DELIMITER
            step = SHORT_HEADER if tag else 1
            at += step
            self._searched += step
            if self._searched > self._limits.searched_bytes:
                raise StopError(doubt.problem)
        self._ahead = bytes(view[at:])
        return len(view)

    def _choose_other(self, view: memoryview | bytes, at: int, doubt: Doubt) -> int:
        """Continue by the other meaning of the bytes before the header at `at`."""
        self.values.pop(doubt.taken or 0, None)
        if doubt.other is Meaning.NONE:
            raise StopError(doubt.problem)
        if doubt.other is Meaning.LONG_LENGTH:
            doubt.other = Meaning.NONE
            self._left = self._encoding.read_long_length(view, at - SHORT_HEADER)
            return at + LONG_HEADER - SHORT_HEADER
        if doubt.other is Meaning.ITEM_LENGTH:
            self.flags.add(ScanFlag.UNDERCOUNTED_SEQUENCE)
            self._left, self._doubt = doubt.skip, None
        elif doubt.other is Meaning.IMPLICIT:
            if doubt.flag is ScanFlag.UNKNOWN_VR:
                self.flags.add(ScanFlag.IMPLICIT_ITEM)
            self._encoding, self._left, self._doubt = IMPLICIT_LITTLE, doubt.skip, None
        else:
            doubt.is_search, doubt.flag = True, ScanFlag.UNDERCOUNTED_SEQUENCE
        return at

    def _pad(self, view: memoryview | bytes, at: int, padding: Padding) -> int:
        """Pass NULs or spaces; return where to continue."""
        rest = bytes(view[at:])
        number = len(rest) - len(rest.lstrip(padding.octet))
        at += number
        padding.size += number
        if at == len(view):
            return at
        self._padding = None
        if padding.octet != NUL or self._place is not Place.DATA_SET:
            raise StopError(padding.problem)
        if self._base + at - padding.size == self._sequence_end:
            # The NULs are the last bytes of a sequence that is longer than its length, but for the first one of a
            # header.
            self._searched += padding.size
            self._ahead = NUL
            raise DoubtError(at, Doubt(padding.problem, ScanFlag.UNDERCOUNTED_SEQUENCE, Meaning.SEARCH))
        return self._pass_empty_elements(at, padding)

    def _pass_empty_elements(self, at: int, padding: Padding) -> int:
        """Read NULs as empty elements with the tag (0000,0000), and continue at the first other header."""
        self.flags.add(ScanFlag.ZEROS_BETWEEN_ELEMENTS)
        # The limit of searches also bounds the number of these interruptions.
        self._searched += SHORT_HEADER
        if self._searched > self._limits.searched_bytes:
            raise StopError(padding.problem)
        start = at - padding.size % SHORT_HEADER
        if start >= 0:
            return start
        self._ahead = bytes(padding.size % SHORT_HEADER)
        return at

    def end(self) -> None:
        """Check the end of the data set. A data set that is cut between two of its elements is not detected."""
        if self._doubt is not None:
            self._end_doubt(self._doubt)
        if self._stopped:
            return
        if self._left:
            self._truncated(f"{self._left} bytes before the end of a value")
        elif self._header and not self._is_padding():
            if self._doubt is not None:
                # The bytes after the value are not a header.
                self.values.pop(self._doubt.taken or 0, None)
            self._truncated("inside a header")
        elif self._stack:
            self._end_inside()
        elif not self._walked:
            self._stop(ScanProblem(ProblemKind.UNDECODABLE, "empty"))
        elif self._padding is not None:
            is_long = self._padding.octet == SPACE and self._padding.size > SHORT_HEADER
            self.flags.add(ScanFlag.SPACE_PADDING if is_long else ScanFlag.PADDING)

    def _is_padding(self) -> bool:
        """Return whether the last bytes, fewer than a header, are padding where the data set may end."""
        rest = bytes(self._header)
        octet = rest[:1]
        if rest.strip(octet) or not self._walked:
            return False
        # A single byte may be the first one of a tag; padding makes the length even.
        is_tag = len(rest) == 1 and self._base & 1
        if octet == SPACE:
            # Three bytes may begin a tag of a group such as 0020; no element has the tag (2020,2020).
            is_tag = is_tag or (len(rest) < _TAG_BYTES and self._last < _AFTER_SPACES)
            may_end = not self._stack
        else:
            may_end = octet == NUL and (not self._stack or self._fragments is not None or self._is_last_sequence())
        if is_tag or not may_end:
            return False
        self._padding = Padding(self._at_end("inside a header"), octet, len(rest))
        self._header.clear()
        return True

    def _is_last_sequence(self) -> bool:
        """Return whether only the delimiter of a sequence of the data set is missing."""
        is_after_item = self._zero_item_end != self._base - len(self._header)
        return len(self._stack) == 1 and self._place is Place.SEQUENCE and is_after_item

    def _end_doubt(self, doubt: Doubt) -> None:
        """End the data set where the next header was awaited."""
        ahead, self._ahead = self._ahead, b""
        if find_delimiter(self._encoding, ahead[-SHORT_HEADER:], 0) == SEQUENCE_DELIMITER:
            ahead, doubt.is_delimited = b"", True
        is_open = doubt.is_search and not doubt.is_delimited
        if self._left or is_open or doubt.other is Meaning.LONG_LENGTH:
            self.values.pop(doubt.taken or 0, None)
            if doubt.other in (Meaning.IMPLICIT, Meaning.ITEM_LENGTH):
                self._truncated("inside an item")
            else:
                self._stop(doubt.problem)
            return
        self._add(doubt.flag)
        self._header += ahead

    def _add(self, flag: ScanFlag | None) -> None:
        if flag is not None:
            self.flags.add(flag)

    def _end_inside(self) -> None:
        """End the data set inside an element of undefined length: only its delimiter may be missing."""
        zeros = 0 if self._padding is None else self._padding.size
        deviation: ScanFlag | None = None
        if self._fragments is not None:
            frames = number_of_frames(self.values, self._wanted)
            deviation = self._fragments.end(frames, self._extended, zeros)
        elif 0 < zeros <= _MAX_ZEROS and self._place is Place.SEQUENCE:
            deviation = ScanFlag.ZEROS_FOR_SEQUENCE_DELIMITER
        if deviation is None:
            self._truncated("inside a sequence of undefined length")
        else:
            self.flags.add(deviation)

    def _truncated(self, where: str) -> None:
        self._stop(self._at_end(where))

    def _at_end(self, where: str) -> ScanProblem:
        return ScanProblem(ProblemKind.TRUNCATED, f"ends {where}, at offset {self._base}")

    def _stop(self, problem: ScanProblem | None) -> None:
        self._stopped = True
        self.problem = problem
        if problem is None:
            self.flags.add(ScanFlag.NOT_WALKED)
        self._doubt = self._padding = None
        self._ahead = b""
        self._stack.clear()
        self._header.clear()
        self._kept.clear()
