"""Associations that store at the same time share the waits for the disk, and no response comes before its own."""

import errno
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest
from tests.archive.sending import Receiver, files, findings, instance, left_over, receiver
from tests.archive.test_faults import ArchiveDisk
from tests.files.faults import Fault

from dicomport.scu import Instance

ASSOCIATIONS: Final = 16
FIRST: Final = "1.2.9"
UIDS: Final = [f"1.2.3.{number}" for number in range(ASSOCIATIONS)]
SERIES: Final = ("1.2.3.1", "1.2.3.2")


@pytest.fixture
def received(tmp_path: Path) -> Iterator[Receiver]:
    with receiver(tmp_path / "archive") as opened:
        yield opened


class Batch:
    """Instances of 16 associations, in two series, that wait while the committer is held with another instance."""

    def __init__(self, received: Receiver, disk: ArchiveDisk) -> None:
        self.statuses: dict[str, int] = {}
        self._received = received
        self._disk = disk
        self._threads: list[threading.Thread] = []
        self._entered, self._go = threading.Event(), threading.Event()

    def send(self) -> None:
        """Send all, and wait until they are in one batch."""
        self._hold("link", f"{FIRST}.dcm")
        self._start(instance(FIRST, series="1.2.3.3"))
        assert self._entered.wait(60)
        for number, uid in enumerate(UIDS):
            self._start(instance(uid, series=SERIES[number % 2]))
        queue = self._received.archive._committer._queue
        while queue.qsize() < ASSOCIATIONS:
            threading.Event().wait(0.001)
        self._disk.calls.clear()

    def release(self) -> None:
        """Continue the committer."""
        self._go.set()

    def release_until(self, call: str, suffix: str) -> None:
        """Continue the committer, and hold it again before a call on a file."""
        go = self._go
        self._entered, self._go = threading.Event(), threading.Event()
        self._hold(call, suffix)
        go.set()
        assert self._entered.wait(60)

    def join(self) -> None:
        for thread in self._threads:
            thread.join(60)

    def _hold(self, call: str, suffix: str) -> None:
        entered, go = self._entered, self._go

        def before(called: str, name: str) -> None:
            if called == call and name.endswith(suffix) and not entered.is_set():
                entered.set()
                assert go.wait(60)

        self._disk.before = before

    def _start(self, what: Instance) -> None:
        def run() -> None:
            [self.statuses[what.sop_instance_uid]] = self._received.send(what)

        self._threads.append(threading.Thread(target=run))
        self._threads[-1].start()


@contextmanager
def batch(received: Receiver, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Batch, ArchiveDisk]]:
    assert received.send(*(instance(f"1.2.8.{series}", series=series) for series in (*SERIES, "1.2.3.3"))) == [0] * 3
    disk = ArchiveDisk(received.root, monkeypatch)
    waiting = Batch(received, disk)
    waiting.send()
    yield waiting, disk
    waiting.join()
    received.close()
    assert findings(received.root) == []
    assert left_over(received.root) == []


def kind_of(name: str) -> str:
    other = "of the session" if name.startswith(".dicomport") else "folder"
    return {".part": "file", ".jsonl": "journal"}.get(Path(name).suffix, other)


def test_sixteen_associations_share_the_syncs_of_journal_and_folders(
    received: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    with batch(received, monkeypatch) as (waiting, disk):
        waiting.release()
    assert waiting.statuses == dict.fromkeys([FIRST, *UIDS], 0)
    counts = Counter(kind_of(name) for call, name in disk.calls if "sync" in call)
    del counts["of the session"]  # The session's folder is synced when the archive is closed.
    # One more for the folder of the first instance, which was held behind its file and the journal.
    assert counts == {"file": ASSOCIATIONS, "journal": 1, "folder": len(SERIES) + 1}


def test_files_of_a_batch_are_synced_at_once(received: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    barrier = threading.Barrier(4)

    def meet(call: str, name: str) -> None:
        if call == "fsync" and name.endswith(".part"):
            barrier.wait(60)

    with batch(received, monkeypatch) as (waiting, disk):
        disk.before = meet
        waiting.release()
    assert waiting.statuses == dict.fromkeys([FIRST, *UIDS], 0)


@pytest.mark.parametrize(
    ("call", "suffix", "spared"),
    [
        ("fsync", ".part", 0),
        ("write", ".jsonl", ASSOCIATIONS),
        ("fdatasync", ".jsonl", ASSOCIATIONS),
        ("link", ".dcm", ASSOCIATIONS),
        ("fsync", SERIES[0], ASSOCIATIONS),
        ("fsync", SERIES[1], ASSOCIATIONS),
    ],
)
def test_no_instance_is_acknowledged_before_its_own_syncs(
    received: Receiver, monkeypatch: pytest.MonkeyPatch, call: str, suffix: str, spared: int
) -> None:
    with batch(received, monkeypatch) as (waiting, disk):
        waiting.release_until(call, suffix)
        # The files were synced before anything that follows.
        assert sum(step[0] == "fsync" and step[1].endswith(".part") for step in disk.calls) >= spared
        while FIRST not in waiting.statuses:
            threading.Event().wait(0.001)
        assert waiting.statuses == {FIRST: 0}
        waiting.release()
    assert waiting.statuses == dict.fromkeys([FIRST, *UIDS], 0)


def test_an_error_of_one_file_refuses_its_instance_only(received: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    with batch(received, monkeypatch) as (waiting, disk):
        temporary = {name for call, name in disk.calls if name.endswith(".part")}
        assert temporary == set()
        disk.fail(Fault("fsync", errno.EIO, ".part", 0))
        failed: list[str] = []

        def only_once(call: str, name: str) -> None:
            if failed:
                disk.recover()
            if call == "fsync" and name.endswith(".part"):
                failed.append(name)

        disk.before = only_once
        waiting.release()
    assert Counter(waiting.statuses.values()) == {0: ASSOCIATIONS, 0x0110: 1}
    refused = next(uid for uid, status in waiting.statuses.items() if status)
    assert not [name for name in files(received.root) if name.endswith(f"/{refused}.dcm")]
    assert len(files(received.root)) == ASSOCIATIONS + 3


def test_an_error_of_a_folder_refuses_all_instances_in_it_only(
    received: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The complete files stay, and are acknowledged when they are sent again and the folder can be synced."""
    with batch(received, monkeypatch) as (waiting, disk):
        disk.fail(Fault("fsync", errno.EIO, SERIES[1]))
        waiting.release()
    assert waiting.statuses == {FIRST: 0} | {uid: 0x0110 if number % 2 else 0 for number, uid in enumerate(UIDS)}
    assert len(files(received.root)) == 1 + ASSOCIATIONS + 3


def test_an_error_of_the_journal_refuses_the_batch(received: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    with batch(received, monkeypatch) as (waiting, disk):
        disk.fail(Fault("fdatasync", errno.EIO, ".jsonl"))
        waiting.release()
    assert waiting.statuses == {FIRST: 0} | dict.fromkeys(UIDS, 0x0110)
    assert len(files(received.root)) == 1 + 3
