"""Waiting for the lock of a file that another process holds, for a limited time.

Theory of operation
-------------------
The system queues those that wait for a lock, and cannot end their wait at a deadline. So a thread waits, and the caller
waits for the thread. At its deadline, the caller leaves the descriptor to the thread, which closes it when it gets the
lock. The holder may work for long, as the recovery of a long journal does, and is waited for. A stopped process does
nothing until a user continues it, so the wait for it is short. Only Linux shows the process that holds a lock.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from pathlib import Path
from typing import Final

from dicomport.files import system
from dicomport.files.small import read_text

STOPPED_SECONDS: Final = 10.0
"""Time to wait for a stopped process."""

MAX_SECONDS: Final = 600.0
"""Time to wait for any process: the recovery of a journal of the greatest length takes half a minute."""

_LOCKS: Final = Path("/proc/locks")
_PROCESSES: Final = Path("/proc")
_STOPPED_STATES: Final = ("T", "t")
"""States of a process that a signal or a debugger has stopped (proc(5), /proc/PID/stat)."""


def wait_for_lock(
    descriptor: int, path: Path, *, stopped_seconds: float | None = None, max_seconds: float | None = None
) -> None:
    """Lock a file exclusively, and wait while another descriptor has the lock; `path` is that of the file.

    The defaults of the times are `STOPPED_SECONDS` and `MAX_SECONDS`. Closes the descriptor if it raises.

    Raises `TimeoutError`, whose text names the process and the remedy, after that time, and `OSError`.
    """
    try:
        system.lock(descriptor, wait=False)
    except BlockingIOError:
        pass
    except BaseException:
        system.close(descriptor)
        raise
    else:
        return
    step = STOPPED_SECONDS if stopped_seconds is None else stopped_seconds
    limit = MAX_SECONDS if max_seconds is None else max_seconds
    waiting = _Waiting(descriptor)
    try:
        waited = 0.0
        while not waiting.ended.wait(min(step, limit - waited)):
            waited += step
            holder = _holder(descriptor)
            is_stopped = holder is not None and _is_stopped(holder)
            if is_stopped or waited >= limit:
                raise TimeoutError(errno.ETIMEDOUT, _reason(holder, path, waited, is_stopped=is_stopped), str(path))
        if waiting.error is not None:
            raise waiting.error
    except BaseException:
        waiting.give_up()
        raise


class _Waiting:
    """The thread that waits for a lock."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._changing = threading.Lock()
        self._is_given_up = False
        self.error: OSError | None = None
        self.ended = threading.Event()
        """Set when the lock is held, or after an error."""
        threading.Thread(target=self._run, name="dicomport-lock", daemon=True).start()

    def give_up(self) -> None:
        """Close the descriptor, now or when the thread does not use it any more."""
        with self._changing:
            self._is_given_up = True
            if self.ended.is_set():
                system.close(self._descriptor)

    def _run(self) -> None:
        try:
            system.lock(self._descriptor, wait=True)
        except OSError as error:
            self.error = error
        with self._changing:
            self.ended.set()
            if self._is_given_up:
                system.close(self._descriptor)


def _reason(holder: int | None, path: Path, waited: float, *, is_stopped: bool) -> str:
    if is_stopped:
        return (
            f"process {holder} holds the lock of {path.parent.name} and is stopped: continue it with kill -CONT "
            f"{holder}, or end it"
        )
    if holder is not None:
        return f"process {holder} has held the lock of {path.parent.name} for {waited:.0f} seconds: end it"
    return f'another process has held the lock for {waited:.0f} seconds: end the process that fuser "{path}" lists'


def _holder(descriptor: int) -> int | None:
    """Return the number of the process that holds the lock of a file, or None if it is unknown."""
    status = system.fstat(descriptor)
    file = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    with contextlib.suppress(OSError, ValueError):
        for line in read_text(_LOCKS).splitlines():
            # Such as "1: FLOCK  ADVISORY  WRITE 4711 08:01:1234 0 EOF"; those that wait have "->" after the number.
            match line.split():
                case [_, "FLOCK", _, _, process, name, *_] if name == file and int(process) > 0:
                    return int(process)
    return None


def _is_stopped(process: int) -> bool:
    """Return whether a process is stopped. A process that has just ended is not."""
    with contextlib.suppress(OSError):
        # The name of the program is in parentheses, and may contain any character.
        state = read_text(_PROCESSES / str(process) / "stat", errors="replace").rpartition(")")[2].split()[:1]
        return bool(state) and state[0] in _STOPPED_STATES
    return False
