"""Limits of the work for one data set."""

from __future__ import annotations

from typing import Final

from dicomport.values import frozen


@frozen(kw_only=True)
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
    searched_bytes: int = 16 << 10
    """Offsets to try after sequences that are longer than their length, at about a microsecond each. Beyond them, the
    data set is undecodable. Real sequences are too short by some headers, or by an icon's compressed pixels."""


DEFAULT_SCAN_LIMITS: Final = ScanLimits()
