"""An index that cannot be written: instances are stored with the journal alone, up to a limit, and the end is quick."""

import contextlib
import errno
import logging
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import pytest
from tests.archive.sending import Receiver, findings, instance, receiver, rows

from dicomport.archive import ArchiveOptions, BusyIndexError, DamagedIndexError, Index, IndexDatabaseError, Paths
from dicomport.archive.commit import indexer
from dicomport.archive.database import queries
from dicomport.archive.database.generations import Generations
from dicomport.files import Durability, system

TIMEOUT: Final = 60.0
REFUSED: Final = (0xA700, "the index of the archive cannot be written")


@contextlib.contextmanager
def held(root: Path, mode: str = "NORMAL") -> Iterator[None]:
    """Lock the database, as a program that is not dicomport does; in the mode EXCLUSIVE for readers, too."""
    path = Generations(Paths(root.resolve()).index).current()
    assert path is not None
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(f"PRAGMA locking_mode = {mode}")
        connection.execute("BEGIN EXCLUSIVE")
        yield
        connection.execute("ROLLBACK")


@contextlib.contextmanager
def locked(root: Path) -> Iterator[None]:
    """Lock the writers out, as a process does that was stopped while it wrote."""
    with Generations(Paths(root.resolve()).index).locked(wait=True):
        yield


@contextlib.contextmanager
def malformed(root: Path) -> Iterator[None]:
    path = Generations(Paths(root.resolve()).index).current()
    assert path is not None
    content = path.read_bytes()
    path.write_bytes(b"garbage " * 2048)
    yield
    path.write_bytes(content)


@contextlib.contextmanager
def full(_root: Path) -> Iterator[None]:
    def fail(_index: Index, _records: object, **_options: object) -> None:
        raise IndexDatabaseError("the index cannot be used: database or disk is full")

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Index, "add", fail)
        yield


PROBLEMS: Final[dict[str, Callable[[Path], contextlib.AbstractContextManager[None]]]] = {
    "held by a program": held,
    "held by a process": locked,
    "malformed": malformed,
    "full disk": full,
}
every_problem = pytest.mark.parametrize("problem", PROBLEMS.values(), ids=PROBLEMS)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the queue, the limit and the times."""
    for name, value in {
        "_MAX_WAITING": 20,
        "_MAX_UNINDEXED": 60,
        "_RETRY_SECONDS": 0.01,
        "_BUSY_SECONDS": 0.0,
        "_LAST_SECONDS": 0.2,
    }.items():
        monkeypatch.setattr(indexer, name, value)
    monkeypatch.setattr(queries, "MAX_BATCH", 7)


def events(caplog: pytest.LogCaptureFixture, event: str) -> list[dict[str, Any]]:
    found = (getattr(record, "fields", {}) for record in caplog.records)
    return [fields for fields in found if fields.get("event") == event]


def failed(caplog: pytest.LogCaptureFixture) -> None:
    """Wait until the failure of the index is logged."""
    end = threading.Event()
    for _ in range(int(TIMEOUT / 0.01)):
        if events(caplog, "index_failed"):
            return
        end.wait(0.01)
    raise AssertionError("no failure")


def numbered(first: int, last: int) -> list[Any]:
    return [instance(f"1.2.3.{number}") for number in range(first, last)]


def complete(received: Receiver, number: int) -> None:
    """Wait until the index has a number of instances."""
    end = threading.Event()
    for _ in range(int(TIMEOUT / 0.01)):
        if received.archive.index.count() == number:
            return
        end.wait(0.01)
    raise AssertionError(received.archive.index.count())


@every_problem
@pytest.mark.usefixtures("quick")
def test_a4_instances_are_stored_with_the_journal_alone_and_indexed_later(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    problem: Callable[[Path], contextlib.AbstractContextManager[None]],
) -> None:
    """More instances than the queue holds; the failure is logged once, and its end."""
    with receiver(tmp_path, ArchiveOptions(durability=Durability.FLUSH)) as received:
        with problem(tmp_path):
            assert received.send(*numbered(0, 5)) == [0] * 5
            failed(caplog)
            assert received.send(*numbered(5, 50)) == [0] * 45
        complete(received, 50)
        assert received.send(instance("1.2.3.99")) == [0]
        complete(received, 51)
    assert len(events(caplog, "index_failed")) == 1
    assert len(events(caplog, "index_recovered")) == 1
    assert findings(tmp_path) == []
    assert list(tmp_path.glob(".dicomport/sessions/session-*")) == []


def test_a_record_that_is_cut_short_hides_no_later_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk is full in the middle of a record; the next instance is acknowledged, and the receiver is killed."""
    real, root, killed = system.write, tmp_path / "archive", tmp_path / "killed"

    def full(descriptor: int, data: memoryview) -> int:
        if Path(f"/proc/self/fd/{descriptor}").readlink().suffix == ".jsonl":
            real(descriptor, data[:50])
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(descriptor, data)

    with receiver(root, ArchiveOptions(durability=Durability.FLUSH)) as received:
        with locked(root):
            assert received.send(instance("1.2.3.1")) == [0]
            with monkeypatch.context() as patched:
                patched.setattr(system, "write", full)
                assert received.send(instance("1.2.3.2")) == [0xA700]
            assert received.send(instance("1.2.3.3")) == [0]
            shutil.copytree(root, killed)
        complete(received, 2)
    with receiver(killed):
        assert sorted(str(row["sop_instance_uid"]) for row in rows(killed)) == ["1.2.3.1", "1.2.3.3"]


@pytest.mark.usefixtures("quick")
def test_files_that_cannot_be_examined_stay_in_the_journal(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The folder of their study leads to itself; the instances of other studies are indexed."""
    study, elsewhere = tmp_path / "1.2.3", tmp_path / ".elsewhere"
    with receiver(tmp_path, ArchiveOptions(durability=Durability.FLUSH)) as received:
        with locked(tmp_path):
            others = [instance(f"1.2.4.{number}", study="1.2.4", series="1.2.4.1") for number in range(30)]
            assert received.send(*others[:5]) == [0] * 5
            failed(caplog)
            assert received.send(*others[5:], *numbered(0, 20)) == [0] * 45
            study.rename(elsewhere)
            study.symlink_to(study)
        complete(received, 30)
        received.close()
    [event] = events(caplog, "index_incomplete")
    assert event["instances"] == 20
    assert len(list(tmp_path.glob(".dicomport/sessions/session-*"))) == 1
    study.unlink()
    elsewhere.rename(study)
    with receiver(tmp_path) as received:
        assert received.archive.recovered == 20
    assert len(rows(tmp_path)) == 50
    assert findings(tmp_path) == []


@every_problem
@pytest.mark.usefixtures("quick")
def test_a4_above_the_limit_instances_are_refused_and_the_receiver_ends(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    problem: Callable[[Path], contextlib.AbstractContextManager[None]],
) -> None:
    with receiver(tmp_path, ArchiveOptions(durability=Durability.FLUSH)) as received, problem(tmp_path):
        assert received.send(*numbered(0, 5)) == [0] * 5
        failed(caplog)
        statuses = received.send(*numbered(5, 70))
        response = received.answer(instance("1.2.3.99"))
        assert (response.status.code, response.error_comment) == REFUSED
        assert statuses == sorted(statuses)
        assert statuses.count(0xA700) in range(5, 12)
        # Attempts at shutdown are limited; nothing is lost.
        received.close()
        assert len(list(tmp_path.glob(".dicomport/sessions/session-*"))) == 1
    assert len(events(caplog, "index_limit_reached")) == 1
    stored = 5 + statuses.count(0)
    with receiver(tmp_path):
        pass
    assert len(rows(tmp_path)) == stored
    assert findings(tmp_path) == []


def test_a_start_waits_for_a_program_that_has_locked_the_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dicomport.archive.database.sqlite.BUSY_SECONDS", 0.01)
    with receiver(tmp_path) as received:
        assert received.send(instance()) == [0]
    attempts = threading.Semaphore(0)
    opening = Index._open

    def attempt(index: Index) -> Any:
        attempts.release()
        return opening(index)

    monkeypatch.setattr(Index, "_open", attempt)
    with ThreadPoolExecutor(1) as pool:
        with held(tmp_path, "EXCLUSIVE"):
            opened = pool.submit(Index, Paths(tmp_path.resolve()).index)
            for _ in range(3):
                assert attempts.acquire(timeout=TIMEOUT)
            assert not opened.done()
        with contextlib.closing(opened.result(TIMEOUT)) as index:
            assert index.count() == 1


def test_a_lasting_failure_is_logged_rarely(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    failure = indexer._Failure()
    for _ in range(300):
        failure.happened(IndexDatabaseError("full"))
        now += 1
    assert [event["attempts"] for event in events(caplog, "index_failed")] == [1]
    failure.happened(DamagedIndexError("damaged"))
    now += 300
    failure.happened(DamagedIndexError("damaged"))
    logged = events(caplog, "index_failed")
    assert [(event["reason"], event["attempts"]) for event in logged] == [
        ("full", 1),
        ("damaged", 301),
        ("damaged", 302),
    ]
    assert [record.levelno for record in caplog.records] == [logging.WARNING, logging.ERROR, logging.ERROR]
    failure.ended()
    assert [event["attempts"] for event in events(caplog, "index_recovered")] == [302]


def test_a_short_wait_for_another_process_is_not_logged(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    failure = indexer._Failure()
    for _ in range(2):
        failure.happened(BusyIndexError("busy"))
        now += 4.9
        assert not failure.lasts
        failure.ended()
    assert caplog.records == []
    failure.happened(BusyIndexError("busy"))
    now += 5
    failure.happened(BusyIndexError("busy"))
    assert failure.lasts
