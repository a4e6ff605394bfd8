"""The lines of the table: the programs to compare, and the goals."""

from __future__ import annotations

import enum
import os
from dataclasses import dataclass
from typing import Final

from bench.data import CT, CT_TENTH, FAR, LARGE, MR, ONE, SINGLES, SMALL, SMALL_TENTH, STREAM, Data
from bench.peers import (
    ARCHIVE,
    ARCHIVE_CROWDED,
    ARCHIVE_FSYNC,
    BARE_RECEIVER,
    BARE_SCP,
    BARE_SENDER,
    DCMSEND,
    DCMTK,
    DCMTK_NAGLE,
    FOLDER,
    FOLDER_DEBIAN,
    HANDLER,
    HANDLER_DECODING,
    ONE_EACH,
    ONE_WORKER,
    ORTHANC,
    OUR_ECHO,
    OUR_STORESCU,
    OUR_STORESCU_4,
    OUR_STORESCU_16,
    PYNETDICOM,
    PYNETDICOM_DECODING,
    PYNETDICOM_ECHO,
    PYNETDICOM_HANDLER,
    PYNETDICOM_STORESCU,
    STORESCU,
    STORESCU_NAGLE,
    TWO_WORKERS,
    Program,
)
from bench.work import Work, delayed, disturbed, echoes, idle, send

__all__ = ["CHART", "LINES", "Figure", "Line", "Place", "Run"]


class Place(enum.StrEnum):
    """The file system of a receiver's folder."""

    MEMORY = "tmpfs"
    DISK = "disk"


@dataclass(frozen=True, slots=True)
class Run:
    """Some work with one receiver, measured once in each round."""

    server: Program
    work: Work
    place: Place = Place.MEMORY

    @property
    def name(self) -> str:
        """Sender, receiver and place."""
        return f"{self.work.name} to {self.server.name}, {self.place}"

    @property
    def missing(self) -> str:
        """The missing program, or ""."""
        return next(filter(None, (program.missing for program in (self.server, *self.work.programs))), "")


class Figure(enum.Enum):
    """A figure of a run: the field or property of `Figures`, its unit, and the factor to that unit."""

    WALL = "seconds", "s", 1
    ROUND_TRIP = "seconds", "ms", 1000
    SERVER_CPU = "server_cpu", "s CPU", 1
    RATE = "rate", "/s", 1
    SERVER_PEAK = "server_peak", "MiB", 1
    SERVER_GROWTH = "server_growth", "MiB", 1
    SENDER_CPU = "sender_cpu", "s CPU", 1
    SENDER_PEAK = "sender_peak", "MiB", 1

    def __init__(self, field: str, unit: str, scale: float) -> None:
        self.field = field
        self.unit = unit
        self.scale = scale


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line: the ratio of ours to theirs, or a figure of ours without a peer."""

    work: str
    against: str = "-"
    figure: Figure
    ours: Run
    theirs: Run | None = None
    bound: float | None = None
    """The goal for the ratio or the figure; a line without a goal is shown and not judged."""
    at_least: bool = False
    """Whether the bound is a minimum, not a maximum."""
    once: bool = False
    """Whether to measure only one round, because the peer takes minutes."""
    cores: int = 1
    """Minimum number of cores that the line needs."""

    @property
    def missing(self) -> str:
        """The missing program or cores, or ""."""
        if (os.cpu_count() or 1) < self.cores:
            return f"{self.cores} cores"
        return self.ours.missing or (self.theirs.missing if self.theirs is not None else "")


def _received(
    work: str,
    figure: Figure,
    servers: tuple[Program, Program],
    sent: Work,
    bound: float | None,
    *,
    place: Place = Place.MEMORY,
    once: bool = False,
) -> Line:
    """Compare two receivers at the same work."""
    ours, theirs = (Run(server, sent, place) for server in servers)
    return Line(
        work=f"receive {work}", against=servers[1].name, figure=figure, ours=ours, theirs=theirs, bound=bound, once=once
    )


def _synced(work: str, sent: Work, bound: float | None) -> Line:
    """Compare the archive with Orthanc, both with fsync on a disk."""
    return _received(work, Figure.WALL, (ARCHIVE_FSYNC, ORTHANC), sent, bound, place=Place.DISK)


def _nagle(data: Data) -> Work:
    """Send with DCMTK as it is installed, with Nagle's algorithm."""
    return send(STORESCU_NAGLE, data)


def _sent(
    work: str,
    senders: tuple[Program, Program],
    data: Data,
    bound: float | None,
    *,
    figure: Figure = Figure.WALL,
    once: bool = False,
) -> Line:
    """Compare two senders with the same receiver."""
    ours, theirs = (Run(DCMTK, send(sender, data)) for sender in senders)
    return Line(
        work=f"send {work}, whole process, to DCMTK storescp",
        against=senders[1].name,
        figure=figure,
        ours=ours,
        theirs=theirs,
        bound=bound,
        once=once,
    )


def _floor(work: str, sent: Work) -> Line:
    """Compare the minimum work of any receiver in Python with DCMTK's receiver."""
    return Line(
        work=f"receive {work}, the bare minimum in Python",
        against=DCMTK.name,
        figure=Figure.SERVER_CPU,
        ours=Run(BARE_SCP, sent),
        theirs=Run(DCMTK, sent),
    )


def _receivers(sent: Work) -> tuple[tuple[str, Run], ...]:
    in_memory = [(server.name, Run(server, sent)) for server in (FOLDER, ARCHIVE, DCMTK, PYNETDICOM)]
    on_disk = [(f"{server.name} (disk)", Run(server, sent, Place.DISK)) for server in (ARCHIVE_FSYNC, ORTHANC)]
    return *in_memory, *on_disk


def _senders(data: Data) -> tuple[tuple[str, Run], ...]:
    senders = (OUR_STORESCU, STORESCU, DCMSEND, PYNETDICOM_STORESCU)
    return tuple((sender.name, Run(DCMTK, send(sender, data))) for sender in senders)


_CT_FROM_DCMTK: Final = send(STORESCU, CT)
_SMALL_FROM_DCMTK: Final = send(STORESCU, SMALL)
_CT_FROM_US: Final = send(OUR_STORESCU, CT)
_SMALL_FROM_US: Final = send(OUR_STORESCU, SMALL)
_STREAM: Final = send(OUR_STORESCU, STREAM)
_LARGE: Final = Run(ARCHIVE, send(OUR_STORESCU, LARGE))
_SINGLES: Final = send(ONE_EACH, SINGLES)
_SINGLE: Final = "1,000 associations of one instance each"
_EIGHT: Final = send(STORESCU, CT, 8)
_AS_INSTALLED: Final = (ARCHIVE, DCMTK_NAGLE)
_FAR_AWAY: Final = 0.05
"""A round trip, seconds."""

LINES: Final = (
    _received("600 CT, plain folder sink", Figure.SERVER_CPU, (FOLDER, DCMTK), _CT_FROM_DCMTK, 1.1),
    _received("2,000 small, plain folder sink", Figure.SERVER_CPU, (FOLDER, DCMTK), _SMALL_FROM_DCMTK, 1.15),
    _received("600 CT, archive on", Figure.SERVER_CPU, (ARCHIVE, DCMTK), _CT_FROM_DCMTK, 1.5),
    _received("2,000 small, archive on", Figure.SERVER_CPU, (ARCHIVE, DCMTK), _SMALL_FROM_DCMTK, 2.0),
    _received(f"{_SINGLE}, plain folder sink", Figure.SERVER_CPU, (FOLDER, DCMTK), _SINGLES, 2.0),
    _received("600 CT, archive on", Figure.WALL, (ARCHIVE, DCMTK), _CT_FROM_DCMTK, 1.0),
    _received("2,000 small, archive on", Figure.WALL, (ARCHIVE, DCMTK), _SMALL_FROM_DCMTK, 1.0),
    _synced("600 CT, fsync", send(OUR_STORESCU, CT), 0.4),
    _synced("2,000 small, fsync", send(OUR_STORESCU, SMALL), 0.4),
    _synced("2,000 small, fsync, 4 associations", send(OUR_STORESCU_4, SMALL), None),
    _synced("2,000 small, fsync, 16 associations", send(OUR_STORESCU_16, SMALL), 0.2),
    _received("600 CT", Figure.WALL, (ARCHIVE, PYNETDICOM), _CT_FROM_US, 0.1),
    _received("2,000 small", Figure.WALL, (ARCHIVE, PYNETDICOM), _SMALL_FROM_US, 0.05),
    _received("600 CT, asyncio handler", Figure.WALL, (HANDLER, PYNETDICOM_HANDLER), _CT_FROM_US, None),
    _received("2,000 small, asyncio handler", Figure.WALL, (HANDLER, PYNETDICOM_HANDLER), _SMALL_FROM_US, None),
    _received(
        "600 CT, asyncio handler that decodes",
        Figure.WALL,
        (HANDLER_DECODING, PYNETDICOM_DECODING),
        _CT_FROM_US,
        None,
    ),
    _received(
        "2,000 small, asyncio handler that decodes",
        Figure.WALL,
        (HANDLER_DECODING, PYNETDICOM_DECODING),
        _SMALL_FROM_US,
        None,
    ),
    _received("60 CT from DCMTK storescu as installed", Figure.WALL, _AS_INSTALLED, _nagle(CT_TENTH), 0.05, once=True),
    _received(
        "200 small from DCMTK storescu as installed", Figure.WALL, _AS_INSTALLED, _nagle(SMALL_TENTH), 0.02, once=True
    ),
    _sent("2,000 small", (OUR_STORESCU, STORESCU), SMALL, 0.3, figure=Figure.SENDER_CPU),
    _sent("2,000 MR", (OUR_STORESCU, STORESCU), MR, 0.7, figure=Figure.SENDER_CPU),
    _sent("2,000 MR", (OUR_STORESCU, DCMSEND), MR, 0.75, figure=Figure.SENDER_CPU),
    _sent("600 CT", (OUR_STORESCU, DCMSEND), CT, 0.9),
    _sent("one CT", (OUR_STORESCU, STORESCU), ONE, 1.0),
    _sent("600 CT", (OUR_STORESCU, STORESCU), CT, 1.0),
    _sent("2,000 small", (OUR_STORESCU, STORESCU), SMALL, 1.0),
    _sent("2,000 small", (OUR_STORESCU, DCMSEND), SMALL, None),
    _sent("2,000 small", (OUR_STORESCU, PYNETDICOM_STORESCU), SMALL, 0.1, once=True),
    Line(
        work="us to us, 600 CT, plain folder sink",
        against="a bare copy from socket to files in Python",
        figure=Figure.WALL,
        ours=Run(FOLDER, _CT_FROM_US),
        theirs=Run(BARE_RECEIVER, send(BARE_SENDER, CT)),
        bound=1.5,
    ),
    Line(
        work="a stream of 1,300 CT while other senders send five each",
        against="the same alone",
        figure=Figure.WALL,
        ours=Run(ARCHIVE, disturbed(_STREAM)),
        theirs=Run(ARCHIVE, _STREAM),
        bound=1.2,
    ),
    Line(
        work="2 workers, 8 senders at once, 600 CT",
        against="1 worker",
        figure=Figure.RATE,
        ours=Run(TWO_WORKERS, _EIGHT),
        theirs=Run(ONE_WORKER, _EIGHT),
        bound=1.5,
        at_least=True,
        cores=4,
    ),
    Line(work="peak memory, 2 GiB, receiver", figure=Figure.SERVER_PEAK, ours=_LARGE, bound=80),
    Line(work="peak memory, 2 GiB, sender", figure=Figure.SENDER_PEAK, ours=_LARGE, bound=80),
    Line(
        work="1,000 idle associations, growth of the receiver",
        figure=Figure.SERVER_GROWTH,
        ours=Run(ARCHIVE_CROWDED, idle(1000)),
        bound=64,
    ),
    Line(
        work="C-ECHO, round trip on loopback",
        against="pynetdicom",
        figure=Figure.ROUND_TRIP,
        ours=Run(ARCHIVE, echoes(OUR_ECHO, 500)),
        theirs=Run(PYNETDICOM, echoes(PYNETDICOM_ECHO, 500)),
        bound=0.05,
    ),
    Line(
        work="send 300 of 100 KB over a round trip of 50 ms",
        against="DCMTK storescu",
        figure=Figure.WALL,
        ours=Run(ARCHIVE, delayed(send(OUR_STORESCU, FAR), _FAR_AWAY)),
        theirs=Run(ARCHIVE, delayed(send(STORESCU, FAR), _FAR_AWAY)),
        bound=0.07,
        once=True,
    ),
    # The floor of a receiver in Python: without checks and without tolerance for faulty peers.
    _floor("600 CT", _CT_FROM_DCMTK),
    _floor("2,000 small", _SMALL_FROM_DCMTK),
    _received("600 CT, plain folder sink", Figure.SERVER_CPU, (FOLDER_DEBIAN, DCMTK), _CT_FROM_DCMTK, None),
    _received("2,000 small, plain folder sink", Figure.SERVER_CPU, (FOLDER_DEBIAN, DCMTK), _SMALL_FROM_DCMTK, None),
    _received("600 CT, on disk", Figure.WALL, (ARCHIVE, DCMTK), _CT_FROM_DCMTK, None, place=Place.DISK),
    _received("2,000 small, on disk", Figure.WALL, (ARCHIVE, DCMTK), _SMALL_FROM_DCMTK, None, place=Place.DISK),
    _received(_SINGLE, Figure.WALL, (ARCHIVE, DCMTK), _SINGLES, None),
    _received(_SINGLE, Figure.SERVER_CPU, (ARCHIVE, DCMTK), _SINGLES, None),
    _received("600 CT from 8 senders at once", Figure.RATE, (ARCHIVE, DCMTK), _EIGHT, None),
)

CHART: Final = (
    ("600 CT received from dicomport storescu, instances/s", _receivers(_CT_FROM_US)),
    ("2,000 small received from dicomport storescu, instances/s", _receivers(_SMALL_FROM_US)),
    ("2,000 small sent to DCMTK storescp, instances/s", _senders(SMALL)),
)
"""Titles and bars: the label of each bar, and its run."""
