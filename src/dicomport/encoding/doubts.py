"""The state of a walk over a data set: its places, and doubts about bytes with two meanings."""

from __future__ import annotations

import enum
from typing import Final

from dicomport.encoding.deviations import ScanFlag, ScanProblem
from dicomport.encoding.headers import (
    DELIMITER_GROUP,
    ITEM_DELIMITER,
    PIXEL_DATA,
    SEQUENCE_DELIMITER,
    SHORT_HEADER,
    UNDEFINED_LENGTH,
    Encoding,
)
from dicomport.encoding.vr import FRAGMENT_VRS, LONG_VRS, SHORT_VRS
from dicomport.values import slotted

_UNDEFINED_LENGTH_VRS: Final = FRAGMENT_VRS | {b"SQ", b"UN"}
_MAX_LENGTH: Final = 1 << 28
"""Length of a value other than pixels, bytes: 15 of 16 random lengths are above it."""
_RESERVED: Final = slice(6, 8)
"""Two zeros before a 32-bit length (PS3.5 7.1.2)."""

NUL: Final = b"\0"
SPACE: Final = b" "

PLACEHOLDERS: Final = frozenset((b"\0\0", b"  ", b"--"))
"""Bytes that writers put in the place of a VR that they do not know."""


class Place(enum.Enum):
    """The kind of place that is walked."""

    DATA_SET = enum.auto()
    SEQUENCE = enum.auto()
    UNKNOWN = enum.auto()
    """The items of a UN of undefined length."""
    UNKNOWN_ITEM = enum.auto()
    """The first element of one of these items."""
    FRAGMENTS = enum.auto()
    COUNTED_ITEMS = enum.auto()
    """The items of a sequence of defined length, in Implicit VR."""


class Meaning(enum.Enum):
    """The other meaning of bytes, if the first one is disproved."""

    NONE = enum.auto()
    """No other meaning: the data set is undecodable."""
    LONG_LENGTH = enum.auto()
    """A 32-bit length follows."""
    IMPLICIT = enum.auto()
    """The item is in Implicit VR."""
    ITEM_LENGTH = enum.auto()
    """The item before is longer than its sequence, and its own length counts."""
    SEARCH = enum.auto()
    """The sequence before is longer than its length: search for the next header."""


@slotted
class Doubt:
    """The next header decides what earlier bytes meant."""

    problem: ScanProblem
    """The problem if each meaning is disproved."""
    flag: ScanFlag | None
    """The deviation if a header follows."""
    other: Meaning
    vr: bytes = b""
    """Two bytes in the place of a VR: the next element may have the same."""
    skip: int = 0
    """Number of bytes from the awaited header to the end of the element by the other meaning."""
    taken: int | None = None
    """Tag of a wanted value that is wrong if the first meaning is disproved."""
    is_search: bool = False
    """Whether the walk tries one offset after the other."""
    is_delimited: bool = False
    """Whether a search has just passed a sequence delimiter: here, the data set may end."""


@slotted
class Padding:
    """Equal bytes in the place of a header."""

    problem: ScanProblem
    """The problem if these bytes cannot be padding."""
    octet: bytes
    size: int = 0
    """Number of these bytes that were passed."""


class StopError(Exception):
    """The walk stops before the end of the data set, for a problem or at a limit."""

    def __init__(self, problem: ScanProblem | None = None) -> None:
        self.problem = problem


class DoubtError(Exception):
    """The bytes before the offset `at` have two meanings."""

    def __init__(self, at: int, doubt: Doubt) -> None:
        self.at = at
        self.doubt = doubt


class PaddingError(Exception):
    """NULs or spaces begin in the place of a header, at the offset `at`."""

    def __init__(self, at: int, padding: Padding) -> None:
        self.at = at
        self.padding = padding


def is_header(
    encoding: Encoding, view: memoryview | bytes, at: int, doubt: Doubt, *, last: int, in_item: bool
) -> bool | None:
    """Return whether the header of an element or the end of the item is at `at`.

    `last` is the tag of the last element. Return None if more bytes are needed. A search demands more, as it would
    take a header for one in the middle of a value.
    """
    header = encoding.read(view, at, len(view))
    if header is None:
        return None
    tag, vr, size, _ = header
    if tag >> 16 == DELIMITER_GROUP:
        # A search passes the sequence delimiters among the bytes that it skips.
        ends = (ITEM_DELIMITER,) if doubt.is_search else (ITEM_DELIMITER, SEQUENCE_DELIMITER)
        return in_item and tag in ends and not size
    if not tag:
        return not (doubt.is_search or in_item or any(view[at : at + SHORT_HEADER]))
    if not encoding.explicit:
        # Without a VR, any bytes can be a header: demand a length that real elements have.
        is_length = size == UNDEFINED_LENGTH or (size % 2 == 0 and (size < _MAX_LENGTH or tag == PIXEL_DATA))
        return tag > last and is_length
    is_length = size % 2 == 0 or not doubt.is_search
    if vr in LONG_VRS:
        is_length = vr in _UNDEFINED_LENGTH_VRS if size == UNDEFINED_LENGTH else is_length
        return tag > last and is_length and not any(view[at:][_RESERVED])
    return tag > last and is_length and (vr in SHORT_VRS or (vr == doubt.vr and not doubt.is_search))


def find_delimiter(encoding: Encoding, view: memoryview | bytes, at: int) -> int | None:
    """Return the tag of a delimiter at `at`, None for anything else."""
    tag, size = encoding.read_item(view, at, len(view)) or (0, 0)
    return tag if tag in (ITEM_DELIMITER, SEQUENCE_DELIMITER) and not size else None
