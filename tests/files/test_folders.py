"""Held folders: no link leads out of the root, and a path that changes is noticed (row F4)."""

import errno
import os
import shutil
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from tests.files.faults import Disk, Fault

from dicomport.files import Durability, FileSystem, Folders, TemporaryFile, prepare
from dicomport.files.folders import HeldFolder

PLACE: Final = "study/series"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


@pytest.fixture
def folders(root: Path) -> Iterator[Folders]:
    opened = Folders(str(root), syncs=True, max_held=3)
    yield opened
    opened.close()


def named(root: Path, folder: HeldFolder, name: str, file_system: FileSystem | None = None) -> None:
    file = TemporaryFile(root, b"header", file_system or FileSystem())
    try:
        file.write(b" data")
        file.link(name, folder.descriptor)
    finally:
        file.discard()


def visible(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())


def open_folders() -> int:
    return sum(Path(f"/proc/self/fd/{entry}").is_dir() for entry in os.listdir("/proc/self/fd"))  # noqa: PTH208


@pytest.mark.parametrize("hard_links", [True, False])
def test_a_file_gets_its_name_in_the_folder(root: Path, folders: Folders, hard_links: bool) -> None:
    named(root, folders.hold(PLACE), "1", FileSystem(hard_links=hard_links))
    with pytest.raises(FileExistsError):
        named(root, folders.hold(PLACE), "1", FileSystem(hard_links=hard_links))
    assert visible(root) == ["study/series/1"]
    assert (root / PLACE / "1").read_bytes() == b"header data"


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_new_folders_have_fixed_permissions(root: Path, folders: Folders, umask: int) -> None:
    before = os.umask(umask)
    try:
        folders.hold(PLACE)
    finally:
        os.umask(before)
    assert {stat.S_IMODE(path.stat().st_mode) for path in root.rglob("*")} == {0o750}


def test_an_empty_path_is_the_root(root: Path, folders: Folders) -> None:
    named(root, folders.hold(""), "1")
    folders.trim()
    named(root, folders.hold(""), "2")
    assert visible(root) == ["1", "2"]


def test_a_folder_of_another_process_is_synced_before_its_first_use(
    root: Path, folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process that created it may not have synced its name."""
    (root / PLACE).mkdir(parents=True)
    disk = Disk(root, monkeypatch)
    for _ in range(2):
        folders.hold(PLACE)
    assert [step for step in disk.calls if step[0] in {"mkdir", "fsync"}] == [("fsync", "study"), ("fsync", ".")]


def test_nothing_is_synced_without_fsync(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk(root, monkeypatch)
    folders = Folders(str(root), syncs=False)
    folders.hold(PLACE).sync()
    folders.close()
    assert [step for step in disk.calls if step[0] == "fsync"] == [("fsync", PLACE)]


@pytest.mark.parametrize(
    "fault",
    [
        Fault("mkdir", errno.ENOSPC, "series"),
        Fault("open", errno.EMFILE, "series", 1),
        Fault("fsync", errno.EIO, "study"),
        Fault("fsync", errno.EIO, "."),
    ],
)
def test_after_an_error_no_folder_is_left_and_the_next_use_syncs_again(
    root: Path, folders: Folders, monkeypatch: pytest.MonkeyPatch, fault: Fault
) -> None:
    disk = Disk(root, monkeypatch)
    disk.fail(fault)
    before = open_folders()
    with pytest.raises(OSError, match=r"\[Errno"):
        folders.hold(PLACE)
    assert disk.visible() == []
    assert open_folders() == before
    disk.recover()
    disk.calls.clear()
    folders.hold(PLACE)
    assert [step for step in disk.calls if step[0] == "fsync"] == [("fsync", "study"), ("fsync", ".")]


def test_few_folders_stay_open(root: Path, folders: Folders) -> None:
    before = open_folders()
    for _ in range(2):
        for number in range(10):
            named(root, folders.hold(f"study/{number}"), "x" + str(len(visible(root))))
        folders.trim()
        assert open_folders() == before + 3
    folders.close()
    assert open_folders() == before
    assert len(visible(root)) == 20


def test_the_folders_that_were_used_last_stay_open(folders: Folders) -> None:
    first = folders.hold("1")
    for place in ("2", "3", "1", "4"):
        assert folders.hold(place) is folders.hold(place)
    folders.trim()
    assert folders.hold("1") is first


# Changes of the path while the folder is held.


@pytest.mark.parametrize("part", ["study", PLACE])
def test_a_removed_folder_is_created_again(root: Path, folders: Folders, part: str) -> None:
    named(root, folders.hold(PLACE), "1")
    folders.trim()
    shutil.rmtree(root / part)
    named(root, folders.hold(PLACE), "2")
    assert visible(root) == ["study/series/2"]


@pytest.mark.parametrize("replaced", [False, True])
@pytest.mark.parametrize("part", ["study", PLACE])
def test_nothing_follows_a_folder_that_was_renamed(root: Path, folders: Folders, part: str, replaced: bool) -> None:
    named(root, folders.hold(PLACE), "1")
    folders.trim()
    aside = root.with_name("aside")
    (root / part).rename(aside)
    if replaced:
        (root / PLACE).mkdir(parents=True)
    before = visible(aside)
    named(root, folders.hold(PLACE), "2")
    assert visible(root) == ["study/series/2"]
    assert visible(aside) == before


@pytest.mark.parametrize("held", [False, True])
@pytest.mark.parametrize("target", ["the folder itself", "another folder", "inside", "nothing"])
@pytest.mark.parametrize("part", ["study", PLACE])
def test_a_link_planted_in_the_place_of_a_folder_is_not_followed(
    root: Path, folders: Folders, part: str, target: str, held: bool
) -> None:
    """Even if it leads to the folder that is held."""
    if held:
        folders.hold(PLACE)
        folders.trim()
    else:
        (root / PLACE).mkdir(parents=True)
    aside = (root if target == "inside" else root.parent) / "aside"
    (root / part).rename(aside)
    if target == "another folder":
        aside = root.with_name("elsewhere")
        (aside / "series").mkdir(parents=True)
    (root / part).symlink_to(root / "none" if target == "nothing" else aside)
    for _ in range(2):
        with pytest.raises(OSError, match="symbolic link") as caught:
            folders.hold(PLACE)
        assert caught.value.errno == errno.ELOOP
    assert [path for path in root.parent.rglob("*") if path.is_file()] == []
    (root / part).unlink()
    named(root, folders.hold(PLACE), "1")
    assert (root / PLACE / "1").is_file()


@pytest.mark.parametrize("part", ["study", PLACE])
def test_a_file_in_the_place_of_a_folder_is_an_error(root: Path, folders: Folders, part: str) -> None:
    folders.hold(PLACE)
    folders.trim()
    shutil.rmtree(root / part)
    (root / part).write_bytes(b"precious")
    with pytest.raises(NotADirectoryError):
        folders.hold(PLACE)
    assert (root / part).read_bytes() == b"precious"


def test_the_root_is_never_created(root: Path, folders: Folders) -> None:
    folders.hold(PLACE)
    folders.trim()
    root.rename(root.with_name("aside"))
    with pytest.raises(FileNotFoundError):
        folders.hold(PLACE)
    assert not root.exists()


def test_a_root_that_was_replaced_by_a_link_is_an_error(root: Path, folders: Folders) -> None:
    folders.hold(PLACE)
    folders.trim()
    root.rename(root.with_name("aside"))
    root.symlink_to(root.with_name("aside"))
    with pytest.raises(OSError, match="symbolic link"):
        folders.hold("another")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts")
def test_a_file_system_mounted_over_a_folder_is_noticed(root: Path, folders: Folders) -> None:
    named(root, folders.hold(PLACE), "1")
    folders.trim()
    if subprocess.run(["mount", "-t", "tmpfs", "none", root / PLACE], check=False, capture_output=True).returncode:
        pytest.skip("mounting is not permitted")
    try:
        mounted = folders.hold(PLACE)
        assert os.fstat(mounted.descriptor).st_dev == os.stat(root / PLACE).st_dev  # noqa: PTH116
        folders.close()
    finally:
        subprocess.run(["umount", root / PLACE], check=True)
    assert visible(root) == ["study/series/1"]
    named(root, folders.hold(PLACE), "2")
    assert visible(root) == ["study/series/1", "study/series/2"]


def test_a_folder_of_a_full_disk_is_an_error(root: Path, folders: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare(root, Durability.FSYNC)
    disk = Disk(root, monkeypatch)
    folder = folders.hold(PLACE)
    disk.fail(Fault("link", errno.ENOSPC, "/1"))
    with pytest.raises(OSError, match="No space"):
        named(root, folder, "1")
    assert visible(root) == []
    disk.recover()
    named(root, folder, "1")
    assert visible(root) == ["study/series/1"]
