"""Records of stored instances: any line that is not a record is skipped, and a record is that of one file."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from tests.archive.sending import instance, receiver

from dicomport.archive import Paths
from dicomport.archive.file_record import record_of
from dicomport.archive.records import Record, is_visible, may_be_visible, received_at, records_in


@pytest.fixture
def record(tmp_path: Path) -> Record:
    with receiver(tmp_path) as received:
        assert received.send(instance()) == [0]
    [path] = tmp_path.glob("1*/*/*.dcm")
    return record_of(Paths(tmp_path), path)


def changed(line: str, at: int, value: object) -> str:
    values = json.loads(line)
    values[at] = value
    return json.dumps(values)


def test_lines_that_are_no_records_are_skipped(record: Record) -> None:
    line = record.to_json()
    others = [
        "",
        line[:-1],
        line[: len(line) // 2] + line,
        "{}",
        "7",
        "[]",
        "[" * 100_000,
        json.dumps(json.loads(line)[:-1]),
        changed(line, -1, "text"),
        changed(line, -1, []),
        changed(line, 0, None),
        changed(line, 0, "1.2\0.dcm"),
        changed(line, 3, {"inode": 1}),
        changed(line, 3, 1.5),
    ]
    assert list(records_in([*others, line, *others])) == [record]


def test_a_record_is_visible_as_long_as_its_file_is(tmp_path: Path, record: Record) -> None:
    path = tmp_path / record.path
    assert is_visible(tmp_path, record)
    os.utime(path, (1, 1))
    assert not is_visible(tmp_path, record)
    path.unlink()
    assert not is_visible(tmp_path, record)


def test_a_folder_with_the_name_of_a_file_is_not_the_file(tmp_path: Path, record: Record) -> None:
    path = tmp_path / record.path
    path.unlink()
    path.mkdir()
    folder = replace(record, inode=path.stat().st_ino, received=received_at(path.stat()))
    assert not is_visible(tmp_path, folder)


def test_a_file_that_cannot_be_examined_may_be_visible(tmp_path: Path, record: Record) -> None:
    """Nothing drops the record, because the instance was acknowledged."""
    folder = (tmp_path / record.path).parent
    (folder / Path(record.path).name).unlink()
    assert not may_be_visible(tmp_path, record)
    folder.rmdir()
    folder.symlink_to(folder)  # too many levels of symbolic links
    with pytest.raises(OSError, match="symbolic links"):
        is_visible(tmp_path, record)
    assert may_be_visible(tmp_path, record)
