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
import stat
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from dicomport.files import system
from dicomport.files.names import MAX_COPIES, file_name, numbered_name
from dicomport.files.permissions import FILE_MODE, Owner, create_folder, give_own_folder, open_file
from dicomport.files.reading import read_part10
from dicomport.files.small import write_all
from dicomport.wire import Buffer, FileMeta, FileMetaError, encode_file_meta

TEMPORARY_SUFFIX: Final = ".part"
"""Suffix of a file that is being written; after a crash, such a file was never acknowledged."""

_RANDOM_BYTES: Final = 12
"""Random bytes in the name of a temporary file. If the name is taken nevertheless, creating the file fails."""

_COMPARED_BYTES: Final = 1 << 20


class Durability(enum.Enum):
    """The condition for acknowledging an instance."""

    FSYNC = "fsync"
    """The instance is on stable storage: file, folder and new parent folders are synced."""
    FLUSH = "flush"
    """The operating system has the instance: it survives the end of the process, but not a power failure."""


class TemporaryFile:
    """A Part 10 file with a random name, until it is linked to its final name or discarded. Methods raise `OSError`."""

    def __init__(self, folder: Path, meta: FileMeta, *, hard_links: bool = True) -> None:
        """Create the file in an existing folder, and write the File Meta Information.

        If `hard_links` is false, the file system has none.
        """
        self._hard_links = hard_links
        header = encode_file_meta(meta)
        self._data_offset = len(header)
        self.header_crc32 = zlib.crc32(header)
        """CRC-32 of preamble and File Meta Information."""
        self._path = f"{folder}/.{os.urandom(_RANDOM_BYTES).hex()}{TEMPORARY_SUFFIX}"
        self._descriptor = system.open_descriptor(self._path, system.CREATE_NEW, FILE_MODE)
        try:
            with contextlib.suppress(OSError):  # Some file systems have fixed permissions.
                system.fchmod(self._descriptor, FILE_MODE)
            self.write(header)
        except BaseException:
            self.discard()
            raise

    def write(self, data: Buffer) -> None:
        """Append bytes."""
        write_all(self._descriptor, data)

    def set_mtime(self, microseconds: int) -> None:
        """Set the modification time, in microseconds since 1970, if the file system can."""
        with contextlib.suppress(OSError):
            system.utime(self._descriptor, ns=(microseconds * 1000, microseconds * 1000))

    def give_to(self, owner: Owner) -> None:
        """Set the owner of the file, if the file system can."""
        owner.give(self._path)

    def status(self) -> os.stat_result:
        """Return the status of the file."""
        return system.fstat(self._descriptor)

    def sync(self) -> None:
        """Write the bytes to stable storage."""
        system.fsync(self._descriptor)

    def link(self, path: str | Path) -> None:
        """Link the file to a name, atomically. Raises `FileExistsError` if the name is taken."""
        if self._hard_links:
            try:
                system.link(self._path, path)
            except FileExistsError:
                if not (is_reserved(os.lstat(path)) and self._lacks_hard_links()):
                    raise
            except OSError:
                if not self._lacks_hard_links():
                    raise
            else:
                return
        with _reserved(path):
            self.overwrite(path)

    def _lacks_hard_links(self) -> bool:
        """Return whether a link to a free name fails too: the errors of file systems without hard links differ."""
        other = f"{self._path}{TEMPORARY_SUFFIX}"
        try:
            system.link(self._path, other)
        except OSError:
            return True
        system.unlink(other)
        return False

    def overwrite(self, path: str | Path) -> None:
        """Rename the file, and replace another file with that name."""
        system.replace(self._path, path)

    def discard(self) -> None:
        """Close the file and remove the temporary name. Call this once, at the end."""
        with contextlib.suppress(OSError):
            system.close(self._descriptor)
        with contextlib.suppress(FileNotFoundError):
            system.unlink(self._path)

    def has_data_set_of(self, path: str | Path) -> bool:
        """Return whether another file has the same data set. The File Meta Information may differ."""
        if os.path.islink(path):
            return False
        try:
            other = read_part10(path)
            if other.size != system.fstat(self._descriptor).st_size - self._data_offset:
                return False
            at = self._data_offset
            for chunk in other.chunks(_COMPARED_BYTES):
                if system.pread(self._descriptor, len(chunk), at) != chunk:
                    return False
                at += len(chunk)
        except (OSError, FileMetaError):
            return False
        return True


class PartialFile:
    """A temporary file in the folder of its final name, which it gets by `commit`."""

    def __init__(self, folder: Path, meta: FileMeta, durability: Durability, *, hard_links: bool = True) -> None:
        """Create the file, and the folder if it is missing. Raises `OSError`.

        If `hard_links` is false, the file system has none.
        """
        self._folder = folder
        self._durability = durability
        try:
            self._file = TemporaryFile(folder, meta, hard_links=hard_links)
        except FileNotFoundError:
            make_folder(folder, durability)
            self._file = TemporaryFile(folder, meta, hard_links=hard_links)

    def write(self, data: Buffer) -> None:
        """Append bytes. Raises `OSError`."""
        self._file.write(data)

    def commit(self, sop_instance_uid: str) -> str:
        """Link the file to its name, which is made of the SOP Instance UID, and return its path.

        An existing file is not overwritten. If it has the same data set, its path is returned; otherwise this file
        gets the next free name, "UID~2.dcm" and so on, up to `MAX_COPIES`.

        Raises `OSError` after removing the file, `FileExistsError` if no name is free. Only if the fsync of the folder
        failed, the file stays: it is complete, and may already be acknowledged to another sender of the same data set.
        """
        syncs = self._durability is Durability.FSYNC
        try:
            if syncs:
                self._file.sync()
            path = self._named(file_name(sop_instance_uid))
            if syncs:
                sync(self._folder)
        finally:
            self._file.discard()
        return path

    def discard(self) -> None:
        """Remove the temporary file. Call this once, unless `commit` was called."""
        self._file.discard()

    def _named(self, stem: str) -> str:
        path = ""
        for number in range(1, MAX_COPIES + 1):
            path = f"{self._folder}/{numbered_name(stem, number)}"
            try:
                self._file.link(path)
            except FileExistsError:
                if not self._file.has_data_set_of(path):
                    continue
                if self._durability is Durability.FSYNC:
                    sync(path)  # The process that wrote it may not have synced it yet.
            return path
        raise FileExistsError(errno.EEXIST, f"{MAX_COPIES} files with this SOP Instance UID exist", path)


def is_reserved(status: os.stat_result) -> bool:
    """Return whether a file only reserves a name: it is empty, and no file with File Meta Information is."""
    return status.st_size == 0 and stat.S_ISREG(status.st_mode)


@contextlib.contextmanager
def _reserved(path: str | Path) -> Iterator[None]:
    """Reserve a name by an empty file, so that only one of two writers gets it. Raises `FileExistsError`.

    The writer holds the lock of the empty file until it has renamed its own file. If it was killed before that, the
    lock is free, and the next writer gets the name.
    """
    try:
        descriptor = open_file(path, system.CREATE_NEW)
    except FileExistsError:
        if not is_reserved(os.lstat(path)):
            raise
        descriptor = system.open_descriptor(path, system.UPDATE | system.NOFOLLOW)
    try:
        taken = FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
        try:
            system.lock(descriptor, wait=False)
        except BlockingIOError:
            raise taken from None
        if not (is_reserved(os.lstat(path)) and os.path.samestat(os.lstat(path), system.fstat(descriptor))):
            raise taken
        try:
            yield
        except BaseException:
            system.unlink(path)
            raise
    finally:
        system.close(descriptor)


def make_folder(folder: Path, durability: Durability, owner: Owner | None = None) -> None:
    """Create a folder and its missing parents, and sync the parent of each new folder. Raises `OSError`.

    The new folders belong to `owner`, by default to the user of the process.
    """
    if not folder.is_dir():
        with created_folder(folder, durability, owner):
            pass


@contextlib.contextmanager
def created_folder(folder: Path, durability: Durability, owner: Owner | None = None) -> Iterator[None]:
    """Create a folder and its missing parents; after the block, sync the parent of each new folder.

    If one of these steps or the block raises `OSError`, the new folders are removed: an existing folder counts as
    durable, so the next call has to create and sync them again.
    """
    missing = list(itertools.takewhile(lambda path: not path.exists(), (folder, *folder.parents)))
    try:
        for path in reversed(missing):
            with contextlib.suppress(FileExistsError):
                create_folder(path)
                if owner is not None:
                    owner.give(path)
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
