"""The tolerated deviations of data sets, and the problems for which a data set is not whole."""

from __future__ import annotations

import enum

from dicomport.values import frozen


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
    EXPLICIT_ITEM_IN_UN = "explicit-item-in-un"
    """An item in Explicit VR in a UN of undefined length, whose items are in Implicit VR (PS3.5 6.2.2)."""
    FILE_META_ELEMENT = "file-meta-element"
    """An element of group 0002 in the data set (PS3.10 7.1)."""
    IMPLICIT_ITEM = "implicit-item"
    """An item in Implicit VR in a data set in Explicit VR, not in a UN (PS3.5 7.1)."""
    MISSING_DELIMITER = "missing-delimiter"
    """Encapsulated pixels end with the data set, without delimiter, and no fragment is missing (PS3.5 A.4)."""
    NOT_WALKED = "not-walked"
    """Not walked to its end: a limit was exceeded, or the transfer syntax is unknown and not like Explicit VR."""
    ODD_LENGTH = "odd-length"
    """A value, item or fragment of odd length (PS3.5 7.1.1)."""
    ODD_PADDING = "odd-padding"
    """A NUL after a value of odd length, in the middle of the data set, that no length counts (PS3.5 7.1.1)."""
    OVER_LONG_VALUE = "over-long-value"
    """A wanted value above the limit, or a UID of more than 64 characters (PS3.5 9.1)."""
    PADDING = "padding"
    """NULs, or up to 8 spaces, after the last element: the standard has an element for this, (FFFC,FFFC)."""
    REPEATED_ELEMENT = "repeated-element"
    """An element right after one with the same tag, or a second one with a wanted tag; the first counts."""
    SPACE_PADDING = "space-padding"
    """More than 8 spaces after the last element."""
    TRAILING_BYTES = "trailing-bytes"
    """More than a NUL after a deflated stream (PS3.5 A.5): some writers leave the trailer of gzip or zlib there."""
    UNDERCOUNTED_SEQUENCE = "undercounted-sequence"
    """A sequence of defined length that is longer than its length (PS3.5 7.5)."""
    UNKNOWN_TRANSFER_SYNTAX = "unknown-transfer-syntax"
    """Read as Explicit VR Little Endian if the data set begins like that, otherwise NOT_WALKED."""
    UNKNOWN_VR = "unknown-vr"
    """A VR that PS3.5 6.2 does not define, or two bytes that are not a VR."""
    UNSORTED = "unsorted"
    """A tag lower than the one before (PS3.5 7.1)."""
    ZEROS_BETWEEN_ELEMENTS = "zeros-between-elements"
    """Multiples of 8 NULs between two elements, which mean empty elements with the tag (0000,0000)."""
    ZEROS_FOR_DELIMITER = "zeros-for-delimiter"
    """Encapsulated pixels end with the data set, with NULs in place of the delimiter (PS3.5 A.4)."""
    ZEROS_FOR_SEQUENCE_DELIMITER = "zeros-for-sequence-delimiter"
    """A sequence ends with the data set, with up to 6 NULs in place of the delimiter (PS3.5 7.5)."""


@frozen
class ScanProblem:
    """The reason why a data set is not whole, and its place."""

    kind: ProblemKind
    detail: str
    """For the local log: tag and offset (after inflating), without any value."""
