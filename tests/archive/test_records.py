"""The lines of the journal: any line that is not a record is skipped."""

import json
from pathlib import Path

import pytest
from tests.archive.sending import instance, receiver

from dicomport.archive import Paths
from dicomport.archive.file_record import record_of
from dicomport.archive.records import Record, records_in


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
