"""Creation of files and folders with fixed permissions, regardless of the umask of the process."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path
from typing import Final, NamedTuple

from dicomport.files import system

FILE_MODE: Final = 0o640
"""The owner writes, the group reads. Not executable, regardless of the content."""

FOLDER_MODE: Final = 0o750


def open_file(path: str | Path, flags: int, folder: int | None = None) -> int:
    """Open a file; if `flags` creates it, its permissions are `FILE_MODE`. Raises `OSError`.

    `folder` is the descriptor of the folder to which a relative path is relative; so it is below.
    """
    descriptor = system.open_descriptor(path, flags, FILE_MODE, dir_fd=folder)
    if permissions_of(system.fstat(descriptor)) != FILE_MODE:
        # Some file systems have fixed permissions, and another user may own the file.
        with contextlib.suppress(OSError):
            system.fchmod(descriptor, FILE_MODE)
    return descriptor


def open_as_owner(path: str | Path, flags: int) -> int:
    """Open a file as `open_file` does; if root creates it, it belongs to the owner of its folder. Raises `OSError`."""
    descriptor = open_file(path, flags)
    give_to_owner_of(Path(path).parent, Path(path))
    return descriptor


def create_folder(path: str | Path, folder: int | None = None) -> None:
    """Create a folder with the permissions `FOLDER_MODE`. Raises `OSError`."""
    system.mkdir(path, FOLDER_MODE, dir_fd=folder)
    if permissions_of(os.lstat(path, dir_fd=folder)) != FOLDER_MODE:
        with contextlib.suppress(OSError):  # See below.
            system.chmod(path, FOLDER_MODE, dir_fd=folder)


def give_to_owner_of(folder: Path, path: Path) -> None:
    """Set the owner of a file or folder that root has created in a folder to the owner of that folder.

    The owner could not use it otherwise. Without root, nothing changes.
    """
    with contextlib.suppress(OSError):  # Some file systems have a fixed owner.
        owner = folder.stat()
        if os.lstat(path).st_uid != owner.st_uid and os.geteuid() == 0:
            system.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)


class Owner(NamedTuple):
    """The owner of files and folders that root creates for another user."""

    uid: int
    gid: int

    def give(self, path: str | Path, folder: int | None = None) -> None:
        """Set the owner of a file or folder, if the file system can."""
        with contextlib.suppress(OSError):  # See above.
            system.chown(path, self.uid, self.gid, dir_fd=folder, follow_symlinks=False)


def other_owner_of(folder: Path) -> Owner | None:
    """Return the owner of a folder if that is another user, and root runs this process. Raises `OSError`."""
    status = folder.stat()
    return Owner(status.st_uid, status.st_gid) if status.st_uid != 0 and os.geteuid() == 0 else None


def give_own_folder(folder: Path) -> None:
    """Set the owner of a service's own folder, such as `ARCHIVE/.dicomport/sessions`, to that of `ARCHIVE`.

    The folder between them gets this owner too. Without root, nothing changes.
    """
    for path in (folder.parent, folder):
        give_to_owner_of(path.parent, path)


def permissions_of(status: os.stat_result) -> int:
    """Return the permissions of owner, group and others."""
    return stat.S_IMODE(status.st_mode) & 0o777
