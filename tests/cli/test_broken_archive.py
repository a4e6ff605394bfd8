"""Each row of "When something is broken" in docs/archive.md: the sight is produced, then its command is run."""

from __future__ import annotations

import re
import shlex
import shutil
import signal
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest
from tests.cli.commands import FILES, dicomport, receiver, start
from tests.users import as_owner, give_to_owner, shared_folder

from dicomport import blocking
from dicomport.archive.database.generations import Generations
from dicomport.archive.paths import Paths

PAGE: Final = (Path(__file__).parents[2] / "docs" / "archive.md").read_text()
SECTION: Final = PAGE.partition("## When something is broken\n")[2].partition("\n## ")[0]
ROWS: Final = {
    cells[0].strip(): cells[2].strip()
    for cells in (line.strip("|").split("|") for line in SECTION.splitlines() if line.startswith("| "))
    if cells[0].strip() != "a person sees"
}

CT, MR = FILES / "CT_small.dcm", FILES / "MR_small.dcm"
CT_STUDY: Final = "1.3.6.1.4.1.5962.1.2.1.20040119072730.12322"


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("filled") / "archive"
    with receiver(root) as found:
        assert dicomport("storescu", "localhost", found.port, CT, MR).returncode == 0
        assert dicomport("storescu", "localhost", found.port, FILES / "MR_truncated.dcm").returncode == 1
        assert found.stop()[0] == 0
    return root


@pytest.fixture
def root(filled: Path, tmp_path: Path) -> Path:
    copy = tmp_path / "archive"
    shutil.copytree(filled, copy)
    return copy


def study(root: Path) -> Path:
    return next(root.glob("[!.]*"))


def own(root: Path, name: str = "index.sqlite") -> Path:
    return root / ".dicomport" / name


def garbage(root: Path) -> None:
    own(root).write_bytes(b"garbage " * 2000)


def no_index(root: Path) -> None:
    own(root).unlink()


def versioned(version: int) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        with sqlite3.connect(own(root)) as database:
            database.execute(f"PRAGMA user_version = {version}")
        database.close()

    return change


def no_folder(root: Path) -> None:
    shutil.rmtree(root / ".dicomport")


def copied(root: Path) -> None:
    path = next(root.glob("[!.]*/*/*.dcm"))
    shutil.copy2(path, path.with_name("copy.dcm"))


def deleted(root: Path) -> None:
    next(root.glob("[!.]*/*/*.dcm")).unlink()


def changed(root: Path) -> None:
    path = next(root.glob("[!.]*/*/*.dcm"))
    shutil.copy2(path, root.with_name("backup"))
    path.write_bytes(path.read_bytes()[:-1] + b"\xff")


def changed_header(root: Path) -> None:
    path = next(root.glob("[!.]*/*/*.dcm"))
    shutil.copy2(path, root.with_name("backup"))
    path.write_bytes(b"\x7fELF" + path.read_bytes()[4:])


def unreadable(root: Path) -> None:
    path = next(root.glob("[!.]*/*/*.dcm"))
    shutil.copy2(path, root.with_name("backup"))
    path.write_bytes(b"nothing")


def changed_row(root: Path) -> None:
    with sqlite3.connect(own(root)) as database:
        database.execute("UPDATE instances SET size = size + 2")
    database.close()


def linked(root: Path) -> None:
    path = next(root.glob("[!.]*/*/*.dcm"))
    shutil.move(path, root.with_name("backup"))
    path.symlink_to(root.with_name("backup"))


def interrupted(root: Path) -> None:
    process = start("archive", "reindex", root)
    process.send_signal(signal.SIGKILL)
    process.communicate()


def killed(root: Path) -> None:
    with receiver(root) as found:
        assert dicomport("storescu", "localhost", found.port, FILES / "waveform_ecg.dcm").returncode == 0
        found.stop(signal.SIGKILL)


def closed(root: Path) -> None:
    study(root).chmod(0)


def killed_and_closed(root: Path) -> None:
    with receiver(root) as found, Generations(Paths(root).index).locked(wait=True):
        assert dicomport("storescu", "localhost", found.port, FILES / "waveform_ecg.dcm").returncode == 0
        found.stop(signal.SIGKILL)
    for path in root.glob("[!.]*"):
        path.chmod(0)


def mixed(root: Path) -> None:
    import pydicom

    other = pydicom.dcmread(CT)
    other.PatientID, other.SOPInstanceUID = "other", pydicom.uid.UID("1.2.3")
    other.file_meta.MediaStorageSOPInstanceUID = other.SOPInstanceUID
    other.save_as(root.with_name("other.dcm"))
    with receiver(root) as found:
        assert dicomport("storescu", "localhost", found.port, root.with_name("other.dcm")).returncode == 0
        assert found.stop()[0] == 0


def not_indexed(root: Path) -> None:
    with receiver(root) as found, Generations(Paths(root).index).locked(wait=True):
        assert dicomport("storescu", "localhost", found.port, FILES / "waveform_ecg.dcm").returncode == 0
        assert found.stop()[0] == 0


def nothing(_root: Path) -> None:
    """Leave the archive as it is."""


SIGHTS: Final[dict[str, Callable[[Path], None]]] = {
    "the index is damaged": garbage,
    "the index is missing": no_index,
    "the index has the older schema": versioned(1),
    "the index has schema": versioned(99),
    "no archive in DIR": no_folder,
    "the file exists, but it is not in the index": copied,
    "in the index, but the file does not exist": deleted,
    "the data set differs from the received data set": changed,
    "the preamble or file meta differs": changed_header,
    "the file cannot be read": unreadable,
    "the folder cannot be read": closed,
    "`storage_failed` with `Permission denied": nothing,
    "`recovery_failed` in the log": killed_and_closed,
    "the index differs from the file": changed_row,
    "a symbolic link": linked,
    "`discrepancy_found` in the log": changed,
    "the receiver was killed": killed,
    "`N instances of a stopped receiver not in the index": not_indexed,
    "`process N holds the lock": nothing,
    "`reindex` was interrupted": interrupted,
    "another process has locked the index": nothing,
    "database or disk is full": nothing,
    "senders report 0xC210": nothing,
    "the instances of a study have several Patient IDs": mixed,
}


def row_of(sight: str) -> tuple[str, list[str]]:
    """Return the first cell of a row, and its commands of dicomport."""
    [seen] = [seen for seen in ROWS if seen.lstrip("`").startswith(sight.lstrip("`"))]
    return seen, [command for command in re.findall(r"`(.*?)`", ROWS[seen]) if command.startswith("dicomport ")]


def run(command: str, root: Path) -> tuple[int, str]:
    words = [{"DIR": str(root), "STUDY": CT_STUDY}.get(word, word) for word in shlex.split(command)]
    done = dicomport(*words[1:])
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout + done.stderr


def verified(root: Path) -> tuple[int, str]:
    return run("dicomport archive verify --archive DIR", root)


def test_each_row_has_a_test() -> None:
    assert len(ROWS) == len(SIGHTS)
    for sight in SIGHTS:
        row_of(sight)


SEEN_WHEN_OPENED: Final = ["the index is damaged", "the index is missing", "the index has the older schema"]


@pytest.mark.parametrize("sight", [*SEEN_WHEN_OPENED, "the index has schema", "no archive in DIR"])
def test_the_start_and_the_listing_report_it(sight: str, root: Path) -> None:
    SIGHTS[sight](root)
    words = sight.replace("DIR", str(root))
    outputs = [run("dicomport archive ls --archive DIR", root)]
    if sight != "no archive in DIR":
        started = dicomport("storescp", "0", "--archive", root)
        outputs.append((started.returncode, started.stderr))
    for code, output in outputs:
        assert code == 1, output
        assert words in output
        if sight in (*SEEN_WHEN_OPENED, "no archive in DIR"):
            assert f'dicomport archive reindex "{root}"' in output


@pytest.mark.parametrize(
    "sight",
    [
        *SEEN_WHEN_OPENED,
        "no archive in DIR",
        "the file exists, but it is not in the index",
        "in the index, but the file does not exist",
        "the index differs from the file",
        "`reindex` was interrupted",
    ],
)
def test_reindex_repairs_it(sight: str, root: Path) -> None:
    SIGHTS[sight](root)
    files = len(list(root.glob("[!.]*/*/*.dcm")))
    seen, [command] = row_of(sight)
    if "from `verify`" in seen:
        assert sight in verified(root)[1]
    code, output = run(command, root)
    assert (code, output) == (0, f"{files} instance{'s' * (files > 1)} in the index\n")
    assert verified(root) == (0, "no discrepancies\n")
    with receiver(root) as found:
        assert blocking.send(FILES / "waveform_ecg.dcm", "localhost", int(found.port)).failed == ()
        assert found.stop()[0] == 0
    assert verified(root) == (0, "no discrepancies\n")


def test_an_earlier_version_does_not_replace_the_index_of_a_later_one(root: Path) -> None:
    SIGHTS["the index has schema"](root)
    code, output = run("dicomport archive reindex DIR", root)
    assert code == 1
    assert "use a later dicomport" in output
    assert own(root).exists()


@pytest.mark.parametrize(
    "sight",
    [
        "the data set differs from the received data set",
        "the preamble or file meta differs",
        "the file cannot be read",
        "a symbolic link",
    ],
)
def test_a_changed_file_is_restored_and_verified(root: Path, sight: str) -> None:
    SIGHTS[sight](root)
    assert sight in verified(root)[1]
    _, [command] = row_of(sight)
    path = next(root.glob("[!.]*/*/*.dcm"))
    path.unlink()
    shutil.copy2(root.with_name("backup"), path)
    assert run(command, root) == (0, "no discrepancies\n")


def test_the_path_of_a_logged_discrepancy_is_printed(root: Path) -> None:
    changed(root)
    _, [command] = row_of("`discrepancy_found` in the log")
    code, output = run(command, root)
    assert code == 1
    assert next(root.glob("[!.]*/*/*.dcm")).relative_to(root).as_posix() in output


def test_the_journal_of_a_killed_receiver_is_copied(root: Path) -> None:
    killed(root)
    _, [command] = row_of("the receiver was killed")
    assert run(command, root) == (0, "no discrepancies\n")
    assert len(run("dicomport archive ls --json --archive DIR", root)[1].splitlines()) == 3


def test_the_journal_of_a_stopped_receiver_is_copied(root: Path) -> None:
    not_indexed(root)
    _, [command] = row_of("`N instances of a stopped receiver not in the index")
    assert run(command, root) == (0, "3 instances in the index\n")
    assert verified(root) == (0, "no discrepancies\n")


def test_a_stopped_process_is_continued_by_the_system() -> None:
    """tests/cli/test_failures.py has the message."""
    seen, commands = row_of("`process N holds the lock")
    assert "is stopped" in seen
    assert "`kill -CONT N`" in ROWS[seen]
    assert commands == []


@pytest.mark.parametrize(
    ("sight", "expected"),
    [
        ("senders report 0xC210", "whole"),
        ("the instances of a study have several Patient IDs", "other"),
    ],
)
def test_the_command_shows_the_cause(root: Path, sight: str, expected: str) -> None:
    SIGHTS[sight](root)
    seen, [command] = row_of(sight)
    if "from `verify`" in seen:
        assert sight in verified(root)[1]
    code, output = run(command, root)
    assert code == 0
    assert expected in output


@pytest.mark.parametrize("sight", ["the folder cannot be read", "`recovery_failed` in the log"])
def test_an_owner_corrects_the_permissions(root: Path, sight: str) -> None:
    """tests/archive/test_unreadable.py has the receiver's log."""
    seen, [command] = row_of(sight)
    with shared_folder() as folder:
        archive = folder / "archive"
        shutil.copytree(root, archive)
        SIGHTS[sight](archive)
        give_to_owner(archive)
        words = [str(archive) if word == "DIR" else word for word in shlex.split(command)[1:]]
        found = as_owner(*words)
        assert (found.returncode, "the folder cannot be read" in found.stderr) == (1, True)
        for path in archive.glob("[!.]*"):
            path.chmod(0o750)
        corrected = as_owner(*words)
        assert (corrected.returncode, corrected.stderr) == (0, "no discrepancies\n"), seen


def test_the_owner_of_a_folder_is_corrected_by_the_system() -> None:
    """Check the row; tests/archive/test_permissions.py has the receiver."""
    seen, commands = row_of("`storage_failed` with `Permission denied")
    assert "0x0110" in seen
    assert "`chown -R --reference=DIR DIR`" in ROWS[seen]
    assert commands == []


@pytest.mark.parametrize("sight", ["another process has locked the index", "database or disk is full"])
def test_no_command_of_ours_is_needed(sight: str) -> None:
    """Check the row; tests/archive/test_index_failures.py has the receiver."""
    seen, commands = row_of(sight)
    assert "index_failed" in seen
    assert commands == []


def test_reindex_with_an_unreadable_file_names_it(root: Path) -> None:
    path = next(root.glob("[!.]*/*/*.dcm"))
    path.write_bytes(b"nothing")
    code, output = run("dicomport archive reindex DIR", root)
    assert code == 1
    assert path.name in output
    assert "1 instance in the index" in output


def test_a_folder_without_instances_is_not_made_an_archive(tmp_path: Path) -> None:
    code, output = run("dicomport archive reindex DIR", tmp_path)
    assert code == 1
    assert f"no archive in {tmp_path}" in output
    assert list(tmp_path.iterdir()) == []


def test_a_running_receiver_logs_the_command_and_uses_the_new_index(root: Path) -> None:
    with receiver(root) as found:
        garbage_file = root.with_name("garbage")
        garbage_file.write_bytes(b"garbage " * 2000)
        garbage_file.replace(own(root))
        assert dicomport("storescu", "localhost", found.port, FILES / "waveform_ecg.dcm").returncode == 0
        assert found.process.stderr is not None
        line = next(line for line in found.process.stderr if "index_failed" in line)
        assert "the index is damaged (file is not a database): run dicomport archive reindex" in line
        _, [command] = row_of("the index is damaged")
        assert run(command, root) == (0, "3 instances in the index\n")
        assert dicomport("storescu", "localhost", found.port, FILES / "rtplan.dcm").returncode == 0
        code, _, errors = found.stop()
    assert code == 0, errors
    assert verified(root) == (0, "no discrepancies\n")
    assert len(run("dicomport archive ls --json --archive DIR", root)[1].splitlines()) == 4


def test_a_receiver_without_its_index_ends(root: Path) -> None:
    with receiver(root) as found:
        own(root).unlink()
        assert dicomport("storescu", "localhost", found.port, FILES / "waveform_ecg.dcm").returncode == 0
        assert found.stop()[0] == 0
    assert run("dicomport archive reindex DIR", root) == (0, "3 instances in the index\n")
    assert list(own(root, "sessions").glob("session-*")) == []
    assert verified(root) == (0, "no discrepancies\n")
