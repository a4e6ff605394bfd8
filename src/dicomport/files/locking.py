"""Locks on folders, and folders that belong to one process.

Theory of operation
-------------------
Several processes share a parent folder, and each has its own folder in it. The process holds an exclusive lock on the
file `lock` in its folder. The operating system releases that lock when the process ends, so a folder that another
process can lock was abandoned. Creating and recovering folders needs the lock of the parent folder: otherwise a new
folder that is not locked yet would look abandoned.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Container, Iterator
from pathlib import Path
from typing import Final

from dicomport.files import system
from dicomport.files.lock_waiting import wait_for_lock
from dicomport.files.permissions import create_folder, give_to_owner_of, open_as_owner
from dicomport.files.small import remove_content, remove_folder

LOCK: Final = "lock"
"""Name of the file in a folder whose lock is that of the folder."""

_RANDOM_BYTES: Final = 8
"""Random bytes in the name of a folder. If the name is taken nevertheless, creating the folder fails."""


@contextlib.contextmanager
def locked(folder: Path, *, wait: bool = True) -> Iterator[None]:
    """Wait for the lock of a folder, and hold it.

    Raises `BlockingIOError` if it is held by another descriptor and `wait` is false; `TimeoutError`, whose text names
    the process and the remedy, after the time of `wait_for_lock`; `OSError`.
    """
    lock = _lock(folder, wait=wait)
    try:
        yield
    finally:
        system.close(lock)


class ProcessFolder:
    """A folder of this process, locked until the process releases or removes it, or ends."""

    def __init__(self, parent: Path, prefix: str) -> None:
        """Create the folder and lock it; its name starts with `prefix`. Raises `OSError`."""
        with locked(parent):
            self.path = parent / f"{prefix}{os.urandom(_RANDOM_BYTES).hex()}"
            create_folder(self.path)
            # Other processes of the parent's owner write to the folder, and remove it if this process dies.
            give_to_owner_of(parent, self.path)
            self._lock = _lock(self.path, wait=False)

    def release(self) -> None:
        """Leave the folder to the next process that recovers abandoned folders."""
        system.close(self._lock)

    def remove(self) -> None:
        """Remove the folder. The next process removes files that cannot be removed now."""
        _remove(self.path, self._lock)


def abandoned_folders(parent: Path, prefix: str, kept: Container[Path] = ()) -> Iterator[Path]:
    """Yield the folders of processes that died, in the order of their names; remove each after its turn.

    A folder that is in `kept` after its turn stays.
    """
    with locked(parent):
        for folder in sorted(parent.glob(f"{prefix}*")):
            try:
                lock = _lock(folder, wait=False)
            except (BlockingIOError, FileNotFoundError):
                continue  # Its process is running, or has just removed it.
            try:
                yield folder
            except BaseException:
                system.close(lock)
                raise
            if folder in kept:
                system.close(lock)
            else:
                _remove(folder, lock)


def _remove(folder: Path, lock: int) -> None:
    """Remove a folder, and close its lock. The next process removes files that cannot be removed now."""
    # A network file system keeps an open file that is removed, under another name in its folder. So the lock is closed
    # before it is removed. Another process may find the folder abandoned meanwhile, and removes it too.
    try:
        remove_content(folder, except_for=LOCK)
    except OSError:
        system.close(lock)
        return
    system.close(lock)
    with contextlib.suppress(OSError):
        remove_folder(folder)


def is_abandoned(folder: Path) -> bool:
    """Return whether the process that owns a folder has died or removed the folder. Raises `OSError`."""
    try:
        system.close(_lock(folder, wait=False))
    except BlockingIOError:
        return False
    except FileNotFoundError:
        pass
    except PermissionError:
        # Without its lock, no process has the folder.
        if (folder / LOCK).exists():
            raise
    return True


def _lock(folder: Path, *, wait: bool) -> int:
    """Lock a folder; return the descriptor that holds the lock. See `locked`."""
    path = folder / LOCK
    descriptor = _open_lock(path)
    if wait:
        wait_for_lock(descriptor, path)
        return descriptor
    try:
        system.lock(descriptor, wait=False)
    except BaseException:
        system.close(descriptor)
        raise
    return descriptor


def _open_lock(path: Path) -> int:
    try:
        return open_as_owner(path, system.CREATE)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EROFS):
            raise
        # A reader finds out whether a process runs: an existing lock needs no permission to write.
        with contextlib.suppress(FileNotFoundError):
            return system.open_descriptor(path, system.READ)
        raise
