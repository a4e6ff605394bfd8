"""File Meta Information against bytes typed from PS3.10 7.1, and against pydicom."""

import dataclasses
import warnings
from io import BytesIO
from pathlib import Path
from typing import Final

import pydicom
import pytest
from hypothesis import given, strategies as st
from pydicom.dataset import FileMetaDataset
from pydicom.errors import InvalidDicomError
from pydicom.filereader import _read_file_meta_info, dcmread, read_preamble
from pydicom.filewriter import write_file_meta_info
from pydicom.uid import UID
from tests.wire.golden import golden

from dicomport.wire import (
    Deviation,
    EncodeError,
    FileMeta,
    FileMetaError,
    NotPart10Error,
    TruncatedFileMetaError,
    decode_file_meta,
    encode_file_meta,
    encode_uid,
    file_meta_around_uid,
)

GOLDEN: Final = golden(
    """
    00{128}                                                             # preamble
    'DICM'                                                              # prefix
    02 00 00 00 'UL' [04 00] [B6 00 00 00]                              # File Meta Information Group Length
    02 00 01 00 'OB' 00 00 [02 00 00 00] 00 01                          # File Meta Information Version
    02 00 02 00 'UI' [1A 00] '1.2.840.10008.5.1.4.1.1.2' 00             # Media Storage SOP Class UID
    02 00 03 00 'UI' [08 00] '1.2.3.4' 00                               # Media Storage SOP Instance UID
    02 00 10 00 'UI' [14 00] '1.2.840.10008.1.2.1' 00                   # Transfer Syntax UID
    02 00 12 00 'UI' [0E 00] '1.2.826.0.1.99'                           # Implementation Class UID
    02 00 13 00 'SH' [0C 00] 'DICOMPORT_01'                             # Implementation Version Name
    02 00 16 00 'AE' [08 00] 'STORESCU'                                 # Source Application Entity Title
    02 00 17 00 'AE' [08 00] 'SENDING '                                 # Sending Application Entity Title
    02 00 18 00 'AE' [08 00] 'ARCHIVE '                                 # Receiving Application Entity Title
    """,
    "little",
)
VALUE: Final = FileMeta(
    media_storage_sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
    media_storage_sop_instance_uid="1.2.3.4",
    transfer_syntax_uid="1.2.840.10008.1.2.1",
    implementation_class_uid="1.2.826.0.1.99",
    implementation_version_name="DICOMPORT_01",
    source_ae_title="STORESCU",
    sending_ae_title="SENDING",
    receiving_ae_title="ARCHIVE",
)
DATA_SET: Final = golden("08 00 18 00 'UI' [08 00] '1.2.3.4' 00", "little").data
GROUP: Final = 132
"""The offset of group 0002."""

KEYWORDS: Final = {
    "media_storage_sop_class_uid": "MediaStorageSOPClassUID",
    "media_storage_sop_instance_uid": "MediaStorageSOPInstanceUID",
    "transfer_syntax_uid": "TransferSyntaxUID",
    "implementation_class_uid": "ImplementationClassUID",
    "implementation_version_name": "ImplementationVersionName",
    "source_ae_title": "SourceApplicationEntityTitle",
    "sending_ae_title": "SendingApplicationEntityTitle",
    "receiving_ae_title": "ReceivingApplicationEntityTitle",
}

PYDICOMS: Final = Path(pydicom.__file__).parent / "data" / "test_files"
FILES: Final = sorted(path for path in PYDICOMS.rglob("*") if path.is_file())


def as_pydicom_sees(data: bytes) -> tuple[FileMeta, int]:
    """Read with pydicom; raises InvalidDicomError where there is no prefix."""
    stream = BytesIO(data)
    read_preamble(stream, force=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        meta = _read_file_meta_info(stream)
        return FileMeta(**{name: str(meta.get(keyword) or "") for name, keyword in KEYWORDS.items()}), stream.tell()


def test_file_meta_is_the_bytes_of_the_standard() -> None:
    assert encode_file_meta(VALUE) == GOLDEN.data
    assert decode_file_meta(GOLDEN.data + DATA_SET) == (VALUE, len(GOLDEN.data))


def test_empty_fields_are_left_out() -> None:
    bare = golden(
        """
        00{128} 'DICM'
        02 00 00 00 'UL' [04 00] [1A 00 00 00]
        02 00 01 00 'OB' 00 00 [02 00 00 00] 00 01
        02 00 03 00 'UI' [04 00] '1.2' 00
        """,
        "little",
    )
    value = FileMeta(media_storage_sop_instance_uid="1.2")
    assert encode_file_meta(value) == bare.data
    assert decode_file_meta(bare.data + DATA_SET) == (value, len(bare.data))


def test_pydicom_reads_what_is_written() -> None:
    data = GOLDEN.data + DATA_SET
    assert as_pydicom_sees(data) == (VALUE, len(GOLDEN.data))
    dataset = dcmread(BytesIO(data))
    assert dataset.file_meta.FileMetaInformationVersion == b"\0\1"
    assert dataset.file_meta.FileMetaInformationGroupLength == 0xB6
    assert dataset.preamble == bytes(128)
    assert UID("1.2.3.4") == dataset.SOPInstanceUID


def test_pydicom_encodes_the_same_bytes() -> None:
    meta = FileMetaDataset()
    for name, keyword in KEYWORDS.items():
        setattr(meta, keyword, getattr(VALUE, name))
    stream = BytesIO()
    write_file_meta_info(stream, meta)  # type: ignore[arg-type]  # it takes any binary stream
    assert bytes(128) + b"DICM" + stream.getvalue() == GOLDEN.data


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PYDICOMS)))
def test_every_file_of_pydicoms_package_reads_as_pydicom_reads_it(path: Path) -> None:
    data = path.read_bytes()
    try:
        expected = as_pydicom_sees(data)
    except InvalidDicomError:
        with pytest.raises(NotPart10Error):
            decode_file_meta(data)
    else:
        assert decode_file_meta(data) == expected


def test_pydicoms_package_has_files() -> None:
    assert len(FILES) > 100


def test_cut_anywhere_more_is_asked_for() -> None:
    for size in range(len(GOLDEN.data) + 1):
        # A file shorter than preamble and prefix is not recognized as a DICOM file.
        with pytest.raises(TruncatedFileMetaError if size >= 132 else NotPart10Error):
            decode_file_meta((GOLDEN.data + DATA_SET)[:size])
    for size in range(1, 9):
        assert decode_file_meta((GOLDEN.data + DATA_SET)[: len(GOLDEN.data) + size]) == (VALUE, len(GOLDEN.data))


def test_the_group_length_ends_the_file_meta() -> None:
    for data in (GOLDEN.data[GROUP + 12 :], GOLDEN.data[GROUP:], bytes.fromhex("02 00 20 00 00 00 00 00")):
        assert decode_file_meta(GOLDEN.data + data) == (VALUE, len(GOLDEN.data))


def test_a_cut_in_a_long_length_asks_for_more() -> None:
    octets = bytes(128) + b"DICM" + golden("02 00 01 00 'OB' 00 00 02 00").data
    with pytest.raises(TruncatedFileMetaError, match="header"):
        decode_file_meta(octets)


def test_a_wrong_length_is_a_value_or_a_file_meta_error() -> None:
    for data in GOLDEN.mutations():
        survives(data + DATA_SET)


def test_any_one_octet_may_be_wrong() -> None:
    data = GOLDEN.data + DATA_SET
    for offset in range(128, len(data)):
        for wrong in (0x00, 0x7F, 0xFF, data[offset] ^ 1, data[offset] ^ 0x80):
            survives(data[:offset] + bytes((wrong,)) + data[offset + 1 :])


def survives(data: bytes) -> None:
    try:
        _, offset = decode_file_meta(data)
    except FileMetaError:
        return
    assert GROUP <= offset <= len(data)


@pytest.mark.parametrize("length", ["00 00 00 00", "B5 00 00 00", "B7 00 00 00", "FF FF FF FF"])
def test_a_wrong_group_length_does_not_matter(length: str) -> None:
    data = GOLDEN.data[: GROUP + 8] + bytes.fromhex(length) + GOLDEN.data[GROUP + 12 :]
    assert decode_file_meta(data + DATA_SET) == (VALUE, len(GOLDEN.data))


def test_a_missing_group_length_does_not_matter() -> None:
    data = GOLDEN.data[:GROUP] + GOLDEN.data[GROUP + 12 :]
    assert decode_file_meta(data + DATA_SET) == (VALUE, len(data))


def test_the_preamble_is_ignored() -> None:
    data = b"II*\0" + b"\xff" * 124 + GOLDEN.data[128:]
    assert decode_file_meta(data + DATA_SET) == (VALUE, len(data))


def test_a_file_without_group_0002_begins_with_its_data_set() -> None:
    assert decode_file_meta(bytes(128) + b"DICM" + DATA_SET) == (FileMeta(), GROUP)


def test_the_first_of_repeated_elements_is_significant() -> None:
    octets = golden(
        """
        00{128} 'DICM'
        02 00 10 00 'UI' [06 00] '1.2.3' 00
        02 00 10 00 'UI' [06 00] '1.2.4' 00
        02 00 02 01 'OB' 00 00 [04 00 00 00] 02 00 10 00        # Private Information
        02 00 99 00 'UN' 00 00 [02 00 00 00] AA BB
        02 00 98 00 'XX' [02 00] AA BB                          # a VR of the future
        02 00 13 00 'SH' [00 00]
        """,
        "little",
    )
    assert decode_file_meta(octets.data + DATA_SET) == (FileMeta(transfer_syntax_uid="1.2.3"), len(octets.data))


def test_the_vr_defines_the_size_of_the_length() -> None:
    for vr in (b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"):
        octets = bytes(128) + b"DICM" + b"\2\0\x99\0" + vr + bytes.fromhex("0000 0A000000") + bytes(10)
        assert decode_file_meta(octets + DATA_SET) == (FileMeta(), len(octets))
    short = b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US"
    for vr in short.split():
        octets = bytes(128) + b"DICM" + b"\2\0\x99\0" + vr + bytes.fromhex("0A00") + bytes(10)
        assert decode_file_meta(octets + DATA_SET) == (FileMeta(), len(octets))


@pytest.mark.parametrize("padding", [b"", b"\0", b" ", b"\0\0\0", b"  "])
def test_padding_is_removed(padding: bytes) -> None:
    raw = b"1.2.3" + padding
    octets = bytes(128) + b"DICM" + b"\2\0\x10\0UI" + len(raw).to_bytes(2, "little") + raw
    assert decode_file_meta(octets + DATA_SET)[0].transfer_syntax_uid == "1.2.3"


def noted(data: bytes) -> tuple[FileMeta, int, list[Deviation]]:
    notes: list[Deviation] = []
    meta, offset = decode_file_meta(data, notes)
    return meta, offset, notes


def test_nothing_is_noted_of_correct_file_meta() -> None:
    for _ in range(2):
        assert noted(GOLDEN.data + DATA_SET) == (VALUE, len(GOLDEN.data), [])


def test_file_meta_without_preamble_is_read() -> None:
    data = GOLDEN.data[GROUP:]
    assert noted(data + DATA_SET) == (VALUE, len(data), [Deviation.FILE_META_WITHOUT_PREAMBLE])
    for size in range(2, len(data) + 1):
        with pytest.raises(TruncatedFileMetaError):
            decode_file_meta(data[:size])


def test_file_meta_in_implicit_vr_is_read() -> None:
    octets = golden(
        """
        00{128} 'DICM'
        02 00 00 00 [04 00 00 00] [58 00 00 00]
        02 00 01 00 [02 00 00 00] 00 01
        02 00 02 00 [1A 00 00 00] '1.2.840.10008.5.1.4.1.1.2' 00
        02 00 03 00 [08 00 00 00] '1.2.3.4' 00
        02 00 10 00 [14 00 00 00] '1.2.840.10008.1.2.1' 00
        """,
        "little",
    ).data
    value = FileMeta(
        media_storage_sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
        media_storage_sop_instance_uid="1.2.3.4",
        transfer_syntax_uid="1.2.840.10008.1.2.1",
    )
    found = noted(octets + DATA_SET)
    assert found == (value, len(octets), [Deviation.FILE_META_IN_IMPLICIT_VR])
    # Only the group length has a VR.
    mixed = octets[:GROUP] + GOLDEN.data[GROUP : GROUP + 8] + octets[GROUP + 8 :]
    for _ in range(2):
        assert noted(mixed + DATA_SET) == (value, len(octets), [Deviation.FILE_META_IN_IMPLICIT_VR])


@pytest.mark.parametrize("counted", [0, 16])
def test_private_elements_after_the_group_length_are_file_meta(counted: int) -> None:
    private = golden(
        """
        02 00 00 01 'UI' [08 00] '1.2.3.99'                     # Private Information Creator UID
        02 00 02 01 'OB' 00 00 [0C 00 00 00] 'vendor data!'
        """,
        "little",
    ).data
    data = GOLDEN.data[: GROUP + 8] + (0xB6 + counted).to_bytes(4, "little") + GOLDEN.data[GROUP + 12 :] + private
    assert noted(data + DATA_SET) == (VALUE, len(data), [Deviation.FILE_META_GROUP_LENGTH_WRONG])
    for size in range(len(GOLDEN.data) + 1, len(data)):
        with pytest.raises(TruncatedFileMetaError):
            decode_file_meta(data[:size])


@pytest.mark.parametrize("start", ["02 00 18 00 'AE' [00 00]", "02 00 00 01 00 00 00 00", "02 00 00 01 'ui' [00 00]"])
def test_the_data_set_begins_with_the_first_lower_tag(start: str) -> None:
    data = GOLDEN.data + golden(start, "little").data + DATA_SET
    assert noted(data) == (VALUE, len(GOLDEN.data), [])


@pytest.mark.parametrize("data", [bytes(132), bytes(128) + b"DICX" + DATA_SET, bytes(128) + b"dicm", DATA_SET * 20])
def test_without_the_prefix_it_is_not_part_10(data: bytes) -> None:
    with pytest.raises(NotPart10Error):
        decode_file_meta(data)


def test_nothing_is_allocated_for_a_declared_length() -> None:
    octets = bytes(128) + b"DICM" + golden("02 00 02 01 'OB' 00 00 [FF FF FF FF]").data
    with pytest.raises(TruncatedFileMetaError, match=r"inside \(0002,0102\)"):
        decode_file_meta(octets)


@pytest.mark.timeout(20)
def test_a_mebibyte_of_empty_elements_is_read_in_bounded_time() -> None:
    octets = bytes(128) + b"DICM" + golden("02 00 10 00 'UI' [00 00]").data * (1 << 17)
    assert decode_file_meta(octets + DATA_SET) == (FileMeta(), len(octets))


def test_a_value_out_of_range_is_an_encode_error() -> None:
    with pytest.raises(EncodeError, match="too long"):
        encode_file_meta(FileMeta(transfer_syntax_uid="1" * 65537))
    with pytest.raises(EncodeError, match="cannot contain"):
        encode_file_meta(FileMeta(source_ae_title="一"))


@given(st.from_regex(r"[0-9.]{0,64}", fullmatch=True), st.sampled_from(["", "1.2", "1.2.840.10008.5.1.4.1.1.2"]))
def test_files_that_differ_in_their_uid_have_the_same_bytes_around_it(uid: str, sop_class: str) -> None:
    meta = FileMeta(
        media_storage_sop_class_uid=sop_class, media_storage_sop_instance_uid=uid, transfer_syntax_uid="1.2.3"
    )
    encoded = encode_uid(uid)
    other = dataclasses.replace(meta, media_storage_sop_instance_uid="9" * len(encoded))
    before, after = file_meta_around_uid(other)
    assert before + encoded + after == encode_file_meta(meta)
