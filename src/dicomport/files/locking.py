"""Folders that one process owns for as long as it lives."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["lock_folder"]


def lock_folder(folder: Path, *, wait: bool) -> int:
    """Lock a folder and give the descriptor to close: the lock lasts until then, or until the process ends.

    Raises `BlockingIOError` where another process has it and `wait` is false, and `OSError`.
    """
    import fcntl

    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor
