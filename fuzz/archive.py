"""The handling of a peer's data set and text in `dicomport.archive`: attributes, or errors."""

from __future__ import annotations

import dataclasses
from typing import Final

from dicomport.archive.scan.scanner import Scan, Scanner
from dicomport.encoding.charsets import codec_of, decode_text
from dicomport.encoding.deviations import ScanFlag, ScanProblem
from dicomport.encoding.limits import DEFAULT_SCAN_LIMITS, ScanLimits
from dicomport.files import file_name

__all__ = ["SYNTAXES", "character_set", "name", "scanner"]

SYNTAXES: Final = (
    "1.2.840.10008.1.2",
    "1.2.840.10008.1.2.1",
    "1.2.840.10008.1.2.2",
    "1.2.840.10008.1.2.1.99",
    "1.2.840.10008.1.2.4.50",
    "1.2.826.0.1.99.1",
    "1.2.840.10008.1.2.6.2",
)
"""Implicit VR, Explicit VR in either byte order, deflated, encapsulated, private, and one without a data set.

The first byte of the target's data selects one.
"""

_LIMITS: Final = (
    DEFAULT_SCAN_LIMITS,
    ScanLimits(depth=4, elements=30, value_bytes=16, inflated_bytes=400),
)


def scanner(data: bytes) -> None:
    """Scan a data set. The first three bytes are the transfer syntax, the limits and the size of pieces, and a cut.

    Nothing raises. The result is the same in one piece and in pieces. The memory between pieces is within the limits. A
    truncated data set has no attribute that the whole one lacks, and a problem before its end is also a problem of the
    whole one; the scanner may report it as whole. A value after two bytes that are not a VR is an exception: if the cut
    one ends there, no later byte disproves it. Attributes are text without padding that UTF-8 can encode.
    """
    uid = SYNTAXES[(data[0] if data else 0) % len(SYNTAXES)]
    choice, cut = (data[1] if len(data) > 1 else 0), (data[2] if len(data) > 2 else 0)
    limits, size, octets = _LIMITS[choice % 2], choice // 2 + 1, data[3:]
    whole, _ = _scan(uid, limits, octets, len(octets) or 1)
    pieces, _ = _scan(uid, limits, octets, size)
    assert pieces == whole
    for text in dataclasses.astuple(whole.attributes):
        if isinstance(text, str):
            text.encode()
            assert text == text.strip(" \0")
    part, stop = _scan(uid, limits, octets[: len(octets) * cut // 256], size)
    # Only the end of the data set may judge its last bytes otherwise.
    assert stop is None or whole.problem == stop
    is_disproved = ScanFlag.UNKNOWN_VR in part.flags and part.problem is None and whole.problem is not None
    if not is_disproved and part.attributes.specific_character_set == whole.attributes.specific_character_set:
        for known, fact in zip(
            dataclasses.astuple(part.attributes), dataclasses.astuple(whole.attributes), strict=True
        ):
            assert known in (fact, "", None)


def _scan(uid: str, limits: ScanLimits, octets: bytes, size: int) -> tuple[Scan, ScanProblem | None]:
    """Return the result, and the problem that stopped the walk before the end of the data set."""
    scan = Scanner(uid, limits)
    for start in range(0, len(octets), size):
        piece = bytearray(octets[start : start + size])
        scan.feed(memoryview(piece))
        # A view that is still in use would raise here.
        piece.clear()
        walk = scan._walk
        if walk is not None:
            assert len(walk._stack) <= limits.depth
            assert len(walk._header) < 12
            assert len(walk._kept) <= limits.value_bytes + 1
            assert all(len(value[1]) <= limits.value_bytes + 1 for value in walk.values.values())
    stop = None if scan._walk is None else scan._walk.problem
    return scan.finish(), stop


def character_set(data: bytes) -> None:
    """Decode text; up to the first line feed the data are the Specific Character Set.

    Any bytes in any character set result in text without padding that UTF-8 can encode.
    """
    said, _, raw = data.partition(b"\n")
    text = decode_text(raw, codec_of(said.decode("latin-1")))
    text.encode()
    assert text == text.strip(" \0")


_PLAIN: Final = frozenset("0123456789abcdef._")


def name(data: bytes) -> None:
    """Convert two texts, separated by a line feed, to file names.

    Each is one name within the file system's limit, of digits, small letters, dots and underscores; not hidden, not
    special. The names are equal if and only if the texts are.
    """
    first, _, second = (part.decode("utf-8", "surrogateescape") for part in data.partition(b"\n"))
    names = [file_name(text) for text in (first, second)]
    for made in names:
        assert 0 < len(made) <= 120
        assert _PLAIN.issuperset(made)
        assert "." not in {made[0], made[-1]}
    assert (names[0] == names[1]) is (first == second)
