"""Processes: starting, awaiting and ending them, and measuring their use of resources."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

__all__ = [
    "FailedError",
    "Running",
    "Spent",
    "cpu_seconds",
    "ended",
    "free_port",
    "memory_mib",
    "running",
    "serving",
]

_ROOT: Final = Path(__file__).parent.parent
_TICKS: Final = os.sysconf("SC_CLK_TCK")
_LISTEN: Final = "0A"
"""The state of a listening socket in /proc/net/tcp."""
_MAX_SECONDS: Final = 1200.0
"""Timeout after which a program is killed and counts as failed."""
_STARTS_WITHIN: Final = 30.0
_ENDS_WITHIN: Final = 15.0
_LOOKS_AGAIN_AFTER: Final = 0.02


class FailedError(Exception):
    """A program failed; the message contains its output."""


@dataclass(frozen=True, slots=True)
class Running:
    """A running program."""

    process: subprocess.Popen[str]
    name: str
    log: Path
    """The file of its standard error."""

    def last_words(self) -> str:
        """Return the end of its standard error."""
        return " / ".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-3:])

    def read_line(self) -> str:
        """Wait for a line on its standard output. Raises `FailedError` if there is none."""
        line = self.process.stdout.readline() if self.process.stdout else ""
        if not line:
            raise FailedError(f"{self.name} ended: {self.last_words()}")
        return line


@dataclass(frozen=True, slots=True)
class Spent:
    """The resources that one program used from start to end."""

    cpu: float
    """Seconds."""
    peak: float
    """MiB."""


@contextlib.contextmanager
def running(command: Sequence[str], environment: Mapping[str, str], log: Path) -> Iterator[Running]:
    """Run a program until it ends or, at the end of the block, is killed."""
    with (
        log.open("w", encoding="utf-8") as errors,
        subprocess.Popen(
            command,
            env={**_as_users_have_it(os.environ), **environment},
            cwd=_ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        ) as process,
    ):
        limit = threading.Timer(_MAX_SECONDS, process.kill)
        limit.start()
        try:
            yield Running(process, " ".join(command), log)
        finally:
            limit.cancel()
            if process.returncode is None:
                process.kill()


@contextlib.contextmanager
def serving(command: Sequence[str], environment: Mapping[str, str], log: Path, port: int) -> Iterator[int]:
    """Run a server until the end of the block, and yield its process id once it listens."""
    with running(command, environment, log) as server:
        process = server.process
        _wait_for(lambda: process.poll() is not None or _listens(port), _STARTS_WITHIN)
        if process.poll() is not None or not _listens(port):
            raise FailedError(f"{server.name} does not listen: {server.last_words()}")
        yield process.pid
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=_ENDS_WITHIN)


def ended(programs: Sequence[Running]) -> list[Spent]:
    """Wait until programs have ended, in any order. Raises `FailedError` if one failed."""
    peaks = dict.fromkeys(range(len(programs)), 0.0)
    poll = select.poll()
    with contextlib.ExitStack() as descriptors:
        waiting: dict[int, int] = {}
        for index, program in enumerate(programs):
            descriptor = os.pidfd_open(program.process.pid)
            descriptors.callback(os.close, descriptor)
            waiting[descriptor] = index
            poll.register(descriptor, select.POLLIN)
        while waiting:
            for descriptor, _ in poll.poll(_LOOKS_AGAIN_AFTER * 1000):
                poll.unregister(descriptor)
                del waiting[descriptor]
            for index in waiting.values():
                # The kernel's figures of an ended process include the memory of its parent before the exec.
                peaks[index] = _memory_mib(programs[index].process.pid, "VmHWM") or peaks[index]
    return [_reaped(program, peaks[index]) for index, program in enumerate(programs)]


def _as_users_have_it(environment: Mapping[str, str]) -> dict[str, str]:
    """Enable Python's cache of compiled modules: developers disable it and would measure the compiler."""
    return {name: value for name, value in environment.items() if name != "PYTHONDONTWRITEBYTECODE"}


def _reaped(program: Running, peak: float) -> Spent:
    process = program.process
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise FailedError(f"{program.name} failed with {process.returncode}: {program.last_words()}")
    return Spent(usage.ru_utime + usage.ru_stime, peak)


def cpu_seconds(pid: int) -> float:
    """Return the CPU time, seconds, of a running process and its children, ended ones included."""
    total = 0.0
    for member in _family(pid):
        # The kernel's number for the CPU-time clock of a process; /proc/PID/stat has the same in steps of 10 ms.
        total += time.clock_gettime(~member << 3 | 2)
        total += sum(map(int, _stat(member)[13:15])) / _TICKS
    return total


def memory_mib(pid: int, field: str) -> float:
    """Return the memory of a running process and its children: "VmRSS" now, "VmHWM" at the peak of each."""
    return sum(_memory_mib(member, field) for member in _family(pid))


def free_port() -> int:
    """Return a free port."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def _memory_mib(pid: int, field: str) -> float:
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    _, found, rest = status.partition(f"{field}:")
    return int(rest.split()[0]) / 1024 if found else 0.0


def _family(pid: int) -> list[int]:
    """Return a process and all its descendants."""
    parents: dict[int, int] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # It may have ended meanwhile.
            parents[int(folder.name)] = int(_stat(int(folder.name))[1])
    family = [pid]
    for member in family:
        family += [child for child, parent in parents.items() if parent == member]
    return family


def _stat(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat from the process's state on."""
    return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()


def _wait_for(condition: Callable[[], bool], seconds: float) -> None:
    until = time.monotonic() + seconds
    while not condition() and time.monotonic() < until:
        time.sleep(_LOOKS_AGAIN_AFTER)


def _listens(port: int) -> bool:
    """Return whether a process listens on a port, without a connection that would disturb it."""
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text(encoding="ascii").splitlines()[1:]:
            _, local, _, state, *_ = line.split()
            if state == _LISTEN and int(local.rpartition(":")[2], 16) == port:
                return True
    return False
