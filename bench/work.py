"""What is done with a receiver, and what it takes."""

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
"""Seconds without work after which a receiver is taken to have done all that it does after its answers."""
_NO_WORK: Final = 0.003
_SETTLES_WITHIN: Final = 10.0

_KEPT: Final = 0.9
"""What is stored of the length of what was sent at least: File Meta Information is each receiver's own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What one round of some work took; what does not apply is 0. Times are in seconds, memory in MiB."""

    seconds: float = 0.0
    """From the start of the first sender's process to the end of the last one's; for echoes, of one round trip."""
    instances: int = 0
    size: int = 0
    """Of all files that were sent, bytes."""
    server_cpu: float = 0.0
    """Children included, until the receiver has come to rest."""
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
    """A receiver that runs."""

    pid: int
    port: int
    folder: Path
    """Where it stores."""
    scratch: Path
    """Where senders leave what they have to say."""


Do: TypeAlias = Callable[[Server, Stock], Figures]


@dataclass(frozen=True, slots=True)
class Work:
    """Something to do with a receiver. The functions below give the same one each time that they are asked for it."""

    name: str
    programs: tuple[Program, ...]
    """What it runs."""
    folders: tuple[tuple[Data, int], ...]
    """What it sends, and in how many parts."""
    do: Do
    """Does it; raises `FailedError`."""


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
    """Do the same while senders of five files come and go, each with an association of its own."""
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
    """Do the same over a link with a round trip of so many seconds."""

    def do(server: Server, stock: Stock) -> Figures:
        from dicomport.testing import Link  # noqa: PLC0415

        with Link(server.port, delay=round_trip / 2) as link:
            return work.do(dataclasses.replace(server, port=link.port), stock)

    return Work(f"{work.name}, {round_trip * 1000:.0f} ms", (*work.programs, LINK), work.folders, do)


@functools.cache
def echoes(client: Program, number: int) -> Work:
    """Verify an association again and again."""

    def do(server: Server, stock: Stock) -> Figures:
        scaled = stock.scaled(number)
        log = server.scratch / "echoes"
        with running(client.command(server.port, scaled), client.environment, log) as program:
            return Figures(seconds=float(program.read_line()) / scaled)

    return Work(client.name, (client,), (), do)


@functools.cache
def idle(number: int) -> Work:
    """Open associations and leave them alone. The first one, for which all is imported, does not count."""

    def do(server: Server, stock: Stock) -> Figures:
        log = server.scratch / "idle"
        with running(IDLE.command(server.port, stock.scaled(number)), IDLE.environment, log) as program:
            program.read_line()  # The first is there.
            before = memory_mib(server.pid, "VmRSS")
            program.read_line()  # All are.
            return Figures(server_growth=memory_mib(server.pid, "VmRSS") - before)

    return Work(IDLE.name, (IDLE,), (), do)


def measure(work: Work, server: Server, stock: Stock) -> Figures:
    """Do some work, and measure the receiver at it. Raises `FailedError`."""
    before = cpu_seconds(server.pid)
    figures = work.do(server, stock)
    after = _settled(server.pid)
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
    """Give what a receiver has had of the processors once it has come to rest."""
    cpu = cpu_seconds(pid)
    until = time.monotonic() + _SETTLES_WITHIN
    while time.monotonic() < until:
        time.sleep(_SETTLED)
        before, cpu = cpu, cpu_seconds(pid)
        if cpu - before < _NO_WORK:
            break
    return cpu


def _check(folder: Path, figures: Figures) -> None:
    """Raise `FailedError` unless as much was stored as was sent."""
    stored = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    if len(stored) < figures.instances or sum(stored) < figures.size * _KEPT:
        raise FailedError(f"{len(stored)} files were stored of {figures.instances}")
