"""`verify` finds each difference between files and index, and nothing else, also while a receiver stores."""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
import threading
from pathlib import Path
from typing import Final

import pytest
from tests.archive.sending import CT, Receiver, findings, index_locked, instance, receiver
from tests.files.faults import Disk, Fault

from dicomport.archive import (
    ArchiveOptions,
    Check,
    Checks,
    DiscrepancyKind as Kind,
    Duplicates,
    Index,
    Paths,
    Policy,
    RateLimit,
    verify,
)
from dicomport.archive.entries import Entry, entries_of
from dicomport.archive.verification.comparison import Verifier
from dicomport.files import Durability, read_part10

NAME: Final = "1.2.3/1.2.3.1/1.2.3.4.dcm"
SECOND: Final = "1.2.3/1.2.3.1/1.2.3.4~2.dcm"
SUSPECT: Final = "1.2.3/1.2.3.1/1.2.3.8.dcm"
MR: Final = "1.2.840.10008.5.1.4.1.1.4"


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fill an archive: a stored instance, a conflict, a suspect and others. Not to be written to."""
    root = tmp_path_factory.mktemp("original")
    checks = Checks(dict.fromkeys(Check, Policy.ACCEPT))
    with receiver(root, ArchiveOptions(checks=checks, durability=Durability.FLUSH)) as received:
        assert received.send(instance(), instance(pixels=b"\7\7"), instance("1.2.3.5")) == [0, 0, 0]
        assert received.send(instance("1.2.3.8", said="1.2.3.9"), calling="OTHER") == [0xB007]
        assert received.send(instance("1.2.4.1", study="1.2.4", series="1.2.4.1", patient="P-2")) == [0]
    assert findings(root) == []
    return root


@pytest.fixture
def root(original: Path, tmp_path: Path) -> Path:
    """Return a copy of the archive with the modification times of the files."""
    copy = tmp_path / "archive"
    for path in (original, *sorted(original.rglob("*"))):
        target = copy / path.relative_to(original)
        if path.is_dir():
            target.mkdir()
        else:
            target.write_bytes(path.read_bytes())
            os.utime(target, ns=(path.stat().st_mtime_ns, path.stat().st_mtime_ns))
    return copy


def execute(root: Path, statement: str) -> None:
    with contextlib.closing(sqlite3.connect(Paths(root).index, isolation_level=None)) as database:
        assert database.execute(statement).rowcount > 0


def found(root: Path) -> list[tuple[str, Kind, str]]:
    return [(one.path, one.kind, one.detail) for one in findings(root)]


ROWS: Final[dict[str, tuple[str, list[tuple[str, Kind, str]]]]] = {
    "SOP Instance UID": ("SET sop_instance_uid = '1.9'", [(NAME, Kind.ROW_WRONG, "sop_instance_uid")]),
    "SOP Class UID": (f"SET sop_class_uid = '{MR}'", [(NAME, Kind.ROW_WRONG, "sop_class_uid")]),
    "transfer syntax": ("SET transfer_syntax_uid = '1.2'", [(NAME, Kind.ROW_WRONG, "transfer_syntax_uid")]),
    "state": ("SET state = 'suspect'", [(NAME, Kind.ROW_WRONG, "state")]),
    "size": ("SET size = size + 2", [(NAME, Kind.ROW_WRONG, "size")]),
    "digest": ("SET digest = 'aa'", [(NAME, Kind.FILE_CHANGED, "142 bytes; received 142 bytes")]),
    "content date": ("SET content_date = '19990101'", [(NAME, Kind.ROW_WRONG, "content_date")]),
    "received": ("SET received = '2020-01-01'", [(NAME, Kind.ROW_WRONG, "received")]),
    "AE title": ("SET calling_ae_title = 'X'", [(NAME, Kind.ROW_WRONG, "calling_ae_title")]),
    "address": ("SET address = '192.0.2.1'", [(NAME, Kind.ROW_WRONG, "address")]),
    "rows": ("SET rows = 7", [(NAME, Kind.ROW_WRONG, "rows")]),
}


@pytest.mark.parametrize(("change", "expected"), ROWS.values(), ids=ROWS)
def test_f12_verify_finds_a_wrong_row(root: Path, change: str, expected: list[tuple[str, Kind, str]]) -> None:
    execute(root, f"UPDATE instances {change} WHERE path = '{NAME}'")
    reported = found(root)
    assert [(path, kind) for path, kind, _ in reported if path == NAME] == [(path, kind) for path, kind, _ in expected]
    if expected[0][1] is Kind.ROW_WRONG:
        assert expected[0] in reported
    assert {path for path, _, _ in reported} <= {NAME, SECOND}


def test_verify_finds_a_wrong_state_of_a_conflict(root: Path) -> None:
    execute(root, f"UPDATE instances SET state = 'stored' WHERE path = '{SECOND}'")
    assert found(root) == [(SECOND, Kind.ROW_WRONG, "state")]


def test_verify_finds_a_wrong_state_of_a_suspect(root: Path) -> None:
    execute(root, f"UPDATE instances SET state = 'stored' WHERE path = '{SUSPECT}'")
    assert found(root) == [(SUSPECT, Kind.ROW_WRONG, "state")]


@pytest.mark.parametrize(
    "name",
    ["patient_id", "patient_name", "study_date", "study_time", "accession_number", "modality", "series_instance_uid"],
)
def test_verify_finds_wrong_values_of_patient_study_and_series(root: Path, name: str) -> None:
    execute(root, f"UPDATE series SET {name} = '7' WHERE study_instance_uid = '1.2.4'")
    assert found(root) == [("1.2.4/1.2.4.1/1.2.4.1.dcm", Kind.ROW_WRONG, name)]


def test_verify_finds_a_row_of_another_series(root: Path) -> None:
    execute(
        root,
        f"UPDATE instances SET series_key = (SELECT series_key FROM series WHERE patient_id = 'P-2') "
        f"WHERE path = '{SUSPECT}'",
    )
    [(path, kind, detail)] = found(root)
    assert (path, kind) == (SUSPECT, Kind.ROW_WRONG)
    assert set(detail.split(", ")) == {"study_instance_uid", "series_instance_uid", "patient_id", "patient_name"}


def change_meta(path: Path, before: bytes, after: bytes) -> None:
    data, status = path.read_bytes(), path.stat()
    end = read_part10(path).offset
    assert before in data[:end]
    path.write_bytes(data[:end].replace(before, after, 1) + data[end:])
    os.utime(path, ns=(status.st_mtime_ns, status.st_mtime_ns))


HEADERS: Final = {
    "preamble": (b"\0\0\0\0", b"\x7fELF"),
    "AE title": (b"MODALITY", b"MODALITZ"),
    "SOP Instance UID": (b"1.2.3.4\0", b"1.2.3.5\0"),
    "SOP Class UID": (CT.encode(), b"1.2.840.10008.5.1.4.1.1.4"),
    "implementation": (b"DICOMPORT", b"DICOMP0RT"),
}


@pytest.mark.parametrize(("before", "after"), HEADERS.values(), ids=HEADERS)
def test_verify_finds_a_changed_header(root: Path, before: bytes, after: bytes) -> None:
    change_meta(root / NAME, before, after)
    assert found(root) == [(NAME, Kind.HEADER_CHANGED, "")]


def test_verify_finds_a_changed_modification_time(root: Path) -> None:
    os.utime(root / NAME, (1, 1))
    assert found(root) == [(NAME, Kind.ROW_WRONG, "received")]


@pytest.mark.parametrize("target", ["/etc/hostname", "../../other.dcm", "nowhere"])
def test_verify_finds_a_link_in_place_of_a_file(root: Path, tmp_path: Path, target: str) -> None:
    (tmp_path / "other.dcm").write_bytes((root / NAME).read_bytes())
    (root / NAME).unlink()
    (root / NAME).symlink_to(target)
    assert found(root) == [(NAME, Kind.LINK, "")]


def test_verify_finds_a_link_in_place_of_a_folder(root: Path, tmp_path: Path) -> None:
    (root / "1.2.4").rename(tmp_path / "elsewhere")
    (root / "1.2.4").symlink_to(tmp_path / "elsewhere")
    assert found(root) == [("1.2.4", Kind.LINK, "")]


@pytest.mark.parametrize("path", ["../outside.dcm", "/etc/passwd.dcm", ".dicomport/x.dcm", "1.2.4/./a.dcm", "1.2.4/a"])
def test_verify_finds_a_path_that_is_not_one_of_an_instance(root: Path, path: str) -> None:
    execute(root, f"UPDATE instances SET path = '{path}' WHERE path = '{SUSPECT}'")
    assert sorted(found(root)) == sorted([(path, Kind.ROW_WRONG, "path"), (SUSPECT, Kind.ROW_MISSING, "")])


def test_verify_finds_what_is_not_a_file(root: Path) -> None:
    (root / NAME).unlink()
    os.mkfifo(root / NAME)
    assert found(root) == [(NAME, Kind.FILE_UNREADABLE, "not a regular file")]


def test_verify_names_the_instance(root: Path) -> None:
    (root / SUSPECT).unlink()
    [discrepancy] = findings(root)
    assert (discrepancy.kind, discrepancy.sop_instance_uid) == (Kind.FILE_MISSING, "1.2.3.8")


def test_verify_finds_a_study_of_several_patients(tmp_path: Path) -> None:
    with receiver(tmp_path) as received:
        assert received.send(instance("1.1", patient="A"), instance("1.2", patient="B"), instance("1.3")) == [0] * 3
    assert found(tmp_path) == [("1.2.3/1.2.3.1/1.1.dcm", Kind.PATIENT_CONFLICT, "3 in study 1.2.3")]


@pytest.mark.parametrize("title", ["A\\B", " A ", "\x1b[2J", "é", "A\0", "../x", "dicom:x", "A" * 16])
def test_verify_accepts_what_a_peer_may_state(tmp_path: Path, title: str) -> None:
    with receiver(tmp_path) as received, contextlib.suppress(ValueError):
        assert received.send(instance(), calling=title) == [0]
    assert findings(tmp_path) == []


def test_verify_reports_nothing_after_replacements(tmp_path: Path) -> None:
    with receiver(tmp_path) as received:
        assert received.send(instance(), instance(pixels=b"\2\2"), instance("1.2.3.5")) == [0, 0, 0]
    with receiver(tmp_path, ArchiveOptions(duplicates=Duplicates.REPLACE)) as received:
        assert received.send(instance(pixels=b"\3\3"), instance("1.2.3.5", patient="B")) == [0, 0]
        assert received.send(instance("1.2.3.5", b"\3\3")) == [0]
    assert findings(tmp_path) == []


@pytest.mark.parametrize("duplicates", [Duplicates.KEEP_BOTH, Duplicates.REPLACE])
def test_f13_verify_reports_nothing_false_on_a_receiving_archive(tmp_path: Path, duplicates: Duplicates) -> None:
    options = ArchiveOptions(durability=Durability.FLUSH, duplicates=duplicates)
    sent, enough, stop = threading.Semaphore(0), 300, threading.Event()

    def send(received: Receiver, series: int) -> None:
        with received.association() as association:
            number = 0
            while not stop.is_set():
                number += 1
                uid = f"1.2.{series}.{number % 400}"
                what = instance(uid, bytes([number // 400 % 256, 0]), series=f"1.2.3.{series}")
                assert association.c_store(what).status.code == 0
                sent.release()

    with receiver(tmp_path, options) as received:
        threads = [threading.Thread(target=send, args=(received, series)) for series in range(3)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(5):
                for _ in range(enough):
                    assert sent.acquire(timeout=60)
                assert findings(tmp_path) == []
        finally:
            stop.set()
            for thread in threads:
                thread.join()
    assert findings(tmp_path) == []


def test_verify_compares_what_only_a_journal_has(tmp_path: Path) -> None:
    """The index is locked, so that it cannot follow."""
    with receiver(tmp_path, ArchiveOptions(durability=Durability.FLUSH)) as received, index_locked(received.archive):
        assert received.send(instance(), instance("1.2.3.5")) == [0, 0]

        def reported() -> list[tuple[str, Kind]]:
            verified = verify(received.archive.paths, received.archive.index, lambda _: None)
            return [(one.path, one.kind) for one in verified]

        assert reported() == []
        change_meta(tmp_path / NAME, b"MODALITY", b"MODALITZ")
        assert reported() == [(NAME, Kind.HEADER_CHANGED)]
        # A record that stays in the journal for longer than a receiver needs is not in the index.
        os.utime(tmp_path / NAME, (1, 1))
        assert reported() == [(NAME, Kind.ROW_MISSING)]


def test_a_name_that_is_only_reserved_is_not_reported(root: Path) -> None:
    (root / "1.2.3/1.2.3.1/1.7.dcm").touch()
    assert found(root) == []
    (root / "1.2.3/1.2.3.1/1.7.dcm").write_bytes(b"x")
    assert [(path, kind) for path, kind, _ in found(root)] == [("1.2.3/1.2.3.1/1.7.dcm", Kind.FILE_UNREADABLE)]


def test_the_walk_resumes_after_any_file(tmp_path: Path) -> None:
    for name in ("a/b/2.dcm", "a/b/1.dcm", "a/3.dcm", "a/c/4.dcm", "9.dcm", "b.dcm/5.dcm", "a-/6.dcm", ".x/7.dcm"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "z").symlink_to("a")
    (tmp_path / "a/c/5.dcm").symlink_to("4.dcm")
    paths = Paths(tmp_path)
    names = [entry.path for entry in entries_of(paths)]
    assert names == [
        *("9.dcm", "z", "a/3.dcm", "a/b/1.dcm", "a/b/2.dcm", "a/c/4.dcm", "a/c/5.dcm", "a-/6.dcm", "b.dcm/5.dcm")
    ]
    for number, name in enumerate(names):
        if name != "z":
            rest = [entry.path for entry in entries_of(paths, after=name)]
            assert rest == names[number + 1 :]
    # A file that was removed meanwhile, and one that was removed with its folder.
    assert [entry.path for entry in entries_of(paths, after="a/b/1z.dcm")] == names[4:]
    assert [entry.path for entry in entries_of(paths, after="a/bb/1.dcm")] == names[5:]
    assert [entry.is_link for entry in entries_of(paths)].count(True) == 2


def test_reading_keeps_to_the_rate_on_average() -> None:
    now, waits = 100.0, list[float]()

    def wait(seconds: float) -> None:
        nonlocal now
        waits.append(seconds)
        now += seconds

    limit = RateLimit(1000, clock=lambda: now, wait=wait)
    limit(500)
    now += 0.25  # Reading takes time, too.
    limit(500)
    now += 60.0  # A pause is not compensated, except for a second.
    limit(2000)
    assert waits == [0.5, 0.25, 1.0]


def test_verify_reports_a_file_that_cannot_be_read(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk(root, monkeypatch)
    disk.fail(Fault("open", errno.EIO, NAME))
    assert found(root) == [(NAME, Kind.FILE_UNREADABLE, os.strerror(errno.EIO))]
    disk.recover()
    assert found(root) == []


def test_verify_reports_a_file_that_is_removed_while_it_is_verified_once(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(root, monkeypatch)
    disk.before = lambda _, name: (root / NAME).unlink(missing_ok=True) if name == NAME else None
    assert found(root) == [(NAME, Kind.FILE_MISSING, "")]


def test_verify_reports_a_file_that_cannot_be_examined(root: Path) -> None:
    """Another program replaced the folder after it was listed."""
    (root / "loop").symlink_to("loop")
    paths = Paths(root)
    with contextlib.closing(Index(paths.index)) as index:
        compared = list(Verifier(paths, index, lambda _: None).compare_files([Entry("loop/1.dcm")]))
    assert [(one.path, one.kind) for one in compared] == [("loop/1.dcm", Kind.FILE_UNREADABLE)]
    assert os.strerror(errno.ELOOP) in compared[0].detail
