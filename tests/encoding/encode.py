"""Data sets for the scanner: an independent encoder for the three encodings, and ways to feed a scanner."""

import struct
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from hypothesis import strategies as st

from dicomport.archive.scan.scanner import Scan, Scanner
from dicomport.encoding.limits import DEFAULT_SCAN_LIMITS, ScanLimits

IMPLICIT: Final = "1.2.840.10008.1.2"
EXPLICIT: Final = "1.2.840.10008.1.2.1"
DEFLATED: Final = "1.2.840.10008.1.2.1.99"
BIG: Final = "1.2.840.10008.1.2.2"
JPEG: Final = "1.2.840.10008.1.2.4.50"
PRIVATE: Final = "1.2.826.0.1.99.1"
CODINGS: Final = (IMPLICIT, EXPLICIT, BIG, DEFLATED)

LONG_VRS: Final = frozenset(("OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV"))
ITEM: Final = 0xFFFEE000
ITEM_END: Final = 0xFFFEE00D
SEQUENCE_END: Final = 0xFFFEE0DD
UNDEFINED: Final = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Items:
    """The value of a sequence."""

    items: tuple[tuple["Element", ...], ...]
    undefined: bool
    """Whether the sequence and its items are of undefined length."""


@dataclass(frozen=True, slots=True)
class Element:
    tag: int
    vr: str
    value: bytes | Items
    """Bytes in the byte order of the coding."""


def header(uid: str, tag: int, vr: str, size: int) -> bytes:
    """Write an element's tag, VR and length."""
    order = ">" if uid == BIG else "<"
    words = struct.pack(f"{order}HH", tag >> 16, tag & 0xFFFF)
    if uid == IMPLICIT or tag >> 16 == 0xFFFE:
        return words + struct.pack(f"{order}L", size)
    if vr in LONG_VRS:
        return words + vr.encode() + bytes(2) + struct.pack(f"{order}L", size)
    return words + vr.encode() + struct.pack(f"{order}H", size)


def element(uid: str, tag: int, vr: str, value: bytes) -> bytes:
    return header(uid, tag, vr, len(value)) + value


def encode(uid: str, elements: Iterable[Element]) -> bytes:
    """Write a data set in the coding of `uid`."""
    if uid == DEFLATED:
        return deflate(encode(EXPLICIT, elements))
    return b"".join(_encode(uid, each) for each in elements)


def _encode(uid: str, each: Element) -> bytes:
    if isinstance(each.value, bytes):
        return element(uid, each.tag, each.vr, each.value)
    bodies = [encode(uid, item) for item in each.value.items]
    if each.value.undefined:
        start, end = header(uid, ITEM, "", UNDEFINED), header(uid, ITEM_END, "", 0)
        inside = b"".join(start + body + end for body in bodies)
        return header(uid, each.tag, "SQ", UNDEFINED) + inside + header(uid, SEQUENCE_END, "", 0)
    return element(uid, each.tag, "SQ", b"".join(element(uid, ITEM, "", body) for body in bodies))


def deflate(data: bytes) -> bytes:
    """Deflate by PS3.5 A.5: without a header, padded with a NUL to an even length."""
    stream = zlib.compressobj(wbits=-15)
    deflated = stream.compress(data) + stream.flush()
    return deflated + bytes(len(deflated) % 2)


def scan(uid: str, data: bytes, limits: ScanLimits = DEFAULT_SCAN_LIMITS) -> Scan:
    """Scan it in one piece."""
    return scan_pieces(uid, [data], limits)


def scan_pieces(uid: str, pieces: Iterable[bytes], limits: ScanLimits = DEFAULT_SCAN_LIMITS) -> Scan:
    """Scan it in pieces, each of which is overwritten once it was fed."""
    scanner = Scanner(uid, limits)
    for piece in pieces:
        buffer = bytearray(piece)
        scanner.feed(memoryview(buffer))
        buffer[:] = b"\xaa" * len(buffer)
        # A view that was kept would not let it.
        buffer.clear()
    return scanner.finish()


def cut(data: bytes, cuts: Sequence[int]) -> list[bytes]:
    """Cut `data` into pieces which end at `cuts`."""
    ends = [*sorted(at % (len(data) + 1) for at in cuts), len(data)]
    return [data[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def byte_by_byte(data: bytes) -> list[bytes]:
    return [data[at : at + 1] for at in range(len(data))]


# In Implicit VR a sequence with the tag of a UID is nothing but a UID of many bytes, which the scanner rightly flags.
_UIDS: Final = {0x00080016, 0x00080018, 0x0020000D, 0x0020000E}
_values = st.binary(max_size=30).map(lambda raw: raw + bytes(len(raw) % 2))
_leaves = st.builds(
    Element,
    st.integers(0x00080001, 0x7FE00010).filter(lambda tag: tag != 0x00080018),
    st.sampled_from(["LO", "UI", "US", "OB", "UN", "UT", "PN", "FD"]),
    _values,
)
trees: st.SearchStrategy[Element] = st.recursive(
    _leaves,
    lambda inner: st.builds(
        Element,
        st.integers(0x00080001, 0x7FE00009).filter(lambda tag: tag not in _UIDS),
        st.just("SQ"),
        st.builds(Items, st.lists(st.lists(inner, max_size=3).map(tuple), max_size=3).map(tuple), st.booleans()),
    ),
    max_leaves=12,
)
