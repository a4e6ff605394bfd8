"""Several processes that do the same, under one that starts them, starts another where one dies, and stops them all."""

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

import click

from dicomport.cli.console import show_error
from dicomport.cli.options.common import ExitCode
from dicomport.logs import get_logger
from dicomport.net import SharedCounts, listening_sockets

__all__ = ["WorkerContext", "run_workers"]

_STARTED_SECONDS: Final = 2.0
"""A worker that ends sooner could not start: another one could not either."""

log = get_logger("workers")


@dataclass(frozen=True, slots=True)
class WorkerContext:
    """What a worker has been given."""

    number: int
    """Which one it is, from 0."""
    sockets: Sequence[socket.socket]
    """They listen already, for all workers: what waits to be accepted survives the death of one."""
    associations: SharedCounts
    """How many there are of all workers together."""
    parent: int
    """A file descriptor that comes to its end with the parent process."""


def run_workers(count: int, host: str, port: int, work: Callable[[WorkerContext], int]) -> int:
    """Do `work` in `count` processes until a signal ends it, and give the exit code.

    `work` is to end on SIGTERM, and with the parent. SIGTERM, SIGINT and SIGHUP to the parent are passed on. Raises
    `OSError` where the address can't be had.
    """
    sockets = listening_sockets(host, port)
    counts = SharedCounts(count)

    def be_worker(number: int, parent: int) -> int:
        counts.take_row(number)
        return work(WorkerContext(number, sockets, counts, parent))

    return Supervisor(count, be_worker).run()


class Supervisor:
    """Keeps the workers running. It has no threads and no event loop, so that it can fork at any time."""

    def __init__(self, count: int, work: Callable[[int, int], int]) -> None:
        self._count = count
        self._work = work
        self._workers: dict[int, tuple[int, float]] = {}
        """Number and start of each, by process id."""
        self._stopping = False
        self._code: int = ExitCode.OK
        self._alive, self._held = os.pipe()

    def run(self) -> int:
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
        # A signal between the fork and the child's own handlers would be handled as the parent's.
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        process = os.fork()
        if process == 0:
            self._be_worker(number, blocked)
        self._workers[process] = number, time.monotonic()
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)

    def _be_worker(self, number: int, blocked: set[int]) -> NoReturn:
        code: int = ExitCode.FAILED
        try:
            # A terminal's Ctrl-C goes to every process of its group; the parent is to be the one that passes it on.
            os.setpgid(0, 0)
            os.close(self._held)
            for known in _SIGNALS:
                if not _is_ignored(known):
                    signal.signal(known, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
            code = self._work(number, self._alive)
        except click.ClickException as error:
            show_error(error)
            code = error.exit_code
        except BaseException:  # nothing of the parent's may run here
            log.exception("worker_failed", worker=number)
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
    """Tell whether whoever has started this process wants it to ignore a signal, as nohup does with SIGHUP."""
    return signal.getsignal(number) is signal.SIG_IGN


_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
