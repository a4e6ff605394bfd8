"""Part 10 files that appear whole or not at all.

The order is the promise: a temporary file in the target folder, all bytes, fsync of the file, the final name, fsync
of the folder. Only then is the instance there. Everything here blocks; whoever has an event loop calls it from a
thread.
"""

from __future__ import annotations

import contextlib
import enum
import errno
import itertools
import os
from pathlib import Path
from typing import Final

from dicomport.files.names import file_name
from dicomport.files.reading import read_part10
from dicomport.wire import Buffer, FileMeta, FileMetaError, encode_file_meta

__all__ = ["TEMPORARY_SUFFIX", "Durability", "PartialFile", "TemporaryFile", "make_folder", "sync"]

TEMPORARY_SUFFIX: Final = ".part"
"""Of a file that is still being written; one that is left over was never acknowledged."""

_RANDOM_BYTES: Final = 12
"""Of a temporary file's name. Whose name is taken all the same, another process's, fails: once in 2 to the 48th."""

_MODE: Final = 0o640
"""Never executable, whatever the bytes pretend to be."""

_NO_HARD_LINKS: Final = frozenset((errno.EPERM, errno.ENOTSUP, errno.EMLINK, errno.ENOSYS))
_COMPARED_AT_ONCE: Final = 1 << 20


class Durability(enum.Enum):
    """When an instance counts as stored."""

    FSYNC = "fsync"
    """Once it is on stable storage: file, folder and new parent folders are synced."""
    FLUSH = "flush"
    """Once the operating system has it: it outlives the process, not a power failure."""


class TemporaryFile:
    """A Part 10 file under a name of no meaning, until it is given its own or discarded. All of it raises `OSError`."""

    def __init__(self, folder: Path, meta: FileMeta) -> None:
        """Create it in a folder that is there, and write the File Meta Information."""
        header = encode_file_meta(meta)
        self._data_offset = len(header)
        self._path = f"{folder}/.{os.urandom(_RANDOM_BYTES).hex()}{TEMPORARY_SUFFIX}"
        self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _MODE)
        try:
            os.fchmod(self._descriptor, _MODE)
            self.write(header)
        except BaseException:
            self.discard()
            raise

    def write(self, data: Buffer) -> None:
        """Append bytes."""
        view = memoryview(data)
        while view:
            view = view[os.write(self._descriptor, view) :]

    def stamp(self, microseconds: int) -> None:
        """Set the time of the last change, in microseconds since 1970: when the instance came."""
        os.utime(self._descriptor, ns=(microseconds * 1000, microseconds * 1000))

    @property
    def inode(self) -> int:
        """What tells the file from any other, whatever its name."""
        return os.fstat(self._descriptor).st_ino

    def sync(self) -> None:
        """Make the bytes durable."""
        os.fsync(self._descriptor)

    def link(self, path: str | Path) -> None:
        """Give the file a name that nobody has, atomically, or raise FileExistsError."""
        try:
            os.link(self._path, path)
        except OSError as error:
            if error.errno not in _NO_HARD_LINKS:
                raise
            # The name is taken with an empty file first, so that of two writers only one gets it.
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _MODE))
            try:
                self.replace(path)
            except BaseException:
                os.unlink(path)
                raise

    def replace(self, path: str | Path) -> None:
        """Give the file a name, whoever has it now."""
        os.replace(self._path, path)

    def discard(self) -> None:
        """Remove the temporary name. To be called once, last."""
        with contextlib.suppress(OSError):
            os.close(self._descriptor)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path)

    def has_data_set_of(self, path: str | Path) -> bool:
        """Compare with a file that is there, group 0002 aside: it tells the way of a data set, not what it is."""
        if os.path.islink(path):
            return False
        try:
            other = read_part10(path)
            if other.size != os.fstat(self._descriptor).st_size - self._data_offset:
                return False
            at = self._data_offset
            for chunk in other.chunks(_COMPARED_AT_ONCE):
                if os.pread(self._descriptor, len(chunk), at) != chunk:
                    return False
                at += len(chunk)
        except (OSError, FileMetaError):
            return False
        return True


class PartialFile:
    """A Part 10 file in the making in the folder where it will be, invisible under its final name until `commit`."""

    def __init__(self, folder: Path, meta: FileMeta, durability: Durability) -> None:
        """Create it; the folder is made where it is missing. Raises `OSError`."""
        self._folder = folder
        self._durability = durability
        try:
            self._file = TemporaryFile(folder, meta)
        except FileNotFoundError:
            make_folder(folder, durability)
            self._file = TemporaryFile(folder, meta)

    def write(self, data: Buffer) -> None:
        """Append bytes. Raises `OSError`."""
        self._file.write(data)

    def commit(self, sop_instance_uid: str) -> str:
        """Give the file its name, made of the SOP Instance UID, and return its path.

        A file of that name is never overwritten: with the same data set it stands for this one too, with another one
        this file gets the next free name, "UID~2.dcm" and so on.

        Raises `OSError`; then nothing is left, unless the folder alone could not be synced: the file is whole then,
        and stays, as another sender may have been told already that this data set is here.
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
        """Remove the temporary file. To be called once; `commit` does it itself."""
        self._file.discard()

    def _named(self, stem: str) -> str:
        path = f"{self._folder}/{stem}.dcm"
        number = 1
        while True:
            try:
                self._file.link(path)
            except FileExistsError:
                if self._file.has_data_set_of(path):
                    if self._durability is Durability.FSYNC:
                        sync(path)  # Whoever wrote it may not have waited for the disk.
                    return path
                number += 1
                path = f"{self._folder}/{stem}~{number}.dcm"
            else:
                return path


def make_folder(folder: Path, durability: Durability) -> None:
    """Make a folder and its missing parents; each that is new is made durable in its parent. Raises `OSError`."""
    if folder.is_dir():
        return
    missing = list(itertools.takewhile(lambda path: not path.exists(), (folder, *folder.parents)))
    folder.mkdir(parents=True, exist_ok=True)
    if durability is Durability.FSYNC:
        try:
            for path in missing:
                sync(path.parent)
        except OSError:
            # Whoever finds a folder takes it to be durable: the next one has to make them anew.
            with contextlib.suppress(OSError):
                for path in missing:
                    path.rmdir()
            raise


def sync(path: str | Path) -> None:
    """Make a file durable, or the names in a folder."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
