"""Conversion loses nothing: each element of both sides is compared, as encoded where the order of bytes allows."""

import contextlib
import dataclasses
import io
import itertools
import os
import struct
import subprocess
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import pydicom
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from pydicom.datadict import dictionary_has_tag, dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.pixels.utils import pixel_array
from pydicom.sequence import Sequence
from pydicom.uid import UID
from tests.requirements import require_program
from tests.scu.data import BIG_ENDIAN, CT, DEFLATED, EXPLICIT, FILES, IMPLICIT, JPEG, bare, data_set_of, part10

from dicomport.scu import Instance, NotSendableError, find, instance_from_dataset, instance_from_path
from dicomport.scu.inputs.locations import InMemory, stamp_of
from dicomport.scu.inputs.temporary import SpooledRegion
from dicomport.scu.transform.codestreams import jpeg_2000_size, jpeg_size, rle_lengths
from dicomport.scu.transform.conversion import alternatives, convert
from dicomport.scu.transform.pixels import can_decompress
from dicomport.wire import FileMeta, encode_file_meta

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pydicom")

RLE: Final = "1.2.840.10008.1.2.5"
JPEG_LOSSLESS: Final = "1.2.840.10008.1.2.4.70"
JPEG_LS: Final = "1.2.840.10008.1.2.4.80"
JPEG_2000_LOSSLESS: Final = "1.2.840.10008.1.2.4.90"
LOSSLESS: Final = (
    "1.2.840.10008.1.2.4.57",
    JPEG_LOSSLESS,
    JPEG_LS,
    JPEG_2000_LOSSLESS,
    "1.2.840.10008.1.2.4.201",
    "1.2.840.10008.1.2.4.202",
    RLE,
)
PLAIN: Final = (EXPLICIT, IMPLICIT, DEFLATED)

PIXEL_DATA: Final = 0x7FE00010
DAMAGED: Final = "the data set is damaged, or not in its transfer syntax: "


def encoded(instance: Instance) -> bytes:
    return b"".join(bytes(chunk) for chunk in instance.chunks(1 << 20))


def dataset_of(instance: Instance) -> pydicom.FileDataset:
    meta = FileMeta(
        media_storage_sop_class_uid=instance.sop_class_uid,
        media_storage_sop_instance_uid=instance.sop_instance_uid,
        transfer_syntax_uid=instance.transfer_syntax_uid,
    )
    return pydicom.dcmread(io.BytesIO(encode_file_meta(meta) + encoded(instance)))


def memory(data: bytes, syntax: str = EXPLICIT) -> Instance:
    return Instance(CT, "1.2.3", syntax, data)


def made(syntax: str = EXPLICIT, **elements: Any) -> Dataset:
    """Make a data set of these elements."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = UID(syntax)
    dataset.SOPClassUID, dataset.SOPInstanceUID = CT, "1.2.3"
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    return dataset


def why_not(instance: Instance, to: str = IMPLICIT) -> str:
    with pytest.raises(NotSendableError) as error:
        convert(instance, to)
    return str(error.value)


def tags_of(dataset: Dataset) -> list[int]:
    return [int(tag) for tag in dataset.keys()]  # noqa: SIM118  # iterated, it would give elements


def assert_same(before: Dataset, after: Dataset, *, swapped: bool = False, but: Iterable[int] = ()) -> None:
    """Each element of the one is in the other, with the same value: the same bytes, unless their order has changed."""
    tags = {tag for tag in tags_of(before) if tag & 0xFFFF} - {*but}
    assert {*tags_of(after)} - {*but} == tags
    for tag in tags:
        one: Any = before.get_item(tag)
        other: Any = after.get_item(tag)
        if is_sequence(tag, one):
            assert len(before[tag].value) == len(after[tag].value)
            for item, same in zip(before[tag].value, after[tag].value, strict=True):
                assert_same(item, same, swapped=swapped)
        elif not swapped and isinstance(one, RawDataElement) and isinstance(other, RawDataElement):
            assert one.value == other.value, f"({tag:08X})"
        else:  # pydicom has examined it
            assert_same_value(before[tag], after[tag])


def is_sequence(tag: int, item: DataElement | RawDataElement | None) -> bool:
    vr = item.VR if item is not None else None
    return vr == "SQ" or (vr is None and dictionary_has_tag(tag) and dictionary_VR(tag) == "SQ")


def assert_same_value(before: DataElement, after: DataElement) -> None:
    if before.is_empty:
        assert after.is_empty
    elif before.VR in ("OW", "OL", "OF", "OD", "OV"):
        width = {"OW": 2, "OL": 4, "OF": 4, "OD": 8, "OV": 8}[before.VR]
        value = bytes(before.value)
        words = [value[at : at + width][::-1] for at in range(0, len(value), width)]
        assert b"".join(words) == after.value
    else:
        assert before.value == after.value


# Possible conversions.


def test_plain_encodings_become_one_another_but_never_big_endian() -> None:
    assert alternatives(EXPLICIT) == (IMPLICIT, DEFLATED)
    assert alternatives(IMPLICIT) == (EXPLICIT, DEFLATED)
    assert alternatives(DEFLATED) == (EXPLICIT, IMPLICIT)
    assert alternatives(BIG_ENDIAN) == (EXPLICIT, IMPLICIT, DEFLATED)


@pytest.mark.parametrize(
    "syntax",
    [
        JPEG,  # baseline
        "1.2.840.10008.1.2.4.51",
        "1.2.840.10008.1.2.4.91",  # JPEG 2000, may be either
        "1.2.840.10008.1.2.4.81",  # JPEG-LS near-lossless
        "1.2.840.10008.1.2.4.203",  # HTJ2K, may be either
        "1.2.840.10008.1.2.4.102",  # MPEG-4
        "1.2.840.10008.1.2.4.94",  # JPIP
        "1.2.826.0.1.3680043.99.9",
        "",
    ],
)
def test_lossy_and_unknown_syntaxes_are_not_converted(syntax: str) -> None:
    assert alternatives(syntax) == ()
    assert "cannot be converted to Explicit VR Little Endian without loss" in why_not(memory(bare(), syntax), EXPLICIT)


@pytest.mark.parametrize("syntax", LOSSLESS)
def test_lossless_syntaxes_are_decompressed_with_a_decoder(syntax: str) -> None:
    assert alternatives(syntax) in ((), (EXPLICIT, IMPLICIT))


def test_nothing_is_compressed_by_a_codec_or_becomes_big_endian() -> None:
    for to in (RLE, JPEG_LS, BIG_ENDIAN, EXPLICIT):
        assert why_not(memory(bare(), EXPLICIT), to).endswith("without loss")


# Every plain file.

REFUSED: Final = {
    "MR_truncated.dcm": f"{DAMAGED}ends inside an element, at offset 1154",
    "rtdose_expb.dcm": "programs disagree on the byte order of its pixels (PS3.5 7.3)",
    "rtdose_expb_1frame.dcm": "programs disagree on the byte order of its pixels (PS3.5 7.3)",
}
PLAIN_FILES: Final = [
    item for item in find([FILES]) if isinstance(item, Instance) and item.transfer_syntax_uid in (*PLAIN, BIG_ENDIAN)
]


@pytest.mark.parametrize("instance", PLAIN_FILES, ids=lambda item: Path(item.name).name)
def test_each_uncompressed_file_is_converted_to_each_possible_syntax(instance: Instance) -> None:
    before = dataset_of(instance)
    for to in alternatives(instance.transfer_syntax_uid):
        reason = REFUSED.get(Path(instance.name).name)
        if reason and not (to == DEFLATED and instance.transfer_syntax_uid == EXPLICIT):
            assert why_not(instance, to) == reason
            continue
        converted = convert(instance, to)
        after = dataset_of(converted)

        assert converted.transfer_syntax_uid == to
        assert converted.converted_from == instance.transfer_syntax_uid
        assert converted.path == instance.path
        assert converted.stamp == instance.stamp == stamp_of(Path(instance.name).stat())
        assert converted.sop_class_uid == instance.sop_class_uid
        assert converted.sop_instance_uid == instance.sop_instance_uid
        assert_same(before, after, swapped=instance.transfer_syntax_uid == BIG_ENDIAN)
        assert after.original_encoding == (to == IMPLICIT, True)


@pytest.mark.parametrize(
    ("big", "little"),
    [
        ("MR_small_bigendian.dcm", "MR_small.dcm"),
        ("MR_small_expb.dcm", "MR_small.dcm"),
        ("SC_rgb_small_odd_big_endian.dcm", "SC_rgb_small_odd.dcm"),
        ("liver_expb_1frame.dcm", "liver_1frame.dcm"),
    ],
)
def test_big_endian_pixels_become_those_of_the_same_image_in_little_endian(big: str, little: str) -> None:
    converted = dataset_of(convert(instance_from_path(FILES / big), EXPLICIT))

    assert converted.PixelData == pydicom.dcmread(FILES / little).PixelData


def test_a_round_trip_restores_the_bytes() -> None:
    for name in ("CT_small.dcm", "rtplan.dcm", "reportsi.dcm", "test-SR.dcm", "examples_overlay.dcm"):
        instance = instance_from_path(FILES / name)
        there = convert(instance, alternatives(instance.transfer_syntax_uid)[0])
        back = convert(there, instance.transfer_syntax_uid)
        again = convert(back, there.transfer_syntax_uid)

        assert encoded(again) == encoded(there)
        assert back.converted_from == instance.transfer_syntax_uid


# Elements.


ALL_VRS: Final[dict[int, tuple[str, Any]]] = {
    0x00080005: ("CS", "ISO_IR 100"),
    0x00080008: ("CS", ["ORIGINAL", "PRIMARY"]),
    0x00080054: ("AE", "STORE"),
    0x00080020: ("DA", "20200101"),
    0x0008002A: ("DT", "20200101120000"),
    0x00080030: ("TM", "120000"),
    0x00080119: ("UC", "a long text"),
    0x00081190: ("UR", "http://example.org"),
    0x00100010: ("PN", "Müller^A"),
    0x00101010: ("AS", "030Y"),
    0x001021B0: ("LT", "a long text"),
    0x00180050: ("DS", ["1.50", " 2 "]),
    0x00189219: ("SS", -2),
    0x00186018: ("UL", 70000),
    0x00186020: ("SL", -70000),
    0x00200013: ("IS", "+01"),
    0x00209057: ("UL", 5),
    0x00280009: ("AT", [0x00181063, 0x00181065]),
    0x00282000: ("OB", b"\1\2\3\4"),
    0x00340005: ("OB", b"\1\2"),
    0x0040A160: ("UT", "text"),
    0x0040A161: ("FD", [1.5, -2.25]),
    0x00400310: ("ST", "x"),
    0x00660016: ("OF", b"\1\2\3\4\5\6\7\x08"),
    0x00660022: ("OD", b"\1\2\3\4\5\6\7\x08"),
    0x00660040: ("OL", b"\1\2\3\4\5\6\7\x08"),
    0x00720082: ("SV", -(1 << 40)),
    0x00720083: ("UV", 1 << 60),
    0x00720081: ("OV", b"\1\2\3\4\5\6\7\x08"),
    0x00720078: ("UL", [1, 2]),
    0x00720076: ("FL", 1.5),
    0x00090010: ("LO", "CREATOR"),
    0x00091001: ("US", [1, 0x1234]),
    0x00091002: ("OW", b"\1\2\3\4"),
    0x00091003: ("FD", 0.1),
}


def all_vrs(syntax: str) -> Dataset:
    """Make a data set with each VR, also within sequences."""

    def level() -> Dataset:
        dataset = Dataset()
        for tag, (vr, value) in ALL_VRS.items():
            dataset.add_new(tag, vr, value)
        return dataset

    dataset = made(syntax)
    dataset.update(level())
    inner = level()
    inner.add_new(0x00081140, "SQ", Sequence([level(), Dataset()]))
    inner[0x00081140].is_undefined_length = True
    dataset.add_new(0x00081115, "SQ", Sequence([inner]))
    dataset.add_new(0x00081250, "SQ", Sequence([]))
    return dataset


@pytest.mark.parametrize("to", PLAIN)
def test_numbers_of_each_vr_are_converted_from_big_endian(to: str) -> None:
    instance = instance_from_dataset(all_vrs(BIG_ENDIAN))
    expected = dataset_of(instance)

    found = dataset_of(convert(instance, to))

    if to != IMPLICIT:
        assert_same(expected, found, swapped=True)
    else:
        explicit = dataset_of(convert(instance, EXPLICIT))
        assert_same(explicit, found)


def test_each_vr_survives_implicit_and_private_ones_return_as_un() -> None:
    instance = instance_from_dataset(all_vrs(EXPLICIT))

    implicit = convert(instance, IMPLICIT)
    back = convert(implicit, EXPLICIT)

    assert_same(dataset_of(instance), dataset_of(implicit))
    assert_same(dataset_of(instance), dataset_of(back))
    found = dataset_of(back)
    for tag, (vr, _) in ALL_VRS.items():
        item = found.get_item(tag)
        assert item is not None
        expected = {0x00091001: "UN", 0x00091002: "UN", 0x00091003: "UN", 0x00282000: "OB"}.get(tag, vr)
        assert expected == item.VR, f"{tag:08X}"


def test_text_is_not_looked_into() -> None:
    """For each kind of damage."""
    element = b"\x10\0\0\x20LO" + struct.pack("<H", 12) + b"\xff\xfe\\  x \\\x80^^ "
    number = b"\x18\0\x50\0DS" + struct.pack("<H", 8) + b" 1,5x\\  "
    uid = b"\x20\0\x0d\0UI" + struct.pack("<H", 6) + b"1.2 .\0"
    data = b"\x08\0\x05\0CS" + struct.pack("<H", 10) + b"ISO_IR 192" + element + number + uid

    implicit = convert(memory(data), IMPLICIT)

    assert b"\xff\xfe\\  x \\\x80^^ " in encoded(implicit)
    assert encoded(convert(implicit, EXPLICIT)) == data


def implicit_element(tag: int, value: bytes) -> bytes:
    return struct.pack("<HHL", tag >> 16, tag & 0xFFFF, len(value)) + value


@pytest.mark.parametrize("value", [b"", b"\1\0\0\0", b"\1\0\1\0\1\0"], ids=len)
def test_a_pixel_representation_of_another_length_is_ignored(value: bytes) -> None:
    """The values stay unsigned, as without it."""
    data = implicit_element(0x00280103, value) + implicit_element(0x00280107, b"\xf0\xff")

    converted = encoded(convert(memory(data, IMPLICIT), EXPLICIT))

    assert converted == (
        struct.pack("<HH2sH", 0x28, 0x103, b"US", len(value)) + value + bytes.fromhex("2800 0701") + b"US\2\0\xf0\xff"
    )


@pytest.mark.parametrize("value", [b"", b"\0\0\0\x20", b"\0\x20\0\x20"], ids=["empty", "long", "two values"])
def test_bits_allocated_of_another_length_are_ignored(value: bytes) -> None:
    """Pixels of VR OW are words of 16 bits then, as PS3.5 6.2 defines them."""
    bits = struct.pack(">HH2sH", 0x28, 0x100, b"US", len(value)) + value
    pixels = struct.pack(">HH2s2xL", 0x7FE0, 0x10, b"OW", 4) + b"\1\2\3\4"

    converted = encoded(convert(memory(bits + pixels, BIG_ENDIAN), EXPLICIT))

    assert converted.endswith(struct.pack("<HH2s2xL", 0x7FE0, 0x10, b"OW", 4) + b"\2\1\4\3")
    with_32_bits = struct.pack(">HH2sH", 0x28, 0x100, b"US", 2) + b"\0\x20" + pixels
    with pytest.raises(NotSendableError, match="disagree on the byte order"):
        convert(memory(with_32_bits, BIG_ENDIAN), EXPLICIT)


@pytest.mark.parametrize("keyword", ["PixelRepresentation", "BitsAllocated", "Rows", "SamplesPerPixel"])
@pytest.mark.parametrize("value", [b"", b"\1", b"\1\0\0\0"], ids=len)
def test_no_invalid_number_changes_the_pixels(keyword: str, value: bytes) -> None:
    path = FILES / "MR_small_RLE.dcm"
    whole = convert(instance_from_path(path), EXPLICIT)
    tag = tag_for_keyword(keyword)
    assert tag is not None
    header = struct.pack("<HH2sH", tag >> 16, tag & 0xFFFF, b"US", 2)
    data = data_set_of(path)
    at = data.index(header)
    changed = data[:at] + header[:6] + struct.pack("<H", len(value)) + value + data[at + 10 :]

    # It is refused, or the pixels are the right ones.
    with contextlib.suppress(NotSendableError):
        changed += bytes(len(changed) % 2)
        converted = convert(dataclasses.replace(instance_from_path(path), source=changed), EXPLICIT)
        assert dataset_of(converted).PixelData == dataset_of(whole).PixelData


@pytest.mark.parametrize(("representation", "vr"), [(0, "US"), (1, "SS"), (None, "US")])
def test_signatures_are_removed_at_each_level(representation: int | None, vr: str) -> None:
    perimeter, largest = 0x00280071, 0x00280107
    dataset = made(IMPLICIT)
    other = Dataset()
    other.PixelRepresentation = 1 - (representation or 0)
    for level in (dataset, inner := Dataset(), other):
        level.add_new(perimeter, "US", 5)
        level.add_new(largest, "US", 0xFFF0)
    dataset.add_new(0x00081115, "SQ", Sequence([inner, other]))
    if representation is not None:
        dataset.PixelRepresentation = representation

    converted = dataset_of(convert(instance_from_dataset(dataset), EXPLICIT))

    items = converted[0x00081115].value
    for level, expected in ((converted, vr), (items[0], vr), (items[1], "US" if representation == 1 else "SS")):
        assert {level.get_item(tag).VR for tag in (perimeter, largest)} == {expected}


@pytest.mark.parametrize(
    ("tag", "vr"),
    [
        (0x7FE00010, "OW"),
        (0x60003000, "OW"),
        (0x60023000, "OW"),
        (0x00283006, "OW"),
        (0x54001010, "OW"),
        (0x00090010, "LO"),
        (0x00091001, "UN"),
        (0x00189999, "UN"),  # not in the dictionary
        (0x00080018, "UI"),
        (0xFFFCFFFC, "OB"),
    ],
)
def test_the_vr_is_the_dictionary_s(tag: int, vr: str) -> None:
    data = struct.pack("<HHL", tag >> 16, tag & 0xFFFF, 4) + b"1.23"
    header = struct.pack("<HH2s", tag >> 16, tag & 0xFFFF, vr.encode())
    length = struct.pack("<H", 4) if vr in ("LO", "UI") else struct.pack("<2xL", 4)

    assert encoded(convert(memory(data, IMPLICIT), EXPLICIT)) == header + length + b"1.23"


def test_a_value_that_is_too_long_for_its_vr_becomes_unknown() -> None:
    """PS3.5 6.2.2."""
    data = struct.pack("<HHL", 0x0018, 0x0050, 70000) + b"1" * 70000

    converted = convert(memory(data, IMPLICIT), EXPLICIT)

    assert encoded(converted) == struct.pack("<HH2s2xL", 0x0018, 0x0050, b"UN", 70000) + b"1" * 70000
    assert encoded(convert(converted, IMPLICIT)) == data


def test_group_lengths_are_left_out() -> None:
    """PS3.5 7.2."""
    group = struct.pack("<HH2sHL", 0x0010, 0, b"UL", 4, 12)
    element = struct.pack("<HH2sH", 0x0010, 0x0020, b"LO", 4) + b"1234"

    assert encoded(convert(memory(group + element), IMPLICIT)) == struct.pack("<HHL", 0x0010, 0x0020, 4) + b"1234"


def test_an_unknown_sequence_is_implicit_whatever_is_around_it() -> None:
    """PS3.5 6.2.2, note 3."""
    inner = struct.pack("<HHL", 0x0010, 0x0020, 4) + b"1234"
    item = struct.pack("<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF) + inner + struct.pack("<HHL", 0xFFFE, 0xE00D, 0)
    end = struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)
    data = struct.pack("<HH2s2xL", 0x0009, 0x1001, b"UN", 0xFFFFFFFF) + item + end
    after = struct.pack("<HH2sH", 0x0010, 0x0020, b"LO", 4) + b"1234"

    converted = encoded(convert(memory(data + after), IMPLICIT))

    assert converted == struct.pack("<HHL", 0x0009, 0x1001, 0xFFFFFFFF) + item + end + inner


def test_sequences_keep_the_form_of_their_lengths() -> None:
    element = struct.pack("<HH2s2xL", 0x0018, 0x9999, b"UT", 2) + b"ab"

    def item(length: int) -> bytes:
        tail = struct.pack("<HHL", 0xFFFE, 0xE00D, 0) if length == 0xFFFFFFFF else b""
        return struct.pack("<HHL", 0xFFFE, 0xE000, length) + element + tail

    items = item(len(element)) + item(0xFFFFFFFF)
    told = struct.pack("<HH2s2xL", 0x0008, 0x1115, b"SQ", len(items)) + items
    open_ = struct.pack("<HH2s2xL", 0x0008, 0x1140, b"SQ", 0xFFFFFFFF) + items + struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)

    converted = encoded(convert(memory(told + open_), IMPLICIT))

    short = 4  # bytes that each element is shorter by
    assert len(converted) == len(told + open_) - 4 * short - 2 * short
    assert converted[4:8] == struct.pack("<L", len(items) - 2 * short)
    assert converted[12:16] == struct.pack("<L", len(element) - short)


# Refused conversions.


def short(tag: int, vr: bytes, value: bytes, *, order: str = "<") -> bytes:
    return struct.pack(f"{order}HH2sH", tag >> 16, tag & 0xFFFF, vr, len(value)) + value


def long(tag: int, vr: bytes, value: bytes, *, length: int | None = None, order: str = "<") -> bytes:
    length = len(value) if length is None else length
    return struct.pack(f"{order}HH2s2xL", tag >> 16, tag & 0xFFFF, vr, length) + value


ITEM: Final = struct.pack("<HHL", 0xFFFE, 0xE000, 0)
END: Final = struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (short(0x00100020, b"ZZ", b"ab"), "an element of unknown VR, at offset 0"),
        (short(0x00100020, b"LO", b"abcd")[:-2], "ends inside an element, at offset 0"),
        (short(0x00100020, b"LO", b"ab") + b"\x10\0", "ends inside a header, at offset 10"),
        (long(0x00100020, b"UT", b"")[:-2], "ends inside a header, at offset 0"),
        (long(0x00081115, b"SQ", b"ab"), "ends inside a header, at offset 12"),
        (long(0x00081115, b"SQ", END), "(FFFE,E0DD) in the place of an item, at offset 12"),
        (long(0x00081115, b"SQ", b"", length=0xFFFFFFFF), "ends inside a header, at offset 12"),
        (long(0x00081115, b"SQ", ITEM, length=8)[:-4] + b"\4\0\0\0", "ends inside an element, at offset 12"),
        (short(0x00020010, b"UI", b"1.2\0"), "an element of group 0002 in a data set, at offset 0"),
        (short(0x00000002, b"UI", b"1.2\0"), "an element of group 0000 in a data set, at offset 0"),
        (long(0x00001001, b"UN", END, length=0xFFFFFFFF), "an element of group 0000 in a data set, at offset 0"),
        (END, "(FFFE,E0DD) in the place of an element, at offset 0"),
    ],
)
def test_damaged_data_sets_are_refused(data: bytes, reason: str) -> None:
    assert why_not(memory(data)) == f"{DAMAGED}{reason}"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (long(0x00091001, b"UN", b"ab", order=">"), "it has an element of unknown VR"),
        (long(0x00091001, b"UN", b"", length=0xFFFFFFFF, order=">"), "it has an element of unknown VR"),
        (short(0x00280010, b"US", b"a", order=">"), f"{DAMAGED}a value that ends inside a number"),
        (long(0x00660016, b"OF", b"ab", order=">"), f"{DAMAGED}a value that ends inside a number"),
    ],
)
def test_bytes_are_not_swapped_where_it_is_not_known_which(data: bytes, reason: str) -> None:
    assert why_not(memory(data + b"\0" * (len(data) % 2), BIG_ENDIAN)).startswith(reason)


def test_compressed_pixels_in_a_plain_syntax_are_refused() -> None:
    data = long(PIXEL_DATA, b"OB", ITEM + END, length=0xFFFFFFFF)
    assert why_not(memory(data)) == "it has compressed pixels, but its transfer syntax is uncompressed"


def test_sequences_as_deep_as_no_real_one_are_refused() -> None:
    deep = long(0x00081115, b"SQ", ITEM[:-4] + b"\xff" * 4, length=0xFFFFFFFF) * 100_000

    assert why_not(memory(deep)) == "it has more than 100 sequences within one another"


def test_a_file_that_is_gone_can_t_be_converted(tmp_path: Path) -> None:
    instance = instance_from_path(part10(tmp_path / "file"))
    (tmp_path / "file").unlink()

    assert why_not(instance, EXPLICIT).startswith("cannot be read: ")


def deflated(data: bytes) -> bytes:
    deflater = zlib.compressobj(wbits=-15)
    return deflater.compress(data) + deflater.flush()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (deflated(bare())[:-2], "its deflated data set is damaged: ends inside the deflated stream"),
        (b"\xff" * 20, "its deflated data set is damaged: not a deflated stream: Error -3"),
    ],
)
def test_a_damaged_deflated_one_is_refused(data: bytes, reason: str) -> None:
    assert why_not(memory(data, DEFLATED)).startswith(reason)


def test_a_bomb_is_not_inflated(monkeypatch: pytest.MonkeyPatch) -> None:
    from dicomport.scu.inputs import containers

    monkeypatch.setattr(containers, "_ALWAYS_DECOMPRESSED", 1 << 20)

    reason = why_not(memory(deflated(bytes(8 << 20)), DEFLATED), EXPLICIT)
    assert reason == "its inflated data set exceeds the limit"


def test_a_long_result_is_kept_in_an_unnamed_file() -> None:
    data = long(PIXEL_DATA, b"OW", os.urandom(10 << 20))

    converted = convert(memory(data), IMPLICIT)

    assert isinstance(converted.source, SpooledRegion)
    assert encoded(converted) == encoded(converted) == struct.pack("<HHL", 0x7FE0, 0x10, 10 << 20) + data[12:]


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_a_fuzzed_data_set_is_converted_or_refused(data: st.DataObject) -> None:
    source = data.draw(st.sampled_from([EXPLICIT, IMPLICIT, BIG_ENDIAN]))
    content = bytearray(SOURCES[source])
    at = st.integers(0, len(content) - 1)
    for where, value in data.draw(st.lists(st.tuples(at, st.integers(0, 255)), max_size=5)):
        content[where] = value
    instance = memory(bytes(content[: data.draw(st.integers(0, len(content)) | st.none())]), source)

    for to in alternatives(source):
        try:
            converted = convert(instance, to)
        except NotSendableError as error:
            assert str(error)  # noqa: PT017  # most are converted
        else:
            assert len(encoded(converted)) == converted.sent_size


SOURCES: Final = {
    syntax: encoded(instance_from_dataset(all_vrs(syntax))) for syntax in (EXPLICIT, IMPLICIT, BIG_ENDIAN)
}


# Images that were compressed without loss.

DECODED: Final = [syntax for syntax in LOSSLESS if alternatives(syntax)]

LOSSLESS_FILES: Final = [
    item for item in find([FILES]) if isinstance(item, Instance) and item.transfer_syntax_uid in LOSSLESS
]
ODD_ONE: Final = "J2K_pixelrep_mismatch.dcm"
"""A file whose data set and codestream disagree about signed samples."""


def needs(syntax: str) -> None:
    if syntax not in DECODED:
        pytest.skip(f"pydicom finds no decoder for {UID(syntax).name}: dicomport[codecs] brings them")


@pytest.mark.parametrize("instance", LOSSLESS_FILES, ids=lambda item: Path(item.name).name)
@pytest.mark.parametrize("to", [EXPLICIT, IMPLICIT])
def test_each_compressed_file_has_the_same_pixels_and_the_rest_as_it_was(instance: Instance, to: str) -> None:
    needs(instance.transfer_syntax_uid)
    if instance.name.endswith(ODD_ONE):
        pytest.skip("which decoder pydicom takes first decides whether it can be")
    before = dataset_of(instance)

    converted = convert(instance, to)
    after = dataset_of(converted)

    assert (converted.transfer_syntax_uid, converted.converted_from) == (to, instance.transfer_syntax_uid)
    assert converted.sop_instance_uid == instance.sop_instance_uid
    changed = (PIXEL_DATA, 0x7FE00001, 0x7FE00002, 0x00280004, 0x00280006)
    assert_same(before, after, but=changed)
    if "PixelData" not in before:
        assert "PixelData" not in after
        return
    assert (pixel_array(before, raw=True) == pixel_array(after, raw=True)).all()
    assert after.PhotometricInterpretation == {"YBR_RCT": "RGB"}.get(
        before.PhotometricInterpretation, before.PhotometricInterpretation
    )
    frames = int(before.get("NumberOfFrames", 1))
    length = before.Rows * before.Columns * before.SamplesPerPixel * before.BitsAllocated // 8 * frames
    assert len(after.PixelData) == length + length % 2
    assert not {0x7FE00001, 0x7FE00002} & {*tags_of(after)}
    assert ("OW" if to == IMPLICIT or before.BitsAllocated > 8 else "OB") == after["PixelData"].VR


ENCODERS: Final = {
    JPEG_LOSSLESS: ["dcmcjpeg", "+e1"],
    JPEG_LS: ["dcmcjpls", "+el"],
    RLE: ["dcmcrle"],
}
NATIVE: Final = [
    "CT_small.dcm",
    "MR_small.dcm",  # signed
    "SC_rgb_small_odd.dcm",
    "examples_palette.dcm",
    "examples_rgb_color.dcm",
    "frames",
    "12 bits",
    "12 bits, signed",
    "YBR_FULL",
    "colour by plane",
]


def native(name: str, folder: Path) -> Path:
    """Return a file of an uncompressed image."""
    if (FILES / name).exists():
        return FILES / name
    dataset = pydicom.dcmread(
        FILES / ("CT_small.dcm" if name in ("12 bits", "12 bits, signed", "frames") else "SC_rgb_small_odd.dcm")
    )
    rows, columns = 8, 16
    dataset.Rows, dataset.Columns = rows, columns
    count = rows * columns
    if name == "frames":
        dataset.NumberOfFrames = 3
        dataset.PixelRepresentation = 0
        dataset.PixelData = struct.pack(f"<{3 * count}H", *(7 * number for number in range(3 * count)))
    elif name.startswith("12 bits"):
        dataset.BitsStored, dataset.HighBit = 12, 11
        dataset.PixelRepresentation = int(name.endswith("signed"))
        low, kind = (-2048, "h") if name.endswith("signed") else (0, "H")
        dataset.PixelData = struct.pack(f"<{count}{kind}", *(low + 31 * number for number in range(count)))
    else:
        dataset.PhotometricInterpretation = "YBR_FULL" if name == "YBR_FULL" else "RGB"
        dataset.PlanarConfiguration = int(name == "colour by plane")
        dataset.PixelData = bytes((5 * number + number // 7) % 256 for number in range(3 * count))
    path = folder / "native.dcm"
    dataset.save_as(path)
    return path


@pytest.mark.interop
@pytest.mark.parametrize("syntax", ENCODERS)
@pytest.mark.parametrize("name", NATIVE)
def test_images_compressed_by_dcmtk_are_restored_byte_for_byte(tmp_path: Path, syntax: str, name: str) -> None:
    require_program("dcmcrle", "DCMTK")
    needs(syntax)
    path = native(name, tmp_path)
    compressed = tmp_path / "compressed.dcm"
    done = subprocess.run([*ENCODERS[syntax], "--uid-never", path, compressed], check=False, capture_output=True)
    if done.returncode:
        pytest.skip(f"DCMTK does not compress it: {done.stderr.decode()[:200]}")
    before = pydicom.dcmread(path)

    after = dataset_of(convert(instance_from_path(compressed), EXPLICIT))

    assert after.PhotometricInterpretation == before.PhotometricInterpretation
    assert (pixel_array(after, raw=True) == pixel_array(before, raw=True)).all()
    if before.get("PlanarConfiguration", 0) == after.get("PlanarConfiguration", 0) == 0:
        assert after.PixelData == before.PixelData


def rle(**changes: Any) -> Instance:
    dataset = pydicom.dcmread(FILES / "MR_small_RLE.dcm")
    for keyword, value in changes.items():
        setattr(dataset, keyword, value)
    return instance_from_dataset(dataset)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"NumberOfFrames": 2}, "it has 1 compressed frames, expected 2"),
        ({"Rows": 63}, "the size of its compressed frame 1 is [4096, 4096], expected [4032, 4032]"),
        ({"Rows": 65}, "the size of its compressed frame 1 is [4096, 4096], expected [4160, 4160]"),
        ({"BitsAllocated": 8}, "the size of its compressed frame 1 is [4096, 4096], expected [4096]"),
        ({"BitsAllocated": 1}, "MONOCHROME2 pixels of 1 bits are not supported"),
        ({"PhotometricInterpretation": "YBR_FULL_422"}, "YBR_FULL_422 pixels of 16 bits are not supported"),
        ({"PhotometricInterpretation": "YBR_ICT"}, "YBR_ICT pixels of 16 bits are not supported"),
        ({"Rows": 65535, "Columns": 65535}, "its decompressed pixels exceed the limit"),
        ({"NumberOfFrames": 10**9}, "its decompressed pixels exceed the limit"),
        ({"Columns": None}, "its pixels cannot be decompressed: "),
    ],
)
def test_invalid_pixels_are_refused(changes: dict[str, Any], reason: str) -> None:
    needs(RLE)
    assert why_not(rle(**changes), EXPLICIT).startswith(reason)


def test_damaged_fragments_are_refused() -> None:
    needs(RLE)
    data = encoded(instance_from_path(FILES / "MR_small_RLE.dcm"))
    at = data.index(ITEM[:4], data.index(b"\xe0\x7f\x10\0OB")) + 8
    for cut in (data[: at + 200], data[: at + 20] + bytes(100) + data[at + 120 :]):
        assert why_not(memory(cut, RLE), EXPLICIT)


def test_overlays_in_unused_bits_survive_rle_or_are_refused() -> None:
    needs(RLE)
    with_overlay = rle(BitsStored=12, HighBit=11)
    dataset = dataset_of(with_overlay)
    dataset.add_new(0x60000102, "US", 15)
    dataset.file_meta.TransferSyntaxUID = UID(RLE)
    converted = dataset_of(convert(instance_from_dataset(dataset), EXPLICIT))
    original = pydicom.dcmread(FILES / "MR_small.dcm")
    assert converted.PixelData == original.PixelData

    needs(JPEG_2000_LOSSLESS)
    dataset = pydicom.dcmread(FILES / "MR_small_jp2klossless.dcm")
    dataset.add_new(0x60000102, "US", 15)
    assert why_not(instance_from_dataset(dataset), EXPLICIT) == "it has overlays in the unused bits of its pixels"


def test_an_icon_that_is_compressed_too_is_refused() -> None:
    needs(RLE)
    dataset = pydicom.dcmread(FILES / "MR_small_RLE.dcm")
    icon = Dataset()
    icon.add_new(PIXEL_DATA, "OB", dataset.PixelData)
    icon[PIXEL_DATA].is_undefined_length = True
    dataset.add_new(0x00880200, "SQ", Sequence([icon]))

    assert (
        why_not(instance_from_dataset(dataset), EXPLICIT)
        == "it has compressed pixels, but its transfer syntax is uncompressed"
    )


def test_a_colour_image_without_a_planar_configuration_is_refused() -> None:
    needs(RLE)
    dataset = pydicom.dcmread(FILES / "SC_rgb_rle.dcm")
    del dataset.PlanarConfiguration

    assert "Planar Configuration" in why_not(instance_from_dataset(dataset), EXPLICIT)


def test_an_extended_offset_table_goes_with_the_fragments() -> None:
    needs(RLE)
    dataset = pydicom.dcmread(FILES / "MR_small_RLE.dcm")
    dataset.add_new(0x7FE00001, "OV", bytes(8))
    (length,) = struct.unpack_from("<L", dataset.PixelData, 16)  # of the fragment that follows the basic offset table
    dataset.add_new(0x7FE00002, "OV", struct.pack("<Q", length))
    dataset.PixelData = ITEM + dataset.PixelData[12:]

    after = dataset_of(convert(instance_from_dataset(dataset), EXPLICIT))

    assert [tag for tag in tags_of(after) if tag >> 16 == 0x7FE0] == [PIXEL_DATA]


def test_the_stamp_stays_that_of_the_file() -> None:
    source = InMemory(bare(), (1, 2))
    converted = convert(dataclasses.replace(memory(b"", IMPLICIT), source=source, name="x"), EXPLICIT)

    assert (converted.stamp, converted.path) == ((1, 2), Path("x"))
    assert list(itertools.chain.from_iterable(converted.chunks(7))) == list(encoded(converted))


@pytest.mark.parametrize(
    ("name", "syntax"),
    [
        ("MR_small_jp2klossless.dcm", JPEG_2000_LOSSLESS),
        ("MR_small_jpeg_ls_lossless.dcm", JPEG_LS),
        ("SC_rgb_jpeg_gdcm.dcm", JPEG_LOSSLESS),
    ],
)
@pytest.mark.parametrize("keyword", ["Rows", "Columns"])
@pytest.mark.parametrize("change", [-1, 1])
def test_frames_of_another_size_are_refused(name: str, syntax: str, keyword: str, change: int) -> None:
    needs(syntax)
    dataset = pydicom.dcmread(FILES / name)
    rows, columns, samples = dataset.Rows, dataset.Columns, dataset.SamplesPerPixel
    setattr(dataset, keyword, dataset[keyword].value + change)

    assert why_not(instance_from_dataset(dataset), EXPLICIT) == (
        f"the size of its compressed frame 1 is ({rows}, {columns}, {samples}), "
        f"expected ({dataset.Rows}, {dataset.Columns}, {samples})"
    )


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_fuzzed_frames_are_recognized_or_refused(data: st.DataObject) -> None:
    look = data.draw(st.sampled_from([rle_lengths, jpeg_size, jpeg_2000_size]))
    start = {rle_lengths: b"\2\0\0\0\x40\0\0\0", jpeg_size: b"\xff\xd8\xff", jpeg_2000_size: b"\xff\x4f\xff\x51"}[look]
    frame = start + data.draw(st.binary(max_size=200))
    try:
        assert look(frame) is not None
    except ValueError as error:
        assert str(error)  # noqa: PT017  # most are none


def test_samples_with_more_bits_than_the_data_set_allocates_are_refused() -> None:
    needs(JPEG_2000_LOSSLESS)
    dataset = pydicom.dcmread(FILES / "MR_small_jp2klossless.dcm")
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 8, 8, 7
    assert why_not(instance_from_dataset(dataset), EXPLICIT) == "its compressed samples have more than 8 bits"


def test_an_unknown_transfer_syntax_has_no_decoder() -> None:
    assert not can_decompress("1.2.3")


@pytest.mark.parametrize(
    ("segment", "length"),
    [
        (b"\x01ab", 2),
        (b"\xffa", 2),
        (b"\x81a", 128),
        (b"\x80\x01ab\x80\x80\xffa", 4),  # 128 has no meaning
        (b"\x01ab\x00", 2),  # a byte that only makes the length even
        (b"", 0),
    ],
)
def test_the_length_of_a_segment_of_rle_is_counted(segment: bytes, length: int) -> None:
    """PS3.5 G.3.1."""
    frame = struct.pack("<16L", 2, 64, 64 + len(segment), *[0] * 13) + 2 * segment
    assert rle_lengths(frame) == [length, length]


@pytest.mark.parametrize(
    ("name", "syntax"),
    [("MR_small_jp2klossless.dcm", JPEG_2000_LOSSLESS), ("MR_small_jpeg_ls_lossless.dcm", JPEG_LS)],
)
def test_compressed_samples_of_more_bits_than_allocated_are_refused(name: str, syntax: str) -> None:
    """They would lose their upper bits."""
    needs(syntax)
    dataset = pydicom.dcmread(FILES / name)
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 8, 8, 7
    assert why_not(instance_from_dataset(dataset), EXPLICIT) == "its compressed samples have more than 8 bits"


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.4.100", "1.2.840.10008.1.2.4.94", "1.2.3.4"])
def test_a_transfer_syntax_that_pydicom_cannot_decode_has_no_decoder(syntax: str) -> None:
    """MPEG2, JPIP, and one of a vendor."""
    assert not can_decompress(syntax)
