"""The abilities of a file system, tried once before files are written.

Theory of operation
-------------------
Network file systems lack calls. A call that keeps no promise may be missing: without hard links, a file gets its name
by another call; permissions and times stay as the file system sets them. A call that keeps a promise must work:
writing, renaming, locking, and syncing if an acknowledgement promises stable storage. `probe` tries each of them with a
temporary file, so that a receiver does not start and names the call, instead of refusing each instance.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

from dicomport.files import system
from dicomport.files.permissions import FILE_MODE, permissions_of
from dicomport.files.small import remove
from dicomport.files.temporary import TEMPORARY_SUFFIX, FileSystem
from dicomport.files.writing import Durability, created_folder, sync

T = TypeVar("T")

_RANDOM_BYTES: Final = 12
_OTHER: Final = "use another file system"
_NO_SYNC: Final = f"{_OTHER}, or --durability flush (Durability.FLUSH), which promises no stable storage"


def probe(folder: Path, durability: Durability) -> FileSystem:
    """Try the calls on files in an existing folder.

    Raises `OSError`, whose text names the call and the remedy, if a required call fails.
    """
    first, second = (folder / f".{os.urandom(_RANDOM_BYTES).hex()}{TEMPORARY_SUFFIX}" for _ in range(2))
    descriptor = _required("open", folder, _OTHER, lambda: system.open_descriptor(first, system.CREATE_NEW, FILE_MODE))
    try:
        _required("write", folder, _OTHER, lambda: system.write(descriptor, b"probe"))
        _required("flock", folder, _OTHER, lambda: system.lock(descriptor, wait=False))
        creates_modes = permissions_of(system.fstat(descriptor)) == FILE_MODE
        modes = _works(lambda: system.fchmod(descriptor, FILE_MODE))
        times = _works(lambda: system.utime(descriptor, ns=(0, 0)))
        if durability is Durability.FSYNC:
            _required("fsync of a file", folder, _NO_SYNC, lambda: system.fsync(descriptor))
            _required("fdatasync of a file", folder, _NO_SYNC, lambda: system.fdatasync(descriptor))
        hard_links = _works(lambda: system.link(first, second))
        _required("rename", folder, _OTHER, lambda: system.replace(first, second))
        if durability is Durability.FSYNC:
            _required("fsync of a folder", folder, _NO_SYNC, lambda: sync(folder))
    finally:
        system.close(descriptor)
        for path in (first, second):
            with contextlib.suppress(OSError):
                remove(path)
    return FileSystem(hard_links, modes, times, creates_modes)


def prepare(folder: Path, durability: Durability) -> FileSystem:
    """Create a folder and its missing parents, and `probe` it. Raises `OSError`; no new folder is left then."""
    with created_folder(folder, durability):
        return probe(folder, durability)


def free_bytes(folder: Path) -> int:
    """Return the free space of a file system that this user may use, bytes. Raises `OSError`."""
    status = system.statvfs(folder)
    return status.f_bavail * status.f_frsize


def _works(call: Callable[[], object]) -> bool:
    try:
        call()
    except OSError:
        return False
    return True


def _required(name: str, folder: Path, remedy: str, call: Callable[[], T]) -> T:
    try:
        return call()
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            remedy = "free some space"
        text = f"{name} fails ({os.strerror(error.errno or 0)}): {remedy}"
        raise type(error)(error.errno, text, str(folder)) from None
