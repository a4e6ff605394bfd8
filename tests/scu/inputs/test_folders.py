"""Files in folders and archives that are not instances: hidden ones are left out, others are skipped and counted."""

import json
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.cli.commands import dicomport
from tests.scu.data import FILES, part10
from tests.scu.inputs.scanning import scan

from dicomport import StorageSCP, StoreRequest, blocking
from dicomport.scu import InstanceResult, find


def accept(_: StoreRequest) -> int:
    return 0x0000


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Make an exported folder: one instance, and the files that programs put beside it."""
    folder = tmp_path / "export"
    for name in (".dicomport/quarantine", ".git", "one/.thumbnails", "one/two"):
        (folder / name).mkdir(parents=True)
    for name in ("one/1.dcm", ".dicomport/quarantine/2.dcm", ".git/3.dcm", "one/.thumbnails/4.dcm", "one/._1.dcm"):
        part10(folder / name)
    (folder / ".DS_Store").write_bytes(b"\0\0\0\1Bud1")
    (folder / "README").write_text("Hello\n")
    (folder / "one/two/DICOMDIR").write_bytes((FILES / "dicomdirtests/DICOMDIR").read_bytes())
    return folder


def test_hidden_files_and_folders_are_left_out(folder: Path) -> None:
    found = scan([folder])

    assert [instance.name for instance in found.instances] == [str(folder / "one/1.dcm")]
    assert sorted(result.name for result in found.refused) == [str(folder / "README"), str(folder / "one/two/DICOMDIR")]


@pytest.mark.parametrize("name", [".dicomport", ".dicomport/quarantine/2.dcm", "one/._1.dcm", ".g*", "one/.*"])
def test_hidden_files_and_folders_are_sent_if_they_are_named(folder: Path, name: str) -> None:
    found = scan([folder / name])

    assert found.instances
    assert found.refused == ()


def test_other_files_in_a_folder_are_skipped_but_not_if_they_are_named(folder: Path) -> None:
    [in_folder] = (one for one in find([folder]) if isinstance(one, InstanceResult) and one.name.endswith("README"))
    [named] = find([folder / "README"])

    assert isinstance(named, InstanceResult)
    assert (in_folder.skipped, named.skipped) == (True, False)
    assert in_folder.reason == named.reason


def test_damaged_instances_in_a_folder_are_no_skipped_files(tmp_path: Path) -> None:
    whole = part10(tmp_path / "1").read_bytes()
    (tmp_path / "1").write_bytes(whole[:140])
    (tmp_path / "2").write_bytes(b"")
    (tmp_path / "3").write_bytes(whole + b"x")
    (tmp_path / "4").write_bytes(b"\x08\0\x16\0")
    (tmp_path / "5").symlink_to(tmp_path / "nothing")
    with zipfile.ZipFile(tmp_path / "6.zip", "w") as archive:
        archive.writestr("7", whole)

    assert [result.skipped for result in scan([tmp_path]).refused] == [False] * 6


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz"])
def test_other_members_of_an_archive_are_skipped(folder: Path, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "archive"
    names = ("README", "one/1.dcm", "one/two/DICOMDIR")
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as zipped:
            for name in names:
                zipped.write(folder / name, name)
            zipped.writestr("cut.dcm", (folder / "one/1.dcm").read_bytes()[:140])
    else:
        with tarfile.open(path, "w:gz" if kind == "tar.gz" else "w") as tarred:
            for name in names:
                tarred.add(folder / name, name)

    found = scan([path])

    assert len(found.instances) == 1
    assert {Path(one.name).name: one.skipped for one in found.refused if one.skipped} == {
        "README": True,
        "DICOMDIR": True,
    }


def test_a_folder_with_other_files_is_sent_without_a_failure(folder: Path) -> None:
    with StorageSCP(accept, port=0).in_thread() as scp:
        done = dicomport("storescu", "--json", "localhost", str(scp.port), folder)
        report = blocking.send(folder, "localhost", scp.port)

    assert done.returncode == 0
    assert "1 of 1 file accepted" in done.stderr
    assert "2 files skipped" in done.stderr
    rows = {
        Path(row["path"]).name: (row["accepted"], row["skipped"]) for row in map(json.loads, done.stdout.splitlines())
    }
    assert rows == {"1.dcm": (True, False), "README": (False, True), "DICOMDIR": (False, True)}
    assert (len(report.accepted), len(report.failed), len(report.skipped)) == (1, 0, 2)


def test_a_dry_run_of_a_folder_with_other_files_succeeds(folder: Path) -> None:
    done = dicomport("storescu", "--dry-run", "localhost", "1", folder)

    assert done.returncode == 0
    assert f"skipped: {folder / 'README'}: not a DICOM file" in done.stderr


def text(folder: Path) -> Path:
    path = folder / "broken.dcm"
    path.write_text("Hello\n")
    return path


def nothing(folder: Path) -> Path:
    path = folder / "empty.dcm"
    path.touch()
    return path


def cut(folder: Path) -> Path:
    path = folder / "cut.dcm"
    path.write_bytes(part10(folder / "whole").read_bytes()[:140])
    return path


def folder_of_texts(folder: Path) -> Path:
    (folder / "texts").mkdir()
    text(folder / "texts")
    return folder / "texts"


def empty_folder(folder: Path) -> Path:
    (folder / "empty").mkdir()
    return folder / "empty"


def tar_of_texts(folder: Path) -> Path:
    with tarfile.open(folder / "texts.tar.gz", "w:gz") as tarred:
        tarred.add(text(folder), "a.txt")
    return folder / "texts.tar.gz"


def zip_of_texts(folder: Path) -> Path:
    with zipfile.ZipFile(folder / "texts.zip", "w") as zipped:
        zipped.write(text(folder), "a.txt")
    return folder / "texts.zip"


def empty_dicomdir(_: Path) -> Path:
    return FILES / "dicomdirtests" / "DICOMDIR-empty.dcm"


def missing(folder: Path) -> Path:
    return folder / "missing"


NAMED = (text, nothing, cut, folder_of_texts, empty_folder, tar_of_texts, zip_of_texts, empty_dicomdir, missing)


@pytest.mark.parametrize("make", NAMED)
def test_a_named_path_with_nothing_to_send_is_a_failure(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    """The user expects an instance there; the other paths are sent nevertheless."""
    named = make(tmp_path)
    with StorageSCP(accept, port=0).in_thread() as scp:
        report = blocking.send([named, FILES / "CT_small.dcm"], "localhost", scp.port)

    assert [result.path for result in report.failed] == [named]
    assert [result.path for result in report.accepted] == [FILES / "CT_small.dcm"]


@pytest.mark.parametrize("make", [text, empty_folder])
@pytest.mark.parametrize("arguments", [(), ("--dry-run",)])
def test_a_named_path_with_nothing_to_send_fails_the_run(
    tmp_path: Path, make: Callable[[Path], Path], arguments: tuple[str, ...]
) -> None:
    named = make(tmp_path)
    with StorageSCP(accept, port=0).in_thread() as scp:
        done = dicomport("storescu", *arguments, "localhost", str(scp.port), named, FILES / "CT_small.dcm")

    assert done.returncode == 1
    assert str(named) in done.stderr
    assert ("1 of 2 files accepted" in done.stderr) == (not arguments)


@pytest.mark.parametrize("arguments", [(), ("--dry-run",)])
def test_a_folder_without_any_instance_fails(folder: Path, arguments: tuple[str, ...]) -> None:
    (folder / "one/1.dcm").unlink()
    with StorageSCP(accept, port=0).in_thread() as scp:
        done = dicomport("storescu", *arguments, "localhost", str(scp.port), folder)

    assert done.returncode == 1


def test_the_folder_of_a_receiver_is_sent_without_its_index(tmp_path: Path) -> None:
    from dicomport.archive import Archive, ArchiveOptions

    archive = Archive(tmp_path / "archive", ArchiveOptions())
    try:
        with StorageSCP(archive, port=0).in_thread() as scp:
            assert blocking.send(FILES / "CT_small.dcm", "localhost", scp.port).accepted
    finally:
        archive.close()
    with StorageSCP(accept, port=0).in_thread() as scp:
        done = dicomport("storescu", "--json", "localhost", str(scp.port), tmp_path / "archive")

    assert done.returncode == 0
    assert len(done.stdout.splitlines()) == 1


def test_a_folder_that_cannot_be_listed_hides_no_other(tmp_path: Path) -> None:
    """It is the last, with the reason."""
    for name in ("a/1.dcm", "b/2.dcm"):
        (tmp_path / name).parent.mkdir()
        part10(tmp_path / name)
    part10(tmp_path / "0.dcm")
    found = find([tmp_path])
    first = next(found)
    assert first.name == str(tmp_path / "0.dcm")
    # Its parent is listed already.
    shutil.rmtree(tmp_path / "a")
    instance, refused = found
    assert instance.name == str(tmp_path / "b/2.dcm")
    assert isinstance(refused, InstanceResult)
    assert (refused.name, refused.reason) == (str(tmp_path / "a"), "cannot be read: No such file or directory")
