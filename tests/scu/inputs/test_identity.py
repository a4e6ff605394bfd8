"""The sender's labels agree with the data set, even if file meta does not."""

import io
import itertools
import tarfile
import zipfile
from pathlib import Path
from typing import Final

import pydicom
import pytest
from pydicom.uid import UID
from tests.scu.data import (
    BIG_ENDIAN,
    CT,
    DEFLATED,
    DEVIATING,
    EXPLICIT,
    FILES,
    IMPLICIT,
    JPEG,
    JPEG_2000,
    MR,
    bare,
    data_set_of,
    element,
    explicit,
    part10,
    uid,
)

from dicomport.encoding.inflate import deflate
from dicomport.scu import Instance, InstanceResult, NotSendableError, find, instance_from_dataset, instance_from_path
from dicomport.scu.inputs.found import Found
from dicomport.scu.transform.transcoding import transcode
from dicomport.standard import find_transfer_syntax
from dicomport.wire import Deviation

SC: Final = "1.2.840.10008.5.1.4.1.1.7"
PLAIN: Final = (IMPLICIT, EXPLICIT, BIG_ENDIAN, DEFLATED)


def why_not(path: Path) -> str:
    with pytest.raises(NotSendableError) as error:
        instance_from_path(path)
    return str(error.value)


def encoded(syntax: str, data: bytes = bare()) -> bytes:
    """Return a data set in Implicit VR Little Endian in another plain transfer syntax."""
    source, target = find_transfer_syntax(IMPLICIT), find_transfer_syntax(EXPLICIT if syntax == DEFLATED else syntax)
    assert source is not None
    assert target is not None
    data = transcode(data, source, target)
    return deflate(data) if syntax == DEFLATED else data


def labels(instance: Instance) -> tuple[str, str, str, list[Deviation]]:
    syntax = instance.transfer_syntax_uid
    return instance.sop_class_uid, instance.sop_instance_uid, syntax, list(instance.deviations)


# The files that peers accept.


@pytest.mark.parametrize(
    ("name", "number", "syntax", "offset", "deviations"),
    [
        ("without_transfer_syntax", "1", EXPLICIT, 226, [Deviation.TRANSFER_SYNTAX_MISSING]),
        ("file_meta_in_implicit_vr", "3", IMPLICIT, 248, [Deviation.FILE_META_IN_IMPLICIT_VR]),
        ("without_preamble", "5", EXPLICIT, 122, [Deviation.FILE_META_WITHOUT_PREAMBLE]),
        ("group_length_without_private_elements", "8", IMPLICIT, 292, [Deviation.FILE_META_GROUP_LENGTH_WRONG]),
        ("transfer_syntax_differs", "22", IMPLICIT, 256, [Deviation.TRANSFER_SYNTAX_DIFFERS]),
        ("sop_class_differs", "25", EXPLICIT, 256, [Deviation.SOP_CLASS_DIFFERS]),
        ("odd_length", "27", EXPLICIT, 256, [Deviation.DATA_SET_ODD]),
    ],
)
def test_a_deviating_file_is_sent_under_the_labels_of_its_data_set(
    name: str, number: str, syntax: str, offset: int, deviations: list[Deviation]
) -> None:
    path = DEVIATING / f"{name}.dcm"

    instance = instance_from_path(path)

    assert labels(instance) == (SC, f"1.2.3.60.{number}", syntax, deviations)
    content = path.read_bytes()[offset:]
    assert instance.read() == content + bytes(len(content) % 2)


# Transfer syntax.


@pytest.mark.parametrize(("named", "actual"), list(itertools.product(PLAIN, PLAIN)))
def test_the_transfer_syntax_is_the_one_that_the_data_set_is_in(tmp_path: Path, named: str, actual: str) -> None:
    data = encoded(actual)
    path = part10(tmp_path / "file", sop_instance="1.2.3.4", syntax=named, data=data)

    deviations = [] if named == actual else [Deviation.TRANSFER_SYNTAX_DIFFERS]
    assert labels(instance_from_path(path)) == (CT, "1.2.3.4", actual, deviations)
    assert instance_from_path(path).read() == data


def test_earlier_files_in_other_encodings_change_no_label(tmp_path: Path) -> None:
    """Files laid out alike, of which some name another transfer syntax than that of their data set."""
    pairs = list(itertools.product(PLAIN, PLAIN))
    for named, actual in sorted(pairs, key=lambda pair: pair[0] != pair[1]) * 2:
        path = part10(tmp_path / "file", sop_instance="1.2.3.4", syntax=named, data=encoded(actual))
        deviations = [] if named == actual else [Deviation.TRANSFER_SYNTAX_DIFFERS]
        assert labels(instance_from_path(path)) == (CT, "1.2.3.4", actual, deviations)


@pytest.mark.parametrize("actual", PLAIN)
def test_a_missing_transfer_syntax_is_told_from_the_data_set(tmp_path: Path, actual: str) -> None:
    path = part10(tmp_path / "file", syntax="", data=encoded(actual, bare(size=3000)))

    assert labels(instance_from_path(path)) == (CT, "1.2.3.4", actual, [Deviation.TRANSFER_SYNTAX_MISSING])


def test_of_compressed_pixels_only_file_meta_names_the_transfer_syntax(tmp_path: Path) -> None:
    path = part10(tmp_path / "file", syntax="", data=data_set_of(FILES / "JPEG2000.dcm"))

    expected = "the file has no Transfer Syntax UID (0002,0010), and its data set does not show it: add the UID"
    assert why_not(path) == expected


@pytest.mark.parametrize("actual", [IMPLICIT, BIG_ENDIAN])
def test_native_pixels_contradict_a_compressed_transfer_syntax(tmp_path: Path, actual: str) -> None:
    data = bare() + element(0x28, 0x10, b"\2\0") + element(0x7FE0, 0x10, b"ab")
    path = part10(tmp_path / "file", syntax=JPEG, data=encoded(actual, data))

    assert labels(instance_from_path(path)) == (CT, "1.2.3.4", actual, [Deviation.TRANSFER_SYNTAX_DIFFERS])


def test_compressed_pixels_in_implicit_vr_keep_their_name(tmp_path: Path) -> None:
    pixels = element(0x7FE0, 0x10, b"")[:4] + b"\xff\xff\xff\xff" + bytes.fromhex("feff00e000000000 feffdde000000000")
    path = part10(tmp_path / "file", syntax=JPEG, data=bare(MR) + element(0x28, 0x10, b"\2\0") + pixels)

    assert labels(instance_from_path(path)) == (MR, "1.2.3.4", JPEG, [Deviation.SOP_CLASS_DIFFERS])


@pytest.mark.parametrize("actual", PLAIN[:3])
def test_a_private_transfer_syntax_is_not_doubted(tmp_path: Path, actual: str) -> None:
    path = part10(tmp_path / "file", syntax="1.2.826.0.1.99", sop_instance="1.9", data=encoded(actual))

    expected = (CT, "1.2.3.4", "1.2.826.0.1.99", [Deviation.SOP_INSTANCE_UID_DIFFERS])
    assert labels(instance_from_path(path)) == expected


@pytest.mark.parametrize("named", [EXPLICIT, BIG_ENDIAN, DEFLATED])
def test_a_data_set_in_no_known_transfer_syntax_is_named(tmp_path: Path, named: str) -> None:
    path = part10(tmp_path / "file", syntax=named, data=element(0x10, 0x20, b"PATIENT "))

    syntax = find_transfer_syntax(named)
    assert syntax is not None
    assert why_not(path) == f"the data set is not in {syntax.name}, which file meta names"


@pytest.mark.parametrize("syntax", PLAIN)
def test_a_data_set_without_uids_is_sent_as_file_meta_names_it(tmp_path: Path, syntax: str) -> None:
    path = part10(tmp_path / "file", syntax=syntax, data=encoded(syntax, element(0x10, 0x20, b"PATIENT ")))

    assert labels(instance_from_path(path)) == (CT, "1.2.3.4", syntax, [])


# UIDs.


@pytest.mark.parametrize("syntax", PLAIN)
def test_the_uids_are_those_of_the_data_set(tmp_path: Path, syntax: str) -> None:
    def found(sop_class: str, sop_instance: str) -> tuple[str, str, str, list[Deviation]]:
        path = tmp_path / "file"
        part10(
            path,
            sop_class=CT,
            sop_instance="1.2.3.4",
            syntax=syntax,
            data=encoded(syntax, bare(sop_class, sop_instance)),
        )
        return labels(instance_from_path(path))

    # Again and again: a series' first elements are remembered.
    for _ in range(2):
        assert found(CT, "1.2.3.4") == (CT, "1.2.3.4", syntax, [])
        assert found(CT, "1.2.3.5") == (CT, "1.2.3.5", syntax, [Deviation.SOP_INSTANCE_UID_DIFFERS])
        assert found(CT, "1.2.3.44") == (CT, "1.2.3.44", syntax, [Deviation.SOP_INSTANCE_UID_DIFFERS])
        both = [Deviation.SOP_CLASS_DIFFERS, Deviation.SOP_INSTANCE_UID_DIFFERS]
        assert found(MR, "1.2.3.5") == (MR, "1.2.3.5", syntax, both)


def test_an_invalid_uid_in_the_data_set_does_not_replace_one_of_file_meta(tmp_path: Path) -> None:
    data = explicit(8, 0x16, b"UI", uid(MR)) + explicit(8, 0x18, b"UI", b"no UID")
    path = part10(tmp_path / "file", syntax=EXPLICIT, data=data)

    assert labels(instance_from_path(path)) == (MR, "1.2.3.4", EXPLICIT, [Deviation.SOP_CLASS_DIFFERS])


def test_uids_inside_sequences_are_not_those_of_the_instance(tmp_path: Path) -> None:
    inside = explicit(8, 0x16, b"UI", uid(MR)) + explicit(8, 0x18, b"UI", uid("1.9"))
    item = bytes.fromhex("feff00e0") + len(inside).to_bytes(4, "little") + inside
    for start, end in (
        (b"\x08\0\x06\0SQ\0\0" + len(item).to_bytes(4, "little"), b""),
        (b"\x08\0\x06\0SQ\0\0\xff\xff\xff\xff", bytes.fromhex("feffdde000000000")),
    ):
        own = explicit(8, 0x16, b"UI", uid(CT)) + explicit(8, 0x18, b"UI", uid("1.2.3.4"))
        path = part10(tmp_path / "file", syntax=EXPLICIT, data=start + item + end + own)
        for _ in range(2):
            assert labels(instance_from_path(path)) == (CT, "1.2.3.4", EXPLICIT, [])


@pytest.mark.parametrize("before", [3000, 60_000])
def test_long_elements_before_the_uids_are_passed_over(tmp_path: Path, before: int) -> None:
    own = explicit(8, 0x16, b"UI", uid(MR)) + explicit(8, 0x18, b"UI", uid("1.2.3.5"))
    path = part10(tmp_path / "file", syntax=EXPLICIT, data=explicit(8, 8, b"CS", b"A" * before) + own)

    both = [Deviation.SOP_CLASS_DIFFERS, Deviation.SOP_INSTANCE_UID_DIFFERS]
    assert labels(instance_from_path(path)) == (MR, "1.2.3.5", EXPLICIT, both)


@pytest.mark.parametrize("make", ["zip", "stored", "tar", "tar.gz"])
def test_the_labels_of_members_agree_with_their_data_sets(tmp_path: Path, make: str) -> None:
    paths = sorted(DEVIATING.iterdir())
    archive = tmp_path / "archive"
    if make in {"zip", "stored"}:
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED if make == "zip" else zipfile.ZIP_STORED) as zipped:
            for path in paths:
                zipped.write(path, path.name)
    else:
        with tarfile.open(archive, "w:gz" if make == "tar.gz" else "w") as tarred:
            for path in paths:
                tarred.addfile(member(path), io.BytesIO(path.read_bytes()))

    alone = [instance_from_path(path) for path in paths]
    found = [instance_of(one) for one in find([archive])]

    assert [labels(one) for one in found] == [labels(one) for one in alone]
    assert [one.read() for one in found] == [one.read() for one in alone]


def member(path: Path) -> tarfile.TarInfo:
    info = tarfile.TarInfo(path.name)
    info.size = path.stat().st_size
    return info


def instance_of(found: Found) -> Instance:
    assert not isinstance(found, InstanceResult), found.reason
    return found


def test_a_data_set_in_memory_with_stale_file_meta_has_its_own_uids() -> None:
    dataset = pydicom.dcmread(FILES / "CT_small.dcm")
    before = str(dataset.file_meta.MediaStorageSOPInstanceUID)
    dataset.SOPInstanceUID = UID("1.2.3.99")

    instance = instance_from_dataset(dataset)

    assert instance.sop_instance_uid == "1.2.3.99"
    assert str(dataset.file_meta.MediaStorageSOPInstanceUID) == before


# Odd lengths.


ODD_END: Final = {
    IMPLICIT: element(0x7FE0, 0x10, b"odd"),
    EXPLICIT: explicit(0x20, 0x4000, b"LT", b"odd"),
    BIG_ENDIAN: explicit(0x20, 0x4000, b"LT", b"odd", order=">"),
}


@pytest.mark.parametrize("syntax", ODD_END)
def test_a_data_set_of_odd_length_gets_one_nul_if_it_is_whole(tmp_path: Path, syntax: str) -> None:
    data = encoded(syntax) + ODD_END[syntax]
    instance = instance_from_path(part10(tmp_path / "file", syntax=syntax, data=data))

    assert instance.deviations == (Deviation.DATA_SET_ODD,)
    assert instance.read() == data + b"\0"
    # PS3.8 E.1: the NUL is in the last fragment.
    assert [len(chunk) % 2 for chunk in instance.chunks(16)] == [0] * -(-len(data) // 16)


def test_an_odd_fragment_of_compressed_pixels_is_no_damage(tmp_path: Path) -> None:
    pixels = b"\xe0\x7f\x10\0OB\0\0\xff\xff\xff\xff" + bytes.fromhex("feff00e000000000 feff00e003000000")
    data = encoded(EXPLICIT) + pixels + b"odd" + bytes.fromhex("feffdde000000000")
    instance = instance_from_path(part10(tmp_path / "file", syntax=JPEG_2000, data=data))

    assert instance.read() == data + b"\0"


@pytest.mark.parametrize("syntax", [*ODD_END, JPEG_2000])
def test_a_truncated_data_set_of_odd_length_is_refused(tmp_path: Path, syntax: str) -> None:
    plain = EXPLICIT if syntax == JPEG_2000 else syntax
    data = encoded(plain, bare(size=3000))
    for cut in range(1, len(data) - 8, 2):
        path = part10(tmp_path / "file", syntax=syntax, data=data[: len(data) - cut])
        assert "truncated or damaged" in why_not(path)
