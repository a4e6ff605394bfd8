"""Sizes in the headers of compressed frames, which decoders do not compare with the data set: they crop silently."""

from __future__ import annotations

import itertools
import struct
from typing import Final

_FRAME_HEADERS: Final = frozenset((*range(0xC0, 0xD0), 0xF7)) - {0xC4, 0xC8, 0xCC}
"""SOF markers (ISO/IEC 10918-1 Table B.1, ISO/IEC 14495-1 C.1.1)."""
_CODESTREAM: Final = b"\xff\x4f\xff\x51"
"""SOC and SIZ (ISO/IEC 15444-1 A.5.1)."""


def rle_lengths(frame: bytes) -> list[int]:
    """Return the decoded length of each segment of an RLE frame (PS3.5 G). Raises `ValueError`."""
    if len(frame) < 64:
        raise ValueError("shorter than an RLE header")
    count, *offsets = struct.unpack_from("<16L", frame)
    bounds = [*offsets[:count], len(frame)]
    return [_rle_length(frame, start, end) for start, end in itertools.pairwise(bounds)]


def _rle_length(frame: bytes, at: int, end: int) -> int:
    length = 0
    while at < end:
        first = frame[at]
        if first < 128:
            if at + 2 + first > end:
                # PS3.5 G.3.1: a segment of odd length is padded with a byte that could be the start of a run.
                return length
            at, length = at + 2 + first, length + 1 + first
        elif first > 128:
            at, length = at + 2, length + 257 - first
        else:
            at += 1
    return length


def jpeg_size(frame: bytes) -> tuple[int, int, int]:
    """Return rows, columns and components from the header of a JPEG or JPEG-LS frame. Raises `ValueError`."""
    at = 2
    while at + 10 <= len(frame) and frame[at] == 0xFF:
        marker, length = frame[at + 1], int.from_bytes(frame[at + 2 : at + 4])
        if marker in _FRAME_HEADERS:
            rows, columns, components = struct.unpack_from(">HHB", frame, at + 5)
            return rows, columns, components
        at += 1 if marker == 0xFF else 2 + length
    raise ValueError("without a frame header")


def jpeg_2000_size(frame: bytes) -> tuple[int, int, int]:
    """Return rows, columns and components of a JPEG 2000 or High-Throughput JPEG 2000 frame. Raises `ValueError`."""
    at = frame.find(_CODESTREAM)
    if at < 0 or at + 42 > len(frame):
        raise ValueError("without an image size")
    right, bottom, left, top = struct.unpack_from(">4L", frame, at + 8)
    (components,) = struct.unpack_from(">H", frame, at + 40)
    return bottom - top, right - left, components
