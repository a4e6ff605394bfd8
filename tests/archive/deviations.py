"""Data sets that deviate from the standard as real ones do, each as its top-level elements."""

import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.encoding.encode import (
    BIG,
    DEFLATED,
    EXPLICIT,
    IMPLICIT,
    ITEM,
    ITEM_END,
    JPEG,
    PRIVATE,
    SEQUENCE_END,
    UNDEFINED,
    deflate,
    element,
    header,
)

from dicomport.files import read_part10

SECONDARY_CAPTURE: Final = "1.2.840.10008.5.1.4.1.1.7"
RLE: Final = "1.2.840.10008.1.2.5"
FILES: Final = Path(__file__).parent / "deviating"

ICON: Final = 0x00880200
PIXELS: Final = 0x7FE00010


@dataclass(frozen=True)
class Case:
    """A data set, and the expected response of the archive."""

    name: str
    syntax: str
    parts: tuple[bytes, ...]
    """Top-level elements: a cut between two of them cannot be detected."""
    status: int
    deviations: tuple[str, ...]
    tail: bytes = b""
    """Bytes after the last element; a cut in them cannot be detected either."""

    @property
    def data(self) -> bytes:
        data = b"".join(self.parts) + self.tail
        return deflate(data) if self.syntax == DEFLATED else data

    @property
    def uid(self) -> str:
        """SOP Instance UID: one for each case."""
        return uid_of(self.name)


def uid_of(name: str) -> str:
    return f"1.2.3.77.{int.from_bytes(name.encode(), 'big') % 10**12}"


def padded(text: str) -> bytes:
    raw = text.encode()
    return raw + bytes(len(raw) % 2)


def encoding(syntax: str) -> str:
    return EXPLICIT if syntax in (JPEG, RLE, DEFLATED) else syntax


def word(syntax: str, number: int) -> bytes:
    return number.to_bytes(2, "big" if syntax == BIG else "little")


def first_elements(syntax: str, uid: str, frames: int | None = None) -> list[bytes]:
    """Encode the elements up to the image's description."""
    coded = encoding(syntax)
    values: list[tuple[int, str, bytes]] = [
        (0x00080016, "UI", padded(SECONDARY_CAPTURE)),
        (0x00080018, "UI", padded(uid)),
        (0x00080060, "CS", b"OT"),
        (0x00100010, "PN", b"T^C "),
        (0x00100020, "LO", b"ID1 "),
        (0x0020000D, "UI", padded("1.2.3.4.1")),
        (0x0020000E, "UI", padded("1.2.3.4.1.1")),
        (0x00280002, "US", word(syntax, 1)),
        (0x00280004, "CS", b"MONOCHROME2 "),
        (0x00280010, "US", word(syntax, 4)),
        (0x00280011, "US", word(syntax, 4)),
        (0x00280100, "US", word(syntax, 8)),
        (0x00280101, "US", word(syntax, 8)),
        (0x00280102, "US", word(syntax, 7)),
        (0x00280103, "US", word(syntax, 0)),
    ]
    if frames is not None:
        values.insert(9, (0x00280008, "IS", f"{frames:<2}".encode()))
    return [element(coded, *value) for value in values]


def native(syntax: str, size: int = 16) -> bytes:
    return element(encoding(syntax), PIXELS, "OW", b"\1" * size)


CODESTREAM: Final = b"\xff\xd8\xff\xe0" + b"\x11" * 58 + b"\xff\xd9"
RLE_FRAME: Final = struct.pack("<16L", 1, 64, *[0] * 14) + b"\x0f" + b"\1" * 15


def encapsulated(*fragments: bytes, table: Iterable[int] = (), end: bool = True) -> bytes:
    offsets = b"".join(struct.pack("<L", offset) for offset in table)
    items = b"".join(element(EXPLICIT, ITEM, "", fragment) for fragment in (offsets, *fragments))
    return header(EXPLICIT, PIXELS, "OB", UNDEFINED) + items + (header(EXPLICIT, SEQUENCE_END, "", 0) if end else b"")


def item(coded: str, body: bytes, *, missing: int | None = None) -> bytes:
    """Encode an item of undefined length, or one that counts some of its bytes not."""
    if missing is None:
        return header(coded, ITEM, "", UNDEFINED) + body + header(coded, ITEM_END, "", 0)
    return header(coded, ITEM, "", len(body) - missing) + body


def sequence(coded: str, tag: int, body: bytes, *, missing: int | None = None, vr: str = "SQ") -> bytes:
    if missing is None:
        return header(coded, tag, vr, UNDEFINED) + body + header(coded, SEQUENCE_END, "", 0)
    return header(coded, tag, vr, len(body) - missing) + body


def icon(coded: str) -> bytes:
    rows = element(coded, 0x00280010, "US", word(coded, 2)) + element(coded, 0x00280011, "US", word(coded, 2))
    return rows + element(coded, PIXELS, "OB", b"\x11" * 64)


def compressed_icon() -> bytes:
    return element(EXPLICIT, 0x00280010, "US", b"\2\0") + encapsulated(CODESTREAM)


def without_vr(syntax: str, vr: bytes, value: bytes, *, tag: int = 0x00291010, long: bool = False) -> bytes:
    order = ">" if syntax == BIG else "<"
    size = struct.pack(f"{order}HL", 0, len(value)) if long else struct.pack(f"{order}H", len(value))
    return struct.pack(f"{order}HH", tag >> 16, tag & 0xFFFF) + vr + size + value


CASES: Final[list[Case]] = []


def add(
    name: str,
    syntax: str,
    parts: Iterable[bytes],
    *deviations: str,
    status: int = 0x0000,
    tail: bytes = b"",
    frames: int | None = None,
) -> None:
    """Add a case: the first elements, and then these."""
    first = first_elements(syntax, uid_of(name), frames)
    CASES.append(Case(name, syntax, (*first, *parts), status, deviations, tail))


SYNTAXES: Final = {"implicit": IMPLICIT, "explicit": EXPLICIT, "big endian": BIG, "deflated": DEFLATED}
EXPLICIT_SYNTAXES: Final = {"explicit": EXPLICIT, "big endian": BIG}


def _add_padding() -> None:
    for name, syntax in SYNTAXES.items():
        for size in (2, 6, 8, 12, 512, 70_000):
            add(f"{size} zeros, {name}", syntax, [native(syntax)], "padding", tail=bytes(size))
        add(f"odd pixels, {name}", syntax, [native(syntax, 15)], "odd-length", "padding", tail=bytes(1))
    for name, syntax in SYNTAXES.items():
        for size in (2, 4, 8):
            add(f"{size} spaces, {name}", syntax, [native(syntax)], "padding", tail=b" " * size)
        for size in (10, 512):
            add(f"{size} spaces, {name}", syntax, [native(syntax)], "space-padding", status=0xB007, tail=b" " * size)
        add(f"odd pixels and a space, {name}", syntax, [native(syntax, 15)], "odd-length", "padding", tail=b" ")
    add("4 spaces without pixels", EXPLICIT, [], "padding", tail=b" " * 4)
    add("12 spaces without pixels", IMPLICIT, [], "space-padding", status=0xB007, tail=b" " * 12)
    add("zeros after compressed pixels", JPEG, [encapsulated(CODESTREAM)], "padding", tail=bytes(8))
    add("zeros after a sequence", EXPLICIT, [sequence(EXPLICIT, ICON, b"", missing=0)], "padding", tail=bytes(6))
    for name, syntax in EXPLICIT_SYNTAXES.items():
        odd = element(syntax, 0x00291010, "UN", b"abc") + b"\0"
        add(f"odd value, {name}", syntax, [odd, native(syntax)], "odd-length", "odd-padding", status=0xB007)
        in_item = sequence(syntax, 0x00291010, item(syntax, element(syntax, 0x00291011, "LO", b"abc") + b"\0"))
        add(f"odd in item, {name}", syntax, [in_item, native(syntax)], "odd-length", "odd-padding", status=0xB007)


def _add_zeros_between() -> None:
    deviation = "zeros-between-elements"
    for name, syntax in SYNTAXES.items():
        for size in (8, 24, 512):
            add(f"{size} zeros between, {name}", syntax, [bytes(size), native(syntax)], deviation)
        element_ = element(encoding(syntax), 0x00290010, "LO", b"ab")
        add(f"zeros twice, {name}", syntax, [bytes(8), element_, bytes(16), native(syntax)], deviation)
        body = bytes(8).join(
            element(encoding(syntax), tag, "US", word(syntax, 2)) for tag in (0x00280010, 0x00280011, 0x00280100)
        )
        in_item = sequence(encoding(syntax), ICON, item(encoding(syntax), body))
        add(f"zeros in an item, {name}", syntax, [in_item, native(syntax)], deviation)
        add(f"zeros between and after, {name}", syntax, [bytes(8), native(syntax)], "padding", deviation, tail=bytes(6))


def _add_undercounted_in_implicit_vr() -> None:
    """Sequences that are shorter than their items, whose lengths are right."""
    deviation = "undercounted-sequence"
    bright = icon(IMPLICIT).replace(b"\x11", b"\xfd")
    for missing in (4, 8, 24):
        for name, body in {"icon": icon(IMPLICIT), "bright icon": bright}.items():
            short = sequence(IMPLICIT, ICON, item(IMPLICIT, body, missing=0), missing=missing)
            add(f"{name} short by {missing}, implicit", IMPLICIT, [short, native(IMPLICIT)], deviation)
            outer = sequence(IMPLICIT, 0x00291010, item(IMPLICIT, short))
            add(f"{name} short by {missing} in item, implicit", IMPLICIT, [outer, native(IMPLICIT)], deviation)
        items = item(IMPLICIT, icon(IMPLICIT), missing=0) * 3
        short = sequence(IMPLICIT, ICON, items, missing=missing)
        add(f"three icons short by {missing}, implicit", IMPLICIT, [short, native(IMPLICIT)], deviation)
    for name, longer in {"item": 8, "first item": 200}.items():
        # The length of the sequence counts if a header follows it: DCMTK rejects this.
        whole = header(IMPLICIT, ICON, "SQ", 108) + item(IMPLICIT, bytes(100), missing=-longer)
        add(f"long {name}, implicit", IMPLICIT, [whole, native(IMPLICIT)])


def _add_undercounted() -> None:
    deviation = "undercounted-sequence"
    for name, syntax in EXPLICIT_SYNTAXES.items():
        inner = icon(syntax)
        for missing in (4, 8, 24):
            short = sequence(syntax, ICON, item(syntax, inner, missing=missing), missing=missing)
            add(f"short by {missing}, {name}", syntax, [short, native(syntax)], deviation)
        short = sequence(syntax, ICON, item(syntax, inner, missing=0), missing=24)
        add(f"short sequence, {name}", syntax, [short, native(syntax)], deviation)
        dark = element(syntax, PIXELS, "OB", bytes(64))
        short = sequence(syntax, ICON, item(syntax, dark, missing=0), missing=24)
        add(f"short dark icon, {name}", syntax, [short, native(syntax)], deviation)
        nested = sequence(syntax, 0x00291010, item(syntax, element(syntax, 0x00291011, "UN", b"\x11" * 40)))
        short = sequence(syntax, ICON, item(syntax, nested, missing=24), missing=24)
        add(f"short with nested, {name}", syntax, [short, native(syntax)], deviation)
        one = item(syntax, element(syntax, 0x00280010, "US", word(syntax, 2)), missing=0)
        add(f"without last item, {name}", syntax, [sequence(syntax, ICON, one * 2, missing=len(one))], deviation)
        short = sequence(syntax, ICON, item(syntax, inner, missing=24), missing=24)
        outer = sequence(syntax, 0x00291010, item(syntax, short))
        add(f"short in an item, {name}", syntax, [outer, native(syntax)], deviation)
    for missing in (24, 32):
        short = sequence(EXPLICIT, ICON, item(EXPLICIT, compressed_icon(), missing=missing), missing=missing)
        add(f"compressed icon, {missing}", JPEG, [short, encapsulated(CODESTREAM)], deviation)
    short = sequence(EXPLICIT, ICON, item(EXPLICIT, compressed_icon(), missing=24), missing=24)
    add("compressed icon at the end", JPEG, [short], deviation)
    more = element(EXPLICIT, 0x20500020, "CS", b"IDENTITY")
    add("compressed icon, more", JPEG, [short, more, encapsulated(CODESTREAM)], deviation)
    add("deflated icon", DEFLATED, [short, native(DEFLATED)], deviation)


def _add_delimiters() -> None:
    zeros, missing = "zeros-for-delimiter", "missing-delimiter"
    one, two = (encapsulated(*[CODESTREAM] * number, end=False) for number in (1, 2))
    for size in (2, 4, 6):
        add(f"{size} zeros for the delimiter", JPEG, [one + bytes(size)], zeros)
    add("4 zeros after two frames", JPEG, [two + bytes(4)], zeros, frames=2)
    add("4 zeros after two fragments", JPEG, [two + bytes(4)], zeros)
    for name, syntax in {"implicit": IMPLICIT, **EXPLICIT_SYNTAXES}.items():
        inner = element(syntax, 0x00280010, "US", word(syntax, 2))
        for size, items in ((2, 1), (4, 2), (6, 1), (4, 0)):
            whole = header(syntax, ICON, "SQ", UNDEFINED) + item(syntax, inner) * items + bytes(size)
            deviation = "zeros-for-sequence-delimiter"
            add(f"{size} zeros after {items} items, {name}", syntax, [whole], deviation, status=0xB007)
    add("512 zeros for the delimiter", JPEG, [one], missing, status=0xB007, tail=bytes(512))
    add("two frames", JPEG, [two], missing, status=0xB007, frames=2)
    table = encapsulated(CODESTREAM, CODESTREAM, table=(0, 72), end=False)
    add("two frames with a table", JPEG, [table], missing, status=0xB007)
    halves = encapsulated(CODESTREAM[:30], CODESTREAM[30:], CODESTREAM, table=(0, 80), end=False)
    add("two fragments of a frame", JPEG, [halves], missing, status=0xB007, frames=2)
    extended = element(EXPLICIT, 0x7FE00001, "OV", struct.pack("<2Q", 0, 72))
    add("two frames, extended table", JPEG, [extended, two], missing, status=0xB007, frames=2)
    add("RLE", RLE, [encapsulated(RLE_FRAME, end=False)], missing, status=0xB007)
    add("RLE, three frames", RLE, [encapsulated(*[RLE_FRAME] * 3, end=False)], missing, status=0xB007, frames=3)


def _add_vrs() -> None:
    deviation = "unknown-vr"
    for name, vr in {"zeros": b"\0\0", "lower": b"lo", "blanks": b"  ", "dashes": b"--", "ones": b"\xff\xff"}.items():
        for where, syntax in EXPLICIT_SYNTAXES.items():
            add(f"{name}, {where}", syntax, [without_vr(syntax, vr, b"abcd"), native(syntax)], deviation)
            in_item = sequence(syntax, 0x00290010, item(syntax, without_vr(syntax, vr, b"abcd")))
            add(f"{name} in item, {where}", syntax, [in_item, native(syntax)], deviation)
            long = without_vr(syntax, vr, b"abcd", long=True)
            add(f"{name} long, {where}", syntax, [long, native(syntax)], deviation)
    add("no VR, empty", EXPLICIT, [without_vr(EXPLICIT, b"\0\0", b""), native(EXPLICIT)], deviation)
    add("no VR, last", EXPLICIT, [without_vr(EXPLICIT, b"\0\0", b"abcd")], deviation)
    two = [without_vr(EXPLICIT, b"\0\0", b"abcd", tag=tag) for tag in (0x00291010, 0x00291011)]
    add("no VR, two", EXPLICIT, [*two, native(EXPLICIT)], deviation)
    add("no VR, deflated", DEFLATED, [two[0], native(DEFLATED)], deviation)
    after = [sequence(EXPLICIT, 0x00290010, b"", missing=0), two[0], native(EXPLICIT)]
    add("no VR after a sequence", EXPLICIT, after, deviation)
    add("no VR, padding", EXPLICIT, [two[0]], "padding", deviation, tail=bytes(10))


def _add_unknown() -> None:
    deviation, tag = "explicit-item-in-un", 0x00291010
    inner = element(EXPLICIT, 0x00281052, "DS", b"0 ") + element(EXPLICIT, 0x00281053, "DS", b"1 ")
    for vr in ("DS", "LO", "PN", "UI", "OB", "UN"):
        body = item(EXPLICIT, element(EXPLICIT, 0x00281052, vr, b"ab") + inner[10:])
        for name, syntax in EXPLICIT_SYNTAXES.items():
            # The items of a UN are in little endian in any transfer syntax.
            whole = header(syntax, tag, "UN", UNDEFINED) + body * 2 + header(EXPLICIT, SEQUENCE_END, "", 0)
            add(f"{vr} in UN, {name}", syntax, [whole, native(syntax)], deviation, status=0xB007)
    big = header(BIG, 0x00281052, "DS", 2) + b"0 "
    whole = sequence(BIG, tag, item(BIG, big) * 2, vr="UN")
    add("big endian in UN", BIG, [whole, native(BIG)], deviation, status=0xB007)
    nested = sequence(EXPLICIT, tag, item(EXPLICIT, sequence(EXPLICIT, tag, item(EXPLICIT, inner))), vr="UN")
    add("nested in UN", EXPLICIT, [nested, native(EXPLICIT)], deviation, status=0xB007)
    twice = sequence(EXPLICIT, tag, item(EXPLICIT, sequence(EXPLICIT, tag, item(EXPLICIT, inner), vr="UN")), vr="UN")
    add("UN in UN", EXPLICIT, [twice, native(EXPLICIT)], deviation, status=0xB007)


for add_some in (
    _add_padding,
    _add_zeros_between,
    _add_undercounted_in_implicit_vr,
    _add_undercounted,
    _add_delimiters,
    _add_vrs,
    _add_unknown,
):
    _typed: Callable[[], None] = add_some
    _typed()

REFUSED: Final = {
    "zeros, then other bytes": (EXPLICIT, [native(EXPLICIT), bytes(20), b"\1\2\3\4"]),
    "zeros, then 4 other bytes": (EXPLICIT, [native(EXPLICIT), bytes(16), b"\1\2\3\4"]),
    "zeros, then text": (IMPLICIT, [native(IMPLICIT), bytes(16), b"the end of a file"]),
    "zeros, then an element": (EXPLICIT, [bytes(20), native(EXPLICIT)]),
    "2 spaces, perhaps of a tag": (EXPLICIT, [b"  "]),
    "spaces, then an element": (EXPLICIT, [b" " * 16, native(EXPLICIT)]),
    "a sequence without delimiter, and many zeros": (
        EXPLICIT,
        [header(EXPLICIT, 0x00291010, "SQ", UNDEFINED) + item(EXPLICIT, native(EXPLICIT)), bytes(12)],
    ),
    "two sequences without delimiters, and zeros": (
        EXPLICIT,
        [(header(EXPLICIT, 0x00291010, "SQ", UNDEFINED) + header(EXPLICIT, ITEM, "", UNDEFINED)) * 2, bytes(4)],
    ),
    "zeros for the delimiter of a sequence, then an element": (
        EXPLICIT,
        [header(EXPLICIT, 0x00291010, "SQ", UNDEFINED) + item(EXPLICIT, icon(EXPLICIT)), bytes(4), native(EXPLICIT)],
    ),
    "a short item in a sequence of undefined length": (
        EXPLICIT,
        [sequence(EXPLICIT, ICON, item(EXPLICIT, icon(EXPLICIT), missing=24)), native(EXPLICIT)],
    ),
    "a short sequence with a short item in Implicit VR": (
        IMPLICIT,
        [sequence(IMPLICIT, ICON, item(IMPLICIT, icon(IMPLICIT), missing=24), missing=24), native(IMPLICIT)],
    ),
    "no fragment, and zeros": (JPEG, [encapsulated(end=False), bytes(4)]),
    "a cut codestream": (JPEG, [encapsulated(CODESTREAM[:-2], end=False)]),
    "a cut codestream and zeros": (JPEG, [encapsulated(CODESTREAM[:-2], end=False), bytes(4)]),
    "two fragments of nobody knows how many": (JPEG, [encapsulated(CODESTREAM, CODESTREAM, end=False)]),
    "fewer fragments than entries": (JPEG, [encapsulated(CODESTREAM, table=(0, 72), end=False)]),
    "fewer fragments than entries, and zeros": (JPEG, [encapsulated(CODESTREAM, table=(0, 72), end=False), bytes(4)]),
    "the first half of a frame": (JPEG, [encapsulated(CODESTREAM[:30], end=False)]),
    "a frame of unknown coding": (JPEG, [encapsulated(b"\x11" * 64, end=False)]),
    "no fragment": (JPEG, [encapsulated(end=False)]),
    "a sequence without delimiter": (
        EXPLICIT,
        [header(EXPLICIT, 0x00291010, "SQ", UNDEFINED) + item(EXPLICIT, native(EXPLICIT))],
    ),
    "a short sequence that does not end": (
        EXPLICIT,
        [sequence(EXPLICIT, ICON, item(EXPLICIT, icon(EXPLICIT), missing=24), missing=24)],
    ),
}
"""Transfer syntax and last elements of data sets that look like the cases, but are or may be truncated."""


def refused(name: str) -> Case:
    syntax, parts = REFUSED[name]
    return Case(name, syntax, (*first_elements(syntax, uid_of(name)), *parts), 0xC210, ())


_IN_FILES: Final[dict[str, tuple[int, tuple[str, ...]]]] = {
    "zeros-after-pixels": (0x0000, ("padding",)),
    "odd-pixels-with-nul": (0x0000, ("odd-length", "padding")),
    "icon-counted-short": (0x0000, ("undercounted-sequence",)),
    "icon-counted-right": (0x0000, ()),
    "zeros-for-delimiter": (0x0000, ("zeros-for-delimiter",)),
    "no-vr": (0x0000, ("unknown-vr",)),
    "pixels-without-delimiter": (0xB007, ("missing-delimiter",)),
    "explicit-items-in-un": (0xB007, ("explicit-item-in-un", "unsorted")),
    "private-syntax": (0x0000, ()),
}


def cases_in_files() -> list[tuple[Case, str]]:
    """Read the files in `deviating`; return each with its SOP Instance UID."""
    found = []
    for name, (status, deviations) in _IN_FILES.items():
        path = FILES / f"{name}.dcm"
        part10 = read_part10(path)
        data = path.read_bytes()[part10.offset :]
        case = Case(name, part10.meta.transfer_syntax_uid, (data,), status, deviations)
        found.append((case, part10.meta.media_storage_sop_instance_uid))
    return found


def private_cases() -> list[Case]:
    """Make data sets in a private transfer syntax, in an encoding that only its inventor knows."""
    encodings = {"implicit": IMPLICIT, "big endian": BIG}
    cases = [
        Case(name, PRIVATE, (*first_elements(coded, uid_of(name)), native(coded)), 0x0000, ())
        for name, coded in encodings.items()
    ]
    return [*cases, Case("any bytes", PRIVATE, (bytes(range(200)),), 0x0000, ())]
