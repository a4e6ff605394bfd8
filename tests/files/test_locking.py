"""Locked folders: each belongs to one process, and only the folders of processes that ended are abandoned."""

import contextlib
import errno
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, cast

import pytest

from dicomport.files import lock_waiting, system
from dicomport.files.lock_waiting import wait_for_lock
from dicomport.files.locking import ProcessFolder, abandoned_folders, is_abandoned, locked

PREFIX: Final = "mine-"

OWNER: Final = """
import sys
from pathlib import Path
from dicomport.files.locking import ProcessFolder

folder = ProcessFolder(Path(sys.argv[1]), sys.argv[2])
(folder.path / "left").touch()
print(folder.path.name, flush=True)
sys.stdin.read()
"""


def abandoned(parent: Path) -> list[str]:
    return [folder.name for folder in abandoned_folders(parent, PREFIX)]


def test_a_folder_is_abandoned_when_its_process_was_killed(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", OWNER, str(tmp_path), PREFIX], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        name = process.stdout.readline().strip()
        assert abandoned(tmp_path) == []
        process.kill()
    assert abandoned(tmp_path) == [name]
    assert abandoned(tmp_path) == []


def test_the_folders_of_this_process_are_not_abandoned(tmp_path: Path) -> None:
    one, other = ProcessFolder(tmp_path, PREFIX), ProcessFolder(tmp_path, PREFIX)
    assert one.path != other.path
    assert abandoned(tmp_path) == []
    other.remove()
    one.release()
    assert abandoned(tmp_path) == [one.path.name]


def test_a_removed_folder_leaves_nothing(tmp_path: Path) -> None:
    folder = ProcessFolder(tmp_path, PREFIX)
    (folder.path / "file").touch()
    folder.remove()
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]


def test_content_that_cannot_be_removed_is_left_to_the_next_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = ProcessFolder(tmp_path, PREFIX)
    (folder.path / "file").touch()

    def busy(path: str | Path, **_options: object) -> None:
        raise OSError(errno.EBUSY, "Device or resource busy", str(path))

    with monkeypatch.context() as patched:
        patched.setattr(system, "unlink", busy)
        folder.remove()
    assert (folder.path / "file").exists()
    assert abandoned(tmp_path) == [folder.path.name]
    assert not folder.path.exists()


def test_a_lock_that_the_file_system_refuses_leaves_nothing_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_descriptor: int, **_options: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    before = len(list(Path("/proc/self/fd").iterdir()))
    monkeypatch.setattr(system, "lock", refuse)
    for wait in (True, False):
        with pytest.raises(OSError, match="No locks available"), locked(tmp_path, wait=wait):
            pass
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_folder_of_which_nothing_is_left_is_abandoned(tmp_path: Path) -> None:
    assert is_abandoned(tmp_path / "removed")


def test_a_recovery_that_is_given_up_leaves_the_folder(tmp_path: Path) -> None:
    folder = ProcessFolder(tmp_path, PREFIX)
    folder.release()
    with contextlib.closing(cast("Generator[Path, None, None]", abandoned_folders(tmp_path, PREFIX))) as folders:
        assert next(folders) == folder.path
    assert abandoned(tmp_path) == [folder.path.name]


def test_other_folders_stay(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    ProcessFolder(tmp_path, PREFIX).release()
    assert len(abandoned(tmp_path)) == 1
    assert (tmp_path / "other").is_dir()


def test_a_folder_stays_if_its_recovery_fails(tmp_path: Path) -> None:
    folder = ProcessFolder(tmp_path, PREFIX)
    folder.release()
    recovery = abandoned_folders(tmp_path, PREFIX)
    assert next(recovery) == folder.path
    del recovery  # as when the caller raises an exception
    assert abandoned(tmp_path) == [folder.path.name]


def test_abandoned_folders_are_in_the_order_of_their_names(tmp_path: Path) -> None:
    for folder in [ProcessFolder(tmp_path, PREFIX) for _ in range(5)]:
        folder.release()
    names = abandoned(tmp_path)
    assert len(names) == 5
    assert names == sorted(names)


def test_one_lock_holds_at_a_time(tmp_path: Path) -> None:
    entered: list[str] = []
    waiting = threading.Event()

    def second() -> None:
        waiting.set()
        with locked(tmp_path):
            entered.append("second")

    with locked(tmp_path):
        thread = threading.Thread(target=second)
        thread.start()
        assert waiting.wait(60)
        entered.append("first")
    thread.join()
    assert entered == ["first", "second"]


HOLDER: Final = """
import sys
from pathlib import Path
from dicomport.files.locking import locked

with locked(Path(sys.argv[1])):
    print(flush=True)
    sys.stdin.read()
"""


@contextlib.contextmanager
def holder(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Run a process that holds the lock of a folder until its stdin ends."""
    command = [sys.executable, "-c", HOLDER, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield process
        finally:
            process.kill()


def wait_for(folder: Path, *, stopped_seconds: float, max_seconds: float) -> None:
    path = folder / "lock"
    descriptor = system.open_descriptor(path, system.CREATE)
    wait_for_lock(descriptor, path, stopped_seconds=stopped_seconds, max_seconds=max_seconds)
    system.close(descriptor)


needs_proc = pytest.mark.skipif(not Path("/proc/locks").exists(), reason="only Linux shows the process")


@needs_proc
def test_the_wait_for_a_stopped_process_ends_with_the_remedy(tmp_path: Path) -> None:
    with holder(tmp_path) as process:
        process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
        expected = f"process {process.pid} holds the lock .* stopped: continue it with kill -CONT {process.pid}, or"
        with pytest.raises(TimeoutError, match=expected):
            wait_for(tmp_path, stopped_seconds=0.01, max_seconds=60)
    # Nothing that waits is left behind, and the lock is free.
    with locked(tmp_path):
        pass


@needs_proc
def test_a_process_that_works_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked = threading.Semaphore(0)
    find = lock_waiting._holder

    def look(descriptor: int) -> int | None:
        looked.release()
        return find(descriptor)

    monkeypatch.setattr(lock_waiting, "_holder", look)
    with holder(tmp_path) as process, ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(wait_for, tmp_path, stopped_seconds=0.001, max_seconds=60)
        for _ in range(3):
            assert looked.acquire(timeout=60)
        assert not waiting.done()
        assert process.stdin is not None
        process.stdin.close()
        waiting.result(60)


@needs_proc
def test_the_wait_for_any_process_is_limited(tmp_path: Path) -> None:
    with holder(tmp_path) as process, pytest.raises(TimeoutError, match=f"process {process.pid} has held the lock"):
        wait_for(tmp_path, stopped_seconds=0.01, max_seconds=0.02)


def test_the_wait_for_an_unknown_process_is_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dicomport.files.lock_waiting._LOCKS", tmp_path / "none")
    with holder(tmp_path), pytest.raises(TimeoutError, match=r'end the process that fuser ".*/lock" lists'):
        wait_for(tmp_path, stopped_seconds=0.01, max_seconds=0.02)


def test_a_lock_that_may_only_be_read_shows_whether_its_process_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = ProcessFolder(tmp_path, PREFIX)
    opened = system.open_descriptor

    def read_only(path: Path, flags: int, mode: int = 0o777, **options: Any) -> int:
        if flags != system.READ:
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path, flags, mode, **options)

    monkeypatch.setattr(system, "open_descriptor", read_only)
    assert not is_abandoned(folder.path)
    folder.release()
    assert is_abandoned(folder.path)
    with pytest.raises(PermissionError), locked(folder.path / "none"):
        pass


@needs_proc
def test_a_process_whose_state_is_unknown_counts_as_one_that_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have ended, and its lock is free soon."""
    monkeypatch.setattr("dicomport.files.lock_waiting._PROCESSES", tmp_path / "none")
    with holder(tmp_path) as process:
        process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
        with pytest.raises(TimeoutError, match=f"process {process.pid} has held the lock"):
            wait_for(tmp_path, stopped_seconds=0.01, max_seconds=0.02)


def descriptors() -> set[Path]:
    return set(Path("/proc/self/fd").iterdir())


def test_a_failure_while_it_waits_is_raised_and_leaves_no_descriptor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server of a network file system may lose its locks."""
    real, held = system.lock, system.open_descriptor(tmp_path / "lock", system.CREATE)
    real(held, wait=False)

    def lock(descriptor: int, *, wait: bool) -> None:
        if wait:
            raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))
        real(descriptor, wait=wait)

    monkeypatch.setattr(system, "lock", lock)
    before = descriptors()
    with pytest.raises(OSError, match=os.strerror(errno.ENOLCK)):
        wait_for(tmp_path, stopped_seconds=60, max_seconds=60)
    assert descriptors() <= before
    system.close(held)
