"""Writing of Part 10 files, atomic and durable.

Theory of operation
-------------------
The bytes are written to a temporary file on the same file system; then the file is synced, linked to its name, and the
folder is synced. Only then is the instance stored. A file with its final name is always complete, and a name that
another file has is not overwritten, also if several processes write at the same time: `link` is atomic and fails if the
name is taken. After a crash, only temporary files are incomplete, and those were never acknowledged. All functions here
block; callers with an event loop use `Disk` or a thread.
"""

from __future__ import annotations

import contextlib
import enum
import errno
import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from dicomport.files import system
from dicomport.files.names import MAX_COPIES, file_name, numbered_name
from dicomport.files.permissions import create_folder, give_own_folder
from dicomport.files.temporary import UNKNOWN_FILE_SYSTEM, FileSystem, TemporaryFile


class Durability(enum.Enum):
    """The condition for acknowledging an instance."""

    FSYNC = "fsync"
    """The instance is on stable storage: file, folder and new parent folders are synced."""
    FLUSH = "flush"
    """The operating system has the instance: it survives the end of the process, but not a power failure."""


class PartialFile(TemporaryFile):
    """A temporary file in the folder of its final name, which it gets by `commit`."""

    def __init__(
        self,
        folder: str | Path,
        header: bytes,
        durability: Durability,
        file_system: FileSystem = UNKNOWN_FILE_SYSTEM,
        *,
        sync_folder: Callable[[], None] | None = None,
    ) -> None:
        """Create the file as `TemporaryFile` does, and the folder if it is missing. Raises `OSError`.

        `sync_folder` syncs the names in the folder, by default by an fsync for this file alone.
        """
        self._folder = folder
        self._sync_folder: Callable[[], None] = (lambda: sync(folder)) if sync_folder is None else sync_folder
        self._syncs = durability is Durability.FSYNC
        try:
            super().__init__(folder, header, file_system)
        except FileNotFoundError:
            make_folder(Path(folder), durability)
            super().__init__(folder, header, file_system)

    def commit(self, sop_instance_uid: str) -> str:
        """Link the file to its name, which is made of the SOP Instance UID, and return its path.

        An existing file is not overwritten. If it has the same data set, its path is returned; otherwise this file
        gets the next free name, "UID~2.dcm" and so on, up to `MAX_COPIES`.

        Raises `OSError` after removing the file, `FileExistsError` if no name is free. Only if the fsync of the folder
        failed, the file stays: it is complete, and may already be acknowledged to another sender of the same data set.
        """
        try:
            if self._unwritten:
                self.write(b"")  # The data set is empty.
            if self._syncs:
                self.sync()
            path = self._named(file_name(sop_instance_uid))
            if self._syncs:
                self._sync_folder()
        finally:
            self.discard()
        return path

    def _named(self, stem: str) -> str:
        path = ""
        for number in range(1, MAX_COPIES + 1):
            path = f"{self._folder}/{numbered_name(stem, number)}"
            try:
                self.link(path)
            except FileExistsError:
                if not self.has_data_set_of(path):
                    continue
                if self._syncs:
                    sync(path)  # The process that wrote it may not have synced it yet.
            return path
        raise FileExistsError(errno.EEXIST, f"{MAX_COPIES} files with this SOP Instance UID exist", path)


def make_folder(folder: Path, durability: Durability) -> None:
    """Create a folder and its missing parents, and sync the parent of each new folder. Raises `OSError`."""
    if not folder.is_dir():
        with created_folder(folder, durability):
            pass


@contextlib.contextmanager
def created_folder(folder: Path, durability: Durability) -> Iterator[None]:
    """Create a folder and its missing parents; after the block, sync the parent of each new folder.

    If one of these steps or the block raises `OSError`, the new folders are removed: an existing folder counts as
    durable, so the next call has to create and sync them again.
    """
    missing = list(itertools.takewhile(lambda path: not path.exists(), (folder, *folder.parents)))
    try:
        for path in reversed(missing):
            with contextlib.suppress(FileExistsError):
                create_folder(path)
        if not folder.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder))
        yield
        if durability is Durability.FSYNC:
            for path in missing:
                sync(path.parent)
    except OSError:
        for path in missing:
            with contextlib.suppress(OSError):
                system.rmdir(path)
        raise


def make_own_folder(folder: Path, durability: Durability) -> None:
    """Create a service's own folder as `make_folder` does; its owner is that of `give_own_folder`. Raises `OSError`."""
    make_folder(folder, durability)
    give_own_folder(folder)


def sync(path: str | Path) -> None:
    """Write a file, or the names in a folder, to stable storage. Raises `OSError`."""
    descriptor = system.open_descriptor(path, system.READ)
    try:
        system.fsync(descriptor)
    finally:
        system.close(descriptor)
