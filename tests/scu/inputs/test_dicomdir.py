"""A DICOMDIR stands for the files that it refers to, all of them below its folder (PS3.10 8.6, PS3.3 F.3)."""

import shutil
import struct
import tracemalloc
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from tests.scu.data import BIG_ENDIAN, DEFLATED, EXPLICIT, FILES, IMPLICIT, part10

from dicomport.encoding.inflate import deflate
from dicomport.scu import Instance, InstanceResult
from dicomport.scu.inputs.discovery import find
from dicomport.scu.inputs.found import Found
from dicomport.wire import FileMeta, encode_file_meta

FOLDER: Final = FILES / "dicomdirtests"
DICOMDIR: Final = "1.2.840.10008.1.3.10"
OUTSIDE: Final = "the DICOMDIR refers to it, but a link leads outside its folder"
MISSING: Final = "the DICOMDIR refers to it, but there is no such file"


def element(tag: int, vr: bytes, value: bytes, syntax: str) -> bytes:
    """Write an element whose VR has a short length."""
    order = ">" if syntax == BIG_ENDIAN else "<"
    value += b" " * (len(value) % 2)
    if syntax == IMPLICIT:
        return struct.pack("<HHL", tag >> 16, tag & 0xFFFF, len(value)) + value
    return struct.pack(f"{order}HH2sH", tag >> 16, tag & 0xFFFF, vr, len(value)) + value


def record(file_id: bytes, *, syntax: str = EXPLICIT, in_use: int = 0xFFFF, length: int | None = None) -> bytes:
    """Encode a record with its own length or, if set, with `length`."""
    order = ">" if syntax == BIG_ENDIAN else "<"
    body = element(0x00041400, b"UL", bytes(4), syntax)
    body += element(0x00041410, b"US", struct.pack(f"{order}H", in_use), syntax)
    body += element(0x00041430, b"CS", b"IMAGE", syntax)
    if file_id:
        body += element(0x00041500, b"CS", file_id, syntax)
    body += element(0x00080018, b"UI", b"1.2", syntax)
    end = struct.pack(f"{order}HHL", 0xFFFE, 0xE00D, 0) if length == 0xFFFFFFFF else b""
    return struct.pack(f"{order}HHL", 0xFFFE, 0xE000, len(body) if length is None else length) + body + end


def dicomdir(
    folder: Path, records: Iterable[bytes], *, syntax: str = EXPLICIT, undefined: bool = False, tail: bytes = b""
) -> Path:
    """Write a DICOMDIR with these records."""
    order = ">" if syntax == BIG_ENDIAN else "<"
    body = b"".join(records)
    length = 0xFFFFFFFF if undefined else len(body)
    head = struct.pack(f"{order}HH", 4, 0x1220)
    head += struct.pack("<L", length) if syntax == IMPLICIT else b"SQ\0\0" + struct.pack(f"{order}L", length)
    end = struct.pack(f"{order}HHL", 0xFFFE, 0xE0DD, 0) if undefined else b""
    meta = FileMeta(
        media_storage_sop_class_uid=DICOMDIR, media_storage_sop_instance_uid="1.2.3", transfer_syntax_uid=syntax
    )
    path = folder / "DICOMDIR"
    path.write_bytes(encode_file_meta(meta) + element(0x00041130, b"CS", b"SET ", syntax) + head + body + end + tail)
    return path


def outcome(found: Iterable[Found], root: Path) -> list[str]:
    return [
        str(item.path).removeprefix(f"{root}/") + (f": {item.reason}" if isinstance(item, InstanceResult) else "")
        for item in found
    ]


@pytest.mark.parametrize(
    "name",
    ["", "-bigEnd", "-implicit", "-nooffset", "-nopatient", "-reordered"],
)
def test_the_files_that_it_refers_to_are_sent_and_no_others(name: str) -> None:
    found = list(find([FOLDER / f"DICOMDIR{name}"]))

    assert all(isinstance(item, Instance) for item in found)
    assert sorted(str(item.path) for item in found) == sorted(
        str(path) for path in FOLDER.glob("[79]*/*/*") if path.is_file()
    )
    assert len(found) == 31


def test_one_of_an_instance_each_is_read_too() -> None:
    assert len([item for item in find([FOLDER / "TINY_ALPHA" / "DICOMDIR"]) if isinstance(item, Instance)]) == 50


def test_one_that_refers_to_nothing_is_a_failure() -> None:
    [result] = find([FOLDER / "DICOMDIR-empty.dcm"])

    assert isinstance(result, InstanceResult)
    assert (result.reason, result.skipped) == ("nothing to send: no instances found in this DICOMDIR", False)


def test_a_relative_one_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "A").mkdir()
    part10(tmp_path / "A" / "B")
    dicomdir(tmp_path, [record(b"A\\B")])
    monkeypatch.chdir(tmp_path)

    assert outcome(find(["DICOMDIR"]), tmp_path) == ["A/B"]


def test_a_dicomdir_in_a_folder_is_named_and_the_files_are_sent_once(tmp_path: Path) -> None:
    part10(tmp_path / "A")
    dicomdir(tmp_path, [record(b"A")])

    assert outcome(find([tmp_path]), tmp_path) == ["A", "DICOMDIR: a DICOMDIR: it lists instances, but is not one"]


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT, BIG_ENDIAN])
@pytest.mark.parametrize("undefined", [True, False])
@pytest.mark.parametrize("length", [None, 0xFFFFFFFF])
def test_each_encoding_of_its_records_is_read(tmp_path: Path, syntax: str, undefined: bool, length: int | None) -> None:
    for name in "ABC":
        part10(tmp_path / name)
    records = [record(name, syntax=syntax, length=length) for name in (b"C", b"", b"A", b"B")]
    path = dicomdir(tmp_path, records, syntax=syntax, undefined=undefined)

    assert outcome(find([path]), tmp_path) == ["C", "A", "B"]


def test_a_record_that_is_no_longer_in_use_refers_to_nothing(tmp_path: Path) -> None:
    for name in "AB":
        part10(tmp_path / name)

    assert outcome(find([dicomdir(tmp_path, [record(b"A", in_use=0), record(b"B")])]), tmp_path) == ["B"]


@pytest.mark.parametrize("name", [b"DIR\\IMAGE", b"DIR/IMAGE", b"DIR \\IMAGE ", b"DIR\\IMAGE\0"])
def test_names_are_found_in_lower_case_too_and_with_slashes(tmp_path: Path, name: bytes) -> None:
    path = dicomdir(tmp_path, [record(name)])
    (tmp_path / "dir").mkdir()
    part10(tmp_path / "dir/image")

    assert outcome(find([path]), tmp_path) == ["dir/image"]


def test_a_name_in_another_character_set_is_its_bytes(tmp_path: Path) -> None:
    part10(tmp_path / "ä")
    assert outcome(find([dicomdir(tmp_path, [record("ä".encode())])]), tmp_path) == ["ä"]


def test_a_file_that_is_missing_is_named(tmp_path: Path) -> None:
    part10(tmp_path / "B")
    path = dicomdir(tmp_path, [record(b"A\\IMAGE"), record(b"B")])

    assert outcome(find([path]), tmp_path) == [f"A/IMAGE: {MISSING}", "B"]


@pytest.mark.parametrize(
    "name",
    [
        b"..\\..\\etc\\passwd",
        b"..",
        b"A\\..\\..\\B",
        b".",
        b"A\\\\B",
        b"\\etc\\passwd",
        b"\\\\host\\share",
        b"/etc/passwd",
        b"../../etc/passwd",
        b"C:\\WINDOWS",
        b"A\\C:B",
        b"A\0B",
        b"\\",
        b" \\A",
    ],
)
def test_f9_a_reference_outside_the_folder_is_refused(tmp_path: Path, name: bytes) -> None:
    inner = tmp_path / "in" / "in"
    inner.mkdir(parents=True)
    for folder in (tmp_path, inner.parent, inner):
        part10(folder / "B")
    path = dicomdir(inner, [record(name), record(b"B")])

    first, second = find([path])

    assert isinstance(first, InstanceResult)
    assert first.path == path
    assert first.reason.startswith("it refers to '")
    assert first.reason.endswith("', which is not a file below its folder")
    assert second.path == inner / "B"


def test_f9_a_link_that_leads_out_of_its_folder_is_refused(tmp_path: Path) -> None:
    inner, outer = tmp_path / "in", tmp_path / "out"
    for folder in (inner / "sub", outer):
        folder.mkdir(parents=True)
        part10(folder / "A")
    (inner / "FILE").symlink_to(outer / "A")
    (inner / "FOLDER").symlink_to(outer)
    (inner / "NEAR").symlink_to("sub/A")
    (inner / "LOOP").symlink_to("LOOP")
    names = (b"FILE", b"FOLDER\\A", b"NEAR", b"LOOP")

    found = outcome(find([dicomdir(inner, map(record, names))]), inner)

    assert found == [
        f"FILE: {OUTSIDE}",
        f"FOLDER/A: {OUTSIDE}",
        "NEAR",
        "LOOP: cannot be read: Too many levels of symbolic links",
    ]


def test_the_folder_itself_may_be_reached_by_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    part10(tmp_path / "real" / "A")
    dicomdir(tmp_path / "real", [record(b"A")])
    (tmp_path / "link").symlink_to("real")

    assert outcome(find([tmp_path / "link" / "DICOMDIR"]), tmp_path) == ["link/A"]


def test_references_to_itself_to_folders_and_archives_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "FOLDER").mkdir()
    part10(tmp_path / "FOLDER" / "A")
    shutil.make_archive(str(tmp_path / "ARCHIVE"), "zip", tmp_path / "FOLDER")
    path = dicomdir(tmp_path, map(record, (b"DICOMDIR", b"FOLDER", b"ARCHIVE.zip")))

    assert outcome(find([path]), tmp_path) == [
        "DICOMDIR: a DICOMDIR: it lists instances, but is not one",
        "FOLDER: not a readable DICOM file: not a regular file",
        "ARCHIVE.zip: an archive, or a compressed file (zip): pass its own path to send its instances",
    ]


@pytest.mark.parametrize(
    ("records", "reason"),
    [
        ([record(b"A"), record(b"A")[:-4]], "DICOMDIR: not a readable DICOMDIR: "),
        ([record(b"A"), b"\xfe\xff\x00\xe0"], "DICOMDIR: not a readable DICOMDIR: the file ends within its records"),
        (
            [record(b"A"), element(0x00041500, b"CS", b"A ", EXPLICIT)],
            "DICOMDIR: not a readable DICOMDIR: expected an item",
        ),
    ],
)
def test_a_damaged_dicomdir_yields_its_readable_records(tmp_path: Path, records: list[bytes], reason: str) -> None:
    part10(tmp_path / "A")
    path = dicomdir(tmp_path, records, undefined=True)
    path.write_bytes(path.read_bytes()[:-8])

    first, *_, last = outcome(find([path]), tmp_path)

    assert first == "A"
    assert last.startswith(reason)


def test_a_deflated_one_is_refused(tmp_path: Path) -> None:
    [refused] = find([dicomdir(tmp_path, [record(b"A")], syntax=DEFLATED)])
    assert isinstance(refused, InstanceResult)
    assert refused.reason.startswith("not a readable DICOMDIR: ")


def test_a_long_one_is_read_a_record_at_a_time(tmp_path: Path) -> None:
    part10(tmp_path / "A")
    path = dicomdir(tmp_path, [record(b"A")] * 2000)
    list(find([path]))
    tracemalloc.start()
    assert sum(isinstance(item, Instance) for item in find([path])) == 2000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert peak < 2 << 20


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
def test_f9_a_fuzzed_reference_finds_nothing_outside(tmp_path: Path, data: st.DataObject) -> None:
    inner = tmp_path / "in"
    inner.mkdir(exist_ok=True)
    part10(tmp_path / "A")
    part10(inner / "A")
    content = bytearray(dicomdir(inner, map(record, (b"A", b"..\\A", b"A\\A"))).read_bytes())
    names = st.lists(st.sampled_from([b"..", b".", b"\\", b"/", b"A", b" ", b"in", b"\0"]), max_size=8).map(b"".join)
    path = dicomdir(inner, [record(name) for name in data.draw(st.lists(names, max_size=4))])
    if data.draw(st.booleans()):
        for at, value in data.draw(st.lists(st.tuples(st.integers(132, len(content) - 1), st.integers(0, 255)))):
            content[at] = value
        path.write_bytes(content[: data.draw(st.integers(0, len(content)) | st.none())])

    for item in find([path]):
        if isinstance(item, Instance):
            assert item.path in (inner / "A", path)  # itself, where it has become something else
        else:
            assert item.reason


@pytest.mark.parametrize("name", ["IMAGES/IM1.dcm", "IMAGES/IM1.DCM", "images/im1.dcm", "images/im1.DCM"])
def test_a_record_whose_file_has_an_extension_is_found(tmp_path: Path, name: str) -> None:
    (tmp_path / name).parent.mkdir()
    part10(tmp_path / name)

    [found] = find([dicomdir(tmp_path, [record(b"IMAGES\\IM1")])])

    assert isinstance(found, Instance)
    assert found.path == tmp_path / name


def test_a_file_with_the_recorded_name_goes_before_one_with_an_extension(tmp_path: Path) -> None:
    for name in ("IM1", "IM1.dcm", "im1"):
        part10(tmp_path / name)

    [found] = find([dicomdir(tmp_path, [record(b"IM1")])])

    assert found.path == tmp_path / "IM1"


def test_a_link_with_an_extension_does_not_lead_outside(tmp_path: Path) -> None:
    part10(tmp_path / "outside")
    (tmp_path / "medium").mkdir()
    (tmp_path / "medium" / "IM1.dcm").symlink_to(tmp_path / "outside")

    [found] = find([dicomdir(tmp_path / "medium", [record(b"IM1")])])

    assert isinstance(found, InstanceResult)
    assert found.reason == OUTSIDE


@pytest.mark.parametrize("size", [0, 4, 7])
def test_one_that_ends_before_its_records_refers_to_nothing(tmp_path: Path, size: int) -> None:
    path = dicomdir(tmp_path, [])
    path.write_bytes(path.read_bytes()[: -12 or None] + b"\x04\0\x20\x12SQ\0"[:size])
    assert outcome(find([path]), tmp_path)[-1].startswith("DICOMDIR: n")


def test_one_in_a_compressed_transfer_syntax_is_refused_with_the_reason(tmp_path: Path) -> None:
    path = dicomdir(tmp_path, [record(b"A")], syntax=DEFLATED)
    data = path.read_bytes()
    start = data.index(element(0x00041130, b"CS", b"SET ", EXPLICIT))
    path.write_bytes(data[:start] + deflate(data[start:]))
    [refused] = find([path])
    assert isinstance(refused, InstanceResult)
    assert "expected an uncompressed one" in refused.reason
