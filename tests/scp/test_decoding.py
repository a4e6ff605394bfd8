"""`StoreRequest.dataset`: a truncated data set always raises."""

import contextlib
import io
import struct
import warnings
from pathlib import Path
from typing import Final

import pydicom
import pytest
from hypothesis import given, settings, strategies as st

from dicomport.scp import UndecodableDataSetError
from dicomport.scp.decoding import decode
from dicomport.wire import FileMeta, encode_file_meta

EXPLICIT: Final = "1.2.840.10008.1.2.1"
IMPLICIT: Final = "1.2.840.10008.1.2"
DEFLATED: Final = "1.2.840.10008.1.2.1.99"
BIG_ENDIAN: Final = "1.2.840.10008.1.2.2"


def header(transfer_syntax: str) -> bytes:
    return encode_file_meta(
        FileMeta(
            media_storage_sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
            media_storage_sop_instance_uid="1.2.3",
            transfer_syntax_uid=transfer_syntax,
        )
    )


def explicit(tag: int, vr: bytes, value: bytes) -> bytes:
    return struct.pack("<HH2sH", tag >> 16, tag & 0xFFFF, vr, len(value)) + value


def implicit(tag: int, value: bytes) -> bytes:
    return struct.pack("<HHL", tag >> 16, tag & 0xFFFF, len(value)) + value


def item(content: bytes, *, defined: bool) -> bytes:
    if defined:
        return struct.pack("<HHL", 0xFFFE, 0xE000, len(content)) + content
    return struct.pack("<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF) + content + struct.pack("<HHL", 0xFFFE, 0xE00D, 0)


def sequence(tag: int, content: bytes, *, defined: bool, vr: bytes) -> bytes:
    head = struct.pack("<HH", tag >> 16, tag & 0xFFFF) + (vr + bytes(2) if vr else b"")
    if defined:
        return head + struct.pack("<L", len(content)) + content
    return head + struct.pack("<L", 0xFFFFFFFF) + content + struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)


CODE: Final = explicit(0x00080100, b"SH", b"CODE")
CODE_IMPLICIT: Final = implicit(0x00080100, b"CODE")

ELEMENTS: Final[dict[str, tuple[str, list[bytes]]]] = {
    "explicit": (
        EXPLICIT,
        [
            explicit(0x00080005, b"CS", b"ISO_IR 100"),
            sequence(0x00081032, item(CODE, defined=True), defined=True, vr=b"SQ"),
            sequence(0x00081084, item(CODE, defined=False) * 2, defined=False, vr=b"SQ"),
            explicit(0x00100020, b"LO", b"P-01"),
        ],
    ),
    "implicit": (
        IMPLICIT,
        [
            implicit(0x00080005, b"ISO_IR 100"),
            sequence(0x00081032, item(CODE_IMPLICIT, defined=True), defined=True, vr=b""),
            sequence(0x00081084, item(CODE_IMPLICIT, defined=False), defined=False, vr=b""),
            implicit(0x00100020, b"P-01"),
        ],
    ),
    "encapsulated": (
        "1.2.840.10008.1.2.5",
        [
            explicit(0x00100020, b"LO", b"P-01"),
            sequence(0x7FE00010, item(b"", defined=True) + item(b"1234", defined=True), defined=False, vr=b"OB"),
        ],
    ),
}


def cuts() -> list[tuple[str, int, bool]]:
    """List every length that each data set can be cut to, and whether it is whole there: at the end of an element."""
    found: list[tuple[str, int, bool]] = []
    for name, (_, elements) in ELEMENTS.items():
        ends = {sum(map(len, elements[:count])) for count in range(1, len(elements) + 1)}
        found += [(name, at, at in ends) for at in range(max(ends) + 1)]
    return found


@pytest.mark.parametrize(("name", "at", "whole"), cuts())
def test_a_data_set_cut_anywhere_but_between_its_elements_is_undecodable(name: str, at: int, whole: bool) -> None:
    transfer_syntax, elements = ELEMENTS[name]
    file = io.BytesIO(header(transfer_syntax) + b"".join(elements)[:at])
    if whole:
        assert decode(file, transfer_syntax)
    else:
        with pytest.raises(UndecodableDataSetError):
            decode(file, transfer_syntax)


def test_a_deflated_data_set_that_is_cut_is_undecodable() -> None:
    path = Path(pydicom.__file__).parent / "data" / "test_files" / "image_dfl.dcm"
    data = path.read_bytes()
    assert decode(io.BytesIO(data), DEFLATED).PixelData
    for cut in (1000, len(data) // 2, len(data) - 100):
        with pytest.raises(UndecodableDataSetError):
            decode(io.BytesIO(data[:cut]), DEFLATED)


@given(st.binary(max_size=200), st.sampled_from([EXPLICIT, IMPLICIT, BIG_ENDIAN, DEFLATED]))
@settings(max_examples=300, deadline=None)
def test_undecodable_bytes_raise_one_class_of_error(data: bytes, transfer_syntax: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with contextlib.suppress(UndecodableDataSetError):
            decode(io.BytesIO(header(transfer_syntax) + data), transfer_syntax)


@pytest.mark.parametrize(
    "name",
    [
        "CT_small.dcm",
        "MR_small_implicit.dcm",
        "MR_small_bigendian.dcm",
        "MR_small_RLE.dcm",
        "image_dfl.dcm",
        "test-SR.dcm",
        "waveform_ecg.dcm",
        "priv_SQ.dcm",
        "UN_sequence.dcm",
        "rtplan.dcm",
    ],
)
def test_the_data_set_equals_pydicom_s(name: str) -> None:
    path = Path(pydicom.__file__).parent / "data" / "test_files" / name
    expected = pydicom.dcmread(path)
    decoded = decode(io.BytesIO(path.read_bytes()), str(expected.file_meta.TransferSyntaxUID))
    assert decoded == expected
    assert list(decoded.keys()) == list(expected.keys())


@pytest.mark.parametrize("name", ["CT_small.dcm", "MR_small_bigendian.dcm", "test-SR.dcm"])
@pytest.mark.parametrize("missing", [1, 2, 7, 8, 20, 1000])
def test_a_file_that_lost_its_end_is_undecodable(name: str, missing: int) -> None:
    path = Path(pydicom.__file__).parent / "data" / "test_files" / name
    transfer_syntax = str(pydicom.dcmread(path).file_meta.TransferSyntaxUID)
    with pytest.raises(UndecodableDataSetError):
        decode(io.BytesIO(path.read_bytes()[:-missing]), transfer_syntax)


def test_implicit_vr_in_an_explicit_vr_context_is_read_as_by_pydicom() -> None:
    data = implicit(0x00080005, b"ISO_IR 100") + implicit(0x00100020, b"P-01")
    with pytest.warns(UserWarning, match="implicit"):
        assert decode(io.BytesIO(header(EXPLICIT) + data), EXPLICIT).PatientID == "P-01"
