"""Data sets that other receivers accept are stored byte for byte, with named deviations; truncated ones are refused."""

import contextlib
import logging
import random
import re
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pydicom
import pytest
from hypothesis import given, settings, strategies as st
from tests.archive.deviations import (
    CASES,
    CODESTREAM,
    ICON,
    REFUSED,
    SECONDARY_CAPTURE,
    Case,
    cases_in_files,
    encapsulated,
    first_elements,
    item,
    private_cases,
    refused,
    sequence,
    uid_of,
)
from tests.archive.sending import Receiver, findings, receiver, rows, stored_bytes
from tests.encoding.encode import (
    DEFLATED,
    EXPLICIT,
    JPEG,
    SEQUENCE_END,
    byte_by_byte,
    cut,
    deflate,
    element,
    header,
    scan,
    scan_pieces,
)

from dicomport import StorageSCP, StoreResponse, blocking
from dicomport.archive import Archive
from dicomport.encoding.deviations import ProblemKind, ScanFlag
from dicomport.encoding.errors import DataSetError
from dicomport.encoding.headers import encoding_of
from dicomport.encoding.walker import Walker
from dicomport.files import read_part10
from dicomport.scu import Instance
from dicomport.standard import find_transfer_syntax

TEST_FILES: Final = Path(pydicom.__file__).parent / "data" / "test_files"

all_cases = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


@pytest.fixture(name="received", scope="module")
def a_receiver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiver]:
    with receiver(tmp_path_factory.mktemp("archive")) as opened:
        yield opened


def send(received: Receiver, syntax: str, uid: str, data: bytes) -> StoreResponse:
    contexts = [(SECONDARY_CAPTURE, syntax)]
    with blocking.associate("127.0.0.1", received.port, contexts=contexts) as association:
        return association.c_store(Instance(SECONDARY_CAPTURE, uid, syntax, data))


def stored(received: Receiver, uid: str) -> list[bytes]:
    return [stored_bytes(path) for path in received.root.rglob(f"{uid}.dcm")]


def deviations_logged(records: list[logging.LogRecord]) -> list[str]:
    fields: list[dict[str, Any]] = [getattr(record, "fields", {}) for record in records]
    [found] = [each for each in fields if each.get("event") == "instance_stored"]
    return sorted(found.get("deviations", {}))


@pytest.mark.parametrize(("case", "uid"), cases_in_files(), ids=lambda each: getattr(each, "name", ""))
def test_deviating_data_sets_are_stored_byte_for_byte(
    received: Receiver, caplog: pytest.LogCaptureFixture, case: Case, uid: str
) -> None:
    with caplog.at_level(logging.INFO, "dicomport"):
        response = send(received, case.syntax, uid, case.data)
    assert response.status.code == case.status
    assert bool(response.error_comment) == (case.status != 0)
    assert stored(received, uid) == [case.data]
    assert deviations_logged(caplog.records) == sorted(case.deviations)


@all_cases
def test_its_neighbours_are_read_alike_in_any_piece(case: Case) -> None:
    result = scan(case.syntax, case.data)
    assert (result.problem, tuple(result.deviations)) == (None, case.deviations)
    assert result.attributes.sop_instance_uid == case.uid
    assert scan_pieces(case.syntax, byte_by_byte(case.data)) == result
    for size in (7, 100, 4096):
        assert scan_pieces(case.syntax, cut(case.data, range(0, len(case.data), size))) == result


def test_its_neighbours_are_stored_byte_for_byte(tmp_path: Path) -> None:
    counted: dict[str, int] = {}
    with contextlib.closing(Archive(tmp_path)) as archive, StorageSCP(archive, port=0).in_thread() as scp:
        received = Receiver(archive, scp.port)
        for case in CASES:
            # The second one of a sender is compared with the first one, and not walked from its beginning.
            statuses = [send(received, case.syntax, case.uid, case.data).status.code for _ in range(2)]
            assert statuses == [case.status] * 2, case.name
            assert stored(received, case.uid) == [case.data], case.name
            for name in case.deviations:
                counted[f"deviation.{name}"] = counted.get(f"deviation.{name}", 0) + 2
        assert {name: scp.counters.get(name) for name in counted} == counted
    states = {row["sop_instance_uid"]: row["state"] for row in rows(tmp_path)}
    assert {case.uid: states[case.uid] == "suspect" for case in CASES} == {case.uid: case.status != 0 for case in CASES}
    assert findings(tmp_path) == []


# Truncation ---------------------------------------------------------------------------------------------------------


def undetectable_cuts(case: Case) -> set[int]:
    """Return the lengths at which the data set ends where its lengths or its parts do, and after that in NULs."""
    ends = {sum(map(len, case.parts[:number])) for number in range(1, len(case.parts) + 1)}
    walker = Walker(case.data, encoding_of(find_transfer_syntax(case.syntax)))
    with contextlib.suppress(DataSetError):
        while (each := walker.element(len(case.data))) is not None:
            walker.skip(each[1], each[2], len(case.data))
            ends.add(walker.at)
    if case.deviations and case.deviations[-1].endswith("delimiter"):
        ends.add(max(ends) - len(case.data) + len(case.data.rstrip(b"\0")))
    ends |= set(range(len(case.data) - len(case.tail), len(case.data)))
    return {size for end in ends for size in range(end, end + 1 + leading_zeros(case.data[end:]))}


CUT: Final = [
    case
    for case in CASES
    if case.syntax != DEFLATED and len(case.data) < 2000 and case.name != "4 zeros after two fragments"
]
"""Without Number of Frames, the first one of two frames is a complete image."""


def leading_zeros(data: bytes) -> int:
    return len(data) - len(data.lstrip(b"\0"))


def is_complete_but_for_the_delimiter(case: Case, size: int) -> bool:
    """Return whether encapsulated pixels are cut in their delimiter, or in zeros after them."""
    delimiter = header(EXPLICIT, SEQUENCE_END, "", 0)
    rest = case.data[size:]
    return case.data[:size].rstrip(b"\0").endswith(CODESTREAM) and rest.rstrip(b"\0") in (b"", delimiter.rstrip(b"\0"))


@pytest.mark.parametrize("case", CUT, ids=lambda case: case.name)
def test_no_deviation_lets_a_truncated_data_set_pass(case: Case) -> None:
    data = case.data
    allowed = undetectable_cuts(case)
    for size in range(1, len(data)):
        if scan(case.syntax, data[:size]).problem is None:
            assert size in allowed or is_complete_but_for_the_delimiter(case, size), size


@pytest.mark.parametrize("name", REFUSED)
def test_possibly_truncated_data_sets_are_refused(received: Receiver, name: str) -> None:
    case = refused(name)
    assert send(received, case.syntax, case.uid, case.data).status.code == 0xC210
    assert stored(received, case.uid) == []


MULTI_FRAME: Final = (
    "SC_rgb_rle_2frame.dcm",
    "SC_rgb_rle_16bit_2frame.dcm",
    "SC_rgb_rle_32bit_2frame.dcm",
    "rtdose_rle.dcm",
    "examples_ybr_color.dcm",
)


def start_of_items(data: bytes) -> int:
    found = re.search(rb"\xe0\x7f\x10\0O[BW]\0\0\xff\xff\xff\xff", data)
    assert found is not None
    return found.end()


def fragment_ends(data: bytes) -> tuple[int, list[int]]:
    """Return where the Basic Offset Table ends, and each fragment; the delimiter follows the last one."""
    at = start_of_items(data)
    ends = []
    while data[at : at + 4] == b"\xfe\xff\x00\xe0":
        at += 8 + int.from_bytes(data[at + 4 : at + 8], "little")
        ends.append(at)
    assert data[at:] == b"\xfe\xff\xdd\xe0\0\0\0\0"
    return ends[0], ends[1:]


@pytest.mark.parametrize("table", [True, False], ids=["table", "no table"])
@pytest.mark.parametrize("zeros", [0, 4, 8])
def test_20_cuts_at_the_ends_of_fragments_are_refused(table: bool, zeros: int) -> None:
    cuts: list[tuple[str, str, bytes]] = []
    for name in MULTI_FRAME:
        part10 = read_part10(TEST_FILES / name)
        data = (TEST_FILES / name).read_bytes()[part10.offset :]
        if not table:
            start, _ = fragment_ends(data)
            data = data[: start_of_items(data)] + element(EXPLICIT, 0xFFFEE000, "", b"") + data[start:]
        start, ends = fragment_ends(data)
        syntax = part10.meta.transfer_syntax_uid
        cuts += [(name, syntax, data[:end]) for end in (start, *ends[:-1])]
        # The last fragment is there: only the delimiter is missing.
        whole = scan(syntax, data[: ends[-1]])
        assert (whole.problem, whole.deviations) == (None, ["missing-delimiter"]), name
    for name, syntax, part in random.Random(27).sample(cuts, 20):
        result = scan(syntax, part + bytes(zeros))
        assert result.problem is not None, (name, len(part))
        assert result.problem.kind is ProblemKind.TRUNCATED, (name, len(part))


@given(fragments=st.lists(st.binary(min_size=2, max_size=20), min_size=2, max_size=6), data=st.data())
def test_a_frame_in_several_fragments_is_never_whole_without_its_last(
    fragments: list[bytes], data: st.DataObject
) -> None:
    """A JPEG codestream in fragments: a cut between two of them looks like fewer fragments."""
    stream = b"\xff\xd8\xff" + b"".join(fragments).replace(b"\xff\xd9", b"") + b"\xff\xd9"
    step = len(stream) // len(fragments) + 1
    pieces = [stream[at : at + step] for at in range(0, len(stream), step)]
    number = data.draw(st.integers(1, len(pieces) - 1))
    frames = data.draw(st.sampled_from([None, 1, number]))
    start = b"".join(first_elements(JPEG, "1.2.3", frames))
    for table in ((), (0,)):
        for zeros in (0, 4):
            assert scan(JPEG, start + encapsulated(*pieces[:number], table=table, end=False) + bytes(zeros)).problem


def test_a_deflated_data_set_with_padding_is_refused_when_cut() -> None:
    data = deflate(b"".join(first_elements(DEFLATED, "1.2.3")) + bytes(100))
    for size in range(len(data) - 2):
        assert scan(DEFLATED, data[:size]).problem is not None


# Cost ---------------------------------------------------------------------------------------------------------------


def worst(size: int) -> bytes:
    """Make a data set of many searches: short sequences, each followed by bytes without a header."""
    short = sequence(EXPLICIT, ICON, item(EXPLICIT, b"\x11" * 400, missing=300), missing=300)
    follower = element(EXPLICIT, 0x00880904, "LO", b"ab")
    return b"".join(first_elements(EXPLICIT, "1.2.3")) + (short + follower) * (size // len(short + follower))


def test_searches_are_bounded_in_number_and_work() -> None:
    result = scan(EXPLICIT, worst(2_000_000))
    assert result.problem is not None
    assert ScanFlag.UNDERCOUNTED_SEQUENCE in result.flags
    assert scan(EXPLICIT, worst(10_000)).problem is None


def test_searches_take_no_more_time_in_small_pieces() -> None:
    """Processor time, as another process may take the processor."""
    data = worst(20_000)
    began = time.process_time()
    whole = scan(EXPLICIT, data)
    pieces = scan_pieces(EXPLICIT, byte_by_byte(data))
    assert pieces == whole
    assert time.process_time() - began < 5


def test_zeros_are_not_kept() -> None:
    import tracemalloc

    from dicomport.archive.scan.scanner import Scanner

    scanner = Scanner(EXPLICIT)
    scanner.feed(b"".join(first_elements(EXPLICIT, "1.2.3")))
    zeros = bytes(1 << 16)
    tracemalloc.start()
    try:
        for _ in range(1000):
            scanner.feed(zeros)
        assert tracemalloc.get_traced_memory()[0] < 100_000
    finally:
        tracemalloc.stop()
    assert scanner.finish().deviations == ["padding"]


# A private transfer syntax ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", private_cases(), ids=lambda case: case.name)
def test_a_private_transfer_syntax_is_stored_as_it_came(received: Receiver, case: Case) -> None:
    """A check of an attribute that was not read has not failed."""
    response = send(received, case.syntax, case.uid, case.data)
    assert (response.status.code, response.error_comment) == (0x0000, "")
    assert stored(received, case.uid) == [case.data]


def test_a_private_transfer_syntax_is_indexed_by_its_request(tmp_path: Path) -> None:
    [implicit, *_] = private_cases()
    with receiver(tmp_path) as received:
        assert send(received, implicit.syntax, implicit.uid, implicit.data).status.code == 0
    [row] = rows(tmp_path)
    assert (row["sop_instance_uid"], row["sop_class_uid"], row["state"]) == (implicit.uid, SECONDARY_CAPTURE, "stored")
    assert findings(tmp_path) == []


def test_attributes_are_checked_also_if_later_ones_are_not_read(received: Receiver) -> None:
    """The first elements of a deflated data set above the limit are known."""
    data = b"".join(first_elements(DEFLATED, "1.2.3.9")) + element(EXPLICIT, 0x7FE00010, "OB", bytes(17 << 20))
    assert send(received, DEFLATED, "1.2.3.8", deflate(data)).status.code == 0xA900
    assert send(received, DEFLATED, "1.2.3.9", deflate(data)).status.code == 0x0000


@settings(max_examples=30)
@given(case=st.sampled_from(CASES), cuts=st.lists(st.integers(min_value=0), max_size=6))
def test_any_split_reads_a_deviation_alike(case: Case, cuts: list[int]) -> None:
    assert scan_pieces(case.syntax, cut(case.data, cuts)) == scan(case.syntax, case.data)


def test_the_uids_of_the_cases_differ() -> None:
    assert len({case.uid for case in CASES}) == len(CASES)
    assert uid_of("a") != uid_of("b")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert CODESTREAM.endswith(b"\xff\xd9")
