"""Worker processes of the receiver.

Theory of operation
-------------------
The parent opens the listening sockets and forks the workers, so that connections waiting for acceptance survive a
worker's death. The parent then only waits for processes and signals: it starts a new worker for one that died, passes
on SIGTERM, SIGINT and SIGHUP, and ends with its last worker. It has neither threads nor an event loop, hence may fork
at any time. Each worker holds the read end of a pipe whose write end only the parent has: the pipe ends with the
parent, and the workers then stop as on SIGTERM. Association counts are shared in memory (`SharedCounts`).
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Final, NoReturn

from dicomport.cli.failures import report_failure
from dicomport.cli.options.common import ExitCode
from dicomport.logs import get_logger
from dicomport.net import SharedCounts

_STARTED_SECONDS: Final = 2.0
"""A worker that fails earlier could not start; a new one would not start either."""

log = get_logger("workers")


@dataclass(frozen=True, slots=True)
class WorkerContext:
    """Resources of one worker."""

    number: int
    """Number of the worker, from 0."""
    sockets: Sequence[socket.socket]
    """Listening sockets, shared by all workers."""
    associations: SharedCounts
    """Numbers of associations of all workers."""
    parent: int
    """File descriptor of a pipe that ends with the parent process."""


def run_workers(count: int, sockets: Sequence[socket.socket], work: Callable[[WorkerContext], int]) -> int:
    """Run `work` in `count` processes until a signal ends them; return the exit code.

    `work` must return on SIGTERM and at the end of the parent's pipe. All workers share `sockets`, which listen.
    """
    counts = SharedCounts(count)

    def run_worker(number: int, parent: int) -> int:
        counts.use_row(number)
        return work(WorkerContext(number, sockets, counts, parent))

    return Supervisor(count, run_worker).run()


class Supervisor:
    """Starts, restarts and stops the workers."""

    def __init__(self, count: int, work: Callable[[int, int], int]) -> None:
        self._count = count
        self._work = work
        self._workers: dict[int, tuple[int, float]] = {}
        """Number and start time by process id."""
        self._stopping = False
        self._code: int = ExitCode.OK
        self._alive, self._held = os.pipe()

    def run(self) -> int:
        """Start the workers, wait for their end, and return the exit code."""
        signal.signal(signal.SIGTERM, self._stop)
        signal.signal(signal.SIGINT, self._stop)
        if not _is_ignored(signal.SIGHUP):
            signal.signal(signal.SIGHUP, self._pass_on)
        for number in range(self._count):
            self._start(number)
        while self._workers:
            process, status = os.wait()
            self._ended(process, os.waitstatus_to_exitcode(status))
        return self._code

    def _start(self, number: int) -> None:
        # A signal before the child sets its handlers would run those of the parent.
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        process = os.fork()
        if process == 0:
            self._run_worker(number, blocked)
        self._workers[process] = number, time.monotonic()
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)

    def _run_worker(self, number: int, blocked: set[int]) -> NoReturn:
        code: int = ExitCode.FAILED
        try:
            # The terminal sends Ctrl-C to the whole process group; only the parent passes it on.
            os.setpgid(0, 0)
            os.close(self._held)
            for known in _SIGNALS:
                if not _is_ignored(known):
                    signal.signal(known, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
            code = self._work(number, self._alive)
        except BaseException as error:  # noqa: BLE001  # the parent's code must not continue here
            code = report_failure(error)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def _ended(self, process: int, code: int) -> None:
        number, started = self._workers.pop(process)
        if self._stopping:
            self._code = self._code or (ExitCode.OK if code == 0 else ExitCode.FAILED)
        elif time.monotonic() - started < _STARTED_SECONDS and code > 0:
            self._code = code
            self._stop()
        else:
            log.warning("worker_exited", worker=number, process=process, exit_code=code)
            self._start(number)

    def _stop(self, _number: int = 0, _frame: FrameType | None = None) -> None:
        self._stopping = True
        self._pass_on(signal.SIGTERM)

    def _pass_on(self, number: int, _frame: FrameType | None = None) -> None:
        for process in self._workers:
            os.kill(process, number)


def _is_ignored(number: signal.Signals) -> bool:
    """Return whether this process was started with the signal ignored, as nohup does with SIGHUP."""
    return signal.getsignal(number) is signal.SIG_IGN


_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
