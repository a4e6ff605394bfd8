"""Sendable files, and readable reasons for the others (PS3.10 7, PS3.5 A)."""

import gzip
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pydicom
import pytest
from hypothesis import HealthCheck, example, given, settings, strategies as st
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID
from tests.scu.data import (
    BIG_ENDIAN,
    CT,
    CT_FILE,
    DEFLATED,
    EXPLICIT,
    FILES,
    IMPLICIT,
    JPEG_2000,
    bare,
    data_set_of,
    element,
    explicit,
    part10,
    uid,
)
from tests.scu.inputs.scanning import scan
from tests.users import shared_folder

from dicomport.encoding.inflate import deflate
from dicomport.files import read_part10
from dicomport.scu import Instance, NotSendableError, instance_from_dataset, instance_from_path
from dicomport.wire import FileMeta, encode_file_meta

# pydicom warns about invalid files.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pydicom")

NOT_DICOM: Final = "not a DICOM file, or a bare data set with unknown encoding or UIDs"
A_DICOMDIR: Final = "a DICOMDIR: it lists instances, but is not one"
NO_UIDS: Final = "neither file meta nor data set has SOP Class UID and SOP Instance UID"
NO_SYNTAX: Final = "the file has no Transfer Syntax UID (0002,0010), and its data set does not show it: add the UID"
ODD: Final = "the data set is of odd length: it is truncated or damaged"
NOT_REGULAR: Final = "not a readable DICOM file: not a regular file"

REFUSED: Final = {
    "README.txt": NOT_DICOM,
    "crayons.icc": NOT_DICOM,
    "dicomdirtests/DICOMDIR": A_DICOMDIR,
    "dicomdirtests/DICOMDIR-bigEnd": A_DICOMDIR,
    "dicomdirtests/DICOMDIR-empty.dcm": A_DICOMDIR,
    "dicomdirtests/DICOMDIR-implicit": A_DICOMDIR,
    "dicomdirtests/DICOMDIR-nooffset": A_DICOMDIR,
    "dicomdirtests/DICOMDIR-nopatient": A_DICOMDIR,
    "dicomdirtests/DICOMDIR-reordered": A_DICOMDIR,
    "dicomdirtests/README.txt": NOT_DICOM,
    "dicomdirtests/TINY_ALPHA/DICOMDIR": A_DICOMDIR,
    "dicomdirtests/TINY_ALPHA/README": NOT_DICOM,
    "empty_charset_LEI.dcm": NO_UIDS,
    "meta_missing_tsyntax.dcm": NO_SYNTAX,
    "nested_priv_SQ.dcm": NO_UIDS,
    "no_meta.dcm": NOT_DICOM,
    "rtplan.dump": NOT_DICOM,
    "rtplan_truncated.dcm": ODD,
    "rtstruct.dump": NOT_DICOM,
    "test1.json": NOT_DICOM,
    "test_PN.json": NOT_DICOM,
    "zipMR.gz": "an archive, or a compressed file (gzip): pass its own path to send its instances",
}
"""The unsendable ones among pydicom's files: all others are sent."""

BARE: Final = {
    "ExplVR_BigEndNoMeta.dcm": BIG_ENDIAN,
    "ExplVR_LitEndNoMeta.dcm": EXPLICIT,
    "rtstruct.dcm": IMPLICIT,
}

ALL_FILES: Final = sorted(path for path in FILES.rglob("*") if path.is_file())


def sent(instance: Instance, chunk_bytes: int = 1 << 16) -> bytes:
    """Return the bytes sent."""
    return b"".join(bytes(chunk) for chunk in instance.chunks(chunk_bytes))


def why_not(path: Path) -> str:
    with pytest.raises(NotSendableError) as error:
        instance_from_path(path)
    return str(error.value)


def test_each_file_of_pydicom_is_sendable_or_not() -> None:
    found = scan([FILES])

    assert {str(result.path.relative_to(FILES)): result.reason for result in found.refused if result.path} == REFUSED
    assert len(found.instances) == len(ALL_FILES) - len(REFUSED)
    assert [item.path for item in found.instances] == sorted(
        (path for path in ALL_FILES if str(path.relative_to(FILES)) not in REFUSED),
        key=lambda path: (path.parent != FILES, path.parent.parts, path.name),
    )


@pytest.mark.parametrize(
    "path", [path for path in ALL_FILES if str(path.relative_to(FILES)) not in REFUSED], ids=lambda path: path.name
)
def test_the_data_set_sent_is_the_one_on_disk(path: Path) -> None:
    instance = instance_from_path(path)
    dataset = pydicom.dcmread(path, force=True, stop_before_pixels=True)
    meta = dataset.file_meta

    assert instance.path == path
    assert instance.sop_class_uid == dataset.get("SOPClassUID", meta.get("MediaStorageSOPClassUID"))
    assert instance.sop_instance_uid == dataset.get("SOPInstanceUID", meta.get("MediaStorageSOPInstanceUID"))
    assert instance.transfer_syntax_uid == meta.get("TransferSyntaxUID", BARE.get(path.name))
    data = sent(instance)
    assert len(data) == instance.sent_size == instance.size + (path.name == "image_dfl.dcm")
    assert path.read_bytes().endswith(data[: instance.size])


@pytest.mark.parametrize(("name", "syntax"), BARE.items())
def test_a_bare_data_set_goes_in_the_encoding_that_it_is_in(name: str, syntax: str) -> None:
    instance = instance_from_path(FILES / name)

    assert (instance.transfer_syntax_uid, instance.size) == (syntax, (FILES / name).stat().st_size)
    assert sent(instance) == (FILES / name).read_bytes()


@pytest.mark.parametrize(
    ("name", "syntax"),
    [
        ("CT_small.dcm", EXPLICIT),
        ("MR_small_implicit.dcm", IMPLICIT),
        ("MR_small_bigendian.dcm", BIG_ENDIAN),
        ("liver_1frame.dcm", EXPLICIT),
    ],
)
def test_an_image_without_its_header_goes_too(tmp_path: Path, name: str, syntax: str) -> None:
    path = tmp_path / name
    path.write_bytes(data_set_of(FILES / name))

    instance = instance_from_path(path)

    assert instance.transfer_syntax_uid == syntax
    assert instance.sop_instance_uid == instance_from_path(FILES / name).sop_instance_uid
    assert sent(instance) == path.read_bytes()


@pytest.mark.parametrize("pixels", [b"", b"ab", bytes(5000)], ids=["none", "few", "many"])
def test_of_a_bare_data_set_pixels_short_and_long_are_passed_over(tmp_path: Path, pixels: bytes) -> None:
    path = tmp_path / "bare"
    path.write_bytes(bare() + element(0x10, 0x4000, b"x" * 100) + element(0x7FE0, 0x10, pixels))

    assert instance_from_path(path).transfer_syntax_uid == IMPLICIT


def test_a_bare_data_set_with_encapsulated_pixels_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bare"
    path.write_bytes(data_set_of(FILES / "JPEG2000.dcm"))

    assert why_not(path) == NOT_DICOM


@pytest.mark.parametrize(
    "head",
    [
        explicit(8, 0x16, b"ZZ", b"abcd"),
        explicit(8, 0x16, b"FL", b"ab"),
        explicit(8, 0x16, b"IS", b"abcd"),
        explicit(8, 0x16, b"UI", b"1.2 ; rm"),
        explicit(8, 0x16, b"UI", uid("1." + "2" * 63)),
        b"",
    ],
    ids=["an unknown VR", "half a float", "no number", "no UID", "a UID that is too long", "none"],
)
def test_a_bare_data_set_with_an_impossible_sop_class_uid_is_refused(tmp_path: Path, head: bytes) -> None:
    path = tmp_path / "bare"
    path.write_bytes(head + explicit(8, 0x18, b"UI", uid("1.2.3")) + explicit(0x10, 0x20, b"LO", b"x" * 120))

    assert why_not(path) == NOT_DICOM


def test_uids_that_the_file_meta_leaves_out_come_from_the_data_set(tmp_path: Path) -> None:
    path = part10(tmp_path / "file", sop_class="", sop_instance="", data=bare(CT, "1.2.3.5"))

    instance = instance_from_path(path)

    assert (instance.sop_class_uid, instance.sop_instance_uid) == (CT, "1.2.3.5")
    assert sent(instance) == bare(CT, "1.2.3.5")


def test_uids_that_neither_has_are_missed(tmp_path: Path) -> None:
    path = part10(tmp_path / "file", sop_class=CT, sop_instance="", data=element(0x10, 0x20, b"PATIENT "))

    assert why_not(path) == NO_UIDS


def test_text_json_and_gzip_are_no_dicom_files(tmp_path: Path) -> None:
    contents = {
        "text": b"DICM " * 100,
        "json": b'{"00080016": {"vr": "UI"}}' * 20,
        "gzip": gzip.compress(CT_FILE.read_bytes()),
        "zeros": bytes(1000),
        "group 8 and no more": b"\x08\0" + bytes(500),
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)

    assert {name: why_not(tmp_path / name) for name in contents} == dict.fromkeys(contents, NOT_DICOM)


def test_special_files_are_named_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "folder").mkdir()
    (tmp_path / "broken").symlink_to(tmp_path / "nothing")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")

    assert why_not(tmp_path / "fifo") == NOT_REGULAR
    assert why_not(tmp_path / "folder") == NOT_REGULAR
    assert why_not(tmp_path / "nothing") == "cannot be read: No such file or directory"
    assert why_not(tmp_path / "broken") == "cannot be read: No such file or directory"
    assert why_not(tmp_path / "loop") == "cannot be read: Too many levels of symbolic links"
    assert why_not(tmp_path / ("x" * 300)) == "cannot be read: File name too long"
    assert why_not(CT_FILE / "below") == "cannot be read: Not a directory"
    assert why_not(Path("/dev/zero")) == NOT_REGULAR


def test_a_link_to_a_file_is_that_file(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(CT_FILE)

    assert sent(instance_from_path(tmp_path / "link")) == data_set_of(CT_FILE)


def test_a_file_that_ends_within_its_header_says_where(tmp_path: Path) -> None:
    header = encode_file_meta(FileMeta(media_storage_sop_class_uid=CT, transfer_syntax_uid=EXPLICIT))
    path = tmp_path / "file"

    def reason(size: int) -> str:
        path.write_bytes(header[:size])
        return why_not(path)

    assert reason(0) == "the file is empty"
    assert reason(131) == NOT_DICOM
    assert reason(132) == "not a readable DICOM file: ends with group 0002, without a data set"
    assert reason(136) == "not a readable DICOM file: ends inside a header"
    assert reason(len(header) - 1) == "not a readable DICOM file: ends inside (0002,0010)"
    assert reason(len(header)) == "not a readable DICOM file: ends with group 0002, without a data set"


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT, BIG_ENDIAN, JPEG_2000, "1.2.3.4.5"])
def test_a_data_set_of_odd_length_is_damaged(tmp_path: Path, syntax: str) -> None:
    assert why_not(part10(tmp_path / "file", syntax=syntax, data=bare() + b"x")) == ODD


@pytest.mark.parametrize("chunk_bytes", [2, 64, 1 << 20])
def test_a_deflated_one_of_odd_length_gets_a_nul_with_its_last_chunk(chunk_bytes: int) -> None:
    """PS3.5 A.5. Each chunk is even, so that no fragment but the last could be odd (PS3.8 E.1)."""
    instance = instance_from_path(FILES / "image_dfl.dcm")

    assert instance.transfer_syntax_uid == DEFLATED
    assert (instance.size % 2, instance.sent_size) == (1, instance.size + 1)
    assert sent(instance, chunk_bytes) == data_set_of(FILES / "image_dfl.dcm") + b"\0"
    assert all(len(chunk) % 2 == 0 for chunk in instance.chunks(chunk_bytes))


def test_a_deflated_data_set_in_memory_is_padded_too() -> None:
    assert sent(Instance(CT, "1.2.3", DEFLATED, b"odd")) == b"odd\0"


def test_a_deflated_one_of_even_length_is_left_alone(tmp_path: Path) -> None:
    data = deflate(data_set_of(CT_FILE))
    instance = instance_from_path(part10(tmp_path / "file", syntax=DEFLATED, data=data))

    assert sent(instance) == data


@pytest.mark.parametrize(
    ("sop_class", "reason"),
    [
        ("1.2.840.10008.1.1", "Verification SOP Class is not a storage SOP Class"),
        (
            "1.2.840.10008.5.1.4.1.2.2.1",
            "Study Root Query/Retrieve Information Model - FIND is not a storage SOP Class",
        ),
        ("1.2.840.10008.1.2", "Implicit VR Little Endian is not a storage SOP Class"),
    ],
)
def test_a_known_class_without_storage_is_refused(tmp_path: Path, sop_class: str, reason: str) -> None:
    assert why_not(part10(tmp_path / "file", sop_class=sop_class)) == reason


def test_private_retired_and_future_classes_are_sent(tmp_path: Path) -> None:
    for sop_class in ("1.2.826.0.1.3680043.99.1", "1.2.840.10008.5.1.1.27", "1.2.840.10008.5.1.4.1.1.999"):
        assert instance_from_path(part10(tmp_path / "file", sop_class=sop_class)).sop_class_uid == sop_class


@pytest.mark.parametrize("field", ["sop_class", "sop_instance", "syntax"])
@pytest.mark.parametrize("length", [65, 65534])
def test_a_uid_of_more_than_64_characters_is_refused(tmp_path: Path, field: str, length: int) -> None:
    """PS3.5 9.1; the longest would not even fit into a presentation context item (PS3.8 9.3.2.2)."""
    path = part10(tmp_path / "file", **{field: "1." + "2" * (length - 2)})  # type: ignore[arg-type]

    assert why_not(path) == f"a UID of {length} characters; 64 is the maximum (PS3.5 9.1)"


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.data())
def test_a_fuzzed_file_yields_an_instance_or_a_reason(tmp_path: Path, data: st.DataObject) -> None:
    """No other error is raised, for any change of a file."""
    name = data.draw(st.sampled_from([*BARE, "CT_small.dcm", "image_dfl.dcm", "no_meta.dcm", "nested_priv_SQ.dcm"]))
    content = bytearray((FILES / name).read_bytes())
    early = st.integers(0, min(700, len(content) - 1))
    for at, value in data.draw(st.lists(st.tuples(early, st.integers(0, 255)), max_size=6)):
        content[at] = value
    path = tmp_path / "file"
    path.write_bytes(content[: data.draw(st.integers(0, 1000) | st.none())])

    found = scan([path])
    assert len(found.instances) + len(found.refused) == 1
    assert all(result.reason for result in found.refused)
    assert all(len(sent(instance)) == instance.sent_size > 0 for instance in found.instances)


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.binary(max_size=600))
@example(b"\x08\0")
@example(b"\0\x08" * 100)
def test_noise_is_refused(tmp_path: Path, noise: bytes) -> None:
    path = tmp_path / "file"
    for content in (noise, b"\x08\0\x16\0" + noise, b"\0\x08\0\x16" + noise, bytes(128) + b"DICM\2\0" + noise):
        path.write_bytes(content)
        assert why_not(path)


# Folders.


def test_folders_are_walked_by_name_without_following_links(tmp_path: Path) -> None:
    for number, name in enumerate(["b/2", "b/1", "a/z/1", "a/1", "c"]):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        part10(path, sop_instance=f"1.2.3.{number}")
    (tmp_path / "a/loop").symlink_to(tmp_path)

    found = scan([tmp_path])

    assert [str(item.path.relative_to(tmp_path)) for item in found.instances if item.path] == [
        "c",
        "a/1",
        "a/z/1",
        "b/1",
        "b/2",
    ]
    assert found.refused == ()
    assert found.size == sum(item.size for item in found.instances) == 5 * len(bare())


def test_each_input_has_a_result_even_if_it_is_missing(tmp_path: Path) -> None:
    paths: list[str | Path] = [str(tmp_path / "nothing"), tmp_path / ("x" * 300), tmp_path, CT_FILE]

    found = scan(paths)

    assert [(result.path, result.reason) for result in found.refused] == [
        (tmp_path / "nothing", "cannot be read: No such file or directory"),
        (tmp_path / ("x" * 300), "cannot be read: File name too long"),
        (tmp_path, "nothing to send: no instances found in this folder"),
    ]
    assert [item.path for item in found.instances] == [CT_FILE]


@pytest.fixture
def shared() -> Iterator[Path]:
    with shared_folder() as folder:
        yield folder


def test_a_folder_that_cannot_be_listed_is_named(shared: Path) -> None:
    part10(shared / "1")
    closed = shared / "closed"
    closed.mkdir(mode=0)
    reader = os.fork() if os.geteuid() == 0 else 0
    if reader == 0:
        # Root may list anything, so a process of another user lists the folder and reports by its exit code.
        good = False
        try:
            if os.geteuid() == 0:
                os.setuid(65534)
            found = scan([shared])
            good = [(r.path, r.reason) for r in found.refused] == [(closed, "cannot be read: Permission denied")]
        finally:
            if reader == 0 and os.geteuid() == 65534:
                os._exit(0 if good else 1)
        assert good
        return
    assert os.waitpid(reader, 0)[1] == 0


def test_one_file_asked_for_twice_is_sent_twice() -> None:
    assert len(scan([CT_FILE, CT_FILE]).instances) == 2


# Data sets in memory.


def dataset(syntax: str | None, *, sop_class: str = CT, sop_instance: str = "1.2.3.4") -> Dataset:
    made = Dataset()
    if syntax is not None:
        made.file_meta = FileMetaDataset()
        made.file_meta.TransferSyntaxUID = UID(syntax)
    if sop_class:
        made.SOPClassUID = sop_class
    if sop_instance:
        made.SOPInstanceUID = sop_instance
    made.PatientID = "PATIENT"
    return made


def why_not_in_memory(made: Dataset) -> str:
    with pytest.raises(NotSendableError) as error:
        instance_from_dataset(made)
    return str(error.value)


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT, BIG_ENDIAN, DEFLATED])
def test_a_data_set_in_memory_is_encoded_as_its_file_meta_says(tmp_path: Path, syntax: str) -> None:
    made = dataset(syntax)

    instance = instance_from_dataset(made)

    assert (instance.sop_class_uid, instance.sop_instance_uid) == (CT, "1.2.3.4")
    assert (instance.transfer_syntax_uid, instance.path) == (syntax, None)
    path = part10(tmp_path / "file", syntax=syntax, data=sent(instance))
    assert pydicom.dcmread(path) == made


def test_a_data_set_in_memory_is_left_as_it_is() -> None:
    made = dataset(EXPLICIT)
    before = (made.to_json(), made.file_meta.to_json())

    instance_from_dataset(made)

    assert (made.to_json(), made.file_meta.to_json()) == before


def test_a_compressed_data_set_that_was_read_is_sent_as_it_was() -> None:
    instance = instance_from_dataset(pydicom.dcmread(FILES / "JPEG2000.dcm"))

    assert instance.transfer_syntax_uid == "1.2.840.10008.1.2.4.91"
    assert sent(instance) == data_set_of(FILES / "JPEG2000.dcm")


def test_a_compressed_syntax_with_pixels_that_are_not_is_refused() -> None:
    made = dataset(JPEG_2000)
    made.add_new(0x7FE00010, "OB", bytes(100))

    assert why_not_in_memory(made).startswith("pydicom cannot encode the data set: ")


@pytest.mark.parametrize(
    "made",
    [
        dataset(None),
        dataset(EXPLICIT, sop_class=""),
        dataset(EXPLICIT, sop_instance=""),
    ],
    ids=["no file meta", "no SOP Class UID", "no SOP Instance UID"],
)
def test_a_data_set_in_memory_that_lacks_something_is_refused(made: Dataset) -> None:
    assert why_not_in_memory(made).startswith("pydicom cannot encode the data set: ")


def test_a_data_set_in_memory_with_elements_of_the_file_meta_is_refused() -> None:
    made = dataset(EXPLICIT)
    made.add_new(0x00020010, "UI", EXPLICIT)

    assert "File Meta" in why_not_in_memory(made)


def test_a_data_set_in_memory_without_any_element_is_refused() -> None:
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = UID(EXPLICIT)
    made.file_meta.MediaStorageSOPClassUID = UID(CT)
    made.file_meta.MediaStorageSOPInstanceUID = UID("1.2.3")

    assert why_not_in_memory(made) == "the data set is empty"


def test_a_dicomdir_in_memory_is_refused() -> None:
    assert why_not_in_memory(dataset(EXPLICIT, sop_class="1.2.840.10008.1.3.10")) == A_DICOMDIR


def test_a_data_set_in_memory_is_named_without_a_path() -> None:
    found = scan([dataset(None), dataset(EXPLICIT)])

    assert len(found.instances) == 1
    assert [result.path for result in found.refused] == [None]


def test_a_file_that_shrinks_while_it_is_read_says_so(tmp_path: Path) -> None:
    path = part10(tmp_path / "file", size=1000)
    chunks = instance_from_path(path).chunks(100)
    next(chunks)
    os.truncate(path, read_part10(path).offset + 150)

    with pytest.raises(ValueError, match="the file became shorter while it was read"):
        list(chunks)


def test_a_dicomdir_whose_file_meta_names_another_class_is_refused(tmp_path: Path) -> None:
    path = part10(tmp_path / "1.dcm", data=bare("1.2.840.10008.1.3.10", "1.2.3.4"))
    assert why_not(path) == A_DICOMDIR
