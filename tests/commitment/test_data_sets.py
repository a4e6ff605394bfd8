"""The data sets of storage commitment: golden bytes, any value, pydicom's decoding, and invalid bytes."""

import io
import sys
import zlib
from collections.abc import Callable, Iterator
from typing import Any, Final

import pydicom
import pytest
from hypothesis import given, strategies as st
from pydicom.sequence import Sequence
from tests.commitment.data_set_goldens import (
    BIG_ENDIAN,
    CT,
    DEFLATED,
    EXPLICIT,
    IMPLICIT,
    JPEG,
    READ,
    REQUEST,
    RESULT,
    WRITTEN,
)
from tests.wire.golden import Golden, golden

from dicomport.commitment.data_sets import CommitmentDataSetError, CommitmentRequest, CommitmentResult, SOPReference
from dicomport.encoding.datasets import DataSetWriter
from dicomport.encoding.headers import (
    IMPLICIT_LITTLE,
    ITEM,
    ITEM_DELIMITER,
    SEQUENCE_DELIMITER,
    UNDEFINED_LENGTH,
    encoding_of,
)
from dicomport.standard import Status, find_transfer_syntax
from dicomport.wire import FileMeta, encode_file_meta

MAX_BYTES: Final = 1 << 20
SYNTAXES: Final = (IMPLICIT, EXPLICIT, BIG_ENDIAN, DEFLATED, JPEG, "1.2.3.4")
"""The last is unknown: any such syntax differs from Explicit VR Little Endian only in pixel data."""

uids: Final = st.text("0123456789.", min_size=1, max_size=64)
references: Final = st.builds(SOPReference, uids, uids)
requests: Final = st.builds(CommitmentRequest, uids, st.lists(references, min_size=1, max_size=5).map(tuple))
reasons: Final = st.integers(1, 0xFFFF).map(Status)
results: Final = st.builds(
    CommitmentResult,
    uids,
    st.lists(references, max_size=4).map(tuple),
    st.lists(st.tuples(references, reasons), max_size=4).map(tuple),
)


def refused(data: bytes, syntax: str = EXPLICIT, most: int = MAX_BYTES) -> int:
    """Return the status of a request's refusal."""
    with pytest.raises(CommitmentDataSetError) as refusal:
        CommitmentRequest.decode(data, syntax, most)
    assert len(refusal.value.status.comment) > 5
    return refusal.value.status.code


@pytest.mark.parametrize(("syntax", "bytes_", "value"), WRITTEN.values(), ids=WRITTEN)
def test_golden_bytes(syntax: str, bytes_: Golden, value: CommitmentRequest | CommitmentResult) -> None:
    assert value.encode(syntax) == bytes_.data
    assert type(value).decode(bytes_.data, syntax, MAX_BYTES) == value


@pytest.mark.parametrize(("syntax", "bytes_", "value"), READ.values(), ids=READ)
def test_data_sets_of_other_implementations_are_decoded(
    syntax: str, bytes_: Golden, value: CommitmentRequest | CommitmentResult
) -> None:
    assert type(value).decode(bytes_.data, syntax, MAX_BYTES) == value


@given(requests | results, st.sampled_from(SYNTAXES))
def test_any_value_is_read_as_it_was_written(value: CommitmentRequest | CommitmentResult, syntax: str) -> None:
    data = value.encode(syntax)
    assert len(data) % 2 == 0
    assert type(value).decode(data, syntax, MAX_BYTES) == value


# pydicom as the oracle, in both directions.


def part10(data: bytes, syntax: str) -> pydicom.FileDataset:
    """Read a data set with pydicom."""
    return pydicom.dcmread(io.BytesIO(encode_file_meta(FileMeta(transfer_syntax_uid=syntax)) + data))


def items(sequence: Any) -> list[tuple[str, str, int | None]]:
    return [(item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID, item.get("FailureReason")) for item in sequence]


@pytest.mark.parametrize("syntax", SYNTAXES[:-1])
def test_pydicom_reads_what_is_written(syntax: str) -> None:
    request = part10(REQUEST.encode(syntax), syntax)
    assert request.TransactionUID == "1.2.3"
    assert items(request.ReferencedSOPSequence) == [
        (one.sop_class_uid, one.sop_instance_uid, None) for one in REQUEST.references
    ]
    result = part10(RESULT.encode(syntax), syntax)
    assert items(result.ReferencedSOPSequence) == [("1.2.840.10008.5.1.4.1.1.4", "1.2.3.45", None)]
    assert items(result.FailedSOPSequence) == [("1.2.840.10008.5.1.4.1.1.2", "1.2.3.4", 0x0112)]


@pytest.mark.parametrize("undefined", [False, True], ids=["defined lengths", "undefined lengths"])
@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT, BIG_ENDIAN])
def test_data_sets_of_pydicom_are_decoded(syntax: str, *, undefined: bool) -> None:
    dataset = pydicom.Dataset()
    dataset.TransactionUID = "1.2.3"
    dataset.RetrieveAETitle = "ELSEWHERE"
    dataset.ReferencedSOPSequence = Sequence()
    for one in REQUEST.references:
        item = pydicom.Dataset()
        item.ReferencedSOPClassUID = one.sop_class_uid
        item.ReferencedSOPInstanceUID = one.sop_instance_uid
        item.StorageMediaFileSetUID = "1.2.3.4.5"
        item.is_undefined_length_sequence_item = undefined
        dataset.ReferencedSOPSequence.append(item)
    dataset["ReferencedSOPSequence"].is_undefined_length = undefined
    written = io.BytesIO()
    dataset.save_as(written, implicit_vr=syntax == IMPLICIT, little_endian=syntax != BIG_ENDIAN)
    assert CommitmentRequest.decode(written.getvalue(), syntax, MAX_BYTES) == REQUEST


# Invalid requests.


def explicit(text: str) -> bytes:
    return golden(text, "little").data


UID_ELEMENT: Final = "08 00 95 11 'UI' [06 00] '1.2.3' 00 "
REFERENCED: Final = "08 00 99 11 'SQ' 00 00 "
CLASS: Final = "08 00 50 11 'UI' [06 00] '1.2.4' 00 "
INSTANCE: Final = "08 00 55 11 'UI' [06 00] '1.2.5' 00 "

BAD: Final[dict[str, tuple[str, int]]] = {
    "nothing": ("", 0x0120),
    "no Transaction UID": (REFERENCED + "[24 00 00 00] FE FF 00 E0 [1C 00 00 00]" + CLASS + INSTANCE, 0x0120),
    "an empty Transaction UID": ("08 00 95 11 'UI' [00 00]", 0x0121),
    "a Transaction UID of padding": ("08 00 95 11 'UI' [02 00] 20 00", 0x0121),
    "a Transaction UID that is none": ("08 00 95 11 'UI' [04 00] '1.2a'", 0x0115),
    "a Transaction UID of 66 characters": ("08 00 95 11 'UI' [42 00] '" + "1" * 66 + "'", 0x0115),
    "no Referenced SOP Sequence": (UID_ELEMENT, 0x0120),
    "an empty Referenced SOP Sequence": (UID_ELEMENT + REFERENCED + "[00 00 00 00]", 0x0121),
    "an item without a class": (
        UID_ELEMENT + REFERENCED + "[16 00 00 00] FE FF 00 E0 [0E 00 00 00]" + INSTANCE,
        0x0120,
    ),
    "an item without an instance": (
        UID_ELEMENT + REFERENCED + "[16 00 00 00] FE FF 00 E0 [0E 00 00 00]" + CLASS,
        0x0120,
    ),
    "an empty item": (UID_ELEMENT + REFERENCED + "[08 00 00 00] FE FF 00 E0 [00 00 00 00]", 0x0120),
    "no item in a sequence": (UID_ELEMENT + REFERENCED + "[0E 00 00 00]" + CLASS, 0x0115),
    "a delimiter in a sequence of known length": (
        UID_ELEMENT + REFERENCED + "[08 00 00 00] FE FF DD E0 00 00 00 00",
        0x0115,
    ),
    "a delimiter where an element belongs": ("FE FF 0D E0 00 00 00 00", 0x0115),
    "half a header": (UID_ELEMENT + "08 00 99 11", 0x0115),
    "half a long header": (UID_ELEMENT + REFERENCED, 0x0115),
    "a value that ends too early": ("08 00 95 11 'UI' [10 00] '1.2.3' 00", 0x0115),
    "a sequence without its end": (UID_ELEMENT + REFERENCED + "FF FF FF FF FE FF 00 E0 [00 00 00 00]", 0x0115),
    "an item without its end": (UID_ELEMENT + REFERENCED + "FF FF FF FF FE FF 00 E0 FF FF FF FF" + CLASS, 0x0115),
}


@pytest.mark.parametrize(("text", "status"), BAD.values(), ids=BAD)
def test_an_incomplete_data_set_has_the_status_of_its_response(text: str, status: int) -> None:
    assert refused(explicit(text)) == status


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT, BIG_ENDIAN])
@pytest.mark.parametrize("place", ["sequence", "item", "other sequence"])
@pytest.mark.parametrize("value", [REQUEST, RESULT], ids=["request", "result"])
def test_a_misplaced_tag_in_undefined_length_is_refused(
    value: CommitmentRequest | CommitmentResult, place: str, syntax: str
) -> None:
    """Without the tag, the same bytes are read."""
    encoding = encoding_of(find_transfer_syntax(syntax))
    element = encoding.tagged_length.pack(0x0009, 0x0010, 0)
    writer = DataSetWriter(syntax)
    uids = writer.uid(0x00081150, "1.2.4") + writer.uid(0x00081155, "1.2.5") + writer.number(0x00081197, 0x0112)

    def encoded(in_item: bytes, in_sequence: bytes, in_other: bytes = b"") -> bytes:
        item = encoding.item(ITEM, UNDEFINED_LENGTH) + uids + in_item + encoding.item(ITEM_DELIMITER, 0)
        end = in_sequence + encoding.item(SEQUENCE_DELIMITER, 0)
        sequences = (encoding.header(tag, b"SQ", UNDEFINED_LENGTH) + item + end for tag in (0x00081198, 0x00081199))
        other = encoding.header(0x00081111, b"SQ", UNDEFINED_LENGTH) + in_other + encoding.item(SEQUENCE_DELIMITER, 0)
        return writer.finish(other, writer.uid(0x00081195, "1.2.3"), *sequences)

    type(value).decode(encoded(b"", b""), syntax, MAX_BYTES)
    misplaced = {"item": (encoding.item(ITEM, 0), b""), "sequence": (b"", element)}.get(place, (b"", b"", element))
    with pytest.raises(CommitmentDataSetError) as refusal:
        type(value).decode(encoded(*misplaced), syntax, MAX_BYTES)
    assert refusal.value.status.code == 0x0115


def test_sequences_within_sequences_end_somewhere() -> None:
    deep = "08 00 11 11 'SQ' 00 00 FF FF FF FF FE FF 00 E0 FF FF FF FF"
    assert refused(explicit(deep * 5000)) == 0x0115
    assert refused(explicit(deep * 5 + "FE FF 0D E0 00 00 00 00 FE FF DD E0 00 00 00 00" * 5)) == 0x0120


def test_inflated_data_sets_are_limited() -> None:
    data = REQUEST.encode(DEFLATED)
    whole = len(REQUEST.encode(EXPLICIT))
    assert CommitmentRequest.decode(data, DEFLATED, whole) == REQUEST
    assert refused(data, DEFLATED, whole - 1) == 0x0213
    deflater = zlib.compressobj(wbits=-15)
    bomb = deflater.compress(bytes(50_000_000)) + deflater.flush()
    assert len(bomb) < 60_000
    assert refused(bomb, DEFLATED) == 0x0213


def test_an_invalid_deflated_data_set_is_refused() -> None:
    assert refused(b"\xff" * 20, DEFLATED) == 0x0115
    assert refused(REQUEST.encode(DEFLATED)[:-4], DEFLATED) == 0x0115


def spoiled() -> Iterator[tuple[str, Callable[[bytes, str, int], object], bytes]]:
    for syntax, bytes_, value in (*WRITTEN.values(), *READ.values()):
        for data in (*bytes_.mutations(), *bytes_.truncations()):
            yield syntax, type(value).decode, data


def test_spoiled_lengths_and_early_ends_are_refused_or_read() -> None:
    outcomes = set()
    for syntax, decode, data in spoiled():
        try:
            decode(data, syntax, MAX_BYTES)
        except CommitmentDataSetError as error:
            outcomes.add(error.status.code)
        else:
            outcomes.add(0)
    assert outcomes == {0x0000, 0x0115, 0x0120}


@given(st.binary(max_size=300), st.sampled_from(SYNTAXES))
def test_no_bytes_do_any_harm(data: bytes, syntax: str) -> None:
    for kind in (CommitmentRequest, CommitmentResult):
        try:
            value = kind.decode(data, syntax, MAX_BYTES)
        except CommitmentDataSetError:
            continue
        assert kind.decode(value.encode(syntax), syntax, MAX_BYTES) == value


def test_a_big_request_is_read_in_one_pass() -> None:
    many = CommitmentRequest("1.2", tuple(SOPReference(CT.sop_class_uid, f"1.2.{number}") for number in range(20_000)))
    assert CommitmentRequest.decode(many.encode(IMPLICIT), IMPLICIT, 1 << 24) == many


# Floods of empty elements and items: 16 MiB have room for two million.

UID_IN_IMPLICIT: Final = explicit("08 00 95 11 [06 00] 00 00 '1.2.3' 00")
FLOODS: Final[dict[str, tuple[bytes, int]]] = {
    "zeros": (bytes(15 << 20), 0x0115),
    "zeros after a UID": (UID_IN_IMPLICIT + bytes(15 << 20), 0x0115),
    "ascending tags": (
        UID_IN_IMPLICIT + b"".join(IMPLICIT_LITTLE.header(0x00090000 + n, b"", 0) for n in range(1 << 20)),
        0x0115,
    ),
    "empty items": (
        UID_IN_IMPLICIT
        + IMPLICIT_LITTLE.header(0x00081199, b"", 15 << 20)
        + IMPLICIT_LITTLE.item(ITEM, 0) * (15 << 17),
        0x0120,
    ),
}


def calls_of(decode: Callable[[], object]) -> int:
    """Return the number of calls of functions."""
    calls = 0

    def count(_frame: object, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event in {"call", "c_call"}

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        decode()
    finally:
        sys.setprofile(before)
    return calls


@pytest.mark.parametrize(("data", "status"), FLOODS.values(), ids=FLOODS)
def test_a_flood_of_empty_elements_or_items_is_refused_with_little_work(data: bytes, status: int) -> None:
    statuses: list[int] = []
    assert calls_of(lambda: statuses.append(refused(data, IMPLICIT, 16 << 20))) < 20_000
    assert statuses == [status]


def test_a_flood_of_items_in_undefined_length_is_refused_before_its_end() -> None:
    """The items are walked, as only a delimiter shows their end."""
    items_ = IMPLICIT_LITTLE.item(ITEM, 0) * (15 << 17)
    flood = IMPLICIT_LITTLE.header(0x00081111, b"", UNDEFINED_LENGTH) + items_
    with pytest.raises(CommitmentDataSetError, match="more than 1000000 elements"):
        CommitmentRequest.decode(flood + IMPLICIT_LITTLE.item(SEQUENCE_DELIMITER, 0), IMPLICIT, 16 << 20)


def test_the_longest_usual_request_is_read() -> None:
    """A request of 16 MiB, in the encoding with the most headers."""
    writer = DataSetWriter(IMPLICIT)
    uids = writer.uid(0x00081150, CT.sop_class_uid) + writer.uid(0x00081155, "1.2.826.0.1.3680043.8.498." + "1" * 38)
    item = IMPLICIT_LITTLE.item(ITEM, UNDEFINED_LENGTH) + uids + IMPLICIT_LITTLE.item(ITEM_DELIMITER, 0)
    number = ((16 << 20) - 100) // len(item)
    sequence = IMPLICIT_LITTLE.header(0x00081199, b"", UNDEFINED_LENGTH) + item * number
    data = UID_IN_IMPLICIT + sequence + IMPLICIT_LITTLE.item(SEQUENCE_DELIMITER, 0)
    assert len(CommitmentRequest.decode(data, IMPLICIT, 16 << 20).references) == number
