"""The odd file systems themselves: a test that uses one relies on its oddity."""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest
from tests.files.mounts import mounted

from dicomport.files import sync

REFUSED: Final[dict[str, tuple[int, Callable[[Path], object]]]] = {
    "nolink": (errno.EOPNOTSUPP, lambda path: os.link(path, f"{path}2")),
    "linkEPERM": (errno.EPERM, lambda path: os.link(path, f"{path}2")),
    "linkEIO": (errno.EIO, lambda path: os.link(path, f"{path}2")),
    "linkEINVAL": (errno.EINVAL, lambda path: os.link(path, f"{path}2")),
    "nodirsync": (errno.EINVAL, lambda path: sync(path.parent)),
    "nofsync": (errno.EINVAL, sync),
    "noutime": (errno.EPERM, lambda path: os.utime(path, (1, 1))),
    "utimeEIO": (errno.EIO, lambda path: os.utime(path, (1, 1))),
    "nochmod": (errno.EPERM, lambda path: path.chmod(0o600)),
    "chmodEIO": (errno.EIO, lambda path: path.chmod(0o600)),
}

CALLS: Final = ("link", "utime", "chmod")
"""Calls that several kinds refuse."""


@pytest.mark.parametrize("kind", REFUSED)
def test_each_kind_refuses_its_call_and_no_other(tmp_path: Path, kind: str) -> None:
    with mounted(tmp_path / "root", kind) as mount:
        (mount / "file").write_bytes(b"content")
        for other, (number, call) in REFUSED.items():
            (mount / "file2").unlink(missing_ok=True)
            same = any({kind, other} <= {name for name in REFUSED if call_name in name} for call_name in CALLS)
            if kind == other:
                with pytest.raises(OSError, match=r"\[Errno") as caught:
                    call(mount / "file")
                assert caught.value.errno == number
            elif not same:
                call(mount / "file")
        assert (mount / "file").read_bytes() == b"content"


def test_plain_keeps_an_unlinked_open_file_in_its_folder(tmp_path: Path) -> None:
    with mounted(tmp_path / "root", "plain") as mount:
        (mount / "folder").mkdir()
        with (mount / "folder" / "file").open("wb"):
            (mount / "folder" / "file").unlink()
            with pytest.raises(OSError, match="not empty"):
                (mount / "folder").rmdir()
        (mount / "folder").rmdir()


def test_forgetful_leaves_what_was_synced(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "old").mkdir(parents=True)
    (root / "old" / "removed").write_bytes(b"before")
    with mounted(root, "forgetful") as mount:
        for name in ("synced", "half", "renamed", "unnamed"):
            (mount / name).write_bytes(name.encode())
            if name != "half":
                sync(mount / name)
            if name != "unnamed":
                sync(mount)
        inode = (mount / "synced").stat().st_ino
        with (mount / "synced").open("ab") as file:
            file.write(b" and more")
        (mount / "renamed").rename(mount / "new name")
        (mount / "old" / "removed").unlink()
        (mount / "old").rmdir()
        (mount / "folder").mkdir()
        (mount / "folder" / "file").write_bytes(b"lost")
        sync(mount / "folder" / "file")
        sync(mount / "folder")
    assert sorted(str(path.relative_to(root)) for path in root.rglob("*")) == [
        "half",
        "old",
        "old/removed",
        "renamed",
        "synced",
    ]
    assert (root / "synced").read_bytes() == b"synced"
    assert (root / "synced").stat().st_ino == inode
    assert (root / "half").read_bytes() == b""
    assert (root / "renamed").read_bytes() == b"renamed"
    assert (root / "old" / "removed").read_bytes() == b"before"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["root"]
