"""Edited values and new UIDs for test sends: other elements are unchanged, and all UIDs agree."""

import io
import itertools
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import UID
from tests.scu.data import BIG_ENDIAN, CT, CT_FILE, DEFLATED, EXPLICIT, FILES, IMPLICIT, part10

from dicomport.scu import Instance, NotSendableError, find, instance_from_dataset, instance_from_path
from dicomport.scu.transform.editing import Editor
from dicomport.wire import FileMeta, encode_file_meta

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pydicom")

STUDY, SERIES, REFERENCED = "1.2.3.1", "1.2.3.2", "1.2.3.9"


def encoded(instance: Instance) -> bytes:
    return b"".join(bytes(chunk) for chunk in instance.chunks(1 << 20))


def dataset_of(instance: Instance) -> pydicom.FileDataset:
    meta = FileMeta(
        media_storage_sop_class_uid=instance.sop_class_uid,
        media_storage_sop_instance_uid=instance.sop_instance_uid,
        transfer_syntax_uid=instance.transfer_syntax_uid,
    )
    return pydicom.dcmread(io.BytesIO(encode_file_meta(meta) + encoded(instance)))


def made(number: int = 4, syntax: str = EXPLICIT, **elements: Any) -> Instance:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = UID(syntax)
    dataset.SOPClassUID, dataset.SOPInstanceUID = CT, f"1.2.3.{number}"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = STUDY, SERIES
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = CT, REFERENCED
    dataset.ReferencedImageSequence = Sequence([item])
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    return instance_from_dataset(dataset)


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT, BIG_ENDIAN, DEFLATED])
def test_elements_get_the_values_that_are_given(syntax: str) -> None:
    editor = Editor(
        {
            "PatientID": "TEST",
            "PatientName": "Test^Tom",
            "ImageType": "ORIGINAL\\PRIMARY",
            "Rows": "512",
            "PixelAspectRatio": "1\\2",
            "DiffusionBValue": "1.5",
            "StudyDate": "20200131",
            "AccessionNumber": "",
        }
    )
    instance = made(syntax=syntax, PatientID="old", StudyDescription="kept")

    edited = editor.edit(instance)
    found = dataset_of(edited)

    assert (found.PatientID, str(found.PatientName), found.StudyDescription) == ("TEST", "Test^Tom", "kept")
    assert (list(found.ImageType), found.Rows, list(found.PixelAspectRatio)) == (["ORIGINAL", "PRIMARY"], 512, [1, 2])
    assert (found.DiffusionBValue, found.StudyDate, found.AccessionNumber) == (1.5, "20200131", "")
    assert edited.transfer_syntax_uid == syntax
    assert (edited.sop_class_uid, edited.sop_instance_uid) == (CT, "1.2.3.4")
    assert found.StudyInstanceUID == STUDY


def test_an_instance_uid_that_is_set_is_the_one_that_is_announced() -> None:
    edited = Editor({"SOPInstanceUID": "1.2.3.99"}).edit(made())

    assert edited.sop_instance_uid == dataset_of(edited).SOPInstanceUID == "1.2.3.99"


@pytest.mark.parametrize("item", list(find([FILES])), ids=lambda item: Path(item.path).name)
def test_all_else_stays_byte_for_byte(item: Any) -> None:
    if not isinstance(item, Instance):
        return
    before = dataset_of(item)
    if item.name.endswith("SC_rgb_jpeg.dcm"):  # its elements have no VRs, though the transfer syntax has them
        with pytest.raises(NotSendableError, match=r"pydicom cannot encode the data set: With tag \(0008,0008\)"):
            Editor({"PatientID": "TEST"}).edit(item)
        return

    edited = Editor({"PatientID": "TEST"}).edit(item)

    after = dataset_of(edited)
    assert edited.path == item.path
    assert edited.stamp == item.stamp
    assert edited.transfer_syntax_uid == item.transfer_syntax_uid
    assert after.PatientID == "TEST"
    tags = {int(tag) for tag in before.keys() if tag.element}  # noqa: SIM118  # iterated, it would give elements
    for tag in tags - {0x00100020, 0x00080005}:
        one: Any = before.get_item(tag)
        other: Any = after.get_item(tag)
        if not isinstance(one, pydicom.dataelem.DataElement):
            assert one.value == other.value, f"{tag:08X}"
    assert {int(tag) for tag in after.keys()} == tags | {0x00100020}  # noqa: SIM118  # see above


# UIDs.


def uids(instance: Instance) -> tuple[str, str, str, str]:
    found = dataset_of(instance)
    referenced = found.ReferencedImageSequence[0].ReferencedSOPInstanceUID
    assert instance.sop_instance_uid == found.SOPInstanceUID
    return found.StudyInstanceUID, found.SeriesInstanceUID, found.SOPInstanceUID, referenced


def test_uids_are_new_and_valid_and_what_belonged_together_still_does() -> None:
    editor = Editor({}, invent_uids=True)

    one, two = uids(editor.edit(made(4))), uids(editor.edit(made(9)))

    assert one[:2] == two[:2]
    assert one[2] != two[2]
    assert one[3] == two[2]  # the one refers to the other
    assert two[3] == two[2]
    assert not {*one, *two} & {STUDY, SERIES, REFERENCED, "1.2.3.4"}
    assert len({*one, *two}) == 4
    for uid in {*one, *two}:
        assert UID(uid).is_valid
        assert uid.startswith("2.25.")


def test_the_same_instance_gets_the_same_uids_again_but_not_in_another_run() -> None:
    editor = Editor({}, invent_uids=True)

    assert encoded(editor.edit(made())) == encoded(editor.edit(made()))
    assert not {*uids(editor.edit(made()))} & {*uids(Editor({}, invent_uids=True).edit(made()))}


def test_a_uid_that_is_set_wins() -> None:
    found = uids(Editor({"StudyInstanceUID": "1.2.3.77"}, invent_uids=True).edit(made()))

    assert found[0] == "1.2.3.77"
    assert found[1].startswith("2.25.")


def test_classes_and_other_uids_stay() -> None:
    edited = Editor({}, invent_uids=True).edit(instance_from_path(CT_FILE))
    before, after = pydicom.dcmread(CT_FILE), dataset_of(edited)

    assert edited.sop_class_uid == after.SOPClassUID == before.SOPClassUID
    assert after.FrameOfReferenceUID == before.FrameOfReferenceUID
    assert after.PixelData == before.PixelData


# Invalid values.


@pytest.mark.parametrize(
    ("keyword", "value", "reason"),
    [
        ("PatientId", "x", "unknown keyword 'PatientId'; did you mean 'PatientID'?"),
        ("patientname", "x", "unknown keyword 'patientname'; did you mean 'PatientName'?"),
        ("#!", "x", "unknown keyword '#!'"),
        ("", "x", "unknown keyword ''"),
        ("SOPClassUID", CT, "cannot set SOPClassUID"),
        ("TransferSyntaxUID", EXPLICIT, "cannot set TransferSyntaxUID"),
        ("AffectedSOPInstanceUID", "1.2", "cannot set AffectedSOPInstanceUID"),
        ("SpecificCharacterSet", "ISO_IR 192", "cannot set SpecificCharacterSet"),
        ("PixelData", "x", "cannot set PixelData"),
        ("ReferencedImageSequence", "x", "cannot set ReferencedImageSequence"),
        ("Rows", "many", "invalid value 'many' of Rows (US): "),
        ("Rows", "-1", "invalid value '-1' of Rows (US): "),
        ("Rows", "65536", "invalid value '65536' of Rows (US): "),
        ("StudyDate", "yesterday", "invalid value 'yesterday' of StudyDate (DA): "),
        ("PatientID", "x" * 65, f"invalid value '{'x' * 65}' of PatientID (LO): "),
        ("SOPInstanceUID", "1.02", "invalid value '1.02' of SOPInstanceUID (UI): "),
        ("SliceThickness", "thin", "invalid value 'thin' of SliceThickness (DS): "),
    ],
)
def test_an_invalid_value_is_reported_before_anything_is_sent(keyword: str, value: str, reason: str) -> None:
    with pytest.raises(ValueError, match=r"unknown keyword|cannot set|invalid value") as error:
        Editor({keyword: value})
    assert str(error.value).startswith(reason)


def test_text_that_the_instance_s_characters_can_t_write_is_refused() -> None:
    editor = Editor({"PatientName": "Müller^Jürgen"})

    with pytest.raises(NotSendableError, match="cannot encode 'Müller"):
        editor.edit(made())
    assert str(dataset_of(editor.edit(made(SpecificCharacterSet="ISO_IR 100"))).PatientName) == "Müller^Jürgen"
    assert str(dataset_of(editor.edit(made(SpecificCharacterSet="ISO_IR 192"))).PatientName) == "Müller^Jürgen"


def test_a_file_that_is_gone_or_damaged_is_refused(tmp_path: Path) -> None:
    editor = Editor({"PatientID": "x"}, invent_uids=True)
    instance = instance_from_path(part10(tmp_path / "file"))
    (tmp_path / "file").unlink()
    with pytest.raises(NotSendableError, match="cannot be read: "):
        editor.edit(instance)
    item = b"\xfe\xff\0\xe0\xff\xff\xff\xff"
    deep = (b"\x08\0\x15\x11SQ\0\0\xff\xff\xff\xff" + item) * 5000
    with pytest.raises(NotSendableError, match="pydicom cannot"):
        editor.edit(Instance(CT, "1.2.3", EXPLICIT, deep))


def test_an_edited_instance_may_be_read_again() -> None:
    edited = Editor({"PatientID": "x"}).edit(made())
    assert encoded(edited) == encoded(edited) == bytes(itertools.chain.from_iterable(edited.chunks(3)))
