"""Exported studies: unchanged, verified copies, which are complete or missing."""

import errno
import os
import stat
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest
from tests.archive.sending import files, instance, receiver

from dicomport.archive import ExportError, Index, Paths, export
from dicomport.files import system


@pytest.mark.parametrize("name", ["out", "deep/out", "out.zip", "OUT.ZIP"])
def test_export(tmp_path: Path, name: str) -> None:
    root, destination = tmp_path / "archive", tmp_path / name
    with receiver(root) as received:
        sent = [instance(), instance("1.2.3.5", series="1.2.3.2"), instance("1.2.9", study="1.9", series="1.9.1")]
        assert received.send(*sent) == [0, 0, 0]
    paths = Paths(root.resolve())
    index = Index(paths.index)
    expected = {one: (root / one).read_bytes() for one in files(root) if one.startswith("1.2.3/")}
    assert len(expected) == 2
    assert list(export(paths, index, "1.2.3", destination)) == sorted(expected)
    if destination.suffix:
        with zipfile.ZipFile(destination) as archive:
            assert {one: archive.read(one) for one in archive.namelist()} == expected
            assert archive.testzip() is None
    else:
        assert {one: (destination / one).read_bytes() for one in files(destination)} == expected
    with pytest.raises(FileExistsError):
        list(export(paths, index, "1.2.3", destination))
    with pytest.raises(KeyError):
        list(export(paths, index, "1.2.77", tmp_path / "other"))
    assert not (tmp_path / "other").exists()
    index.close()


@pytest.fixture
def archived(tmp_path: Path) -> Iterator[tuple[Paths, Index]]:
    """Make an archive with two instances of a study."""
    root = tmp_path / "archive"
    with receiver(root) as received:
        assert received.send(instance(), instance("1.2.3.5")) == [0, 0]
    paths = Paths(root.resolve())
    index = Index(paths.index)
    yield paths, index
    index.close()


def _flip_last_bit(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))


def _replace_by_link(path: Path) -> None:
    path.rename(outside := path.parents[3] / "outside.dcm")
    path.symlink_to(outside)


def _replace_folder_by_link(path: Path) -> None:
    path.parent.rename(outside := path.parents[3] / "outside")
    path.parent.symlink_to(outside)


def _replace_by_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


DAMAGES: Final[dict[str, tuple[Callable[[Path], object], str]]] = {
    "a changed byte": (_flip_last_bit, "does not match its digest"),
    "a missing byte": (lambda path: os.truncate(path, path.stat().st_size - 1), "does not match its digest"),
    "a part of the preamble": (lambda path: os.truncate(path, 100), "1.2.3.5.dcm: neither a preamble"),
    "no Part 10 file": (lambda path: path.write_bytes(b"nothing"), "1.2.3.5.dcm"),
    "a link": (_replace_by_link, "symbolic link"),
    "a link to a folder": (_replace_folder_by_link, "symbolic link"),
    "a pipe": (_replace_by_pipe, "not a regular file"),
}


@pytest.mark.parametrize("name", ["out", "out.zip"])
@pytest.mark.parametrize(("damage", "reason"), DAMAGES.values(), ids=DAMAGES)
def test_export_of_a_damaged_or_linked_file_leaves_nothing(
    archived: tuple[Paths, Index], tmp_path: Path, name: str, damage: Callable[[Path], object], reason: str
) -> None:
    paths, index = archived
    damage(paths.root / "1.2.3/1.2.3.1/1.2.3.5.dcm")
    before = sorted(tmp_path.iterdir())
    with pytest.raises(ExportError, match=reason) as caught:
        list(export(paths, index, "1.2.3", tmp_path / name))
    assert "archive verify" in str(caught.value)
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("name", ["out", "out.zip"])
def test_an_export_that_fails_or_stops_leaves_nothing(
    archived: tuple[Paths, Index], tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths, index = archived
    before = sorted(tmp_path.iterdir())
    stopped = export(paths, index, "1.2.3", tmp_path / name)
    next(stopped)
    assert not (tmp_path / name).exists()
    stopped.close()  # type: ignore[attr-defined]
    assert sorted(tmp_path.iterdir()) == before
    with monkeypatch.context() as patched:
        patched.setattr(system, "replace", _no_space)
        with pytest.raises(OSError, match="No space"):
            list(export(paths, index, "1.2.3", tmp_path / name))
    assert sorted(tmp_path.iterdir()) == before


def _no_space(*_arguments: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("name", ["out", "out.zip"])
def test_an_export_does_not_replace_a_destination_that_appeared_meanwhile(
    archived: tuple[Paths, Index], tmp_path: Path, name: str
) -> None:
    paths, index = archived
    exporting = export(paths, index, "1.2.3", tmp_path / name)
    next(exporting)
    (tmp_path / name).mkdir()
    with pytest.raises(FileExistsError):
        list(exporting)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["archive", name]
    assert list((tmp_path / name).iterdir()) == []


def test_exported_files_are_not_open_to_other_users(archived: tuple[Paths, Index], tmp_path: Path) -> None:
    paths, index = archived
    for name in ("out", "out.zip"):
        list(export(paths, index, "1.2.3", tmp_path / name))
    made = [tmp_path / "out.zip", tmp_path / "out", *(tmp_path / "out").rglob("*")]
    assert {(path.is_dir(), stat.S_IMODE(path.stat().st_mode)) for path in made} == {(True, 0o750), (False, 0o640)}
