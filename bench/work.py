"""Work with a receiver, and its measurement."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

from bench.data import FIVES, Data, Stock
from bench.peers import IDLE, LINK, STORESCU, Program
from bench.processes import FailedError, cpu_seconds, ended, memory_mib, running

__all__ = ["Figures", "Server", "Work", "delayed", "disturbed", "echoes", "idle", "measure", "send"]

_FIVE: Final = 5
_NEXT_FIVE_AFTER: Final = 0.2
"""Seconds from the end of one sender of five files to the start of the next one."""

_SETTLED: Final = 0.3
"""Seconds without work after which a receiver counts as idle."""
_NO_WORK: Final = 0.003
_SETTLES_WITHIN: Final = 10.0

_KEPT: Final = 0.9
"""Minimum stored size relative to the sent size: File Meta Information differs between receivers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """The measurements of one round; values that do not apply are 0. Times are in seconds, memory in MiB."""

    seconds: float = 0.0
    """From the start of the first sender's process to the end of the last one's; for echoes, of one round trip."""
    instances: int = 0
    size: int = 0
    """Size of all sent files, bytes."""
    server_cpu: float = 0.0
    """Children included, until the receiver is idle."""
    server_peak: float = 0.0
    server_growth: float = 0.0
    sender_cpu: float = 0.0
    sender_peak: float = 0.0

    @property
    def rate(self) -> float:
        """Instances per second."""
        return self.instances / self.seconds if self.seconds else 0.0

    @property
    def throughput(self) -> float:
        """Megabytes per second."""
        return self.size / 1e6 / self.seconds if self.seconds else 0.0


@dataclass(frozen=True, slots=True)
class Server:
    """A running receiver."""

    pid: int
    port: int
    folder: Path
    """The receiver's storage folder."""
    scratch: Path
    """Folder of the senders' output."""
    stores: bool
    """Whether it stores each instance in a file."""


Do: TypeAlias = Callable[[Server, Stock], Figures]


@dataclass(frozen=True, slots=True)
class Work:
    """Work with a receiver. The functions below return the same object for the same arguments."""

    name: str
    programs: tuple[Program, ...]
    """The programs that it runs."""
    folders: tuple[tuple[Data, int], ...]
    """The instances that it sends, and the number of parts."""
    do: Do
    """Performs the work; raises `FailedError`."""


@functools.cache
def send(sender: Program, data: Data, at_once: int = 1) -> Work:
    """Send instances, all by one process or in equal parts by several at once."""

    def do(server: Server, stock: Stock) -> Figures:
        instances, size = stock.size(data)
        figures = _run(sender, server, stock.parts(data, at_once))
        return dataclasses.replace(figures, instances=instances, size=size)

    name = sender.name if at_once == 1 else f"{at_once} times {sender.name}"
    return Work(name, (sender,), ((data, at_once),), do)


@functools.cache
def disturbed(work: Work) -> Work:
    """Do the same while other senders send five files each, over separate associations."""
    parts = FIVES.instances // _FIVE

    def do(server: Server, stock: Stock) -> Figures:
        over = threading.Event()

        def disturb() -> None:
            for folder in filter(_is_filled, stock.parts(FIVES, parts)):
                if over.wait(_NEXT_FIVE_AFTER):
                    return
                _run(STORESCU, server, [folder])

        disturbing = threading.Thread(target=disturb)
        disturbing.start()
        try:
            return work.do(server, stock)
        finally:
            over.set()
            disturbing.join()

    return Work(f"{work.name}, and fives", (*work.programs, STORESCU), (*work.folders, (FIVES, parts)), do)


@functools.cache
def delayed(work: Work, round_trip: float) -> Work:
    """Do the same over a link with this round-trip time, seconds."""

    def do(server: Server, stock: Stock) -> Figures:
        from dicomport.testing import Link  # noqa: PLC0415

        with Link(server.port, delay=round_trip / 2) as link:
            return work.do(dataclasses.replace(server, port=link.port), stock)

    return Work(f"{work.name}, {round_trip * 1000:.0f} ms", (*work.programs, LINK), work.folders, do)


@functools.cache
def echoes(client: Program, number: int) -> Work:
    """Send C-ECHO repeatedly over an association."""

    def do(server: Server, stock: Stock) -> Figures:
        scaled = stock.scaled(number)
        log = server.scratch / "echoes"
        with running(client.command(server.port, scaled), client.environment, log) as program:
            return Figures(seconds=float(program.read_line()) / scaled)

    return Work(client.name, (client,), (), do)


@functools.cache
def idle(number: int) -> Work:
    """Open associations and keep them idle. The first one, which triggers the imports, does not count."""

    def do(server: Server, stock: Stock) -> Figures:
        log = server.scratch / "idle"
        with running(IDLE.command(server.port, stock.scaled(number)), IDLE.environment, log) as program:
            program.read_line()  # The first is established.
            before = memory_mib(server.pid, "VmRSS")
            program.read_line()  # All are.
            return Figures(server_growth=memory_mib(server.pid, "VmRSS") - before)

    return Work(IDLE.name, (IDLE,), (), do)


def measure(work: Work, server: Server, stock: Stock) -> Figures:
    """Perform some work and measure the receiver. Raises `FailedError`."""
    before = cpu_seconds(server.pid)
    figures = work.do(server, stock)
    after = _settled(server.pid)
    if server.stores:
        _check(server.folder, figures)
    return dataclasses.replace(figures, server_cpu=after - before, server_peak=memory_mib(server.pid, "VmHWM"))


def _run(sender: Program, server: Server, folders: Sequence[Path]) -> Figures:
    """Run one sender for each folder, all at once."""
    with contextlib.ExitStack() as running_ones:
        started = time.perf_counter()
        senders = []
        for folder in folders:
            log = server.scratch / folder.name
            command = sender.command(server.port, folder)
            senders.append(running_ones.enter_context(running(command, sender.environment, log)))
        spent = ended(senders)
        return Figures(
            seconds=time.perf_counter() - started,
            sender_cpu=sum(one.cpu for one in spent),
            sender_peak=max(one.peak for one in spent),
        )


def _is_filled(folder: Path) -> bool:
    return any(folder.iterdir())


def _settled(pid: int) -> float:
    """Return a receiver's CPU time, seconds, once it is idle."""
    cpu = cpu_seconds(pid)
    until = time.monotonic() + _SETTLES_WITHIN
    while time.monotonic() < until:
        time.sleep(_SETTLED)
        before, cpu = cpu, cpu_seconds(pid)
        if cpu - before < _NO_WORK:
            break
    return cpu


def _check(folder: Path, figures: Figures) -> None:
    """Raise `FailedError` unless all sent instances were stored."""
    stored = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    if len(stored) < figures.instances or sum(stored) < figures.size * _KEPT:
        raise FailedError(f"{len(stored)} files were stored of {figures.instances}")
