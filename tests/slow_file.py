"""A file on a slow disk: a program that opens it waits until the test lets it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
from collections.abc import Iterator
from pathlib import Path

from tests.cli.commands import wait_until

__all__ = ["SlowFile", "slow_file"]


class SlowFile:
    """A file with a lease (fcntl(2)): the kernel delays its readers, at most for /proc/sys/fs/lease-break-time."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def wait_for_reader(self) -> None:
        """Wait until a program tries to open it."""
        wait_until(self.holds_reader)

    def holds_reader(self) -> bool:
        """Return whether the reader still waits."""
        with Path("/proc/locks").open() as locks:
            return any("LEASE" in line and "BREAKING" in line and f" {os.getpid()} " in line for line in locks)

    def release(self) -> None:
        """Release the file that the reader has found."""
        fcntl.fcntl(self._descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)


@contextlib.contextmanager
def slow_file(path: Path) -> Iterator[SlowFile]:
    """Make a file slow."""
    # The kernel also sends a signal, which would end this process.
    before = signal.signal(signal.SIGIO, lambda _number, _frame: None)
    descriptor = os.open(path, os.O_RDWR)
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        yield SlowFile(descriptor)
    finally:
        os.close(descriptor)
        signal.signal(signal.SIGIO, before)
