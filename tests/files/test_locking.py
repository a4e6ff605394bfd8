"""Locked folders: each belongs to one process, and only the folders of processes that ended are abandoned."""

import subprocess
import sys
import threading
from pathlib import Path
from typing import Final

from dicomport.files.locking import ProcessFolder, abandoned_folders, locked

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
