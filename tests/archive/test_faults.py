"""A failing disk: the sender receives a failure, no file is visible or left, and the next store works (F6, F10)."""

import errno
import os
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from tests.archive.sending import LONG, Receiver, bytes_of, files, findings, instance, left_over, receiver, rows
from tests.files.faults import Disk, Fault
from tests.scp.messages import request

from dicomport import Durability
from dicomport.archive import (
    Archive,
    ArchiveOptions,
    Duplicates,
    Index,
    IndexDatabaseError,
    IndexReader,
    Paths,
    Unindexed,
    count_unindexed,
    quarantined,
    storage,
)
from dicomport.archive.commit import indexer
from dicomport.archive.records import Record
from dicomport.files import Disk as QuickDisk, system
from dicomport.files.locking import locked
from dicomport.standard import VERIFICATION

NO_SPACE: Final = (0xA700, "no space left to store the instance")
NOT_WRITTEN: Final = (0x0110, "the instance could not be written")

NAME: Final = "1.2.3/1.2.3.1/1.2.3.4.dcm"

ERRNOS: Final = {
    "ENOSPC": (errno.ENOSPC, NO_SPACE),
    "EDQUOT": (errno.EDQUOT, NO_SPACE),
    "EIO": (errno.EIO, NOT_WRITTEN),
    "EMFILE": (errno.EMFILE, NOT_WRITTEN),
    "EROFS": (errno.EROFS, NOT_WRITTEN),
    "ENOENT": (errno.ENOENT, NOT_WRITTEN),
}

JOURNAL: Final = "journal-00000000.jsonl"
ANY_JOURNAL: Final = ".jsonl"

STEPS: Final = {
    "the temporary file": ("open", ".part", 0),
    "the header and the first block": ("write", ".part", 0),
    "the second block": ("write", ".part", 1),
    "the last block": ("write", ".part", 3),
    "fsync of the file": ("fsync", ".part", 0),
    "the folder": ("mkdir", "1.2.3.1", 0),
    "opening the new folder's parent": ("open", "1.2.3", 0),
    "opening the new folder": ("open", "1.2.3.1", 0),
    "fsync of the new folder's parent": ("fsync", "1.2.3", 0),
    "the journal": ("write", ANY_JOURNAL, 0),
    "fdatasync of the journal": ("fdatasync", ANY_JOURNAL, 0),
    "the name": ("link", ".dcm", 0),
}

AFTER_THE_NAME: Final = {
    "fsync of the folder": ("fsync", "1.2.3.1", 0),
}


class ArchiveDisk(Disk):
    """A `Disk` that also watches the call for the journal."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._watch("fdatasync", 0)


@pytest.fixture
def received(tmp_path: Path) -> Iterator[Receiver]:
    with receiver(tmp_path / "archive") as opened:
        yield opened


def in_session(root: Path) -> list[str]:
    """List what is in sessions' folders beside their journals and locks."""
    return [
        path.name
        for path in root.glob(".dicomport/sessions/session-*/*")
        if path.name != "lock" and not path.name.startswith("journal-")
    ]


@pytest.mark.parametrize(("number", "answered"), ERRNOS.values(), ids=ERRNOS)
@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)
def test_f6_f10_a_fault_is_answered_leaves_nothing_and_ends(
    received: Receiver,
    monkeypatch: pytest.MonkeyPatch,
    step: tuple[str, str, int],
    number: int,
    answered: tuple[int, str],
) -> None:
    call, suffix, spared = step
    root = received.root
    disk = ArchiveDisk(root, monkeypatch)
    what = instance(pixels=LONG)
    with received.association() as association:
        for _ in range(2):
            disk.fail(Fault(call, number, suffix, spared))
            response = association.c_store(what)
            assert (response.status.code, response.error_comment) == answered
            assert files(root) == []
            assert left_over(root) == []
            assert in_session(root) == []
        disk.recover()
        assert association.c_store(what).status.code == 0x0000
        assert association.c_store(instance("1.2.3.5")).status.code == 0x0000
    received.close()
    assert files(root) == [NAME, "1.2.3/1.2.3.1/1.2.3.5.dcm"]
    assert findings(root) == []
    assert left_over(root) == []
    assert [path.name for path in (root / ".dicomport" / "sessions").iterdir()] == ["lock"]


@pytest.mark.parametrize(("number", "answered"), ERRNOS.values(), ids=ERRNOS)
@pytest.mark.parametrize("step", AFTER_THE_NAME.values(), ids=AFTER_THE_NAME)
def test_a_failed_folder_sync_is_answered_and_keeps_the_complete_file(
    received: Receiver,
    monkeypatch: pytest.MonkeyPatch,
    step: tuple[str, str, int],
    number: int,
    answered: tuple[int, str],
) -> None:
    """The file has its name already: it is complete and in the index, and the sender can send it again."""
    call, suffix, spared = step
    root = received.root
    assert received.send(instance("1.2.3.9")) == [0x0000]
    disk = ArchiveDisk(root, monkeypatch)
    with received.association() as association:
        disk.fail(Fault(call, number, suffix, spared))
        response = association.c_store(instance())
        assert (response.status.code, response.error_comment) == answered
        assert (root / NAME).read_bytes().endswith(bytes_of(instance()))
        # Sent again, it is there; but it is not acknowledged before the folder is safe.
        response = association.c_store(instance())
        assert (response.status.code, response.error_comment) == answered
        disk.recover()
        assert association.c_store(instance()).status.code == 0x0000
    received.close()
    assert files(root) == [NAME, "1.2.3/1.2.3.1/1.2.3.9.dcm"]
    assert findings(root) == []
    assert left_over(root) == []


def test_a_parent_whose_fsync_failed_is_synced_by_the_next(received: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = ArchiveDisk(received.root, monkeypatch)
    disk.fail(Fault("fsync", errno.EIO, "1.2.3"))
    assert received.send(instance()) == [0x0110]
    disk.recover()
    disk.calls.clear()
    assert received.send(instance()) == [0x0000]
    assert [name for call, name in disk.calls if call == "fsync" and not name.startswith(".dicomport")] == [
        "1.2.3",
        ".",
        "1.2.3/1.2.3.1",
    ]


def test_f6_a_disk_that_became_read_only_does_not_stop_the_committer(
    received: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even the temporary file can be removed; the next start sweeps it."""
    disk = ArchiveDisk(received.root, monkeypatch)
    unlink = os.unlink
    read_only = threading.Event()
    read_only.set()

    def fail(path: Any, **options: Any) -> None:
        if str(path).endswith(".part") and read_only.is_set():
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
        unlink(path, **options)

    for module in (os, system):  # the committer removes its file, the next start the whole folder
        monkeypatch.setattr(module, "unlink", fail)
    disk.fail(Fault("link", errno.EROFS, ".dcm"))
    with received.association() as association:
        response = association.c_store(instance())
        assert (response.status.code, response.error_comment) == NOT_WRITTEN
        disk.recover()
        assert association.c_store(instance("1.2.3.5")).status.code == 0x0000
        read_only.clear()
        assert association.c_store(instance()).status.code == 0x0000
    assert files(received.root) == [NAME, "1.2.3/1.2.3.1/1.2.3.5.dcm"]
    received.close()
    assert left_over(received.root) == []


def test_one_that_fails_does_not_fail_the_others_of_its_batch(
    received: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = ArchiveDisk(received.root, monkeypatch)
    disk.fail(Fault("link", errno.EIO, "/1.2.3.4.dcm"))
    entered, go = threading.Event(), threading.Event()

    def hold(call: str, name: str) -> None:
        # The committer is held with the first, so that the others become one batch.
        if (call, name) == ("link", "1.2.3/1.2.3.1/1.2.9.dcm"):
            entered.set()
            assert go.wait(60)

    disk.before = hold
    statuses: dict[str, int] = {}

    def send(uid: str) -> None:
        [statuses[uid]] = received.send(instance(uid))

    threads = [threading.Thread(target=send, args=(uid,)) for uid in ("1.2.9", "1.2.3.4", "1.2.3.5", "1.2.3.6")]
    threads[0].start()
    assert entered.wait(60)
    for thread in threads[1:]:
        thread.start()
    go.set()
    for thread in threads:
        thread.join()
    assert statuses == {"1.2.9": 0, "1.2.3.4": 0x0110, "1.2.3.5": 0, "1.2.3.6": 0}
    received.close()
    assert findings(received.root) == []


@pytest.mark.parametrize(
    ("fault", "answered"),
    [
        (Fault("write", errno.ENOSPC, ".part"), NO_SPACE),
        (Fault("fsync", errno.EIO, ".part"), NOT_WRITTEN),
        (Fault("link", errno.EROFS, ".dcm"), NOT_WRITTEN),
        (Fault("link", errno.ENOSPC, ".dcm"), NO_SPACE),
    ],
)
def test_a_quarantine_that_fails_is_answered_and_leaves_nothing(
    received: Receiver, monkeypatch: pytest.MonkeyPatch, fault: Fault, answered: tuple[int, str]
) -> None:
    disk = ArchiveDisk(received.root, monkeypatch)
    disk.fail(fault)
    refused = instance(said="1.2.3.99")
    with received.association() as association:
        response = association.c_store(refused)
        assert (response.status.code, response.error_comment) == answered
        assert list(received.archive.paths.quarantine.iterdir()) == []
        assert left_over(received.root) == []
        disk.recover()
        assert association.c_store(refused).status.code == 0xA900
    assert len(list(quarantined(received.archive.paths.quarantine))) == 1
    assert left_over(received.root) == []


class Trouble:
    """An index that has trouble so many times."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, message: str, times: int) -> None:
        self.left = times
        self.failed = threading.Event()
        add = Index.add

        def failing(index: Index, records: list[Record]) -> None:
            if records and self.left:
                self.left -= 1
                self.failed.set()
                raise IndexDatabaseError(message)
            add(index, records)

        monkeypatch.setattr(Index, "add", failing)


@pytest.mark.parametrize("message", ["database is locked", "database or disk is full", "disk I/O error"])
def test_a_failed_index_is_updated_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, message: str) -> None:
    monkeypatch.setattr(indexer, "_RETRY_SECONDS", 0.001)
    with receiver(tmp_path) as received:
        trouble = Trouble(monkeypatch, message, 3)
        assert received.send(instance(), instance("1.2.3.5")) == [0x0000, 0x0000]
        assert trouble.failed.wait(60)
        # It is not closed before the index works again: then what it does not take is left to the journal.
        while not rows(tmp_path):
            threading.Event().wait(0.001)
    assert trouble.left == 0
    assert [row["sop_instance_uid"] for row in rows(tmp_path)] == ["1.2.3.4", "1.2.3.5"]
    assert findings(tmp_path) == []
    assert list(tmp_path.glob(".dicomport/sessions/session-*")) == []


def test_unindexed_instances_are_recovered_at_the_next_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched, receiver(tmp_path) as received:
        Trouble(patched, "database or disk is full", 1_000_000)
        assert received.send(instance(), instance("1.2.3.5")) == [0x0000, 0x0000]
        received.close()
        assert [path.name for path in tmp_path.glob(".dicomport/sessions/session-*/journal-*")] == [JOURNAL]
        assert rows(tmp_path) == []
    archive = Archive(tmp_path)
    assert archive.recovered == 2
    archive.close()
    assert [row["sop_instance_uid"] for row in rows(tmp_path)] == ["1.2.3.4", "1.2.3.5"]
    assert findings(tmp_path) == []
    assert list(tmp_path.glob(".dicomport/sessions/session-*")) == []


def test_unindexed_instances_belong_to_the_process_that_recovers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process that recovers the instances adds them to the index."""
    with monkeypatch.context() as patched, receiver(tmp_path) as received:
        Trouble(patched, "database or disk is full", 1_000_000)
        assert received.send(instance(), instance("1.2.3.5")) == [0x0000, 0x0000]
        received.close()
    paths = Paths(tmp_path)
    index = IndexReader(paths.index)
    assert count_unindexed(paths, index) == Unindexed(of_running=0, of_stopped=2)
    with locked(paths.sessions):
        assert count_unindexed(paths, index) == Unindexed(of_running=2, of_stopped=0)


def test_f10_too_little_free_space_refuses_before_the_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "_FREE_SPACE_SECONDS", 0.0)
    with (
        receiver(tmp_path, ArchiveOptions(min_free_bytes=300_000_000)) as received,
        received.association() as association,
    ):
        real = os.statvfs(tmp_path)
        free = 400_000_000

        def statvfs(_path: Path) -> os.statvfs_result:
            return os.statvfs_result((*real[:4], free // real.f_frsize, *real[5:]))

        monkeypatch.setattr(system, "statvfs", statvfs)
        assert association.c_store(instance()).status.code == 0x0000
        free = 0
        disk = ArchiveDisk(received.root, monkeypatch)
        response = association.c_store(instance("1.2.3.5", LONG))
        assert (response.status.code, response.error_comment) == (
            0xA700,
            "free space is below --min-free (0 MB free, 300 MB required)",
        )
        assert [call for call in disk.calls if ".part" in call[1]] == []
        free = 400_000_000
        assert association.c_store(instance("1.2.3.5")).status.code == 0x0000


def test_a_start_with_too_little_free_space_warns_with_figures(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    free = os.statvfs(tmp_path).f_bavail * os.statvfs(tmp_path).f_frsize
    with receiver(tmp_path, ArchiveOptions(min_free_bytes=free * 2)) as received, received.association() as association:
        response = association.c_store(instance())
        assert response.status.code == 0xA700
        assert re.fullmatch(
            r"free space is below --min-free \(\d+ [GM]B free, \d+ [GM]B required\)", response.error_comment
        )
        assert len(response.error_comment) <= 64
    [warning] = [record for record in caplog.records if record.message.startswith("free_space_low")]
    fields = warning.fields  # type: ignore[attr-defined]
    assert fields["min_free_bytes"] == free * 2
    assert 0 < fields["free_bytes"] < free * 2


REMOVALS: Final = {
    "the session": lambda root: shutil.rmtree(next(root.glob(".dicomport/sessions/session-*"))),
    "all sessions": lambda root: shutil.rmtree(root / ".dicomport" / "sessions"),
    "its files": lambda root: [path.unlink() for path in root.glob(".dicomport/sessions/session-*/*")],
}


@pytest.mark.parametrize("durability", Durability)
@pytest.mark.parametrize("remove", REMOVALS.values(), ids=REMOVALS)
def test_a_session_removed_while_running_is_created_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, remove: Callable[[Path], object], durability: Durability
) -> None:
    with receiver(tmp_path, ArchiveOptions(durability=durability)) as received, received.association() as association:
        assert association.c_store(instance()).status.code == 0
        remove(tmp_path)
        for uid in ("1.2.3.5", "1.2.3.6"):
            assert association.c_store(instance(uid)).status.code == 0
        [journal] = tmp_path.glob(".dicomport/sessions/session-*/journal-*")
        assert "1.2.3.5" in journal.read_text()
        assert (journal.parent / "lock").exists()
        other = Archive(tmp_path)
        other.close()
        assert journal.exists(), "the folder is locked"
    assert [record.message for record in caplog.records if "session_recreated" in record.message] != []
    assert findings(tmp_path) == []
    assert [path.name for path in (tmp_path / ".dicomport" / "sessions").iterdir()] == ["lock"]


def test_a_folder_that_is_gone_is_answered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "_FREE_SPACE_SECONDS", 0.0)
    root, aside = tmp_path / "archive", tmp_path / "aside"
    with receiver(root) as received, received.association() as association:
        assert association.c_store(instance()).status.code == 0x0000
        root.rename(aside)
        response = association.c_store(instance("1.2.3.5"))
        assert (response.status.code, response.error_comment) == NOT_WRITTEN
        assert not root.exists()
        aside.rename(root)
        assert association.c_store(instance("1.2.3.5")).status.code == 0x0000
    assert findings(root) == []


def test_left_over_files_are_swept_at_start_up(tmp_path: Path) -> None:
    Archive(tmp_path).close()
    sessions = tmp_path / ".dicomport" / "sessions"
    for name in ("session-dead", "session-without-lock"):
        (sessions / name).mkdir()
        (sessions / name / ".x.part").write_bytes(b"half")
        (sessions / name / JOURNAL).write_bytes(b'{"torn')
    (sessions / "session-dead" / "lock").touch()
    living = Archive(tmp_path)
    kept = living._session.folder
    (kept / ".y.part").write_bytes(b"under way")
    other = Archive(tmp_path)
    assert sorted(path.name for path in sessions.glob("session-*")) == sorted((kept.name, other._session.folder.name))
    assert (kept / ".y.part").exists()
    other.close()
    living.close()
    assert [path.name for path in (sessions).iterdir()] == ["lock"]


@pytest.mark.parametrize("size", [1000, len(LONG)])
def test_of_an_instance_that_breaks_off_nothing_is_left(received: Receiver, size: int) -> None:
    from tests.scp.messages import context, in_fragments, store_command

    from dicomport.testing import ScriptedSCU

    with ScriptedSCU("127.0.0.1", received.port) as peer:
        peer.associate(request=request(context(3, "1.2.840.10008.5.1.4.1.1.2")))
        peer.send(store_command(), in_fragments(3, bytes_of(instance(pixels=LONG[:size])), 1000)[:-500])
        peer.abort()
    assert received.send(instance("1.2.3.5")) == [0x0000]
    assert files(received.root) == ["1.2.3/1.2.3.1/1.2.3.5.dcm"]


def test_flush_makes_no_fsync_and_fsync_comes_before_success(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with receiver(tmp_path, ArchiveOptions(durability=Durability.FLUSH)) as received:
        disk = ArchiveDisk(received.root, monkeypatch)
        assert received.send(instance(pixels=LONG), instance("1.2.3.5"), instance(said="1.2.3.99")) == [0, 0, 0xA900]
        assert [call for call in disk.calls if "sync" in call[0]] == []
    assert findings(tmp_path) == []


def test_the_order_of_the_steps_is_the_promise(received: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = ArchiveDisk(received.root, monkeypatch)
    assert received.send(instance()) == [0x0000]
    assert [
        (call, "temporary" if name.endswith(".part") else Path(name).name if name.endswith(".jsonl") else name)
        for call, name in disk.calls
        if call != "open"
    ] == [
        ("write", "temporary"),
        ("fsync", "temporary"),
        ("mkdir", "1.2.3"),
        ("mkdir", "1.2.3/1.2.3.1"),
        ("fsync", "1.2.3"),
        ("fsync", "."),
        ("write", JOURNAL),
        ("fdatasync", JOURNAL),
        ("link", NAME),
        ("fsync", "1.2.3/1.2.3.1"),
    ]


def test_nothing_is_answered_before_the_folder_is_safe(received: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = ArchiveDisk(received.root, monkeypatch)
    entered, go = threading.Event(), threading.Event()

    def hold(call: str, name: str) -> None:
        if (call, name) == ("fsync", "1.2.3/1.2.3.1"):
            entered.set()
            assert go.wait(60)

    disk.before = hold
    answers: list[int] = []
    thread = threading.Thread(target=lambda: answers.extend(received.send(instance())))
    thread.start()
    assert entered.wait(60)
    assert (received.root / NAME).exists()
    assert answers == []
    go.set()
    thread.join()
    assert answers == [0x0000]


@pytest.mark.parametrize(("number", "answered"), ERRNOS.values(), ids=ERRNOS)
def test_a_replacement_that_fails_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, answered: tuple[int, str]
) -> None:
    first, second = instance(), instance(pixels=b"other")
    with receiver(tmp_path, ArchiveOptions(duplicates=Duplicates.REPLACE)) as received:
        assert received.send(first) == [0x0000]
        disk = ArchiveDisk(tmp_path, monkeypatch)
        disk.fail(Fault("replace", number, ".dcm"))
        with received.association() as association:
            response = association.c_store(second)
            assert (response.status.code, response.error_comment) == answered
            assert (tmp_path / NAME).read_bytes().endswith(bytes_of(first))
            assert left_over(tmp_path) == []
            disk.recover()
            assert association.c_store(second).status.code == 0x0000
    assert (tmp_path / NAME).read_bytes().endswith(bytes_of(second))
    assert findings(tmp_path) == []


def test_a_name_is_claimed_without_hard_links_too(received: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = ArchiveDisk(received.root, monkeypatch)
    disk.fail(Fault("link", errno.EPERM))
    assert received.send(instance(), instance(pixels=b"other"), instance()) == [0, 0, 0]
    received.close()
    assert files(received.root) == [NAME, NAME.replace(".dcm", "~2.dcm")]
    assert findings(received.root) == []
    assert left_over(received.root) == []


def test_a_slow_disk_does_not_delay_other_peers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without syncing too: requests without an instance are answered meanwhile."""
    monkeypatch.setattr(QuickDisk, "is_fast", False)
    with receiver(tmp_path, ArchiveOptions(durability=Durability.FLUSH)) as received:
        disk = ArchiveDisk(received.root, monkeypatch)
        entered, go = threading.Event(), threading.Event()

        def hold(call: str, _name: str) -> None:
            if call == "link":
                entered.set()
                assert go.wait(60)

        disk.before = hold
        answers: list[int] = []
        thread = threading.Thread(target=lambda: answers.extend(received.send(instance(), instance(pixels=LONG))))
        thread.start()
        assert entered.wait(60)
        with received.association(VERIFICATION) as association:
            assert association.c_echo().code == 0
        assert answers == []
        go.set()
        thread.join()
        assert answers == [0, 0]
    assert findings(tmp_path) == []
