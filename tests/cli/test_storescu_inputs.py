"""The inputs of `dicomport storescu`, from the command line to the receiver's archive."""

from __future__ import annotations

import json
import shutil
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.cli.commands import FILES, Receiver, dicomport, receiver

SERIES = FILES / "dicomdirtests" / "77654033" / "CT2"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiver]:
    with receiver(tmp_path_factory.mktemp("receiver") / "archive") as found:
        yield found


def zipped(folder: Path) -> Path:
    return Path(shutil.make_archive(str(folder / "series"), "zip", SERIES))


def tarred(folder: Path) -> Path:
    return Path(shutil.make_archive(str(folder / "series"), "gztar", SERIES))


def medium(folder: Path) -> Path:
    shutil.copytree(FILES / "dicomdirtests", folder / "medium")
    return folder / "medium" / "DICOMDIR"


def glob(folder: Path) -> Path:
    shutil.copytree(SERIES, folder / "a" / "b")
    (folder / "a" / "b" / "notes.txt").write_text("no image")
    return folder / "**" / "17*"


@pytest.mark.parametrize(
    ("make", "count"), [(zipped, 4), (tarred, 4), (medium, 31), (glob, 4)], ids=["zip", "tar.gz", "DICOMDIR", "glob"]
)
def test_each_kind_of_input_can_be_sent(
    running: Receiver, tmp_path: Path, make: Callable[[Path], Path], count: int
) -> None:
    done = dicomport("storescu", "--json", "localhost", running.port, make(tmp_path))

    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["reason"] for row in rows if not row["accepted"]] == []
    assert (len(rows), done.returncode) == (count, 0)
    assert len({row["path"] for row in rows}) == count
    stored = {path.stem for path in running.kept()}
    assert {row["sop_instance_uid"] for row in rows} <= stored


@pytest.mark.parametrize("end", ["\n", "\0"])
def test_paths_can_come_on_stdin(running: Receiver, tmp_path: Path, end: str) -> None:
    given = end.join((str(SERIES), str(zipped(tmp_path)), str(tmp_path / "missing")))

    done = dicomport("storescu", "--json", "localhost", running.port, "-", given=given)

    rows = {row["path"]: row["reason"] for row in map(json.loads, done.stdout.splitlines())}
    names = [path.name for path in SERIES.iterdir()]
    assert rows == {
        **{str(SERIES / name): "" for name in names},
        **{str(tmp_path / "series.zip" / name): "" for name in names},
        str(tmp_path / "missing"): "cannot be read: No such file or directory",
    }
    assert done.returncode == 1


def test_a_dry_run_reads_them_all(tmp_path: Path) -> None:
    done = dicomport("storescu", "--dry-run", "--json", "localhost", "1", zipped(tmp_path), medium(tmp_path))

    assert done.returncode == 0
    assert done.stdout


def test_f9_nothing_is_ever_unpacked_by_name(running: Receiver, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    with tarfile.open(folder / "archive.tar.gz", "w:gz") as archive:
        for name in ("../outside.dcm", str(tmp_path / "outside.dcm"), "inside.dcm"):
            archive.add(SERIES / "17106", name)
        link = tarfile.TarInfo("link.dcm")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)

    done = dicomport("storescu", "--json", "localhost", running.port, folder / "archive.tar.gz")

    rows = {Path(row["path"]).name: row["accepted"] for row in map(json.loads, done.stdout.splitlines())}
    assert rows == {"archive.tar.gz": False, "outside.dcm": True, "inside.dcm": True, "link.dcm": False}
    assert done.returncode == 1
    assert [path.name for path in tmp_path.rglob("*")] == ["in", "archive.tar.gz"]
