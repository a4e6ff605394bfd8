"""A scan by example has the same result as a scan without one, after any earlier data sets."""

import random
from typing import Final

import pytest
from hypothesis import given, strategies as st
from tests.archive.goldens import GOLDENS
from tests.encoding.encode import CODINGS, EXPLICIT, Element, Items, encode
from tests.wire.golden import Golden

from dicomport.archive.scan.scanner import Scan, Scanner
from dicomport.encoding.headers import EXPLICIT_LITTLE, IMPLICIT_LITTLE, ITEM
from dicomport.encoding.templates import Matched, SeriesTemplate, SeriesTemplates

WANTED: Final = (0x00100010, 0x00200013, 0x00280010)


def scan(uid: str, data: bytes, model: SeriesTemplate | None = None, first: int | None = None) -> Scan:
    """Scan it in two pieces, of which the first one has so many bytes."""
    scanner = Scanner(uid, template=model)
    scanner.feed(data[:first])
    if first is not None:
        scanner.feed(data[first:])
    return scanner.finish()


def series(random_: random.Random) -> list[Element]:
    """Build a data set like those of a series: some values differ in length, and some elements are missing or added."""
    sequence = Items(
        ((Element(0x00080100, "SH", b"A" * (2 * random_.randrange(3))),),), undefined=random_.random() < 0.2
    )
    elements = [
        Element(0x00080008, "CS", b"ORIGINAL"),
        Element(0x00080018, "UI", b"1.2." + b"7" * random_.choice((2, 4))),
        Element(0x00080060, "CS", b"CT"),
        Element(0x00081032, "SQ", sequence),
        Element(0x00091010, "OB", bytes(random_.choice((8, 20)))),
        Element(0x00100010, "PN", b"A^B " * random_.choice((1, 1, 1, 300))),
        Element(0x00100020, "LO", b"12" * random_.randrange(3)),
        Element(0x00189999, "DS", b"1.5 "),
        Element(0x0020000D, "UI", b"1.3.66"),
        Element(0x00200013, "IS", random_.choice((b"1 ", b"99", b"100 ", b"7"))),
        Element(0x00280010, "US", b"\x02\0"),
        Element(0x7FE00010, "OW", bytes(2 * random_.randrange(50))),
    ]
    if random_.random() < 0.2:
        elements.pop(random_.randrange(len(elements)))
    if random_.random() < 0.1:
        at = random_.randrange(len(elements) - 1)
        elements[at], elements[at + 1] = elements[at + 1], elements[at]
    return elements


@given(
    uid=st.sampled_from(CODINGS),
    randoms=st.randoms(use_true_random=False),
    cuts=st.lists(st.one_of(st.none(), st.integers(0, 400)), min_size=1, max_size=8),
    truncated=st.integers(0, 40),
)
def test_a_model_changes_nothing(uid: str, randoms: random.Random, cuts: list[int | None], truncated: int) -> None:
    model = SeriesTemplate()
    for number, first in enumerate(cuts):
        data = encode(uid, series(randoms))
        if number == len(cuts) - 1:
            data = data[: len(data) - truncated]
        assert scan(uid, data, model, first) == scan(uid, data)


@pytest.mark.parametrize(("uid", "data_set"), [each[:2] for each in GOLDENS.values()], ids=GOLDENS)
def test_one_byte_of_difference_changes_nothing(uid: str, data_set: Golden) -> None:
    data = data_set.data
    for at in range(len(data)):
        model = SeriesTemplate()
        scan(uid, data, model)
        for by in (0x01, 0x20, 0xFF):
            other = data[:at] + bytes((data[at] ^ by,)) + data[at + 1 :]
            assert scan(uid, other, model) == scan(uid, other)


@pytest.mark.parametrize(("uid", "data_set"), [each[:2] for each in GOLDENS.values()], ids=GOLDENS)
def test_a_cut_changes_nothing(uid: str, data_set: Golden) -> None:
    model = SeriesTemplate()
    scan(uid, data_set.data, model)
    for other in (*data_set.truncations(), *data_set.mutations()):
        assert scan(uid, other, model) == scan(uid, other)
        assert scan(uid, data_set.data, model) == scan(uid, data_set.data)


def passed(model: SeriesTemplate, data: bytes) -> Matched | None:
    return model.match(EXPLICIT_LITTLE, memoryview(data), WANTED, 64)


def data_set(number: bytes = b"1 ", name: bytes = b"A^B ", more: bytes = b"") -> bytes:
    elements = [
        Element(0x00100010, "PN", name),
        Element(0x00189999, "OB", bytes(20)),
        Element(0x00200013, "IS", number),
        Element(0x00280010, "US", b"\x02\0"),
    ]
    return encode(EXPLICIT, elements) + more


NAME: Final = (b"PN", b"A^B ")
ROWS: Final = (b"US", b"\x02\0")


def test_the_second_one_is_not_walked() -> None:
    model = SeriesTemplate()
    assert passed(model, data_set()) is None
    values = {0x00100010: NAME, 0x00200013: (b"IS", b"2 "), 0x00280010: ROWS}
    assert passed(model, data_set(b"2 ")) == (len(data_set()), 0x00280010, b"US", 4, values)


def test_now_and_then_there_is_another_example() -> None:
    """Otherwise a value that has differed once would be examined separately for ever."""
    model = SeriesTemplate()
    walked = [number for number in range(2005) if passed(model, data_set(b"%d " % (number % 10))) is None]
    assert walked == [0, 1001, 2002]


def test_values_of_other_lengths_are_passed_over() -> None:
    model = SeriesTemplate()
    passed(model, data_set())
    longer = data_set(b"1000", b"ANDERS^B")
    values = {0x00100010: (b"PN", b"ANDERS^B"), 0x00200013: (b"IS", b"1000"), 0x00280010: ROWS}
    assert passed(model, longer) == (len(longer), 0x00280010, b"US", 4, values)


@pytest.mark.parametrize(
    "other",
    [
        data_set(b"1"),
        data_set(name=b"A" * 66),
        data_set()[:-1],
        encode(EXPLICIT, [Element(0x00100010, "LO", b"A^B ")]) + data_set()[12:],
        encode(EXPLICIT, [Element(0x00100011, "PN", b"A^B ")]) + data_set()[12:],
    ],
    ids=["odd length", "longer than is kept", "cut short", "another VR", "another tag"],
)
def test_data_sets_with_findings_are_walked(other: bytes) -> None:
    model = SeriesTemplate()
    passed(model, data_set())
    assert passed(model, other) is None


@pytest.mark.parametrize("missing", [2, 4, 6, 8])
def test_a_sequence_that_is_shorter_than_its_item_is_walked_each_time(missing: int) -> None:
    sequence = (
        IMPLICIT_LITTLE.header(0x00081115, b"SQ", 8) + IMPLICIT_LITTLE.item(ITEM, missing) + b"12345678"[:missing]
    )
    data = sequence + IMPLICIT_LITTLE.header(0x00100010, b"PN", 4) + b"A^B "
    model, uid = SeriesTemplate(), "1.2.840.10008.1.2"
    for _ in range(3):
        assert scan(uid, data, model) == scan(uid, data)


def test_elements_after_the_pixels_are_walked() -> None:
    model = SeriesTemplate()
    pixels = encode(EXPLICIT, [Element(0x7FE00010, "OW", bytes(2000))])
    padding = encode(EXPLICIT, [Element(0xFFFCFFFC, "OB", b"")])
    passed(model, data_set(more=pixels + padding))
    found = passed(model, data_set(more=pixels + padding))
    assert found is not None
    assert found.end == len(data_set(more=pixels))


@pytest.mark.parametrize("there", [0, 1, 2000, 100_000])
def test_pixels_need_not_be_there_yet(there: int) -> None:
    model = SeriesTemplate()
    whole = data_set(more=encode(EXPLICIT, [Element(0x7FE00010, "OW", bytes(100_000))]))
    begun = whole[: len(whole) - 100_000 + there]
    passed(model, begun)
    found = passed(model, begun)
    assert found is not None
    assert (found.end, found.number) == (len(whole), 5)
    for size in (there, 100_000):
        other = whole[: len(whole) - 100_000 + size]
        assert scan(EXPLICIT, other, model, len(begun)) == scan(EXPLICIT, other)


def test_changed_values_before_pending_pixels_are_skipped() -> None:
    model = SeriesTemplate()
    pixels = encode(EXPLICIT, [Element(0x7FE00010, "OW", bytes(100_000))])
    found = [passed(model, data_set(b"%d " % number, more=pixels)[:1000]) for number in range(3)]
    assert [one and one.number for one in found] == [None, 5, 5]


def test_pixels_of_another_length_are_passed_over() -> None:
    model = SeriesTemplate()
    for size in (2000, 100_000, 0, 70_000):
        whole = data_set(more=encode(EXPLICIT, [Element(0x7FE00010, "OW", bytes(size))]))
        found = passed(model, whole[:1000])
    assert found is not None
    assert found.end == len(whole)


def test_only_the_beginning_of_a_data_set_is_no_example() -> None:
    """Or all that follow would be walked from there."""
    model = SeriesTemplate()
    ends = {0, 12, 44, 54}
    for size in set(range(len(data_set()))) - ends:
        assert passed(model, data_set()[:size]) is None
    assert passed(model, data_set()) is None
    assert passed(model, data_set()) is not None


def test_a_long_data_set_is_compared_no_further_than_a_bound() -> None:
    model = SeriesTemplate()
    blocks = [Element(0x00091000 + number, "OB", bytes(10_000)) for number in range(10)]
    for _ in range(2):
        found = passed(model, encode(EXPLICIT, blocks))
    assert found is not None
    assert (found.number, found.end) == (6, 6 * 10_012)


def test_each_has_its_own_model_until_there_are_too_many() -> None:
    models = SeriesTemplates()
    first = models.of("first")
    assert models.of("first") is first
    for number in range(63):
        models.of(number)
    assert models.of("first") is first
    for number in range(64):
        models.of(number)
    assert models.of("first") is not first


def test_a_first_piece_may_end_between_two_elements() -> None:
    model = SeriesTemplate()
    for number in (b"1 ", b"1000", b"10"):
        passed(model, data_set(number))
    begun = data_set(b"100 ")[: -len(encode(EXPLICIT, [Element(0x00280010, "US", b"\x02\0")]))]
    found = passed(model, begun)
    assert found is not None
    assert (found.end, found.last, found.number) == (len(begun), 0x00200013, 3)
