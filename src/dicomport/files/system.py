"""The operating system's calls on files and folders: open, read, write, name, remove, lock, and make durable.

No other module uses these functions of `os` and `fcntl`, nor the methods of `pathlib` and functions of `shutil` that
call them, so that platforms differ here only, and a test can make a call fail everywhere. Call them as attributes, such
as `system.fsync`: they are the functions themselves, without wrappers. `files.small` does whole files on top of them.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from os import (
    chmod,
    close,
    fstat,
    fsync,
    ftruncate,
    link,
    mkdir,
    open as open_descriptor,
    read,
    replace,
    rmdir,
    scandir,
    unlink,
    utime,
    write,
)
from typing import Final

if sys.platform != "win32":
    from os import chown, fchmod, pread, preadv, statvfs, writev

if sys.platform == "linux":
    from os import memfd_create

__all__ = [
    "APPEND", "CREATE", "CREATE_NEW", "FOLDER", "NOFOLLOW", "NONBLOCK", "READ", "UPDATE", "chmod", "chown", "close",
    "fchmod", "fdatasync", "fstat", "fsync", "ftruncate", "link", "lock", "memfd_create", "mkdir", "open_descriptor",
    "pread", "preadv", "read", "replace", "rmdir", "scandir", "statvfs", "unlink", "utime", "write", "writev",
]  # fmt: skip

_BINARY: Final[int] = getattr(os, "O_BINARY", 0)
READ: Final = os.O_RDONLY | _BINARY
UPDATE: Final = os.O_RDWR | _BINARY
CREATE: Final = os.O_RDWR | os.O_CREAT | _BINARY
CREATE_NEW: Final = CREATE | os.O_EXCL
"""Raises `FileExistsError` if the name is taken."""
APPEND: Final = os.O_APPEND
FOLDER: Final[int] = READ | getattr(os, "O_DIRECTORY", 0)
"""Raises `OSError` if the path is not a folder."""
NONBLOCK: Final[int] = getattr(os, "O_NONBLOCK", 0)
NOFOLLOW: Final[int] = getattr(os, "O_NOFOLLOW", 0)
"""Raises `OSError` if the last part of the path is a symbolic link."""

fdatasync: Callable[[int], None] = getattr(os, "fdatasync", fsync)
"""Write the content of a file to stable storage, but not its times; macOS has only `fsync`."""


def lock(descriptor: int, *, wait: bool) -> None:
    """Lock a file exclusively, until the descriptor is closed or the process ends.

    Raises `BlockingIOError` if another descriptor has the lock and `wait` is false, and `OSError`.
    """
    import fcntl

    fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
