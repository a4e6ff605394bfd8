"""The streaming walker, whose loop over elements is repeated for speed, agrees with the walker in memory."""

from collections.abc import Sequence
from typing import Final

import pytest
from hypothesis import HealthCheck, event, given, settings, strategies as st
from tests.archive.deviations import CASES, Case
from tests.archive.goldens import GOLDENS
from tests.encoding.encode import DEFLATED, Element, cut, encode, trees

from dicomport.encoding.deviations import ScanFlag
from dicomport.encoding.errors import DataSetError
from dicomport.encoding.headers import (
    AFTER_FILE_META,
    EXPLICIT_BIG,
    EXPLICIT_LITTLE,
    IMPLICIT_LITTLE,
    ITEM,
    PIXEL_DATA,
    UNDEFINED_LENGTH,
    Encoding,
    encoding_of,
)
from dicomport.encoding.limits import ScanLimits
from dicomport.encoding.streaming import StreamWalker
from dicomport.encoding.vr import FRAGMENT_VRS, KNOWN_VRS
from dicomport.encoding.walker import MAX_DEPTH, Walker
from dicomport.standard import find_transfer_syntax

ENCODINGS: Final = (IMPLICIT_LITTLE, EXPLICIT_LITTLE, EXPLICIT_BIG)
SYNTAXES: Final = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2")
SAMPLES: Final = [(uid, data_set.data) for uid, data_set, _ in GOLDENS.values() if uid != DEFLATED]

DEVIATING: Final = [case for case in CASES if case.syntax != DEFLATED and len(case.data) < 2000]

READ_ALIKE: Final = {ScanFlag.UNSORTED, ScanFlag.REPEATED_ELEMENT, ScanFlag.ODD_LENGTH, ScanFlag.FILE_META_ELEMENT}
"""Deviations that do not change how the bytes are read; the streaming walker tolerates others that do."""

Values = dict[int, tuple[bytes, bytes]]


class AllTags(frozenset[int]):
    def __contains__(self, tag: object) -> bool:
        return True


class RecordingWalker(Walker):
    """Remembers all headers, of nested elements too."""

    def __init__(self, data: bytes, encoding: Encoding) -> None:
        super().__init__(data, encoding)
        self.elements: list[tuple[int, bytes, int]] = []
        self.items: list[int] = []

    def element(self, end: int, *, delimited: bool = False) -> tuple[int, bytes, int] | None:
        found = super().element(end, delimited=delimited)
        if found is not None:
            self.elements.append(found)
        return found

    def item(self, end: int, *, delimited: bool = False) -> int | None:
        length = super().item(end, delimited=delimited)
        if length is not None:
            self.items.append(length)
        return length


def read_in_memory(encoding: Encoding, data: bytes) -> tuple[Values, bool] | None:
    """Return the values of defined length by tag, and whether the streaming walker reads the data set too."""
    walker = RecordingWalker(data, encoding)
    values: Values = {}
    try:
        while (element := walker.element(len(data))) is not None:
            tag, vr, length = element
            start = walker.at
            end = walker.skip(vr, length, len(data))
            if length != UNDEFINED_LENGTH:
                values.setdefault(tag, (vr, data[start:end]))
    except DataSetError:
        return None
    return values, _is_strict(walker.elements, walker.items)


def _is_strict(elements: Sequence[tuple[int, bytes, int]], items: Sequence[int]) -> bool:
    undefined = [(tag, vr) for tag, vr, length in elements if length == UNDEFINED_LENGTH]
    fragments = any(vr in FRAGMENT_VRS or (not vr and tag == PIXEL_DATA) for tag, vr in undefined)
    return (
        bool(elements)
        and all(tag >= 0x00010000 and (not vr or vr in KNOWN_VRS) for tag, vr, _ in elements)
        and all(vr in {b"", b"SQ", b"UN"} | FRAGMENT_VRS for _, vr in undefined)
        and not (fragments and UNDEFINED_LENGTH in items)
    )


def check(encoding: Encoding, data: bytes, cuts: Sequence[int]) -> None:
    walker = StreamWalker(encoding, AllTags(), ScanLimits(value_bytes=1 << 20))
    for piece in cut(data, cuts):
        walker.feed(memoryview(piece))
    walker.end()
    in_memory = read_in_memory(encoding, data)
    if (walker.problem is None and walker.flags <= READ_ALIKE) or (in_memory is not None and in_memory[1]):
        event("whole")
        assert walker.problem is None
        assert walker.flags <= READ_ALIKE | {ScanFlag.BAD_ITEM_TAG}  # A delimiter with a length, which is ignored.
        assert in_memory is not None
        assert in_memory[0] == walker.values


splits = st.lists(st.integers(min_value=0), max_size=6)
edits = st.lists(st.tuples(st.integers(min_value=0), st.integers(0, 3), st.binary(max_size=9)), max_size=3)


def edited(data: bytes, changes: list[tuple[int, int, bytes]]) -> bytes:
    octets = bytearray(data)
    for at, removed, put in changes:
        start = at % (len(octets) + 1)
        octets[start : start + removed] = put
    return bytes(octets)


@settings(max_examples=300)
@given(encoding=st.sampled_from(ENCODINGS), data=st.binary(max_size=200), cuts=splits)
def test_any_bytes_in_any_split_are_read_alike(encoding: Encoding, data: bytes, cuts: list[int]) -> None:
    check(encoding, data, cuts)


@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow])
@given(uid=st.sampled_from(SYNTAXES), elements=st.lists(trees, min_size=1, max_size=5), changes=edits, cuts=splits)
def test_any_spoiled_data_set_in_any_split_is_read_alike(
    uid: str, elements: list[Element], changes: list[tuple[int, int, bytes]], cuts: list[int]
) -> None:
    check(encoding_of(find_transfer_syntax(uid)), edited(encode(uid, elements), changes), cuts)


@settings(max_examples=300)
@given(case=st.sampled_from(DEVIATING), changes=edits, cuts=splits)
def test_any_deviating_data_set_in_any_split_is_read_alike(
    case: Case, changes: list[tuple[int, int, bytes]], cuts: list[int]
) -> None:
    check(encoding_of(find_transfer_syntax(case.syntax)), edited(case.data, changes), cuts)


@settings(max_examples=500)
@given(
    encoding=st.sampled_from(ENCODINGS),
    data=st.one_of(
        st.binary(max_size=200),
        st.builds(
            lambda case, changes: edited(case.data, changes),
            st.sampled_from(DEVIATING),
            edits,
        ),
    ),
    cuts=splits,
)
def test_any_split_of_any_bytes_has_the_same_result(encoding: Encoding, data: bytes, cuts: list[int]) -> None:
    """Flags and problems too, with all that the walker tolerates."""
    results = []
    for pieces in ([data], cut(data, cuts), [data[at : at + 1] for at in range(len(data))]):
        walker = StreamWalker(encoding, AllTags(), ScanLimits(searched_bytes=200))
        for piece in pieces:
            walker.feed(piece)
        walker.end()
        results.append((walker.values, walker.flags, walker.problem))
    assert results[1:] == results[:1] * 2


@pytest.mark.parametrize("case", DEVIATING, ids=lambda case: case.name)
def test_the_strict_walker_reads_no_deviation(case: Case) -> None:
    in_memory = read_in_memory(encoding_of(find_transfer_syntax(case.syntax)), case.data)
    assert (in_memory is not None and in_memory[1]) == (set(case.deviations) <= READ_ALIKE)


@settings(max_examples=300)
@given(sample=st.sampled_from(SAMPLES), changes=edits, cuts=splits)
def test_any_spoiled_example_in_any_split_is_read_alike(
    sample: tuple[str, bytes], changes: list[tuple[int, int, bytes]], cuts: list[int]
) -> None:
    uid, data = sample
    check(encoding_of(find_transfer_syntax(uid)), edited(data, changes), cuts)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_the_walker_goes_no_deeper_than_its_bound(encoding: Encoding) -> None:
    level = encoding.header(0x00081115, b"SQ", UNDEFINED_LENGTH) + encoding.item(ITEM, UNDEFINED_LENGTH)
    walker = Walker(level * 100_000, encoding)
    element = walker.element(len(walker.data))
    assert element is not None
    with pytest.raises(DataSetError, match=f"more than {MAX_DEPTH} sequences"):
        walker.skip(element[1], element[2], len(walker.data))


def test_a_data_set_begins_after_the_file_meta() -> None:
    assert AFTER_FILE_META >> 16 == 3


def test_a_sequence_of_eight_bytes_may_be_too_short_for_its_item() -> None:
    sequence = IMPLICIT_LITTLE.header(0x00081115, b"SQ", 8) + IMPLICIT_LITTLE.item(ITEM, 4) + b"1234"
    walker = StreamWalker(IMPLICIT_LITTLE, {0x00100010}, ScanLimits())
    walker.feed(sequence + IMPLICIT_LITTLE.header(0x00100010, b"PN", 4) + b"A^B ")
    walker.end()
    assert walker.flags == {ScanFlag.UNDERCOUNTED_SEQUENCE}
    assert walker.values == {0x00100010: (b"", b"A^B ")}


@pytest.mark.parametrize("rest", [b"\x10\0\x20", b"P", b"\x10\0\x20\0PN", b"\x10\0\x20\0x\0\2\0"])
def test_a_value_of_doubtful_length_needs_a_header_after_it(rest: bytes) -> None:
    uid = EXPLICIT_LITTLE.header(0x00080018, b"UI", 2) + b"1\0"
    no_vr = EXPLICIT_LITTLE.header(0x00100010, b"PN", 4).replace(b"PN", b"~\0") + b"A^B "
    walker = StreamWalker(EXPLICIT_LITTLE, {0x00080018, 0x00100010}, ScanLimits())
    walker.feed(uid + no_vr + rest)
    walker.end()
    assert walker.values == {0x00080018: (b"UI", b"1\0")}
    assert walker.problem is not None


def test_several_items_beyond_the_length_of_a_sequence_are_walked() -> None:
    item = EXPLICIT_LITTLE.item(ITEM, 12) + EXPLICIT_LITTLE.header(0x00081150, b"UI", 4) + b"1.2\0"
    sequence = EXPLICIT_LITTLE.header(0x00081115, b"SQ", len(item)) + 4 * item
    walker = StreamWalker(EXPLICIT_LITTLE, {0x00100010}, ScanLimits())
    walker.feed(sequence + EXPLICIT_LITTLE.header(0x00100010, b"PN", 4) + b"A^B ")
    walker.end()
    assert walker.problem is None
    assert walker.flags == {ScanFlag.UNDERCOUNTED_SEQUENCE}
    assert walker.values == {0x00100010: (b"PN", b"A^B ")}


@pytest.mark.parametrize("missing", [2, 4, 6])
def test_a_sequence_of_ten_bytes_may_be_too_short_for_its_item(missing: int) -> None:
    content = b"12" + b"34567890"[:missing]
    sequence = IMPLICIT_LITTLE.header(0x00081115, b"SQ", 10) + IMPLICIT_LITTLE.item(ITEM, len(content)) + content
    walker = StreamWalker(IMPLICIT_LITTLE, {0x00100010}, ScanLimits())
    walker.feed(sequence + IMPLICIT_LITTLE.header(0x00100010, b"PN", 4) + b"A^B ")
    walker.end()
    assert walker.flags == {ScanFlag.UNDERCOUNTED_SEQUENCE}
    assert walker.values == {0x00100010: (b"", b"A^B ")}


def test_an_element_of_odd_length_is_not_read_as_a_sequence() -> None:
    """The first bytes of a value may look like an item."""
    value = IMPLICIT_LITTLE.item(ITEM, 6) + b"1"
    walker = StreamWalker(IMPLICIT_LITTLE, {0x00100010}, ScanLimits())
    walker.feed(
        IMPLICIT_LITTLE.header(0x00091010, b"", len(value))
        + value
        + IMPLICIT_LITTLE.header(0x00100010, b"PN", 4)
        + b"A^B "
    )
    walker.end()
    assert walker.flags == {ScanFlag.ODD_LENGTH}
    assert walker.values == {0x00100010: (b"", b"A^B ")}
