"""The scanner: golden data sets, splits, limits, and the rows of the robustness table that concern data sets."""

import array
import dataclasses
import random
import statistics
import struct
import tracemalloc
import zlib
from collections.abc import Iterator
from typing import Final

import pytest
from hypothesis import given, settings, strategies as st
from tests.archive.goldens import (
    BIG_ENDIAN,
    ENCAPSULATED,
    FACTS,
    GOLDENS,
    IMPLICIT_LITTLE,
    LITTLE,
    SMALL,
    UN_SEQUENCE,
)
from tests.encoding.encode import (
    BIG,
    CODINGS,
    DEFLATED,
    EXPLICIT,
    IMPLICIT,
    ITEM,
    ITEM_END,
    JPEG,
    PRIVATE,
    SEQUENCE_END,
    UNDEFINED,
    Element,
    Items,
    byte_by_byte,
    cut,
    deflate,
    element,
    encode,
    header,
    scan,
    scan_pieces,
    trees,
)
from tests.wire.golden import Golden

from dicomport.archive.scan.attributes import InstanceAttributes
from dicomport.archive.scan.scanner import Scan, Scanner
from dicomport.encoding.deviations import ProblemKind, ScanFlag, ScanProblem
from dicomport.encoding.headers import EXPLICIT_LITTLE
from dicomport.encoding.limits import ScanLimits
from dicomport.encoding.streaming import StreamWalker
from dicomport.standard import transfer_syntaxes

any_golden = pytest.mark.parametrize(("uid", "data_set"), [each[:2] for each in GOLDENS.values()], ids=GOLDENS)
golden_data_sets = pytest.mark.parametrize(("uid", "data_set", "attributes"), GOLDENS.values(), ids=GOLDENS)

UID: Final = element(EXPLICIT, 0x00080018, "UI", b"1.2.3.4\0")
ROWS: Final = element(EXPLICIT, 0x00280010, "US", b"\0\2")


def outcome(result: Scan) -> tuple[InstanceAttributes, ScanProblem | None, set[ScanFlag]]:
    return result.attributes, result.problem, set(result.flags)


def is_proven(result: Scan) -> bool:
    """Return whether all elements were walked, and the last one ends where the data set ends."""
    return result.problem is None and ScanFlag.NOT_WALKED not in result.flags


# Complete data sets.


@golden_data_sets
def test_golden(uid: str, data_set: Golden, attributes: InstanceAttributes) -> None:
    result = scan(uid, data_set.data)
    assert outcome(result) == (attributes, None, set())
    assert is_proven(result)


@any_golden
def test_byte_by_byte(uid: str, data_set: Golden) -> None:
    assert scan_pieces(uid, byte_by_byte(data_set.data)) == scan(uid, data_set.data)


@any_golden
@given(cuts=st.lists(st.integers(min_value=0), max_size=8))
def test_split_anywhere(uid: str, data_set: Golden, cuts: list[int]) -> None:
    assert scan_pieces(uid, cut(data_set.data, cuts)) == scan(uid, data_set.data)


def wrong_lengths(data_set: Golden) -> Iterator[bytes]:
    for offset, size in data_set.lengths:
        top = 256**size - 1
        right = int.from_bytes(data_set.data[offset : offset + size], data_set.order)
        for wrong in {right + 1, right + 2, right - 1, right - 2, 0, 65_535, top - 1, top} - {right}:
            if 0 <= wrong <= top:
                yield data_set.data[:offset] + wrong.to_bytes(size, data_set.order) + data_set.data[offset + size :]


@any_golden
def test_wrong_lengths_never_raise_and_split_as_well(uid: str, data_set: Golden) -> None:
    for mutated in wrong_lengths(data_set):
        result = scan(uid, mutated)
        assert result == scan_pieces(uid, byte_by_byte(mutated))
        assert result.problem is None or result.problem.detail.isascii()


@pytest.mark.parametrize("syntax", [each.uid for each in transfer_syntaxes if each.encapsulated])
def test_every_encapsulated_syntax_is_explicit_little_endian(syntax: str) -> None:
    assert is_proven(scan(syntax, ENCAPSULATED.data))


def test_bytes_bytearrays_and_signed_views_are_alike() -> None:
    scanner = Scanner(EXPLICIT)
    scanner.feed(LITTLE.data[:50])
    scanner.feed(bytearray(LITTLE.data[50:90]))
    scanner.feed(memoryview(LITTLE.data[90:]).cast("b"))
    scanner.feed(b"")
    assert scanner.finish() == scan(EXPLICIT, LITTLE.data)


def test_values_in_items_are_not_the_instances() -> None:
    nested = (Element(0x00080018, "UI", b"9.9\0"), Element(0x00280010, "US", b"\1\1"))
    for undefined in (True, False):
        data = encode(EXPLICIT, [Element(0x00081140, "SQ", Items((nested,), undefined))])
        assert scan(EXPLICIT, data).attributes == InstanceAttributes()


@pytest.mark.parametrize("uid", [EXPLICIT, JPEG])
def test_fragments_in_an_item(uid: str) -> None:
    """An icon image may be compressed (PS3.3 C.7.6.1.1.6)."""
    pixels = ENCAPSULATED.data[ENCAPSULATED.data.index(b"\xe0\x7f") :]
    icon = header(EXPLICIT, ITEM, "", UNDEFINED) + pixels + header(EXPLICIT, ITEM_END, "", 0)
    sequence = header(EXPLICIT, 0x00880200, "SQ", UNDEFINED) + icon + header(EXPLICIT, SEQUENCE_END, "", 0)
    result = scan(uid, UID + sequence + pixels)
    assert is_proven(result)
    assert not result.flags


# Numbers, text.


@pytest.mark.parametrize(
    ("vr", "raw", "rows"),
    [
        ("US", b"\0\2", 512),
        ("UN", b"\0\2", 512),
        ("US", b"", None),
        ("US", b"\0\2\0\2", None),
        ("US", b"\2", None),
        ("UL", b"\0\2\0\0", None),
        ("SH", b"64", None),
    ],
)
def test_rows(vr: str, raw: bytes, rows: int | None) -> None:
    assert scan(EXPLICIT, element(EXPLICIT, 0x00280010, vr, raw)).attributes.rows == rows


@pytest.mark.parametrize(
    ("raw", "frames"),
    [
        (b"12", 12),
        (b" +12 ", 12),
        (b"1\0", 1),
        (b"", None),
        (b"-1", None),
        (b"1_0", None),
        (b"1\\2", None),
        (b"\xb2", None),
        (b"9" * 13, None),
    ],
)
def test_number_of_frames(raw: bytes, frames: int | None) -> None:
    assert scan(EXPLICIT, element(EXPLICIT, 0x00280008, "IS", raw)).attributes.number_of_frames == frames


def named(character_set: str, name: bytes) -> str:
    charset = element(EXPLICIT, 0x00080005, "CS", character_set.encode())
    result = scan(EXPLICIT, charset + element(EXPLICIT, 0x00100010, "PN", name))
    assert result.problem is None
    assert result.attributes.specific_character_set == character_set.strip()
    # The index and JSON contain it, so it must be text that can be encoded.
    result.attributes.patient_name.encode()
    return result.attributes.patient_name


@pytest.mark.parametrize(
    ("character_set", "name", "text"),
    [
        ("", b"Buc^J\xe9r\xf4me", "Buc^Jérôme"),
        ("ISO_IR 6", b"Doe", "Doe"),
        ("ISO_IR 101", b"Wa\xb3\xeasa", "Wałęsa"),
        ("ISO-IR 144", b"\xbb\xee\xda", "Люк"),
        ("ISO_IR 166", b"\xa1\xa2", "กข"),
        ("ISO_IR 192", "Wang^XiaoDong=王^小東=".encode(), "Wang^XiaoDong=王^小東="),
        ("ISO_IR 203", b"\xa4", "€"),
        ("GB18030", "王^小东".encode("gb18030"), "王^小东"),
        ("GBK", "王^小东".encode("gbk"), "王^小东"),
        ("ISO_IR 13", b"\xd4\xcf\xc0\xde^\xc0\xdb\xb3", "ﾔﾏﾀﾞ^ﾀﾛｳ"),
        # D7 of the robustness table: code extensions, misspelt terms, unknown terms, invalid bytes, braces.
        ("ISO 2022 IR 100\\ISO 2022 IR 144", b"J\xe9\x1b-L\xbb\xee\xda^\xe9", "JéЛюк^é"),
        ("ISO 2022 IR 87", b"\x1b$B;3ED\x1b(B^", "山田^"),
        ("\\ISO 2022 IR 149", b"Hong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce", "Hong=洪^吉"),
        ("ISO 2022 IR 6", b"Doe", "Doe"),
        ("iso_ir 100", b"\xe9", "é"),
        ("ISO_IR 999", b"\xe9", "é"),
        ("  ", b"\xe9", "é"),
        ("ISO_IR 192", b"\xe9\xff{name}", "\\xe9\\xff{name}"),
        ("ISO 2022 IR 87", b"\x1b$B\xff\xff", "\\xff\\xff"),
        ("\\ISO 2022 IR 87", b"\x1b?x", "\x1b?x"),
    ],
)
def test_d7_character_sets(character_set: str, name: bytes, text: str) -> None:
    assert named(character_set, name) == text


@given(
    character_set=st.sampled_from(["", "GB18030", "GBK", "ISO_IR 192", "ISO_IR 13", "\\ISO 2022 IR 87", "ISO_IR 127"]),
    name=st.binary(max_size=40).flatmap(lambda raw: st.sampled_from([raw, b"\x1b$B" + raw, b"\x1b$)C" + raw])),
)
def test_d7_any_bytes_are_some_text(character_set: str, name: bytes) -> None:
    named(character_set, name)


def test_the_character_set_may_come_last() -> None:
    data = element(EXPLICIT, 0x00100010, "PN", "é".encode()) + element(EXPLICIT, 0x00080005, "CS", b"ISO_IR 192")
    result = scan(EXPLICIT, data)
    assert result.attributes.patient_name == "é"
    assert result.flags == {ScanFlag.UNSORTED}


# Incomplete data sets.


@golden_data_sets
def test_each_truncation_inside_an_element_is_reported(
    uid: str, data_set: Golden, attributes: InstanceAttributes
) -> None:
    boundaries = _boundaries(uid, data_set.data)
    whole = dataclasses.asdict(attributes)
    for size, data in enumerate(data_set.truncations()):
        result = scan(uid, data)
        assert (result.problem is None) == (size in boundaries), size
        assert all(each in (whole[name], "", None) for name, each in dataclasses.asdict(result.attributes).items())
        assert scan_pieces(uid, byte_by_byte(data)) == result


def _boundaries(uid: str, data: bytes) -> set[int]:
    """Offset of a top-level element, found by its tag, which is unique in the goldens."""
    if uid == DEFLATED:
        # Without its padding a stream is as whole as with it.
        return {len(data) - 1} if is_proven(scan(uid, data[:-1])) else set()
    tags = {EXPLICIT: LITTLE, JPEG: ENCAPSULATED, IMPLICIT: IMPLICIT_LITTLE, BIG: BIG_ENDIAN}
    assert data in {UN_SEQUENCE.data, tags[uid].data}
    top = (
        *(0x00080016, 0x00080018, 0x00080020, 0x00080060, 0x00081140, 0x00091001, 0x00100010, 0x00100020),
        *(0x0020000D, 0x0020000E, 0x00200011, 0x00280008, 0x00280010, 0x00280011, 0x7FE00010),
    )
    order = ">" if uid == BIG else "<"
    return {data.find(struct.pack(f"{order}HH", tag >> 16, tag & 0xFFFF)) for tag in top} - {-1, 0}


def test_a_cut_between_elements_is_undetectable() -> None:
    assert is_proven(scan(EXPLICIT, UID))


@pytest.mark.parametrize("uid", [*CODINGS, JPEG, PRIVATE])
def test_empty(uid: str) -> None:
    result = scan(uid, b"")
    assert result.problem is not None
    assert (result.problem.kind, result.problem.detail) == (ProblemKind.UNDECODABLE, "empty")
    assert not is_proven(result)
    assert not result.flags


def test_deflated_nothing_is_empty() -> None:
    result = scan(DEFLATED, deflate(b""))
    assert result.problem is not None
    assert result.problem.detail == "empty"


def test_a_problem_names_its_place_in_the_whole() -> None:
    bad = bytes.fromhex("28001000 FF1B 0200")
    for pieces in ([UID + bad], byte_by_byte(UID + bad), [UID, bad], [UID + bad[:7], bad[7:]]):
        problem = scan_pieces(EXPLICIT, pieces).problem
        assert problem is not None
        assert problem.kind is ProblemKind.UNDECODABLE
        assert problem.detail == "(0028,0010) at offset 16: no VR"


def test_nothing_counts_after_a_problem() -> None:
    result = scan_pieces(EXPLICIT, [UID, bytes.fromhex("28001000 FF1B 0200"), ROWS])
    assert result.attributes == InstanceAttributes(sop_instance_uid="1.2.3.4")


@pytest.mark.parametrize(
    ("data", "detail"),
    [
        (header(EXPLICIT, 0x00189999, "UT", UNDEFINED), "a VR that cannot be of undefined length"),
        (header(EXPLICIT, ITEM, "", 0), "an item outside of a sequence"),
        (header(EXPLICIT, 0x7FE00010, "OB", UNDEFINED) + header(EXPLICIT, ITEM, "", UNDEFINED), "no fragment"),
        (header(EXPLICIT, 0x7FE00010, "OB", UNDEFINED) + header(EXPLICIT, ITEM_END, "", 0), "no fragment"),
        (bytes(12), "no VR"),
        (element(EXPLICIT, 0x00000002, "UI", b"1.2\0"), "an element of a command set"),
    ],
)
def test_undecodable(data: bytes, detail: str) -> None:
    problem = scan(EXPLICIT, UID + data + ROWS).problem
    assert problem is not None
    assert problem.kind is ProblemKind.UNDECODABLE
    assert detail in problem.detail


@pytest.mark.parametrize("uid", [EXPLICIT, IMPLICIT, BIG])
def test_zeros_after_the_data_set_are_padding(uid: str) -> None:
    """Multiples of 8 NULs before an element are empty elements."""
    data = encode(uid, [Element(0x00080018, "UI", b"1.2\0")])
    assert outcome(scan(uid, data + bytes(512)))[1:] == (None, {ScanFlag.PADDING})
    flags = {ScanFlag.ZEROS_BETWEEN_ELEMENTS, ScanFlag.REPEATED_ELEMENT}
    assert outcome(scan(uid, data + bytes(512) + data))[1:] == (None, flags)
    problem = scan(uid, data + bytes(500) + data).problem
    assert problem is not None
    assert problem.kind is ProblemKind.UNDECODABLE


def test_the_zeros_between_elements_are_limited_in_number() -> None:
    """A million interruptions of the walk would cost seconds."""
    row = bytes(8) + element(EXPLICIT, 0x00280010, "US", b"")
    assert scan(EXPLICIT, UID + row * 2000).problem is None
    problem = scan(EXPLICIT, UID + row * 2100).problem
    assert problem is not None
    assert problem.kind is ProblemKind.UNDECODABLE


# D1: deflated.


def test_d1_a_bomb_costs_what_its_bound_allows() -> None:
    stream = zlib.compressobj(wbits=-15)
    zeros = bytes(1 << 20)
    parts = [stream.compress(UID + ROWS + header(EXPLICIT, 0x7FE00010, "OB", 64 << 20))]
    parts += [stream.compress(zeros) for _ in range(64)]
    bomb = b"".join([*parts, stream.flush()])
    assert len(bomb) < 100_000
    scanner = Scanner(DEFLATED)
    tracemalloc.start()
    try:
        scanner.feed(bomb)
        result = scanner.finish()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1 << 20
    assert outcome(result) == (SMALL, None, {ScanFlag.NOT_WALKED})
    assert not is_proven(result)


@pytest.mark.parametrize(("room", "flags"), [(0, set()), (-1, {ScanFlag.NOT_WALKED})])
def test_d1_the_bound_is_met_exactly(room: int, flags: set[ScanFlag]) -> None:
    data = UID + element(EXPLICIT, 0x7FE00010, "OB", bytes(200_000))
    result = scan(DEFLATED, deflate(data), ScanLimits(inflated_bytes=len(data) + room))
    assert outcome(result)[1:] == (None, flags)


@pytest.mark.parametrize("size", [1, 5, 65_535 - 12, 65_536 - 12, 65_537 - 12, 1 << 20])
def test_d1_pieces_of_the_inflater(size: int) -> None:
    data = deflate(element(EXPLICIT, 0x00091001, "OB", bytes(size)) + ROWS)
    result = scan(DEFLATED, data)
    assert result.attributes.rows == 512
    assert result.problem is None
    assert scan_pieces(DEFLATED, byte_by_byte(data)) == result


def test_d1_a_nested_stream_is_no_data_set() -> None:
    problem = scan(DEFLATED, deflate(deflate(LITTLE.data))).problem
    assert problem is not None
    assert problem.kind is ProblemKind.UNDECODABLE


def test_d1_bytes_after_the_stream_are_flagged_unless_padding() -> None:
    stream = deflate(LITTLE.data)[: -1 if is_proven(scan(DEFLATED, deflate(LITTLE.data)[:-1])) else None]
    for tail, flags in (
        (b"", set()),
        (b"\0", set()),
        (b"\0\0", {ScanFlag.TRAILING_BYTES}),
        (b"x", {ScanFlag.TRAILING_BYTES}),
    ):
        for pieces in ([stream + tail], byte_by_byte(stream + tail), [stream, tail], [stream, *byte_by_byte(tail)]):
            result = scan_pieces(DEFLATED, pieces)
            assert outcome(result) == (FACTS, None, flags)


def test_d1_garbage_after_the_stream_is_not_kept() -> None:
    scanner = Scanner(DEFLATED)
    scanner.feed(deflate(LITTLE.data))
    garbage = bytes(1 << 20)
    tracemalloc.start()
    try:
        for _ in range(20):
            scanner.feed(garbage)
        assert tracemalloc.get_traced_memory()[1] < 1 << 19
    finally:
        tracemalloc.stop()
    assert scanner.finish().flags == {ScanFlag.TRAILING_BYTES}


def _gone_bad(data: bytes) -> bytes:
    """Deflate `data` and append an invalid block (RFC 1951 3.2.3)."""
    stream = zlib.compressobj(wbits=-15)
    return stream.compress(data) + stream.flush(zlib.Z_FULL_FLUSH) + b"\xff" * 3_000


def test_d1_a_stream_gone_bad_gives_what_came_before() -> None:
    data = UID + ROWS + element(EXPLICIT, 0x7FE00010, "OB", random.Random(1).randbytes(20_000).hex().encode())
    stream = _gone_bad(data[:-1])
    for pieces in ([stream], byte_by_byte(stream), cut(stream, [1_000, 20_000])):
        result = scan_pieces(DEFLATED, pieces)
        problem = ScanProblem(ProblemKind.UNDECODABLE, f"invalid deflated stream after {len(data) - 1} bytes")
        assert outcome(result) == (SMALL, problem, set())


@pytest.mark.parametrize("bound", [10, 16, 26, 40, 1_000])
def test_d1_the_bound_is_met_before_the_stream_goes_bad(bound: int) -> None:
    stream = _gone_bad(UID + ROWS + element(EXPLICIT, 0x7FE00010, "OB", bytes(1_000)))
    for pieces in ([stream], byte_by_byte(stream)):
        result = scan_pieces(DEFLATED, pieces, ScanLimits(inflated_bytes=bound))
        assert outcome(result)[1:] == (None, {ScanFlag.NOT_WALKED})


def test_d1_no_stream() -> None:
    problem = scan(DEFLATED, b"\xff" * 100).problem
    assert problem is not None
    assert problem.kind is ProblemKind.UNDECODABLE


# D2: nested.


def _nest(uid: str, depth: int, *, undefined: bool) -> bytes:
    if undefined:
        start = header(uid, 0x00081140, "SQ", UNDEFINED) + header(uid, ITEM, "", UNDEFINED)
        end = header(uid, ITEM_END, "", 0) + header(uid, SEQUENCE_END, "", 0)
        return start * depth + end * depth
    parts: list[bytes] = []
    size = 0
    for _ in range(depth):
        item = header(uid, ITEM, "", size)
        size += len(item)
        sequence = header(uid, 0x00081140, "SQ", size)
        size += len(sequence)
        parts += [item, sequence]
    return b"".join(reversed(parts))


@pytest.mark.parametrize("uid", [EXPLICIT, IMPLICIT, BIG])
@pytest.mark.parametrize("depth", [400, 1_000, 100_000])
def test_d2_nested(uid: str, depth: int) -> None:
    first = encode(uid, [Element(0x00080018, "UI", b"1.2.3.4\0")])
    defined = scan(uid, first + _nest(uid, depth, undefined=False))
    assert outcome(defined)[1:] == (None, set())
    data = first + _nest(uid, depth, undefined=True)
    scanner = Scanner(uid)
    tracemalloc.start()
    try:
        scanner.feed(data)
        result = scanner.finish()
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()
    assert outcome(result)[1:] == (None, {ScanFlag.NOT_WALKED})
    assert result.attributes.sop_instance_uid == "1.2.3.4"


@pytest.mark.parametrize(("depth", "proven"), [(128, True), (129, False)])
def test_d2_the_depth_is_that_of_sequences_and_items(depth: int, proven: bool) -> None:
    assert is_proven(scan(EXPLICIT, _nest(EXPLICIT, depth, undefined=True))) is proven


@pytest.mark.parametrize(("budget", "flags"), [(6, set()), (5, {ScanFlag.NOT_WALKED})])
def test_the_number_of_elements_is_bounded(budget: int, flags: set[ScanFlag]) -> None:
    item = encode(EXPLICIT, [Element(0x00081140, "SQ", Items(((Element(0x00081155, "UI", b""),),), undefined=True))])
    result = scan(EXPLICIT, UID + item, ScanLimits(elements=budget))
    assert outcome(result) == (InstanceAttributes(sop_instance_uid="1.2.3.4"), None, flags)


# D3: group 0002.


@pytest.mark.parametrize("uid", [EXPLICIT, IMPLICIT, BIG])
def test_d3_file_meta_elements_in_the_data_set(uid: str) -> None:
    data = encode(uid, [Element(0x00020010, "UI", b"1.2\0"), Element(0x00080018, "UI", b"1.2.3.4\0")])
    result = scan(uid, data)
    assert outcome(result)[1:] == (None, {ScanFlag.FILE_META_ELEMENT})
    assert result.attributes.sop_instance_uid == "1.2.3.4"


def test_d3_an_unknown_vr_with_a_huge_length() -> None:
    result = scan(EXPLICIT, bytes.fromhex("02001000") + b"ZZ" + bytes.fromhex("0000 FEFFFFFF") + UID)
    assert result.problem is not None
    assert result.problem.kind is ProblemKind.TRUNCATED
    assert result.flags == {ScanFlag.FILE_META_ELEMENT, ScanFlag.UNKNOWN_VR}


@pytest.mark.parametrize(
    "unknown",
    [
        b"ZZ\x02\x00ab",  # the reserved bytes are not zero: a length of 16 bits
        b"ZZ\x00\x00\x02\x00\x00\x00ab",  # PS3.5 6.2: future VRs have a length of 32 bits
        b"ZZ\x00\x00\x00\x00\x00\x00",
        b"??\x02\x00ab",
        b"??\x00\x00",
    ],
)
def test_unknown_vrs(unknown: bytes) -> None:
    result = scan(EXPLICIT, UID + bytes.fromhex("09000110") + unknown + ROWS)
    assert outcome(result) == (SMALL, None, {ScanFlag.UNKNOWN_VR})


# D4: lengths, order, repetition.


@pytest.mark.parametrize("size", [5, 0x7FFFFFFF, 0xFFFFFFFD, 0xFFFFFFFE])
@pytest.mark.parametrize("uid", [EXPLICIT, IMPLICIT, BIG])
def test_d4_longer_than_what_is_there(uid: str, size: int) -> None:
    first = encode(uid, [Element(0x00080018, "UI", b"1.2.3.4\0")])
    result = scan(uid, first + header(uid, 0x7FE00010, "OW", size) + b"abcd")
    assert result.problem is not None
    assert result.problem.kind is ProblemKind.TRUNCATED
    assert f"ends {size - 4} bytes before the end of a value" in result.problem.detail
    assert result.attributes.sop_instance_uid == "1.2.3.4"


def test_d4_a_wanted_value_that_was_cut_short_is_no_fact() -> None:
    assert scan(EXPLICIT, UID[:-2]).attributes == InstanceAttributes()


def test_d4_over_long_values() -> None:
    uid = element(EXPLICIT, 0x00080018, "UI", b"1." + b"2" * 65_533)
    text = element(EXPLICIT, 0x00100020, "LO", b"x" * 65_535)
    result = scan(EXPLICIT, uid + text + ROWS)
    # A UID that was cut would be another's; of other text the beginning is better than nothing.
    assert result.attributes == InstanceAttributes(sop_instance_uid="", patient_id="x" * 1024, rows=512)
    assert result.problem is None
    assert result.flags == {ScanFlag.OVER_LONG_VALUE, ScanFlag.ODD_LENGTH}
    assert scan_pieces(EXPLICIT, byte_by_byte(uid + text + ROWS)) == result


@pytest.mark.parametrize(("size", "flags"), [(64, set()), (66, {ScanFlag.OVER_LONG_VALUE})])
def test_d4_uids_of_more_than_64_characters(size: int, flags: set[ScanFlag]) -> None:
    result = scan(EXPLICIT, element(EXPLICIT, 0x00080018, "UI", b"1" * size))
    assert outcome(result) == (InstanceAttributes(sop_instance_uid="1" * size), None, flags)


@pytest.mark.parametrize(("size", "flags"), [(1024, set()), (1026, {ScanFlag.OVER_LONG_VALUE})])
def test_d4_the_kept_part_of_a_value(size: int, flags: set[ScanFlag]) -> None:
    data = element(EXPLICIT, 0x00081030, "LO", b"x" * size)
    for pieces in ([data], byte_by_byte(data), cut(data, [700]), cut(data, [1033])):
        result = scan_pieces(EXPLICIT, pieces)
        assert outcome(result) == (InstanceAttributes(study_description="x" * 1024), None, flags)


def test_d4_odd_lengths() -> None:
    result = scan(EXPLICIT, element(EXPLICIT, 0x00080018, "UI", b"1.2") + ROWS)
    assert result.attributes == InstanceAttributes(sop_instance_uid="1.2", rows=512)
    assert outcome(result)[1:] == (None, {ScanFlag.ODD_LENGTH})


def test_d4_odd_fragments() -> None:
    pixels = header(EXPLICIT, 0x7FE00010, "OB", UNDEFINED) + element(EXPLICIT, ITEM, "", b"abc")
    result = scan(JPEG, UID + pixels + header(EXPLICIT, SEQUENCE_END, "", 0))
    assert outcome(result)[1:] == (None, {ScanFlag.ODD_LENGTH})


def test_d4_unsorted() -> None:
    result = scan(EXPLICIT, ROWS + UID)
    assert outcome(result) == (SMALL, None, {ScanFlag.UNSORTED})


def test_d4_items_are_sorted_for_themselves() -> None:
    inner = (Element(0x00080018, "UI", b""), Element(0x00280010, "US", b""))
    data = encode(EXPLICIT, [Element(0x00081140, "SQ", Items((inner, inner), undefined=True))])
    assert scan(EXPLICIT, data + element(EXPLICIT, 0x00081150, "UI", b"")).flags == frozenset()
    data = encode(EXPLICIT, [Element(0x00081140, "SQ", Items((inner[::-1],), undefined=True))])
    assert scan(EXPLICIT, data).flags == {ScanFlag.UNSORTED}


def test_d4_the_first_of_repeated_elements_counts() -> None:
    other = element(EXPLICIT, 0x00080018, "UI", b"9.9.9.9\0")
    result = scan(EXPLICIT, UID + other + ROWS)
    assert outcome(result) == (SMALL, None, {ScanFlag.REPEATED_ELEMENT})
    result = scan(EXPLICIT, UID + ROWS + other)
    assert result.attributes == SMALL
    assert result.flags == {ScanFlag.REPEATED_ELEMENT, ScanFlag.UNSORTED}
    assert scan_pieces(EXPLICIT, byte_by_byte(UID + ROWS + other)) == result


# D5: tags of items.


@pytest.mark.parametrize(
    "tag", [0xFFFEE001, 0x00080018, 0x00000000, ITEM_END], ids=["near", "element", "zero", "delimiter"]
)
def test_d5_a_bad_item_tag(tag: int) -> None:
    inside = struct.pack("<HHL", tag >> 16, tag & 0xFFFF, 4) + b"abcd"
    undefined = struct.pack("<HHL", tag >> 16, tag & 0xFFFF, UNDEFINED) + ROWS + header(EXPLICIT, ITEM_END, "", 0)
    sequence = header(EXPLICIT, 0x00081140, "SQ", UNDEFINED)
    data = UID + sequence + inside + undefined + inside + header(EXPLICIT, SEQUENCE_END, "", 0) + ROWS
    result = scan(EXPLICIT, data)
    assert outcome(result) == (SMALL, None, {ScanFlag.BAD_ITEM_TAG})


def test_d5_an_item_without_its_delimiter() -> None:
    sequence = header(EXPLICIT, 0x00081140, "SQ", UNDEFINED) + header(EXPLICIT, ITEM, "", UNDEFINED)
    result = scan(EXPLICIT, UID + sequence + ROWS + header(EXPLICIT, SEQUENCE_END, "", 0) + ROWS)
    assert outcome(result) == (SMALL, None, {ScanFlag.BAD_ITEM_TAG})


@pytest.mark.parametrize("tag", [ITEM_END, SEQUENCE_END])
@pytest.mark.parametrize("uid", [EXPLICIT, IMPLICIT, BIG])
def test_d5_a_delimiter_after_a_sequence_of_defined_length(uid: str, tag: int) -> None:
    data = encode(uid, [Element(0x00080018, "UI", b"1.2.3.4\0"), Element(0x00081140, "SQ", Items((), undefined=False))])
    result = scan(uid, data + header(uid, tag, "", 0) + encode(uid, [Element(0x00280010, "US", b"\2\2")]))
    attributes = InstanceAttributes(sop_instance_uid="1.2.3.4", rows=514)
    assert outcome(result) == (attributes, None, {ScanFlag.BAD_ITEM_TAG})


def test_d5_delimiters_with_a_length() -> None:
    sequence = header(EXPLICIT, 0x00081140, "SQ", UNDEFINED) + header(EXPLICIT, ITEM, "", UNDEFINED)
    for item_end, sequence_end in ((8, 0), (0, 8)):
        ends = header(EXPLICIT, ITEM_END, "", item_end) + header(EXPLICIT, SEQUENCE_END, "", sequence_end)
        result = scan(EXPLICIT, UID + sequence + ends + ROWS)
        assert outcome(result) == (SMALL, None, {ScanFlag.BAD_ITEM_TAG})


def test_an_item_in_implicit_vr_in_a_data_set_in_explicit_vr() -> None:
    sequence = header(EXPLICIT, 0x00081140, "SQ", UNDEFINED) + header(EXPLICIT, ITEM, "", UNDEFINED)
    item = element(IMPLICIT, 0x00081150, "UI", b"1.2\0") + element(IMPLICIT, 0x00081155, "UI", b"1.3\0")
    ends = header(EXPLICIT, ITEM_END, "", 0) + header(EXPLICIT, SEQUENCE_END, "", 0)
    data = UID + sequence + item + ends + ROWS
    result = scan(EXPLICIT, data)
    assert outcome(result) == (SMALL, None, {ScanFlag.IMPLICIT_ITEM})
    assert scan_pieces(EXPLICIT, byte_by_byte(data)) == result


# D6: identity, tiny data sets, other encodings.


def test_d6_no_identity() -> None:
    result = scan(EXPLICIT, ROWS)
    assert (result.attributes, result.problem) == (InstanceAttributes(rows=512), None)


@pytest.mark.parametrize("uid", CODINGS)
@pytest.mark.parametrize("size", range(1, 8))
def test_d6_tiny_data_sets(uid: str, size: int) -> None:
    for data in (bytes(size), b"\xff" * size, UID[:size], deflate(UID)[:size]):
        assert scan(uid, data).problem is not None
        assert scan_pieces(uid, byte_by_byte(data)) == scan(uid, data)


@pytest.mark.parametrize("size", range(1, 8))
def test_d6_tiny_data_sets_of_an_unknown_syntax(size: int) -> None:
    result = scan(PRIVATE, bytes(size))
    assert outcome(result)[1:] == (None, {ScanFlag.NOT_WALKED, ScanFlag.UNKNOWN_TRANSFER_SYNTAX})


@pytest.mark.parametrize("negotiated", CODINGS)
@pytest.mark.parametrize("sent", CODINGS)
def test_d6_another_syntax_than_negotiated(negotiated: str, sent: str) -> None:
    """The first element shows the encoding, even if its value is large."""
    elements = [
        Element(0x00080005, "CS", b"ISO_IR 100"),
        Element(0x00080018, "UI", b"1.2.3.4\0"),
        Element(0x00280010, "US", b"\2\2"),
        Element(0x7FE00010, "OW", bytes(1 << 20)),
    ]
    result = scan(negotiated, encode(sent, elements))
    if negotiated == sent:
        assert is_proven(result)
        assert result.attributes.rows == 514
    else:
        assert result.problem is not None
        assert result.attributes == InstanceAttributes()


# D8: large.


@pytest.mark.parametrize("uid", [EXPLICIT, IMPLICIT, BIG])
def test_d8_a_value_of_4_gib(uid: str) -> None:
    first = encode(uid, [Element(0x00080018, "UI", b"1.2.3.4\0")])
    last = encode(uid, [Element(0xFFFCFFFC, "OB", b"ab")])
    size = 0xFFFFFFFC
    piece = bytes(1 << 20)
    scanner = Scanner(uid)
    scanner.feed(first + header(uid, 0x7FE00010, "OW", size))
    peaks = array.array("q", bytes(8 * (size >> 20)))
    tracemalloc.start()
    try:
        for number in range(size >> 20):
            tracemalloc.reset_peak()
            scanner.feed(piece)
            peaks[number] = tracemalloc.get_traced_memory()[1]
        # Most of them, as other threads of this process may want memory at any moment.
        assert statistics.median(peaks) < 10_000
    finally:
        tracemalloc.stop()
    scanner.feed(piece[: size & 0xFFFFF] + last + b"\0")
    problem = scanner.finish().problem
    assert problem is not None
    offset = len(first) + len(header(uid, 0x7FE00010, "OW", 0)) + size + len(last) + 1
    assert offset > 1 << 32
    assert (problem.kind, problem.detail) == (ProblemKind.TRUNCATED, f"ends inside a header, at offset {offset}")


# Unknown transfer syntaxes.


@pytest.mark.parametrize("uid", [PRIVATE, "", "1.2.840.10008.1.2.6.1", "1.2.840.10008.1.2.6.2"])
def test_an_unknown_syntax_that_looks_explicit(uid: str) -> None:
    for pieces in ([LITTLE.data], byte_by_byte(LITTLE.data)):
        result = scan_pieces(uid, pieces)
        assert outcome(result) == (FACTS, None, {ScanFlag.UNKNOWN_TRANSFER_SYNTAX})
        assert is_proven(result)


@pytest.mark.parametrize(
    "data", [IMPLICIT_LITTLE.data, BIG_ENDIAN.data, b"<?xml version='1.0'?>", deflate(LITTLE.data)]
)
def test_an_unknown_syntax_that_looks_like_nothing_known(data: bytes) -> None:
    result = scan(PRIVATE, data)
    assert result.attributes == InstanceAttributes()
    assert result.problem is None
    assert result.flags == {ScanFlag.UNKNOWN_TRANSFER_SYNTAX, ScanFlag.NOT_WALKED}


# Anything.

ORDER: Final = {ScanFlag.UNSORTED, ScanFlag.REPEATED_ELEMENT}


@given(
    uid=st.sampled_from(CODINGS),
    elements=st.lists(trees, max_size=8),
    cuts=st.lists(st.integers(min_value=0), max_size=6),
)
def test_any_data_set_is_whole(uid: str, elements: list[Element], cuts: list[int]) -> None:
    data = encode(uid, [Element(0x00080018, "UI", b"1.2.3.4\0"), *elements])
    result = scan_pieces(uid, cut(data, cuts))
    assert result == scan(uid, data)
    assert is_proven(result)
    assert result.flags <= ORDER
    assert result.attributes.sop_instance_uid == "1.2.3.4"


@given(
    uid=st.sampled_from([EXPLICIT, IMPLICIT, BIG]),
    elements=st.lists(trees, max_size=5),
    last=trees,
    data=st.data(),
)
def test_any_data_set_that_was_cut_is_not(
    uid: str, elements: list[Element], last: Element, data: st.DataObject
) -> None:
    before = encode(uid, [Element(0x00080018, "UI", b"1.2.3.4\0"), *elements])
    whole = before + encode(uid, [last])
    size = data.draw(st.integers(len(before) + 1, len(whole) - 1))
    problem = scan(uid, whole[:size]).problem
    assert problem is not None
    assert problem.kind is ProblemKind.TRUNCATED


@settings(max_examples=200)
@given(
    name=st.sampled_from(sorted(GOLDENS)),
    edits=st.lists(st.tuples(st.integers(min_value=0), st.integers(0, 3), st.binary(max_size=9)), max_size=4),
    cuts=st.lists(st.integers(min_value=0), max_size=4),
    limits=st.builds(ScanLimits, depth=st.integers(0, 4), elements=st.integers(0, 30), value_bytes=st.integers(0, 30)),
    limited=st.booleans(),
)
def test_mutations_never_raise(
    name: str,
    edits: list[tuple[int, int, bytes]],
    cuts: list[int],
    limits: ScanLimits,
    limited: bool,
) -> None:
    uid, data_set, _ = GOLDENS[name]
    data = bytearray(data_set.data)
    for at, removed, put in edits:
        start = at % (len(data) + 1)
        data[start : start + removed] = put
    limits = limits if limited else ScanLimits()
    for syntax in {uid, EXPLICIT, PRIVATE}:
        assert scan_pieces(syntax, cut(bytes(data), cuts), limits) == scan(syntax, bytes(data), limits)


@given(
    uid=st.sampled_from([*CODINGS, PRIVATE]),
    data=st.binary(max_size=200),
    cuts=st.lists(st.integers(min_value=0), max_size=4),
)
def test_any_bytes_never_raise(uid: str, data: bytes, cuts: list[int]) -> None:
    result = scan_pieces(uid, cut(data, cuts))
    assert result == scan(uid, data)
    assert result.problem is None or (result.problem.detail.isascii() and result.problem.detail.isprintable())


def test_a_walk_reports_that_it_has_stopped() -> None:
    walk = StreamWalker(EXPLICIT_LITTLE, ())
    walk.feed(UID)
    assert not walk.stopped
    walk.feed(header(EXPLICIT, ITEM, "", 0))
    assert walk.stopped
