"""Acknowledged instances that the index lacks: each command that reads the index reports them, with the remedy."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest
from tests.archive.sending import rows
from tests.cli.commands import FILES, dicomport, receiver, wait_until
from tests.small_disk import fill, small_disk
from tests.users import as_member, give_to_group, shared_folder

from dicomport.archive.database.generations import Generations
from dicomport.archive.paths import Paths

CT, MR = FILES / "CT_small.dcm", FILES / "MR_small.dcm"
MR_INSTANCE: Final = "1.3.6.1.4.1.5962.1.1.4.1.1.20040826185059.5457"
READING: Final = (("ls",), ("ls", "--level", "instances"), ("show", MR_INSTANCE), ("export", "1.2.3", "never"))


@contextlib.contextmanager
def not_indexing(root: Path) -> Iterator[None]:
    """Lock the index for writing: receivers have their instances in the journal alone."""
    with Generations(Paths(root).index).locked(wait=True):
        yield


def fill_archive(root: Path) -> None:
    """Store one instance that is in the index, and one that a stopped receiver leaves in its journal."""
    with receiver(root, "--min-free", "0") as running:
        assert dicomport("storescu", "localhost", running.port, CT).returncode == 0
        assert running.stop()[0] == 0
    with receiver(root, "--min-free", "0") as running, not_indexing(root):
        assert dicomport("storescu", "localhost", running.port, MR).returncode == 0
        assert running.stop()[0] == 0


def listed(root: Path) -> int:
    done = dicomport("archive", "ls", "--level", "instances", "--json", "--archive", root)
    assert (done.returncode, done.stderr) == (0, "")
    return len(done.stdout.splitlines())


def test_each_command_names_the_instances_of_a_stopped_receiver(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 4 << 20) as disk:
        root = disk / "archive"
        fill_archive(root)
        ballast = fill(disk)
        for command in (*READING, ("verify",)):
            done = dicomport("archive", *command, "--archive", root, cwd=tmp_path)
            notice = done.stderr.splitlines()[0]
            assert notice.startswith("1 instance of a stopped receiver not in the index (")
            assert "free some space" in notice
            assert notice.endswith(
                f'start a receiver of this archive, or run dicomport archive reindex "{root}" as its user'
            )
            if command == ("verify",):
                assert done.returncode == 1
                assert done.stderr.splitlines()[1:] == ["no other discrepancies"]
        ballast.unlink()
        assert listed(root) == 2


def start(root: Path) -> None:
    with receiver(root, "--min-free", "0") as running:
        assert "1 instance of a receiver that has ended added to the index" in running.greeting
        assert running.stop()[0] == 0


def reindex(root: Path) -> None:
    assert dicomport("archive", "reindex", root).stderr == "2 instances in the index\n"


@pytest.mark.parametrize("repair", [start, reindex])
def test_a_start_and_a_reindex_add_them_once_there_is_space(tmp_path: Path, repair: Callable[[Path], None]) -> None:
    with small_disk(tmp_path / "disk", 4 << 20) as disk:
        root = disk / "archive"
        fill_archive(root)
        ballast = fill(disk)
        done = dicomport("storescp", "0", "--archive", root, "--min-free", "1M")
        assert done.returncode == 1
        [line] = done.stderr.splitlines()
        assert f'cannot use "{root}" as the archive folder' in line
        assert "free some space" in line
        assert "1.0 MB required by --min-free" in line
        ballast.unlink()
        repair(root)
        assert listed(root) == 2
        assert dicomport("archive", "verify", "--archive", root).stderr == "no discrepancies\n"


def test_a_start_counts_the_instances_that_the_index_lacked(tmp_path: Path) -> None:
    """The journal of the stopped receiver also has the record of an instance that is in the index."""
    root = tmp_path / "archive"
    with receiver(root) as running:
        assert dicomport("storescu", "localhost", running.port, CT).returncode == 0
        wait_until(lambda: len(rows(root)) == 1)
        with not_indexing(root):
            assert dicomport("storescu", "localhost", running.port, MR).returncode == 0
            assert running.stop()[0] == 0
    [journal] = root.glob(".dicomport/sessions/*/journal-*.jsonl")
    assert len(journal.read_text().splitlines()) == 2
    start(root)
    assert listed(root) == 2


def test_a_start_with_little_space_names_the_free_and_the_required_space(tmp_path: Path) -> None:
    """The space suffices for the temporary file of the first check, but not for the index."""
    with small_disk(tmp_path / "disk", 4 << 20) as disk:
        root = disk / "archive"
        fill_archive(root)
        with fill(disk).open("r+b") as ballast:
            ballast.truncate(ballast.seek(0, 2) - 8192)
        done = dicomport("storescp", "0", "--archive", root)
        assert done.returncode == 1
        [line] = done.stderr.splitlines()
        assert f'cannot use "{root}" as the archive folder: the index cannot be used: ' in line
        assert "free some space" in line
        assert " free; " in line
        assert "required by --min-free" in line


def test_a_reader_without_permission_to_write_names_them() -> None:
    with shared_folder() as folder:
        root = folder / "archive"
        fill_archive(root)
        give_to_group(root)
        done = as_member("archive", "ls", "--archive", root)
        assert done.returncode == 0
        assert done.stderr.startswith("1 instance of a stopped receiver not in the index (the index cannot be used: ")
        assert "check the owner and the mode" in done.stderr


def test_the_instances_that_a_running_receiver_adds_later_are_named(tmp_path: Path) -> None:
    root = tmp_path / "archive"
    with receiver(root) as running, not_indexing(root):
        assert dicomport("storescu", "localhost", running.port, CT).returncode == 0
        for command in READING:
            done = dicomport("archive", *command, "--archive", root, cwd=tmp_path)
            assert done.stderr.startswith(
                "1 instance of a running receiver not in the index yet: run this command again"
            )
        # It compares the file with the record in the journal.
        verified = dicomport("archive", "verify", "--archive", root)
        assert (verified.returncode, verified.stderr) == (0, "no discrepancies\n")
