"""Temporary files: Part 10 files until they get their final names.

Theory of operation
-------------------
The name of a temporary file is random, so that another user cannot create it first: random bytes of the process, and a
number. Creating a file fails if its name exists, and then the process chooses other random bytes; a process that is
forked chooses its own. The File Meta Information is written together with the first bytes of the data set, by one
system call. `link` adds the final name, atomically, and fails if another file has that name.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import stat
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from dicomport.files import system
from dicomport.files.permissions import FILE_MODE, Owner, open_file
from dicomport.files.reading import read_part10
from dicomport.files.small import write_all
from dicomport.values import frozen
from dicomport.wire import Buffer, FileMetaError

TEMPORARY_SUFFIX: Final = ".part"
"""Suffix of a file that is being written; after a crash, such a file was never acknowledged."""

_RANDOM_BYTES: Final = 12
_COMPARED_BYTES: Final = 1 << 20


@frozen
class FileSystem:
    """The abilities of a file system beyond those that are required. `probe` returns them."""

    hard_links: bool = True
    modes: bool = True
    """Whether permissions can be set."""
    times: bool = True
    """Whether modification times can be set."""
    creates_modes: bool = False
    """Whether new files have `FILE_MODE` without being changed: neither the umask nor the folder restricts it."""

    @property
    def missing(self) -> tuple[str, ...]:
        """Names of the missing calls."""
        calls = {"link": self.hard_links, "chmod": self.modes, "utime": self.times}
        return tuple(call for call, works in calls.items() if not works)


UNKNOWN_FILE_SYSTEM: Final = FileSystem()
"""For a folder that was not probed: each call is tried when it is needed."""


class _Names:
    """The names of this process's temporary files."""

    def __init__(self) -> None:
        self.renew()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self.renew)

    def renew(self) -> None:
        """Choose other random bytes: a name exists, or this process is a new one."""
        self._prefix = f".{os.urandom(_RANDOM_BYTES).hex()}-"
        self._numbers = itertools.count()

    def next(self) -> str:
        """Return a name that this process has not used. Call this from any thread."""
        return f"{self._prefix}{next(self._numbers):x}{TEMPORARY_SUFFIX}"


_names: Final = _Names()


class TemporaryFile:
    """A Part 10 file with a random name, until it is linked to its final name or discarded. Methods raise `OSError`."""

    def __init__(self, folder: str | Path, header: bytes, file_system: FileSystem = UNKNOWN_FILE_SYSTEM) -> None:
        """Create the file in an existing folder; `header` is its File Meta Information, as from `encode_file_meta`."""
        self._file_system = file_system
        self._header = self._unwritten = header
        self._path, self._descriptor = _create(folder)
        if not file_system.creates_modes and file_system.modes:
            with contextlib.suppress(OSError):  # Some file systems have fixed permissions.
                system.fchmod(self._descriptor, FILE_MODE)

    @property
    def header_crc32(self) -> int:
        """CRC-32 of preamble and File Meta Information."""
        return zlib.crc32(self._header)

    def write(self, data: Buffer) -> None:
        """Append bytes of the data set, after the File Meta Information. Call this once at least."""
        header = self._unwritten
        if header:
            self._unwritten = b""
            written = system.writev(self._descriptor, (header, data))
            if written < len(header):
                write_all(self._descriptor, header[written:])
                written = len(header)
            data = memoryview(data)[written - len(header) :]
        if data:
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

    def link(self, path: str | Path, folder: int | None = None) -> None:
        """Link the file to a name, atomically. Raises `FileExistsError` if the name is taken.

        `folder` is the descriptor of the folder to which a relative path is relative.
        """
        if self._file_system.hard_links:
            try:
                system.link(self._path, path, dst_dir_fd=folder)
            except FileExistsError:
                if not (is_reserved(os.lstat(path, dir_fd=folder)) and self._lacks_hard_links()):
                    raise
            except OSError:
                if not self._lacks_hard_links():
                    raise
            else:
                return
        with _reserved(path, folder):
            self.overwrite(path, folder)

    def _lacks_hard_links(self) -> bool:
        """Return whether a link to a free name fails too: the errors of file systems without hard links differ."""
        other = f"{self._path}{TEMPORARY_SUFFIX}"
        try:
            system.link(self._path, other)
        except OSError:
            return True
        system.unlink(other)
        return False

    def overwrite(self, path: str | Path, folder: int | None = None) -> None:
        """Rename the file, and replace another file with that name; `folder` is as for `link`."""
        system.replace(self._path, path, dst_dir_fd=folder)

    def discard(self) -> None:
        """Close the file and remove the temporary name. Call this once, at the end."""
        try:  # noqa: SIM105  # for each instance; `suppress` takes longer than the call
            system.close(self._descriptor)
        except OSError:
            pass
        try:  # noqa: SIM105  # see above
            system.unlink(self._path)
        except FileNotFoundError:
            pass

    def has_data_set_of(self, path: str | Path) -> bool:
        """Return whether another file has the same data set. The File Meta Information may differ."""
        if Path(path).is_symlink():
            return False
        start = len(self._header)
        try:
            other = read_part10(path)
            if other.size != system.fstat(self._descriptor).st_size - start:
                return False
            at = start
            for chunk in other.chunks(_COMPARED_BYTES):
                if system.pread(self._descriptor, len(chunk), at) != chunk:
                    return False
                at += len(chunk)
        except (OSError, FileMetaError):
            return False
        return True


def _create(folder: str | Path) -> tuple[str, int]:
    """Create a file in a folder; return its path and its descriptor."""
    path = f"{folder}/{_names.next()}"
    try:
        return path, system.open_descriptor(path, system.CREATE_NEW, FILE_MODE)
    except FileExistsError:
        _names.renew()
    path = f"{folder}/{_names.next()}"
    return path, system.open_descriptor(path, system.CREATE_NEW, FILE_MODE)


def is_reserved(status: os.stat_result) -> bool:
    """Return whether a file only reserves a name: it is empty, and no file with File Meta Information is."""
    return status.st_size == 0 and stat.S_ISREG(status.st_mode)


@contextlib.contextmanager
def _reserved(path: str | Path, folder: int | None) -> Iterator[None]:
    """Reserve a name by an empty file, so that only one of two writers gets it. Raises `FileExistsError`.

    The writer holds the lock of the empty file until it has renamed its own file. If it was killed before that, the
    lock is free, and the next writer gets the name.
    """
    try:
        descriptor = open_file(path, system.CREATE_NEW, folder)
    except FileExistsError:
        if not is_reserved(os.lstat(path, dir_fd=folder)):
            raise
        descriptor = system.open_descriptor(path, system.UPDATE | system.NOFOLLOW, dir_fd=folder)
    try:
        taken = FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
        try:
            system.lock(descriptor, wait=False)
        except BlockingIOError:
            raise taken from None
        status = os.lstat(path, dir_fd=folder)
        if not (is_reserved(status) and os.path.samestat(status, system.fstat(descriptor))):
            raise taken
        try:
            yield
        except BaseException:
            system.unlink(path, dir_fd=folder)
            raise
    finally:
        system.close(descriptor)
