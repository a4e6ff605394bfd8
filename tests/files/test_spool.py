"""Temporary files without a name: they contain the appended bytes and disappear with their owner."""

import errno
import os
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from dicomport.files import system
from dicomport.files.spool import Spool
from dicomport.wire import FileMetaError


def open_files(folder: Path) -> int:
    links = [path for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]
    return sum(os.path.lexists(link) and str(link.readlink()).startswith(f"{folder}/") for link in links)


@given(st.lists(st.binary(max_size=50)), st.integers(1, 20))
def test_any_part_is_read_in_chunks(pieces: list[bytes], chunk_bytes: int) -> None:
    spool = Spool()
    content = b"".join(pieces)
    for piece in pieces:
        spool.append(piece)
    assert spool.size == len(content)
    start = len(content) // 3
    assert b"".join(map(bytes, spool.chunks(start, len(content) - start, chunk_bytes))) == content[start:]
    buffer = memoryview(bytearray(len(content) + 1))
    assert bytes(buffer[: spool.read_into(buffer, 0)]) == content
    spool.close()


def test_a_part_beyond_the_end_is_an_error(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.append(b"1234")
    with pytest.raises(FileMetaError, match="shorter"):
        list(spool.chunks(2, 3, 10))


def test_short_writes_are_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = system.write
    monkeypatch.setattr(system, "write", lambda descriptor, data: real(descriptor, data[:3]))
    spool = Spool(tmp_path)
    spool.append(b"0123456789")
    assert [bytes(chunk) for chunk in spool.chunks(0, 10, 10)] == [b"0123456789"]


def test_the_file_has_no_name_in_a_folder_that_is_created(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    spool = Spool(folder)
    assert list(folder.iterdir()) == []
    assert open_files(folder) == 1
    spool.close()
    spool.close()
    assert open_files(folder) == 0


def test_an_unreferenced_file_is_closed(tmp_path: Path) -> None:
    spools = [Spool(tmp_path)]
    assert open_files(tmp_path) == 1
    spools.clear()
    assert open_files(tmp_path) == 0


def test_a_full_disk_is_an_os_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_arguments: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(system, "write", fail)
    with pytest.raises(OSError, match="No space"):
        Spool(tmp_path).append(b"1")
