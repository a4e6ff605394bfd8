"""Worker processes of the receiver.

Theory of operation
-------------------
The parent opens the listening sockets and forks the workers, so that connections waiting for acceptance survive a
worker's death. The parent then only waits for signals, all of which are blocked: it starts a new worker for one that
died, passes on SIGTERM and SIGINT, kills workers that do not stop in time, reloads on SIGHUP
(`dicomport.cli.receiver.handover`), and ends with its last worker. It has neither threads nor an event loop, hence may
fork at any time. If a worker cannot start, as on a full disk, the others stay, and the parent tries again with growing
delays. Only if the very first start of a worker fails, the parent ends all: the command line is wrong, or the archive
cannot be used. Each worker holds the read end of a pipe whose write end only the parent has: the pipe ends with the
parent, and the workers then stop as on SIGTERM. Association counts are shared in memory (`SharedCounts`).
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from typing import Final, NoReturn

from dicomport.cli.failures import report_failure
from dicomport.cli.options.common import ExitCode
from dicomport.cli.receiver.handover import Handover, channel
from dicomport.logs import get_logger
from dicomport.net import SharedCounts
from dicomport.values import frozen, slotted

_STARTED_SECONDS: Final = 2.0
"""A worker that fails earlier could not start."""

_FIRST_DELAY: Final = 1.0
"""Seconds until a worker that could not start is started again; each further delay is twice as long."""

_MAX_DELAY: Final = 60.0
"""Seconds: the longest delay, so that a disk with free space again is soon used by all workers."""

_ENDING_SECONDS: Final = 15.0
"""Time for a worker to abort associations and to write its index after the shutdown timeout."""

log = get_logger("workers")


@frozen
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
    settings: socket.socket
    """The socket on which the parent hands over settings."""


def run_workers(
    count: int,
    sockets: Sequence[socket.socket],
    work: Callable[[WorkerContext], int],
    reload: Handover,
    is_reload_due: Callable[[], bool],
    *,
    shutdown: float,
) -> int:
    """Run `work` in `count` processes until a signal ends them; return the exit code.

    `work` must return on SIGTERM and at the end of the parent's pipe. All workers share `sockets`, which listen.
    `reload` hands over settings on SIGHUP; `is_reload_due` returns whether there was a SIGHUP before this call.
    A worker that does not end within `shutdown` seconds, and the time that it needs itself, is killed.
    """
    counts = SharedCounts(count)

    def run_worker(number: int, parent: int, settings: socket.socket) -> int:
        counts.use_row(number)
        return work(WorkerContext(number, sockets, counts, parent, settings))

    return Supervisor(count, run_worker, reload, is_reload_due, stop_within=shutdown + _ENDING_SECONDS).run()


@slotted
class _Worker:
    """One of the workers: its process, or the time of its next start."""

    number: int
    process: int = 0
    settings: socket.socket | None = None
    """The parent's socket to the process."""
    started: float = 0.0
    due: float = 0.0
    """Time of the next start; only without a process."""
    failures: int = 0
    """Number of starts that failed since the last one that succeeded."""
    has_started: bool = False


class Supervisor:
    """Starts, restarts and stops the workers."""

    def __init__(
        self,
        count: int,
        work: Callable[[int, int, socket.socket], int],
        reload: Handover,
        is_reload_due: Callable[[], bool],
        *,
        stop_within: float,
    ) -> None:
        self._work = work
        self._reload = reload
        self._is_reload_due = is_reload_due
        self._workers = [_Worker(number) for number in range(count)]
        self._stopping = False
        self._stop_within = stop_within
        self._kill_at: float | None = None
        """Time when workers that still run are killed; None before the stop and after that."""
        self._code: int = ExitCode.OK
        self._alive, self._held = os.pipe()

    def run(self) -> int:
        """Start the workers, wait for their end, and return the exit code."""
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        try:
            for worker in self._workers:
                self._start(worker, blocked)
            if self._is_reload_due():
                self._begin_reload()
            while self._running() or not self._stopping:
                self._handle(self._next_signal())
                self._reap()
                self._reload.check_deadline()
                self._kill_late_workers()
                for worker in self._startable():
                    if time.monotonic() >= worker.due:
                        self._start(worker, blocked)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        return self._code

    def _running(self) -> list[_Worker]:
        return [worker for worker in self._workers if worker.process]

    def _startable(self) -> list[_Worker]:
        """Return the workers without a process that may get one; none while settings are read for the others."""
        if self._stopping or self._reload.process:
            return []
        return [worker for worker in self._workers if not worker.process]

    def _next_signal(self) -> int | None:
        """Wait for a signal, or until a worker or the end of a reload is due; return the signal."""
        due = [worker.due for worker in self._startable()]
        if self._reload.process:
            due.append(self._reload.deadline)
        if self._kill_at is not None:
            due.append(self._kill_at)
        if not due:
            return signal.sigwaitinfo(_SIGNALS).si_signo
        found = signal.sigtimedwait(_SIGNALS, max(0.0, min(due) - time.monotonic()))
        return None if found is None else found.si_signo

    def _handle(self, number: int | None) -> None:
        if number in (signal.SIGTERM, signal.SIGINT):
            self._stop()
        elif number == signal.SIGHUP and not self._stopping:
            self._begin_reload()

    def _begin_reload(self) -> None:
        self._reload.begin(self._channels(), self._fork)

    def _channels(self) -> dict[int, socket.socket]:
        return {worker.number: worker.settings for worker in self._running() if worker.settings is not None}

    def _start(self, worker: _Worker, blocked: set[int]) -> None:
        worker.settings, settings = channel()
        worker.process = self._fork(lambda: self._run_worker(worker.number, blocked, settings))
        settings.close()
        worker.started = time.monotonic()

    def _run_worker(self, number: int, blocked: set[int], settings: socket.socket) -> int:
        # The terminal sends Ctrl-C to the whole process group; only the parent passes it on.
        os.setpgid(0, 0)
        for sock in (worker.settings for worker in self._workers):
            if sock is not None:
                sock.close()
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        return self._work(number, self._alive, settings)

    def _fork(self, run: Callable[[], int]) -> int:
        """Run a function in a new process, and return the number of the process."""
        process = os.fork()
        if not process:
            self._run_child(run)
        return process

    def _run_child(self, run: Callable[[], int]) -> NoReturn:
        code: int = ExitCode.FAILED
        try:
            os.close(self._held)
            code = run()
        except BaseException as error:  # noqa: BLE001  # the parent's code must not continue here
            code = report_failure(error)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def _reap(self) -> None:
        """Handle each process that has ended. One signal may stand for several."""
        while self._running() or self._reload.process:
            process, status = os.waitpid(-1, os.WNOHANG)
            if not process:
                return
            code = os.waitstatus_to_exitcode(status)
            if process == self._reload.process:
                if self._reload.ended(code, self._channels()) and not self._stopping:
                    self._begin_reload()
                continue
            for worker in self._running():
                if worker.process == process:
                    self._ended(worker, code)

    def _ended(self, worker: _Worker, code: int) -> None:
        process, worker.process = worker.process, 0
        if worker.settings is not None:
            worker.settings.close()
            worker.settings = None
        failed = time.monotonic() - worker.started < _STARTED_SECONDS and code > 0
        if self._stopping:
            # SIGTERM itself ends a worker that does not serve yet.
            self._code = self._code or (ExitCode.OK if code in (0, -signal.SIGTERM) else ExitCode.FAILED)
        elif failed and not worker.has_started:
            self._code = code
            self._stop()
        else:
            worker.failures = worker.failures + 1 if failed else 0
            delay = min(_MAX_DELAY, _FIRST_DELAY * 2 ** min(worker.failures - 1, 10)) if failed else 0.0
            worker.due = time.monotonic() + delay
            log.warning("worker_exited", worker=worker.number, process=process, exit_code=code, retry_after_s=delay)
        worker.has_started = True

    def _stop(self) -> None:
        if not self._stopping:
            self._kill_at = time.monotonic() + self._stop_within
        self._stopping = True
        self._reload.kill("the receiver stops")
        for worker in self._running():
            os.kill(worker.process, signal.SIGTERM)

    def _kill_late_workers(self) -> None:
        """Kill the workers that did not stop in time, such as one that a debugger holds."""
        if self._kill_at is None or time.monotonic() < self._kill_at:
            return
        self._kill_at = None
        for worker in self._running():
            log.error("worker_killed", worker=worker.number, process=worker.process)
            os.kill(worker.process, signal.SIGKILL)


_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)
