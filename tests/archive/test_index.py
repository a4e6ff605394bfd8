"""The index: its content, its recreation from the files, and its recovery after a crash."""

import contextlib
import shutil
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Final

import pydicom
import pytest
from tests.archive.sending import CT, files, findings, instance, receiver, rows

from dicomport import blocking
from dicomport.archive import (
    Archive,
    ArchiveOptions,
    Check,
    Checks,
    DiscrepancyKind,
    Filters,
    Index,
    Paths,
    Policy,
    SchemaError,
    reindex,
)
from dicomport.archive.database.generations import Generations
from dicomport.archive.file_record import record_of
from dicomport.files import Durability

AT_ONCE: Final = 6
NAME: Final = "1.2.3/1.2.3.1/1.2.3.4.dcm"
MR: Final = "1.2.840.10008.5.1.4.1.1.4"


def everything(root: Path) -> list[list[dict[str, object]]]:
    index = Index(Paths(root.resolve()).index)
    try:
        return [
            [dict(row) for row in listed]
            for listed in (f(Filters()) for f in (index.studies, index.series, index.instances))
        ]
    finally:
        index.close()


@pytest.fixture(scope="module")
def varied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fill an archive with some of everything. Not to be written to."""
    root = tmp_path_factory.mktemp("varied")
    checks = Checks({Check.INSTANCE_UID: Policy.ACCEPT})
    with receiver(root, ArchiveOptions(checks=checks, durability=Durability.FLUSH)) as received:
        blocking.send(Path(pydicom.__file__).parent / "data" / "test_files", "127.0.0.1", received.port)
        for calling in ("ONE", "TWO"):
            sent = [
                instance(f"1.2.4.{number % 5}", bytes([number, 0]), study=f"1.2.{number % 3}", date=f"2026010{number}")
                for number in range(8)
            ]
            assert received.send(*sent, calling=calling) == [0] * 8
        assert received.send(instance("1.2.5", said="1.2.6"), instance(study="", sop_class="1.2.99")) == [0xB007, 0]
    assert {row["state"] for row in rows(root)} == {"stored", "conflict", "suspect"}
    return root


@pytest.fixture
def copy(varied: Path, tmp_path: Path) -> Path:
    root = tmp_path / "archive"
    shutil.copytree(varied, root)
    return root


def made_again(root: Path) -> list[list[dict[str, object]]]:
    assert list(reindex(Paths(root.resolve()), lambda _: None)) == []
    return everything(root)


def clear(paths: Paths) -> None:
    """Remove all rows."""
    current = Generations(paths.index).current()
    assert current is not None
    with contextlib.closing(sqlite3.connect(current)) as database, database:
        for table in ("instances", "series"):
            database.execute(f"DELETE FROM {table}")


@pytest.mark.parametrize("lost", [False, True])
def test_a_rebuilt_index_equals_the_first(copy: Path, lost: bool) -> None:
    before = everything(copy)
    if lost:
        for path in (copy / ".dicomport").glob("index.sqlite*"):
            path.unlink()
    assert made_again(copy) == before
    assert findings(copy) == []


def damage(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


FINDINGS: Final[dict[str, tuple[Callable[[Path], object], list[tuple[str, DiscrepancyKind]]]]] = {
    "missing": (lambda path: path.unlink(), [(NAME, DiscrepancyKind.FILE_MISSING)]),
    "changed": (damage, [(NAME, DiscrepancyKind.FILE_CHANGED)]),
    "shorter": (lambda path: path.write_bytes(path.read_bytes()[:-2]), [(NAME, DiscrepancyKind.FILE_CHANGED)]),
    "unreadable": (lambda path: path.write_bytes(b"nothing"), [(NAME, DiscrepancyKind.FILE_UNREADABLE)]),
    "no row": (
        lambda path: shutil.copy(path, path.with_name("1.2.dcm")),
        [("1.2.3/1.2.3.1/1.2.dcm", DiscrepancyKind.ROW_MISSING)],
    ),
    "renamed": (
        lambda path: path.rename(path.with_name("1.2.dcm")),
        [("1.2.3/1.2.3.1/1.2.dcm", DiscrepancyKind.ROW_MISSING), (NAME, DiscrepancyKind.FILE_MISSING)],
    ),
}


@pytest.mark.parametrize(("change", "expected"), FINDINGS.values(), ids=FINDINGS)
def test_verify_finds(
    tmp_path: Path, change: Callable[[Path], object], expected: list[tuple[str, DiscrepancyKind]]
) -> None:
    with receiver(tmp_path) as received:
        assert received.send(instance(), instance("1.2.3.5")) == [0, 0]
    assert findings(tmp_path) == []
    change(tmp_path / NAME)
    assert [(finding.path, finding.kind) for finding in findings(tmp_path)] == expected


def test_reindex_reports_unreadable_files(tmp_path: Path) -> None:
    with receiver(tmp_path) as received:
        assert received.send(instance(), instance("1.2.3.5")) == [0, 0]
    (tmp_path / NAME).write_bytes(b"nothing")
    paths = Paths(tmp_path.resolve())
    assert [(found.path, found.kind) for found in reindex(paths, lambda _: None)] == [
        (NAME, DiscrepancyKind.FILE_UNREADABLE)
    ]
    index = Index(paths.index)
    assert [row["sop_instance_uid"] for row in index.instances(Filters())] == ["1.2.3.5"]
    index.close()


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("asked")
    with receiver(root, ArchiveOptions(durability=Durability.FLUSH)) as received:
        assert received.send(instance("1.1", study="1", series="1.1", date="20260101", patient="A")) == [0]
        sent = instance("2.1", study="2", series="2.1", date="20260115", patient="B", modality="MR", sop_class=MR)
        assert received.send(sent, calling="OTHER") == [0]
        assert received.send(instance("3.1", study="3", series="3.1", date="20260201", patient="A")) == [0]
        assert received.send(instance("4.1", study="4", series="4.1", date="", patient="C")) == [0]
    return root


FILTERS: Final = {
    "nothing": (Filters(), "1 2 3 4"),
    "a patient": (Filters(patient_id="A"), "1 3"),
    "part of a patient": (Filters(patient_id="a"), ""),
    "a study": (Filters(study_instance_uid="2"), "2"),
    "a modality": (Filters(modality="MR"), "2"),
    "an AE title": (Filters(calling_ae_title="OTHER"), "2"),
    "a date": (Filters(study_date="20260115"), "2"),
    "a range": (Filters(study_date="20260101-20260131"), "1 2"),
    "from a date on": (Filters(study_date="20260115-"), "2 3"),
    "up to a date": (Filters(study_date="-20260115"), "1 2"),
    "two": (Filters(patient_id="A", study_date="20260201"), "3"),
    "SQL": (Filters(patient_id="' OR 1=1 --"), ""),
}


@pytest.mark.parametrize(("filters", "expected"), FILTERS.values(), ids=FILTERS)
def test_filters(asked: Path, filters: Filters, expected: str) -> None:
    index = Index(Paths(asked.resolve()).index)
    for listed in (index.studies(filters), index.series(filters), index.instances(filters)):
        assert sorted(row["study_instance_uid"] for row in listed) == expected.split()
    index.close()


def test_the_fields_of_an_instance_in_the_index(asked: Path) -> None:
    index = Index(Paths(asked.resolve()).index)
    [row] = index.find("2.1")
    assert row["path"] == "2/2.1/2.1.dcm"
    assert (row["sop_class_uid"], row["calling_ae_title"], row["address"]) == (MR, "OTHER", "127.0.0.1")
    [study] = index.studies(Filters(study_instance_uid="2"))
    assert (study["patient_id"], study["patient_name"]) == ("B", "Name^B")
    assert (study["number_of_series"], study["number_of_instances"], study["size"]) == (1, 1, row["size"])
    index.close()


def test_an_index_of_a_later_version_is_left_alone(tmp_path: Path) -> None:
    Archive(tmp_path).close()
    path = Paths(tmp_path.resolve()).index
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA user_version = 99")
    database.close()
    with pytest.raises(SchemaError, match="schema 99"):
        Archive(tmp_path)
    with sqlite3.connect(path) as database:
        assert database.execute("PRAGMA user_version").fetchone() == (99,)
    database.close()


def test_recovery_takes_what_is_there_and_ignores_torn_and_stale_lines(tmp_path: Path) -> None:
    with receiver(tmp_path) as received:
        assert received.send(instance(), instance("1.2.3.5"), instance("1.2.3.6")) == [0, 0, 0]
    paths = Paths(tmp_path.resolve())
    records = [record_of(paths, tmp_path / name) for name in files(tmp_path)]
    before = everything(tmp_path)
    clear(paths)
    dead = paths.sessions / "session-dead"
    dead.mkdir()
    stale = replace(records[0], inode=records[0].inode + 1, digest="stale")
    gone = replace(records[0], path="1.2.3/1.2.3.1/1.9.dcm")
    lines = [records[0].to_json(), stale.to_json(), gone.to_json(), "{}", "[]", "null", "", records[1].to_json()[:-9]]
    (dead / "journal-00000000.jsonl").write_text("\n".join(lines))
    (dead / "journal-1.jsonl").write_bytes(b"\xff\xfe\0\n" + "\n".join(one.to_json() for one in records[1:]).encode())
    archive = Archive(tmp_path)
    assert archive.recovered == 3
    archive.close()
    assert everything(tmp_path) == before
    assert not dead.exists()
    assert CT in {row["sop_class_uid"] for row in rows(tmp_path)}


def test_a_conflict_is_reported_in_either_order(tmp_path: Path) -> None:
    with receiver(tmp_path) as received:
        assert received.send(instance(), instance("1.2.3.5"), instance("1.2.3.4", b"\1\0")) == [0, 0, 0]
    before = everything(tmp_path)
    paths = Paths(tmp_path.resolve())
    records = [record_of(paths, tmp_path / name) for name in files(tmp_path)]
    for order in (records, records[::-1]):
        clear(paths)
        index = Index(paths.index)
        for record in order:
            index.add([record])
        index.close()
        assert everything(tmp_path) == before
    assert [row["state"] for row in rows(tmp_path)].count("conflict") == 1


def test_any_number_may_open_a_new_index_at_the_same_time(tmp_path: Path) -> None:
    """SQLite itself fails those who switch a database to WAL at once: one of a hundred or so."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for number in range(100):
            folder = tmp_path / str(number)
            folder.mkdir()
            start = threading.Barrier(AT_ONCE)

            def open_it(path: Path = folder / "index.sqlite", start: threading.Barrier = start) -> None:
                start.wait(30)
                Index(path).close()

            for opened in [pool.submit(open_it) for _ in range(AT_ONCE)]:
                opened.result()
