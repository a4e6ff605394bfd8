"""Reading of File Meta Information: without reading the whole file, without waiting, with one kind of error."""

import os
import socket
import struct
from pathlib import Path
from typing import Final

import pydicom
import pytest
from hypothesis import given, settings, strategies as st

from dicomport.files import BoundedReader, Part10File, open_regular, read_part10
from dicomport.wire import FileMeta, FileMetaError, NotPart10Error, TruncatedFileMetaError, encode_file_meta

TEST_FILES: Final = Path(pydicom.__file__).parent / "data" / "test_files"

META: Final = FileMeta(
    media_storage_sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
    media_storage_sop_instance_uid="1.2.3.4",
    transfer_syntax_uid="1.2.840.10008.1.2.1",
)
HEADER: Final = encode_file_meta(META)
DATA_SET: Final = bytes.fromhex("0800 0500 4353 0a00") + b"ISO_IR 100"


def written(folder: Path, content: bytes) -> Path:
    path = folder / "file"
    path.write_bytes(content)
    return path


def with_meta_element(vr: bytes, size: int, content: bytes) -> bytes:
    """Append an element of `size` bytes, of which only `content` exists, to group 0002."""
    element = struct.pack("<HH2sHL", 2, 0x0102, vr, 0, size)
    group_length = min(len(HEADER) - 144 + len(element) + size, 0xFFFFFFFF)
    return HEADER[:140] + struct.pack("<L", group_length) + HEADER[144:] + element + content


def test_the_header_is_read_and_the_data_set_found(tmp_path: Path) -> None:
    path = written(tmp_path, HEADER + DATA_SET)
    found = read_part10(path)
    assert found == Part10File(path, META, len(HEADER), len(DATA_SET), path.stat().st_mtime_ns)
    assert b"".join(bytes(chunk) for chunk in found.chunks(1 << 20)) == DATA_SET


@pytest.mark.parametrize("size", [1, 2, 3, 17, 18, 19, 1000])
def test_chunks_are_of_the_size_asked_for(tmp_path: Path, size: int) -> None:
    found = read_part10(written(tmp_path, HEADER + DATA_SET))
    pieces = [bytes(chunk) for chunk in found.chunks(size)]
    assert b"".join(pieces) == DATA_SET
    assert {len(piece) for piece in pieces[:-1]} <= {size}
    assert 1 <= len(pieces[-1]) <= size


def part10_files() -> list[Path]:
    return [path for path in sorted(TEST_FILES.glob("*.dcm")) if path.read_bytes()[128:132] == b"DICM"]


@pytest.mark.parametrize("path", part10_files(), ids=lambda path: path.name)
def test_it_finds_what_pydicom_finds(path: Path) -> None:
    expected = pydicom.filereader.read_file_meta_info(path)
    found = read_part10(path)
    assert found.meta.transfer_syntax_uid == str(expected.get("TransferSyntaxUID", ""))
    assert found.meta.media_storage_sop_class_uid == str(expected.get("MediaStorageSOPClassUID", ""))
    assert found.meta.media_storage_sop_instance_uid == str(expected.get("MediaStorageSOPInstanceUID", ""))
    with path.open("rb") as file:
        pydicom.filereader.read_preamble(file, force=False)
        pydicom.filereader._read_file_meta_info(file)
        assert found.offset == file.tell()
    assert found.offset + found.size == path.stat().st_size


def test_a_fifo_is_not_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    with pytest.raises(FileMetaError, match="regular"):
        read_part10(path)


@pytest.mark.parametrize("path", [Path("/"), Path("/dev/null"), Path("/dev/zero")])
def test_a_folder_or_a_device_is_refused(path: Path) -> None:
    with pytest.raises(FileMetaError, match="regular"):
        read_part10(path)


def test_a_socket_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind("socket")
        with pytest.raises(OSError, match="No such device or address"):
            read_part10(Path("socket"))


@pytest.mark.parametrize("loop", [False, True])
def test_a_link_that_leads_nowhere_is_an_os_error(tmp_path: Path, loop: bool) -> None:
    path = tmp_path / "link"
    path.symlink_to(path if loop else tmp_path / "missing")
    with pytest.raises(OSError, match=r"symbolic|No such file"):
        read_part10(path)


def test_a_file_may_be_found_through_a_link(tmp_path: Path) -> None:
    path = tmp_path / "link"
    path.symlink_to(written(tmp_path, HEADER + DATA_SET))
    assert read_part10(path).meta == META


@pytest.mark.parametrize("at", range(len(HEADER) + 1))
def test_a_header_that_breaks_off_is_truncated_wherever(tmp_path: Path, at: int) -> None:
    with pytest.raises(NotPart10Error if at < 132 else TruncatedFileMetaError):
        read_part10(written(tmp_path, HEADER[:at]))


@pytest.mark.parametrize(
    "content",
    [b"GIF89a" + bytes(200), bytes(132), b"\x08\x00\x05\x00CS" + bytes(300), bytes(128) + b"dicm" + bytes(300)],
)
def test_other_files_are_distinguished_from_damaged_part_10_files(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(NotPart10Error):
        read_part10(written(tmp_path, content))


@pytest.mark.parametrize("size", [4096, 70_000, (1 << 20) - 1000])
def test_a_long_header_is_read_to_its_end(tmp_path: Path, size: int) -> None:
    found = read_part10(written(tmp_path, with_meta_element(b"OB", size, bytes(size)) + DATA_SET))
    assert (found.offset, found.size) == (len(HEADER) + 12 + size, len(DATA_SET))
    assert found.meta == META


@pytest.mark.parametrize("size", [1 << 20, 3 << 20])
def test_a_header_of_more_than_a_mebibyte_is_refused(tmp_path: Path, size: int) -> None:
    with pytest.raises(TruncatedFileMetaError):
        read_part10(written(tmp_path, with_meta_element(b"OB", size, bytes(size)) + DATA_SET))


@pytest.mark.parametrize("size", [0xFFFFFFFF, 0xFFFFFFFE, 0x7FFFFFFF])
@pytest.mark.parametrize("vr", [b"OB", b"SQ", b"UN"])
def test_a_length_is_not_believed(tmp_path: Path, size: int, vr: bytes) -> None:
    with pytest.raises(TruncatedFileMetaError):
        read_part10(written(tmp_path, with_meta_element(vr, size, DATA_SET)))


def test_a_header_without_vrs_is_read(tmp_path: Path) -> None:
    implicit = bytes(128) + b"DICM" + struct.pack("<HHL", 2, 0x10, 20) + b"1.2.840.10008.1.2.1\0" + DATA_SET
    assert read_part10(written(tmp_path, implicit)).meta.transfer_syntax_uid == "1.2.840.10008.1.2.1"


@given(st.binary(max_size=300))
@settings(max_examples=300)
def test_fuzzed_files_raise_one_kind_of_error(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "anything"
    path.write_bytes(bytes(128) + b"DICM" + content)
    try:
        found = read_part10(path)
    except FileMetaError:
        pass
    else:
        assert found.offset + found.size == 132 + len(content)


def test_a_truncated_file_is_an_error_not_a_shorter_data_set(tmp_path: Path) -> None:
    path = written(tmp_path, HEADER + DATA_SET)
    found = read_part10(path)
    chunks = found.chunks(4)
    assert bytes(next(chunks)) == DATA_SET[:4]
    os.truncate(path, len(HEADER) + 6)
    with pytest.raises(FileMetaError, match="shorter"):
        list(chunks)


def test_a_file_that_becomes_longer_is_read_as_far_as_it_went(tmp_path: Path) -> None:
    path = written(tmp_path, HEADER + DATA_SET)
    found = read_part10(path)
    with path.open("ab") as file:
        file.write(b"more")
    assert b"".join(bytes(chunk) for chunk in found.chunks(5)) == DATA_SET


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    path = written(tmp_path, HEADER + DATA_SET)
    broken = tmp_path / "broken"
    broken.write_bytes(HEADER[:-1])
    found = read_part10(path)
    chunks = found.chunks(1)
    next(chunks)
    chunks.close()  # type: ignore[attr-defined]  # it is a generator
    with pytest.raises(FileMetaError):
        read_part10(broken)
    open_files = {os.path.realpath(link) for link in Path("/proc/self/fd").iterdir()}
    assert not {str(path), str(broken)} & open_files


# Reading for libraries.

LIMIT: Final = BoundedReader.MAX_BYTES


def bounded(folder: Path, size: int) -> BoundedReader:
    """Open a sparse file that ends with "end"."""
    path = folder / "sparse"
    with path.open("wb") as file:
        file.truncate(size)
        file.seek(size - 3)
        file.write(b"end")
    return BoundedReader(open_regular(path)[0])


def read_all(file: BoundedReader, how: str) -> bytes:
    match how:
        case "no argument":
            return file.read()
        case "-1":
            return file.read(-1)
        case "-2":
            return file.read(-2)
        case _:
            return file.read(None)


@pytest.mark.parametrize("how", ["no argument", "-1", "-2", "None"])
def test_a_read_of_all_is_limited(tmp_path: Path, how: str) -> None:
    with bounded(tmp_path, LIMIT) as file:
        assert len(read_all(file, how)) == LIMIT
        assert read_all(file, how) == b""
    with bounded(tmp_path, LIMIT + 1) as file:
        with pytest.raises(FileMetaError, match=f"{LIMIT + 1} bytes are more than the limit of {LIMIT} bytes"):
            read_all(file, how)
        # The rest of a larger file may be read, also after its end.
        file.seek(1)
        assert read_all(file, how)[-3:] == b"end"
        file.seek(LIMIT + 1000)
        assert read_all(file, how) == b""


@pytest.mark.parametrize("wanted", [LIMIT - 1, LIMIT])
def test_a_read_up_to_the_limit_is_served(tmp_path: Path, wanted: int) -> None:
    with bounded(tmp_path, LIMIT + 2) as file:
        assert len(file.read(wanted)) == wanted
        assert len(file.read(0)) == 0
        assert file.read(10) == (b"\0\0\0end" if wanted < LIMIT else b"\0\0end")[-(LIMIT + 2 - wanted) :]


@pytest.mark.parametrize("wanted", [LIMIT + 1, 1 << 40])
def test_a_read_above_the_limit_is_served_if_the_file_is_shorter(tmp_path: Path, wanted: int) -> None:
    with bounded(tmp_path, 1000) as file:
        file.seek(990)
        assert file.read(wanted) == bytes(7) + b"end"
        assert file.read(wanted) == b""
    with bounded(tmp_path, LIMIT) as file:
        assert len(file.read(wanted)) == LIMIT
    with bounded(tmp_path, LIMIT + 1) as file, pytest.raises(FileMetaError, match="for one read"):
        file.read(wanted)
