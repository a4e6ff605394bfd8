"""The scanner against pydicom, over every file of its package."""

import dataclasses
import random
import warnings
from functools import cache
from pathlib import Path
from typing import Any, Final

import pydicom
import pytest
from hypothesis import given, settings, strategies as st
from pydicom.dataelem import RawDataElement
from pydicom.multival import MultiValue
from tests.encoding.encode import EXPLICIT, IMPLICIT, LONG_VRS, byte_by_byte, cut, scan, scan_pieces

from dicomport.archive.scan.attributes import InstanceAttributes
from dicomport.encoding.deviations import ProblemKind, ScanFlag
from dicomport.files import read_part10
from dicomport.wire import FileMetaError

DATA: Final = Path(pydicom.__file__).parent / "data"
KEYWORDS: Final = {
    "sop_class_uid": "SOPClassUID",
    "sop_instance_uid": "SOPInstanceUID",
    "study_instance_uid": "StudyInstanceUID",
    "series_instance_uid": "SeriesInstanceUID",
    "patient_id": "PatientID",
    "patient_name": "PatientName",
    "modality": "Modality",
    "study_date": "StudyDate",
    "series_date": "SeriesDate",
    "acquisition_date": "AcquisitionDate",
    "content_date": "ContentDate",
    "study_time": "StudyTime",
    "accession_number": "AccessionNumber",
    "study_description": "StudyDescription",
    "series_description": "SeriesDescription",
    "series_number": "SeriesNumber",
    "instance_number": "InstanceNumber",
    "number_of_frames": "NumberOfFrames",
    "rows": "Rows",
    "columns": "Columns",
    "specific_character_set": "SpecificCharacterSet",
}
NUMBERS: Final = {"number_of_frames", "rows", "columns"}

# pydicom reads these only in part: their File Meta Information is wrong, or they are incomplete.
NOT_WHOLE: Final = {
    "MR_truncated.dcm": ProblemKind.TRUNCATED,
    "rtplan_truncated.dcm": ProblemKind.TRUNCATED,
    "SC_rgb_jpeg.dcm": ProblemKind.UNDECODABLE,  # in Implicit VR
}
FLAGS: Final = {
    "image_dfl.dcm": {ScanFlag.TRAILING_BYTES},  # the trailer of gzip
    "nested_priv_SQ.dcm": {ScanFlag.ODD_LENGTH},
    "meta_missing_tsyntax.dcm": {ScanFlag.NOT_WALKED, ScanFlag.UNKNOWN_TRANSFER_SYNTAX},
}
NOT_EXPLICIT: Final = {"SC_rgb_jpeg.dcm", "meta_missing_tsyntax.dcm"}

CUT: Final = {
    "explicit": "MR_small.dcm",
    "implicit": "MR_small_implicit.dcm",
    "big-endian": "MR_small_bigendian.dcm",
    "encapsulated": "JPEG2000.dcm",
    "nested": "reportsi.dcm",
    "unknown-vr-sequence": "UN_sequence.dcm",
}
cut_files = pytest.mark.parametrize("name", CUT.values(), ids=CUT)


@dataclasses.dataclass(frozen=True, slots=True)
class File:
    uid: str
    data: bytes
    path: Path


@cache
def read(path: Path) -> File:
    part10 = read_part10(path)
    return File(part10.meta.transfer_syntax_uid, path.read_bytes()[part10.offset :], path)


def _is_part10(path: Path) -> bool:
    try:
        read_part10(path)
    except FileMetaError:
        return False
    return True


FILES: Final = sorted(
    path for folder in ("test_files", "charset_files") for path in (DATA / folder).rglob("*") if path.is_file()
)
PART10: Final = [path for path in FILES if _is_part10(path)]


def as_pydicom_reads(path: Path) -> InstanceAttributes:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data_set = pydicom.dcmread(path)
        attributes = {name: _fact(data_set, name, keyword) for name, keyword in KEYWORDS.items() if keyword in data_set}
    return dataclasses.replace(
        InstanceAttributes(), **{name: fact for name, fact in attributes.items() if fact is not None}
    )


def _fact(data_set: pydicom.Dataset, name: str, keyword: str) -> Any:
    value = data_set[keyword].value
    if name in NUMBERS or value is None:
        return value if isinstance(value, int) else None
    text = "\\".join(map(str, value)) if isinstance(value, MultiValue) else str(value)
    return text.strip(" \0")


def without_empty_groups(attributes: InstanceAttributes) -> InstanceAttributes:
    """Remove a name's empty component groups (PS3.5 6.2.1.1), which pydicom does not keep."""
    return dataclasses.replace(attributes, patient_name=attributes.patient_name.rstrip("="))


def test_there_are_files() -> None:
    assert len(PART10) > 150
    assert {field.name for field in dataclasses.fields(InstanceAttributes)} == set(KEYWORDS)


@pytest.mark.parametrize("path", PART10, ids=lambda path: path.relative_to(DATA).as_posix())
def test_facts_are_pydicoms(path: Path) -> None:
    file = read(path)
    result = scan(file.uid, file.data)
    assert (result.problem.kind if result.problem else None) == NOT_WHOLE.get(path.name)
    assert result.flags == FLAGS.get(path.name, set())
    assert without_empty_groups(result.attributes) == (
        as_pydicom_reads(path) if path.name not in NOT_EXPLICIT else InstanceAttributes()
    )
    head, rest = byte_by_byte(file.data[:3000]), file.data[3000:]
    assert scan_pieces(file.uid, [*head, *cut(rest, range(0, len(rest), 997))]) == result


def file_to_cut(name: str) -> File:
    return read(DATA / "test_files" / name)


@cut_files
@settings(max_examples=40)
@given(cuts=st.lists(st.integers(min_value=0), max_size=12))
def test_split_anywhere(name: str, cuts: list[int]) -> None:
    file = file_to_cut(name)
    assert scan_pieces(file.uid, cut(file.data, cuts)) == scan(file.uid, file.data)


def boundaries(file: File) -> set[int]:
    """Offset of a top-level element, according to pydicom."""
    start = file.path.stat().st_size - len(file.data)
    found = set()
    data_set = pydicom.dcmread(file.path)
    for tag in data_set.keys():  # noqa: SIM118  iteration would decode
        element: Any = data_set.get_item(tag)
        # An element is raw until it is asked for, but for a sequence of undefined length, whose end had to be found.
        at: Any = element.value_tell if isinstance(element, RawDataElement) else element.file_tell
        found.add(at - start - (12 if file.uid != IMPLICIT and element.VR in LONG_VRS else 8))
    return found


@cut_files
def test_truncations_inside_an_element_are_reported(name: str) -> None:
    file = file_to_cut(name)
    between = boundaries(file)
    whole = dataclasses.asdict(scan(file.uid, file.data).attributes)
    near = {at + by for at in between for by in range(-2, 14) if 0 < at + by < len(file.data)}
    picked = random.Random(name).sample(range(1, len(file.data)), min(250, len(file.data) - 1))
    for size in sorted(near | set(picked)):
        result = scan(file.uid, file.data[:size])
        assert (result.problem is None) == (size in between), size
        if result.problem is not None:
            assert result.problem.kind is ProblemKind.TRUNCATED
        assert all(fact in (whole[key], "", None) for key, fact in dataclasses.asdict(result.attributes).items())


@cut_files
@settings(max_examples=40)
@given(edits=st.lists(st.tuples(st.integers(0, 600), st.integers(0, 255)), min_size=1, max_size=6))
def test_mutations_never_raise(name: str, edits: list[tuple[int, int]]) -> None:
    file = file_to_cut(name)
    data = bytearray(file.data)
    for at, octet in edits:
        data[at % len(data)] = octet
    for uid in {file.uid, EXPLICIT}:
        assert scan(uid, bytes(data)) == scan_pieces(uid, cut(bytes(data), [at for at, _ in edits]))
