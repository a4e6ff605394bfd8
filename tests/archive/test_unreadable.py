"""Folders and files of an archive that cannot be read: nothing that was acknowledged is given up for lost."""

from __future__ import annotations

import contextlib
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from tests.archive.sending import CT, instance, receiver, rows
from tests.cli import commands
from tests.cli.commands import FILES, dicomport
from tests.encoding.encode import EXPLICIT
from tests.users import as_owner, give_to_owner, shared_folder, start_as_owner

from dicomport import blocking
from dicomport.archive.database.generations import Generations
from dicomport.archive.paths import Paths

STUDIES: Final = ("1.2.3", "1.2.4")
LAST: Final = "1.2.3.9.3"
UNREADABLE: Final = "the folder cannot be read (Permission denied)"


@pytest.fixture
def root() -> Iterator[Path]:
    """Create an archive of another user, with two instances in each of two studies."""
    with shared_folder() as folder:
        archive = folder / "archive"
        with receiver(archive) as received:
            sent = [instance(f"{study}.9.{n}", study=study, series=f"{study}.1") for study in STUDIES for n in (1, 2)]
            assert received.send(*sent) == [0] * 4
        give_to_owner(archive)
        yield archive
        for path in (archive, *archive.rglob("*")):
            if path.is_dir():
                path.chmod(0o750)


@contextlib.contextmanager
def not_indexing(root: Path) -> Iterator[None]:
    """Lock the index for writing: a receiver has its instances in the journal alone."""
    with Generations(Paths(root).index).locked(wait=True):
        yield


@contextlib.contextmanager
def started_as_owner(root: Path) -> Iterator[str]:
    """Run a receiver as the owner of an archive until it listens; return what it has printed and logged."""
    with start_as_owner("storescp", "0", "--archive", root) as process:
        assert process.stderr is not None
        lines = []
        for line in process.stderr:
            lines.append(line)
            if "storing in" in line:
                break
        assert "storing in" in lines[-1]
        yield "".join(lines)
        process.terminate()
        assert process.wait(60) == 0


def uids(root: Path) -> list[str]:
    return sorted(str(row["sop_instance_uid"]) for row in rows(root))


@pytest.mark.parametrize("mode", [0o000, 0o440, 0o110])
@pytest.mark.parametrize("name", ["1.2.3", "1.2.3/1.2.3.1"])
def test_reindex_prints_a_folder_that_cannot_be_read_and_keeps_the_index(root: Path, name: str, mode: int) -> None:
    """Without the permission to list it, or to open what is in it."""
    before = uids(root)
    assert len(before) == 4
    (root / name).chmod(mode)
    done = as_owner("archive", "reindex", "--archive", root)
    assert done.returncode == 1
    assert f"{name}: {UNREADABLE}" in done.stderr
    assert "the index was not rebuilt, and an earlier one is unchanged" in done.stderr
    assert "Traceback" not in done.stderr
    verified = as_owner("archive", "verify", "--archive", root)
    assert verified.returncode == 1
    assert verified.stderr == f"{name}: {UNREADABLE}\n1 discrepancy\n"
    (root / name).chmod(0o750)
    assert uids(root) == before
    assert not list(root.glob(".dicomport/reindex-*"))
    assert as_owner("archive", "reindex", "--archive", root).stderr == "4 instances in the index\n"
    assert as_owner("archive", "verify", "--archive", root).stderr == "no discrepancies\n"


def test_reindex_makes_no_index_while_a_folder_cannot_be_read(root: Path) -> None:
    for path in root.glob(".dicomport/index*"):
        path.unlink()
    (root / "1.2.3").chmod(0)
    done = as_owner("archive", "reindex", "--archive", root)
    assert done.returncode == 1
    assert f"1.2.3: {UNREADABLE}" in done.stderr
    assert not list(root.glob(".dicomport/index*"))


def test_no_empty_index_is_made_while_a_folder_cannot_be_read(root: Path) -> None:
    for path in root.glob(".dicomport/index*"):
        path.unlink()
    for study in STUDIES:
        (root / study).chmod(0)
    done = as_owner("storescp", "0", "--archive", root)
    assert done.returncode == 1
    assert "the index is missing" in done.stderr
    assert not list(root.glob(".dicomport/index*"))


def test_the_folder_of_recovered_files_is_no_part_of_an_archive(root: Path) -> None:
    """A file system has it in its root; only the administrator may read it."""
    lost = root / "lost+found"
    lost.mkdir(0o000)
    assert as_owner("archive", "verify", "--archive", root).stderr == "no discrepancies\n"
    assert as_owner("archive", "reindex", "--archive", root).stderr == "4 instances in the index\n"
    lost.chmod(0o755)
    shutil.copy(FILES / "CT_small.dcm", lost / "1.dcm")
    assert as_owner("archive", "verify", "--archive", root).stderr == "no discrepancies\n"
    assert as_owner("archive", "reindex", "--archive", root).stderr == "4 instances in the index\n"


def test_no_layout_stores_into_the_folder_of_recovered_files(root: Path) -> None:
    done = dicomport("storescp", "0", "--archive", root, "--layout", "lost+found/{instance}")
    assert done.returncode == 2
    assert "invalid part 'lost+found' of a layout" in done.stderr


def test_a_folder_of_that_name_further_below_is_one_of_the_archive(root: Path) -> None:
    below = root / "1.2.3" / "lost+found"
    below.mkdir()
    below.chmod(0)
    give_to_owner(below)
    done = as_owner("archive", "verify", "--archive", root)
    assert done.stderr == f"1.2.3/lost+found: {UNREADABLE}\n1 discrepancy\n"


def test_verify_reports_a_folder_in_the_place_of_a_file(root: Path) -> None:
    path = "1.2.3/1.2.3.1/1.2.3.9.1.dcm"
    (root / path).unlink()
    (root / path).mkdir()
    done = dicomport("archive", "verify", "--archive", root)
    assert done.returncode == 1
    assert done.stderr == (
        f"{path}: in the index, but the file does not exist (a folder has its name)\n1 discrepancy\n"
    )


def test_reindex_succeeds_with_a_folder_in_the_place_of_the_index(root: Path) -> None:
    index = root / ".dicomport" / "index.sqlite"
    index.unlink()
    index.mkdir()
    assert as_owner("archive", "verify", "--archive", root).returncode == 1
    give_to_owner(index)
    done = as_owner("archive", "reindex", "--archive", root)
    assert (done.returncode, done.stderr) == (0, "4 instances in the index\n")
    assert as_owner("archive", "verify", "--archive", root).stderr == "no discrepancies\n"


@pytest.fixture
def killed(root: Path) -> Path:
    """Leave the record of a third instance of the first study in the journal of a receiver that was killed."""
    with commands.receiver(root) as running, not_indexing(root):
        with blocking.associate("127.0.0.1", int(running.port), contexts=[(CT, EXPLICIT)]) as association:
            assert association.c_store(instance(LAST, study="1.2.3", series="1.2.3.1")).status.code == 0
        assert running.stop(signal.SIGKILL)[0] == -signal.SIGKILL
    give_to_owner(root)
    return root


def content(root: Path) -> dict[str, tuple[int, int]]:
    return {str(path): (path.stat().st_ino, path.stat().st_mtime_ns) for path in root.glob(".dicomport/sessions/*/*")}


@pytest.mark.parametrize("mode", [0o000, 0o440])
@pytest.mark.parametrize("name", ["1.2.3", "1.2.3/1.2.3.1"])
def test_a_journal_stays_while_its_files_cannot_be_examined(killed: Path, name: str, mode: int) -> None:
    before = content(killed)
    (killed / name).chmod(mode)
    for command in (("ls",), ("ls", "--level", "instances"), ("show", "1.2.4.9.1"), ("verify",)):
        done = as_owner("archive", *command, "--archive", killed)
        assert "1 instance of a stopped receiver not in the index (Permission denied; check the owner" in done.stderr
        assert done.returncode == (1 if command == ("verify",) else 0)
        assert content(killed) == before
    assert as_owner("archive", "reindex", "--archive", killed).returncode == 1
    assert content(killed) == before
    (killed / name).chmod(0o750)
    assert as_owner("archive", "verify", "--archive", killed).stderr == "no discrepancies\n"
    assert LAST in uids(killed)
    assert content(killed) == {}


def test_a_receiver_starts_and_logs_the_session_that_it_does_not_recover(killed: Path) -> None:
    before = content(killed)
    (killed / "1.2.3").chmod(0)
    with started_as_owner(killed) as log:
        assert "recovery_failed" in log
        assert 'reason="Permission denied"' in log
        assert "added to the index" not in log
    assert before.items() <= content(killed).items()
    (killed / "1.2.3").chmod(0o750)
    with started_as_owner(killed) as log:
        assert "1 instance of a receiver that has ended added to the index" in log
    assert LAST in uids(killed)


def test_a_record_of_a_file_that_never_got_its_name_is_dropped(killed: Path) -> None:
    (killed / "1.2.3" / "1.2.3.1" / f"{LAST}.dcm").unlink()
    assert as_owner("archive", "verify", "--archive", killed).stderr == "no discrepancies\n"
    assert content(killed) == {}
