"""Folders are 0750 and files 0640 throughout an archive, regardless of the umask."""

from __future__ import annotations

import os
import re
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest
from tests.cli.commands import FILES, dicomport, receiver
from tests.users import give_to_group, give_to_owner, shared_folder, start_as_owner

from dicomport.archive.database.generations import Build, Generations
from dicomport.archive.paths import Paths

WITH_UMASK: Final = 'umask "$0"; exec "$@"'


def modes(root: Path) -> set[tuple[bool, str, str]]:
    """Return the permissions of everything in a folder that are not as promised."""
    return {
        (path.is_dir(), oct(mode), str(path.relative_to(root)))
        for path in (root, *root.rglob("*"))
        if (mode := stat.S_IMODE(path.lstat().st_mode)) != (0o750 if path.is_dir() else 0o640)
    }


@pytest.mark.parametrize("umask", ["0022", "0077", "0000"])
def test_all_files_and_folders_of_an_archive_are_for_owner_and_group(tmp_path: Path, umask: str) -> None:
    root = tmp_path / "new" / "archive"
    wrapper = ("sh", "-c", WITH_UMASK, umask)
    with receiver(root, "--commit-to", "STORESCU=127.0.0.1:9", wrapper=wrapper) as running:
        assert dicomport("storescu", "localhost", running.port, FILES / "CT_small.dcm").returncode == 0
        assert dicomport("storescu", "localhost", running.port, FILES / "MR_truncated.dcm").returncode == 1
        ran = modes(root)
        names = {path.name for path in root.rglob("*")}
        assert {"commitments", "quarantine", "lock", "journal-00000000.jsonl"} <= names
        assert any(name.endswith("-wal") for name in names)
        assert running.stop()[0] == 0
    assert ran == set()
    assert modes(root) == set()
    study = next(root.glob("1*")).name
    for name in ("out", "out.zip"):
        command = ("archive", "export", study, tmp_path / name, "--archive", root)
        assert dicomport(*command, wrapper=wrapper).returncode == 0
    assert dicomport("archive", "reindex", "--archive", root, wrapper=wrapper).returncode == 0
    assert modes(root) == set()
    assert modes(tmp_path / "out") == set()
    assert stat.S_IMODE((tmp_path / "out.zip").stat().st_mode) == 0o640


def owners(root: Path) -> set[int]:
    return {path.lstat().st_uid for path in (root, *root.rglob("*"))}


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    """Create an archive, which belongs to another user if root runs the tests."""
    root = tmp_path / "archive"
    with receiver(root) as running:
        assert dicomport("storescu", "localhost", running.port, FILES / "CT_small.dcm").returncode == 0
    if os.geteuid() == 0:
        give_to_group(root)
        assert owners(root) != {0}
    return root


def test_an_index_that_root_rebuilds_belongs_to_the_owner_of_the_archive(foreign: Path) -> None:
    owner = owners(foreign)
    assert dicomport("archive", "reindex", "--archive", foreign).returncode == 0
    assert (foreign / ".dicomport" / "index-1.sqlite").is_file()
    assert owners(foreign) == owner


def test_the_owner_can_remove_an_unfinished_index_of_root(foreign: Path) -> None:
    owner = owners(foreign)
    build = Build(Generations(Paths(foreign).index))
    assert owners(foreign) == owner
    build.close()


def deleted(root: Path) -> None:
    shutil.rmtree(root / ".dicomport")


def without_sessions(root: Path) -> None:
    shutil.rmtree(root / ".dicomport" / "sessions")


def without_locks(root: Path) -> None:
    for lock in root.glob(".dicomport/**/lock"):
        lock.unlink()


@pytest.mark.parametrize(
    ("damage", "command"),
    [(deleted, "reindex"), (without_sessions, "reindex"), (without_locks, "verify"), (without_locks, "ls")],
)
def test_folders_and_locks_of_root_belong_to_the_owner(
    foreign: Path, damage: Callable[[Path], None], command: str
) -> None:
    owner = owners(foreign)
    damage(foreign)
    assert dicomport("archive", command, "--archive", foreign).returncode == 0
    assert list(foreign.glob(".dicomport/**/lock"))
    assert owners(foreign) == owner


def test_files_of_a_receiver_of_root_belong_to_the_owner(
    foreign: Path,
) -> None:
    owner = owners(foreign)
    with receiver(foreign, "--commit-to", "STORESCU=127.0.0.1:9") as running:
        assert dicomport("storescu", "localhost", running.port, FILES / "MR_truncated.dcm").returncode == 1
        assert list(foreign.glob(".dicomport/sessions/*/journal-*"))
        assert list(foreign.glob(".dicomport/quarantine/*.json"))
        assert owners(foreign) == owner
        assert running.stop()[0] == 0
    assert owners(foreign) == owner


@pytest.mark.parametrize("durability", ["fsync", "flush"])
def test_studies_of_a_receiver_of_root_belong_to_the_owner(foreign: Path, durability: str) -> None:
    """A new study, and a new series in it; the owner's receiver stores later instances there."""
    owner = owners(foreign)
    layout = ("--layout", "{modality}/{study}/{series}/{instance}")
    with receiver(foreign, "--durability", durability, *layout) as running:
        assert dicomport("storescu", "localhost", running.port, FILES / "MR_small.dcm").returncode == 0
        assert list(foreign.glob("[!.]*/*/*/*.dcm"))
        assert owners(foreign) == owner
        assert running.stop()[0] == 0
    assert owners(foreign) == owner
    assert modes(foreign) == set()


def test_a_folder_without_permission_is_logged_with_its_remedy() -> None:
    """The log names the kind of the folder, and not its path, which has attribute values in some layouts."""
    with shared_folder() as folder:
        root = folder / "archive"
        with receiver(root, "--layout", "P-{patient_id}/{instance}") as running:
            assert dicomport("storescu", "localhost", running.port, FILES / "CT_small.dcm").returncode == 0
        give_to_owner(root)
        [patient] = root.glob("P-*")
        patient.chmod(0o550)
        for instance in patient.iterdir():
            instance.unlink()
        with start_as_owner("storescp", "0", "--archive", root, "--layout", "P-{patient_id}/{instance}") as process:
            assert process.stderr is not None
            port = next(found[1] for line in process.stderr if (found := re.search(r":(\d+), storing in", line)))
            assert dicomport("storescu", "localhost", port, FILES / "CT_small.dcm").returncode == 1
            process.terminate()
            log = process.stderr.read()
        patient.chmod(0o750)
    [line] = [line for line in log.splitlines() if "storage_failed" in line]
    assert 'reason="Permission denied in the folder of a study or series: check the owner and the mode of ' in line
    assert patient.name not in line
