"""Zip and tar archives: each instance whole, nothing ever unpacked by name, and nothing believed that they say."""

import bz2
import contextlib
import gzip
import io
import lzma
import os
import struct
import subprocess
import tarfile
import tempfile
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from tests.scu.data import CT, CT_FILE, DEFLATED, FILES, IMPLICIT, bare, data_set_of, explicit, uid

from dicomport import StorageSCP, StoreRequest, blocking
from dicomport.encoding.inflate import deflate
from dicomport.scu import Instance, InstanceResult
from dicomport.scu.inputs import containers, tar
from dicomport.scu.inputs.discovery import find
from dicomport.scu.inputs.found import Found
from dicomport.scu.inputs.locations import FileRegion, stamp_of
from dicomport.scu.inputs.temporary import SpooledRegion
from dicomport.scu.sending import delivery_queue
from dicomport.wire import FileMeta, FileMetaError, encode_file_meta

NO_HEADER: Final = "not a DICOM file, or one without the File Meta Information required in an archive"
NESTED: Final = "an archive in an archive, or a compressed file: not opened"
TOO_MUCH: Final = "its decompressed size exceeds the limit: the rest is not read"

Members = dict[str, bytes]
Make = Callable[[Path, Members], Path]


def file(number: int = 1, data: bytes | None = None, syntax: str = IMPLICIT) -> bytes:
    """Return the bytes of a Part 10 file."""
    meta = FileMeta(
        media_storage_sop_class_uid=CT, media_storage_sop_instance_uid=f"1.2.{number}", transfer_syntax_uid=syntax
    )
    return encode_file_meta(meta) + (bare(CT, f"1.2.{number}") if data is None else data)


def zipped(path: Path, members: Members, method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def stored(path: Path, members: Members) -> Path:
    return zipped(path, members, zipfile.ZIP_STORED)


def tarred(path: Path, members: Members, *, mode: str = "w:", form: int = tarfile.PAX_FORMAT) -> Path:
    with tarfile.open(path, mode, format=form) as archive:  # type: ignore[call-overload]  # any mode
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


MAKE: Final[dict[str, Make]] = {
    "zip": zipped,
    "stored zip": stored,
    "tar": tarred,
    "tar.gz": lambda path, members: tarred(path, members, mode="w:gz"),
    "tar.bz2": lambda path, members: tarred(path, members, mode="w:bz2"),
    "tar.xz": lambda path, members: tarred(path, members, mode="w:xz"),
}
every_archive: Final = pytest.mark.parametrize("make", MAKE.values(), ids=MAKE)
COMPRESSED: Final = [make for name, make in MAKE.items() if name.startswith("tar.")]


def sent(item: Found, chunk_bytes: int = 1000) -> bytes:
    assert isinstance(item, Instance), item
    return b"".join(bytes(chunk) for chunk in item.chunks(chunk_bytes))


def outcome(path: Path) -> dict[str, str]:
    """Return the failure of each member, "" for none; the failure of the container has the key "." here."""
    return {
        str(item.path).removeprefix(str(path)).lstrip("/") or ".": "" if isinstance(item, Instance) else item.reason
        for item in find([path])
    }


def copies(folder: Path) -> list[int]:
    """Return the sizes of the open files of this process in a folder, named or unnamed."""
    found = []
    for link in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # the descriptor of the listing itself
            if str(link.readlink()).startswith(str(folder)):
                found.append(link.stat().st_size)
    return found


# Members.


@every_archive
def test_each_member_is_sent_as_the_file_that_it_was(tmp_path: Path, make: Make) -> None:
    files = sorted(path for path in FILES.rglob("*.dcm") if path.is_file())
    path = make(tmp_path / "archive", {str(file.relative_to(FILES)): file.read_bytes() for file in files})
    alone = {str(item.path).removeprefix(f"{FILES}/"): item for item in find([FILES])}

    found = {str(item.path).removeprefix(f"{path}/"): item for item in find([path])}

    assert list(found) == [str(file.relative_to(FILES)) for file in files]
    without_header = 0
    for name, item in found.items():
        one = alone[name]
        if isinstance(one, InstanceResult) or (isinstance(one.source, FileRegion) and not one.source.offset):
            assert isinstance(item, InstanceResult)
            without_header += isinstance(one, Instance)
            continue
        assert isinstance(item, Instance)
        assert (item.sop_class_uid, item.sop_instance_uid) == (one.sop_class_uid, one.sop_instance_uid)
        assert (item.transfer_syntax_uid, item.size) == (one.transfer_syntax_uid, one.size)
        for chunk_bytes in (1000, 1 << 20):
            assert sent(item, chunk_bytes) == sent(one)
    assert without_header == 3


@every_archive
def test_members_keep_order_and_names_and_can_be_read_again(tmp_path: Path, make: Make) -> None:
    members = {f"./b/{number}": file(number) for number in range(50, 0, -1)}
    path = make(tmp_path / "archive", {**members, "/abs/1": file(99)})

    found = list(find([path]))

    assert [item.path for item in found] == [
        *(path / f"b/{number}" for number in range(50, 0, -1)),
        path / "abs/1",
    ]
    assert [sent(item) for item in found] == [sent(item) for item in found]
    assert sent(found[0]) == bare(CT, "1.2.50")


@every_archive
def test_chunks_are_of_the_size_that_is_asked_for(tmp_path: Path, make: Make) -> None:
    data = bare(size=200_000)
    [item] = find([make(tmp_path / "archive", {"1": file(data=data)})])
    assert isinstance(item, Instance)

    for size in (1000, 65536, 1 << 17, 1 << 20):
        lengths = [len(chunk) for chunk in item.chunks(size)]
        assert set(lengths[:-1]) <= {size}
        assert sum(lengths) == len(data)
    assert sent(item) == data


@every_archive
def test_a_deflated_data_set_of_odd_length_gets_its_nul(tmp_path: Path, make: Make) -> None:
    # Without the NUL that `deflate` adds.
    deflated = deflate(explicit(8, 0x16, b"UI", uid(CT)) + explicit(8, 0x18, b"UI", uid("1.2.3")))[:-1]
    [item] = find([make(tmp_path / "archive", {"1": file(data=deflated, syntax=DEFLATED)})])

    assert len(deflated) % 2
    assert sent(item, 2) == deflated + b"\0"


@every_archive
def test_of_a_member_the_archive_s_stamp_is_known(tmp_path: Path, make: Make) -> None:
    path = make(tmp_path / "archive", {"1": file(1), "2": file(2)})

    assert {item.stamp for item in find([path]) if isinstance(item, Instance)} == {stamp_of(path.stat())}


@pytest.mark.parametrize("make", [zipped, *COMPRESSED])
def test_an_empty_archive_is_a_failure(tmp_path: Path, make: Make) -> None:
    path = make(tmp_path / "archive", {})

    assert list(find([path])) == [
        InstanceResult(name=str(path), reason="nothing to send: no instances found in this archive")
    ]


@every_archive
def test_members_that_are_not_instances_are_named(tmp_path: Path, make: Make) -> None:
    inner = make(tmp_path / "inner", {"1": file(1)}).read_bytes()
    truncated = file(3)[:150]
    members = {
        "1": file(1),
        "text": b"text" * 2000,
        "empty": b"",
        "inner": inner,
        "bare": data_set_of(CT_FILE),
        "DICOMDIR": (FILES / "dicomdirtests" / "DICOMDIR").read_bytes(),
        "cut": truncated,
        "no data": file(4, b""),
        "odd": file(5, b"odd"),
        "2": file(2),
    }

    assert outcome(make(tmp_path / "archive", members)) == {
        "1": "",
        "text": NO_HEADER,
        "empty": "the file is empty",
        "inner": NESTED,
        "bare": NO_HEADER,
        "DICOMDIR": "a DICOMDIR: it lists instances, but is not one",
        "cut": "not a readable DICOM file: ends inside a header",
        "no data": "not a readable DICOM file: ends with group 0002, without a data set",
        "odd": "the data set is of odd length: it is truncated or damaged",
        "2": "",
    }


@every_archive
def test_met_in_a_folder_an_archive_is_named_and_not_opened(tmp_path: Path, make: Make) -> None:
    (tmp_path / "folder").mkdir()
    make(tmp_path / "folder" / "archive", {"1": file(1)})

    [refused] = find([tmp_path / "folder"])

    assert isinstance(refused, InstanceResult)
    assert refused.reason.startswith("an archive, or a compressed file (")
    assert refused.reason.endswith("): pass its own path to send its instances")


@every_archive
def test_names_outside_the_container_are_refused_and_nothing_is_written(tmp_path: Path, make: Make) -> None:
    (tmp_path / "in").mkdir()
    names = ["../1", "a/../../1", "..\\1", "a/..", "C:\\..\\1"]
    path = make(tmp_path / "in" / "archive", {name: file(number) for number, name in enumerate(names)})

    found = list(find([path]))

    assert [item for item in found if isinstance(item, Instance)] == []
    assert [item.reason for item in found if isinstance(item, InstanceResult)] == [
        f"its member {name!r} leads outside the archive" for name in names
    ]
    assert {item.path for item in found} == {path}
    assert sorted(tmp_path.rglob("*")) == [tmp_path / "in", path]


@every_archive
def test_an_archive_that_has_changed_since_is_not_read(tmp_path: Path, make: Make) -> None:
    path = make(tmp_path / "archive", {"1": file(1)})
    [item] = find([path])
    assert isinstance(item, Instance)
    os.utime(path, ns=(0, 0))

    if isinstance(item.source, SpooledRegion):
        assert sent(item) == bare(CT, "1.2.1")  # a copy
    else:
        with pytest.raises(FileMetaError, match="the file has changed since it was found"):
            sent(item)


@every_archive
def test_members_are_found_as_they_are_asked_for(tmp_path: Path, make: Make) -> None:
    path = make(tmp_path / "archive", {str(number): file(number, os.urandom(100_000)) for number in range(12)})
    found = find([path])
    assert isinstance(next(found), Instance)
    # Most of the container was cut off, but the discovered members remain, and the iteration ends.
    os.truncate(path, 1 << 18)

    rest = list(found)

    assert len(rest) >= 1
    assert all(item.reason if isinstance(item, InstanceResult) else item.size for item in rest)


def test_nothing_of_an_archive_is_collected_in_memory(tmp_path: Path) -> None:
    path = tarred(tmp_path / "archive", {str(number): file(number) for number in range(1000)})
    sum(1 for _ in find([path]))
    tracemalloc.start()
    assert sum(1 for _ in find([path])) == 1000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert peak < 1 << 19


# Zip.


def test_an_encrypted_member_is_refused(tmp_path: Path) -> None:
    path = stored(tmp_path / "archive", {"1": file(1), "2": file(2)})
    content = bytearray(path.read_bytes())
    # The flag of encryption, in the first entry of the directory and in the first member's own header.
    content[content.index(b"PK\1\2") + 8] |= 1
    content[6] |= 1
    path.write_bytes(content)

    assert outcome(path) == {"1": "encrypted members are not supported", "2": ""}


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_methods_are_refused(tmp_path: Path, method: int) -> None:
    assert outcome(zipped(tmp_path / "archive", {"1": file(1)}, method)) == {
        "1": f"its compression method is not supported ({method})"
    }


def test_folders_in_it_are_no_members(tmp_path: Path) -> None:
    path = tmp_path / "archive"
    with zipfile.ZipFile(path, "w") as archive:
        archive.mkdir("a")
        archive.writestr("a/1", file(1))

    assert outcome(path) == {"a/1": ""}


def test_something_before_it_does_not_matter(tmp_path: Path) -> None:
    path = zipped(tmp_path / "archive", {"1": file(1)})
    path.write_bytes(b"PK\3\4" + bytes(1000) + path.read_bytes())

    [item] = find([path])
    assert sent(item) == bare(CT, "1.2.1")


def test_an_archive_of_more_than_four_gibibytes_is_read(tmp_path: Path) -> None:
    path = tmp_path / "archive"
    big = encode_file_meta(
        FileMeta(media_storage_sop_class_uid=CT, media_storage_sop_instance_uid="1.2.1", transfer_syntax_uid=IMPLICIT)
    )
    with path.open("wb") as raw, zipfile.ZipFile(raw, "w", allowZip64=True) as archive:
        archive.writestr("1", big + bare())
        # A gap that takes no room on the disk.
        raw.truncate(5 << 30)
        raw.seek(5 << 30)
        archive.start_dir = 5 << 30
        archive.writestr("2", file(2))

    found = list(find([path]))

    assert [sent(item) for item in found] == [bare(), bare(CT, "1.2.2")]


@pytest.mark.parametrize("make", [zipped, stored])
def test_a_damaged_member_does_not_leave_whole(tmp_path: Path, make: Make) -> None:
    """The last chunk is not sent: a peer must not treat the instance as complete."""
    data = bare(CT, "1.2.1", size=100_000)
    path = make(tmp_path / "archive", {"1": file(1, data)})
    content = bytearray(path.read_bytes())
    at = content.rindex(b"PK\1\2") - 30
    content[at] ^= 1
    path.write_bytes(content)
    [item] = find([path])
    assert isinstance(item, Instance)

    taken: list[bytes] = []
    with pytest.raises(FileMetaError, match="damaged"):
        taken.extend(map(bytes, item.chunks(1000)))
    assert 0 < sum(map(len, taken)) < len(data)


def test_a_member_that_is_not_where_the_directory_says_is_refused(tmp_path: Path) -> None:
    path = stored(tmp_path / "archive", {"1": file(1), "2": file(2)})
    content = bytearray(path.read_bytes())
    entry = content.index(b"PK\1\2")
    content[entry + 42 : entry + 46] = struct.pack("<L", 7)
    path.write_bytes(content)

    assert outcome(path) == {"1": "the archive is damaged: there is no member at the offset in its directory", "2": ""}


@pytest.mark.parametrize("field", [20, 24])
@pytest.mark.parametrize("size", [0, 1, 300, 0x7FFFFFF0])
def test_a_member_that_lies_about_its_size_is_never_sent_as_it_says(tmp_path: Path, field: int, size: int) -> None:
    for make in (stored, zipped):
        path = make(tmp_path / "archive", {"1": file(1)})
        content = bytearray(path.read_bytes())
        entry = content.index(b"PK\1\2")
        content[entry + field : entry + field + 4] = struct.pack("<L", size)
        path.write_bytes(content)

        for item in find([path]):
            if isinstance(item, Instance):
                with pytest.raises(FileMetaError):
                    sent(item)


def test_a_zip_bomb_is_not_unpacked(tmp_path: Path) -> None:
    path = zipped(tmp_path / "archive", {"1": file(1), "2": file(2, bytes(1 << 20)), "3": file(3)})
    content = bytearray(path.read_bytes())
    entry = content.index(b"PK\1\2", content.index(b"PK\1\2") + 1)
    content[entry + 24 : entry + 28] = struct.pack("<L", (1 << 30) + 1)
    path.write_bytes(content)

    assert outcome(path) == {"1": "", ".": TOO_MUCH}


def test_members_that_share_their_bytes_are_a_bomb_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Like D. Fifield's bombs: each entry of the directory points to the same member.

    The limit is lower, because inflating 1 GiB takes two minutes while the coverage is measured.
    """
    limit = 16 << 20
    monkeypatch.setattr(containers, "_ALWAYS_DECOMPRESSED", limit)
    path = zipped(tmp_path / "archive", {"1": file(1, bytes(1 << 20))})
    content = path.read_bytes()
    at = content.index(b"PK\1\2")
    end = content.index(b"PK\5\6")
    count = 2000
    closing = content[end:][:8] + struct.pack("<HHLL", count, count, (end - at) * count, at) + bytes(2)
    path.write_bytes(content[:at] + content[at:end] * count + closing)

    found = list(find([path]))

    assert [item.reason for item in found if isinstance(item, InstanceResult)] == [TOO_MUCH]
    assert path.stat().st_size * 100 < limit
    # The first instances are sent, up to the limit.
    assert limit - (2 << 20) < sum(item.size for item in found if isinstance(item, Instance)) <= limit


def test_a_directory_that_says_it_is_huge_is_not_taken_into_memory(tmp_path: Path) -> None:
    path = stored(tmp_path / "archive", {"1": file(1)})
    content = path.read_bytes()
    end = content.index(b"PK\5\6")
    size = 1 << 30
    with path.open("wb") as archive:
        archive.write(content[:end])
        archive.truncate(size)
        archive.seek(size)
        archive.write(content[end : end + 8] + struct.pack("<HHLL", 1, 1, size, 0) + bytes(2))
    tracemalloc.start()
    found = outcome(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    [reason] = found.values()
    assert reason == f"not a readable zip archive: {size} bytes are more than the limit of 33554432 bytes for one read"
    assert peak < 2 << 20


# Tar.


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("mode", ["w:", "w:gz"])
def test_each_format_is_read_and_its_long_names(tmp_path: Path, form: int, mode: str) -> None:
    names = ["1", "a" * 80 + "/" + "b" * 80, "ä/ö" if form != tarfile.USTAR_FORMAT else "x"]
    if form != tarfile.USTAR_FORMAT:
        names += ["c" * 200 + "/" + "d" * 200, "e\nf"]
    path = tarred(tmp_path / "archive", {name: file(n) for n, name in enumerate(names)}, mode=mode, form=form)

    assert outcome(path) == dict.fromkeys(names, "")
    assert [sent(item) for item in find([path])] == [bare(CT, f"1.2.{n}") for n in range(len(names))]


def test_the_size_in_a_pax_header_counts(tmp_path: Path) -> None:
    path = tmp_path / "archive"
    info = tarfile.TarInfo("1")
    info.pax_headers = {"size": str(len(file(1))), "comment": "ä" * 5000}
    info.size = len(file(1))
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(info, io.BytesIO(file(1)))
    content = bytearray(path.read_bytes())
    header = content.rindex(b"ustar") - 257
    info.size = 0
    content[header : header + 512] = info.tobuf(tarfile.USTAR_FORMAT)
    path.write_bytes(content)

    assert outcome(path) == {"1": ""}


@pytest.mark.parametrize("mode", ["w:", "w:gz"])
def test_links_and_devices_are_named_and_folders_are_not(tmp_path: Path, mode: str) -> None:
    kinds = {
        "folder": tarfile.DIRTYPE,
        "symbolic": tarfile.SYMTYPE,
        "hard": tarfile.LNKTYPE,
        "fifo": tarfile.FIFOTYPE,
        "character": tarfile.CHRTYPE,
        "block": tarfile.BLKTYPE,
    }
    path = tmp_path / "archive"
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]  # any mode
        for name, kind in kinds.items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            archive.addfile(info)
        info = tarfile.TarInfo("1")
        info.size = len(file(1))
        archive.addfile(info, io.BytesIO(file(1)))

    link, other = "a link: not followed", "not a regular file"
    expected = {"symbolic": link, "hard": link, "fifo": other, "character": other, "block": other, "1": ""}
    assert outcome(path) == expected


def sparse_archive(tmp_path: Path, form: str) -> Path:
    """Make an archive of one sparse and one whole file."""
    with (tmp_path / "sparse").open("wb") as sparse:
        sparse.write(file(1))
        for stretch in range(1, 40):  # more than the header has room for
            sparse.seek(stretch << 20)
            sparse.write(b"x" * 4096)
    (tmp_path / "whole").write_bytes(file(2))
    path = tmp_path / "archive"
    command = ["tar", "--sparse", f"--format={form}", "-cf", str(path), "-C", str(tmp_path), "sparse", "whole"]
    subprocess.run(command, check=True)
    assert path.stat().st_size < 4 << 20
    return path


@pytest.mark.parametrize("form", ["posix", "gnu"])
def test_a_sparse_member_is_refused_and_later_members_are_found(tmp_path: Path, form: str) -> None:
    found = outcome(sparse_archive(tmp_path, form))

    assert found.pop("whole") == ""
    assert list(found.values()) == ["not a regular file"]


@pytest.mark.parametrize("make", [tarred, *COMPRESSED])
def test_a_tar_that_ends_early_gives_what_is_whole(tmp_path: Path, make: Make) -> None:
    path = make(tmp_path / "archive", {str(n): file(n, os.urandom(100_000)) for n in range(20)})
    os.truncate(path, path.stat().st_size * 7 // 10)

    found = list(find([path]))

    whole = [item for item in found if isinstance(item, Instance)]
    assert 1 <= len(whole) < 20
    assert all(len(sent(item)) == 100_000 for item in whole)
    assert isinstance(found[-1], InstanceResult)
    assert found[-1].reason.startswith("not a readable tar archive: ")


def gzip_without_end(data: bytes) -> bytes:
    stream = zlib.compressobj(wbits=31)
    return stream.compress(data) + stream.flush(zlib.Z_SYNC_FLUSH)


WITHOUT_END: Final[dict[str, Callable[[bytes], bytes]]] = {
    "gzip": gzip_without_end,
    "bzip2": lambda data: bz2.compress(data)[:-10],
    "xz": lambda data: lzma.compress(data)[:-12],
}
"""Compressed streams without their end, from which all bytes can be decompressed."""


@pytest.mark.parametrize("compress", WITHOUT_END.values(), ids=WITHOUT_END)
def test_a_compressed_tar_that_is_cut_at_a_member_boundary_is_truncated(
    tmp_path: Path, compress: Callable[[bytes], bytes]
) -> None:
    path = tmp_path / "archive"
    content = tarred(path, {str(n): file(n) for n in range(5)}, form=tarfile.USTAR_FORMAT).read_bytes()
    member_bytes = 512 + -(-len(file(0)) // 512) * 512
    for number in range(6):
        path.write_bytes(compress(content[: number * member_bytes]))

        assert outcome(path) == {
            **{str(n): "" for n in range(number)},
            ".": "not a readable tar archive: the compressed data is truncated",
        }


@pytest.mark.parametrize("make", COMPRESSED)
def test_damaged_compressed_data_is_reported(tmp_path: Path, make: Make) -> None:
    path = make(tmp_path / "archive", {str(n): file(n, os.urandom(100_000)) for n in range(5)})
    content = bytearray(path.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 200] = bytes(200)
    path.write_bytes(content)

    *_, last = find([path])

    assert isinstance(last, InstanceResult)
    assert last.path == path


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress])
def test_a_compressed_file_that_is_no_tar_is_refused(tmp_path: Path, compress: Callable[[bytes], bytes]) -> None:
    path = tmp_path / "file"
    path.write_bytes(compress(CT_FILE.read_bytes()))

    assert outcome(path)["."].startswith("not a readable tar archive: ")


def test_streams_that_follow_one_another_are_one_archive(tmp_path: Path) -> None:
    """Several streams in one file, like the output of pigz and pbzip2."""
    content = tarred(tmp_path / "plain", {str(n): file(n) for n in range(40)}).read_bytes()
    for compress in (gzip.compress, bz2.compress, lzma.compress):
        path = tmp_path / "archive"
        path.write_bytes(b"".join(compress(content[at : at + 5000]) for at in range(0, len(content), 5000)))

        assert outcome(path) == {str(n): "" for n in range(40)}


def test_the_copies_are_unnamed_and_removed_with_the_instances(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "copies"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))

    path = MAKE["tar.gz"](tmp_path / "archive", {str(n): file(n) for n in range(10)})

    found = list(find([path]))

    assert (len(copies(folder)), list(folder.iterdir())) == (1, [])
    last = found.pop()
    found.clear()
    assert isinstance(last, Instance)
    chunks = last.chunks(10)
    first = bytes(next(chunks))
    del last
    assert len(copies(folder)) == 1
    assert first + b"".join(bytes(chunk) for chunk in chunks) == bare(CT, "1.2.9")
    del chunks
    assert copies(folder) == []


def test_their_room_is_free_again_before_the_archive_has_been_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tar, "_MAX_SPOOL_BYTES", 100_000)
    folder = tmp_path / "copies"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    path = MAKE["tar.gz"](tmp_path / "archive", {str(n): file(n, bytes(50_000)) for n in range(100)})

    taken = []
    for item in find([path]):
        assert len(sent(item)) == 50_000
        taken.append(sum(copies(folder)))

    assert len(taken) == 100
    assert max(taken) < 400_000


def test_an_archive_is_not_unpacked_faster_than_it_is_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "copies"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setattr(tar, "_MAX_SPOOL_BYTES", 1 << 20)
    monkeypatch.setattr(delivery_queue, "_MAX_MEMORY", 1 << 20)
    path = MAKE["tar.gz"](tmp_path / "archive", {str(n): file(n, bytes(200_000)) for n in range(80)})
    taken: list[int] = []

    def handle(_: StoreRequest) -> int:
        taken.append(sum(copies(folder)))
        return 0x0000

    with StorageSCP(handle, port=0).in_thread() as scp:
        report = blocking.send([path], "127.0.0.1", scp.port, associations=1, window=1)

    assert (len(report.accepted), len(taken)) == (80, 80)
    assert max(taken) < 8 << 20


@pytest.mark.parametrize("make", COMPRESSED)
def test_a_tar_bomb_is_not_unpacked_to_its_end(tmp_path: Path, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(containers, "_ALWAYS_DECOMPRESSED", 1 << 20)
    members = {"1": file(1), "2": bytes(8 << 20), "3": file(3)}
    path = make(tmp_path / "archive", members)

    assert path.stat().st_size < 1 << 18
    assert outcome(path) == {"1": "", "2": NO_HEADER, ".": f"not a readable tar archive: {TOO_MUCH}"}

    path = make(tmp_path / "archive", {"1": file(1), "2": file(2, bytes(8 << 20)), "3": file(3)})
    assert outcome(path) == {"1": "", ".": f"not a readable tar archive: {TOO_MUCH}"}


def test_xz_that_wants_a_huge_dictionary_is_refused(tmp_path: Path) -> None:
    content = bytearray(MAKE["tar.xz"](tmp_path / "archive", {"1": file(1)}).read_bytes())
    # The block header that follows the stream's 12 bytes: LZMA2's property is the size of its dictionary.
    size = (content[12] + 1) * 4
    header = content[12 : 12 + size - 4]
    at = header.index(b"\x21\x01") + 2
    header[at] = 40  # 4 GiB - 1
    content[12 : 12 + size] = header + struct.pack("<L", zlib.crc32(header))
    (tmp_path / "archive").write_bytes(content)

    assert outcome(tmp_path / "archive") == {
        ".": "not a readable tar archive: the compressed data is damaged: Memory usage limit exceeded"
    }


@pytest.mark.parametrize("mode", ["w:", "w:gz"])
@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE])
def test_a_name_without_end_is_not_taken_into_memory(tmp_path: Path, mode: str, kind: bytes) -> None:
    path = tmp_path / "archive"
    info = tarfile.TarInfo("x")
    info.type, info.size = kind, 64 << 20
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]  # any mode
        archive.addfile(info, io.BytesIO(bytes(64 << 20)))
    tracemalloc.start()
    found = outcome(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert found == {".": "not a readable tar archive: the name and other attributes of a member are too long"}
    assert peak < 4 << 20


def extension(kind: bytes, content: bytes) -> bytes:
    info = tarfile.TarInfo("x")
    info.type, info.size = kind, len(content)
    return info.tobuf(tarfile.GNU_FORMAT) + content + bytes(-len(content) % 512)


def pax_record(name: str, value: bytes) -> bytes:
    """Encode a record whose length needs up to seven digits."""
    rest = b" " + name.encode() + b"=" + value + b"\n"
    size = next(size for digits in range(1, 8) if len(str(size := len(rest) + digits)) == digits)
    return str(size).encode() + rest


@pytest.mark.parametrize("compress", [bytes, gzip.compress], ids=["tar", "tar.gz"])
@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME])
@pytest.mark.timeout(20)
def test_extensions_without_end_are_bounded(tmp_path: Path, kind: bytes, compress: Callable[[bytes], bytes]) -> None:
    """200 MB of them took 206 MB of memory."""
    member = tarred(tmp_path / "archive", {"1": file(1)}, form=tarfile.GNU_FORMAT).read_bytes()
    parts = [extension(kind, pax_record(f"key{n}", bytes(900_000))) for n in range(60)]
    (tmp_path / "archive").write_bytes(compress(b"".join([*parts, member])))
    del parts, member
    tracemalloc.start()
    found = outcome(tmp_path / "archive")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert found == {".": "not a readable tar archive: the name and other attributes of a member are too long"}
    assert peak < 8 << 20


def test_a_member_may_have_some_extensions(tmp_path: Path) -> None:
    member = tarred(tmp_path / "archive", {"1": file(1)}, form=tarfile.GNU_FORMAT).read_bytes()
    name = extension(tarfile.GNUTYPE_LONGNAME, b"y\0")
    for count, expected in ((32, {"y": ""}), (33, {"."})):
        (tmp_path / "archive").write_bytes(name * count + member)
        assert outcome(tmp_path / "archive").keys() == set(expected)
    # The bounds are those of one member.
    (tmp_path / "archive").write_bytes((name * 32 + member.rstrip(b"\0") + bytes(-len(member.rstrip(b"\0")) % 512)) * 3)
    assert list(outcome(tmp_path / "archive").values()) == [""]


def test_attributes_of_a_member_are_counted(tmp_path: Path) -> None:
    member = tarred(tmp_path / "archive", {"1": file(1)}, form=tarfile.GNU_FORMAT).read_bytes()
    too_many = {".": "not a readable tar archive: a member has too many attributes"}
    for count, expected in ((1000, {"1": ""}), (1001, too_many)):
        records = b"".join(pax_record(f"k{n}", b"v") for n in range(count))
        (tmp_path / "archive").write_bytes(extension(tarfile.XHDTYPE, records) + member)
        assert outcome(tmp_path / "archive") == expected


@pytest.mark.parametrize("size", [b"-1", b"99999999999999999999", b"x"])
def test_an_impossible_size_is_damage(tmp_path: Path, size: bytes) -> None:
    path = tarred(tmp_path / "archive", {"1": file(1)})
    info = tarfile.TarInfo("x")
    record = b" size=" + size + b"\n"
    record = str(len(record) + 2).encode() + record
    info.type, info.size = tarfile.XHDTYPE, len(record)
    path.write_bytes(info.tobuf(tarfile.USTAR_FORMAT) + record.ljust(512, b"\0") + path.read_bytes())

    assert list(outcome(path)) == ["."]


# Anything.


def mutations(content: bytes) -> st.SearchStrategy[bytes]:
    at = st.integers(0, len(content) - 1)
    return st.builds(
        lambda changes, cut: _changed(content, changes)[:cut],
        st.lists(st.tuples(at, st.integers(0, 255)), max_size=8),
        st.integers(0, len(content)) | st.none(),
    )


def _changed(content: bytes, changes: list[tuple[int, int]]) -> bytes:
    changed = bytearray(content)
    for at, value in changes:
        changed[at] = value
    return bytes(changed)


@every_archive
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_a_fuzzed_container_yields_instances_or_reasons(tmp_path: Path, make: Make, data: st.DataObject) -> None:
    path = tmp_path / "archive"
    content = make(path, {"a" * 120 + "/1": file(1), "2": b"text", "3": file(3, bare(size=3000))}).read_bytes()
    path.write_bytes(data.draw(mutations(content)))

    for item in find([path]):
        if isinstance(item, InstanceResult):
            assert item.reason
            continue
        try:
            assert len(sent(item)) == item.sent_size
        except FileMetaError as error:
            assert str(error)  # noqa: PT017  # most of them are whole


def read_by_tarfile(path: Path) -> Iterator[tuple[str, bytes]]:
    with tarfile.open(path) as archive:
        for info in archive:
            content = archive.extractfile(info)
            if info.isreg() and content is not None:
                yield info.name, content.read()


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(members=st.dictionaries(st.text("ab/ä", min_size=1, max_size=90), st.integers(1, 2000), min_size=1, max_size=6))
def test_members_are_those_that_tarfile_finds(tmp_path: Path, form: int, members: dict[str, int]) -> None:
    path = tmp_path / "archive"
    tarred(path, {f"x/{name}y": file(n, bytes(2 * n)) for name, n in members.items()}, form=form)

    found = [(os.path.relpath(str(item.path), path), sent(item)) for item in find([path])]

    assert found == [
        (os.path.normpath(name), content[-len(found[n][1]) :])
        for n, (name, content) in enumerate(read_by_tarfile(path))
    ]


@pytest.mark.parametrize("make", [zipped, stored, tarred])
def test_a_member_without_a_data_set_is_refused(tmp_path: Path, make: Make) -> None:
    [refused, whole] = find([make(tmp_path / "archive", {"1.dcm": file(data=b""), "2.dcm": file(2)})])
    assert isinstance(refused, InstanceResult)
    assert isinstance(whole, Instance)
    assert "data set" in refused.reason
