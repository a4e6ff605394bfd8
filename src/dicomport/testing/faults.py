"""Faults of a link."""

from __future__ import annotations

import enum

from dicomport.values import frozen


class Direction(enum.Enum):
    """A direction of a connection."""

    THERE = "from the side that connects"
    BACK = "to the side that connects"


class FaultKind(enum.Enum):
    """The effect of a fault on a connection."""

    CORRUPT = "the next byte arrives with all its bits inverted"
    STALL = "no more bytes arrive in this direction, nor the end of the connection; the sender's TCP soon stops"
    CLOSE = "both ends receive the end of the connection (FIN)"
    RESET = "both ends receive a reset of the connection (RST)"


@frozen
class Fault:
    """One fault of a link, on each of its connections or on one of them.

    Fault(FaultKind.RESET, after=100_000)                                     # in the middle of an instance
    Fault(FaultKind.STALL, after=0, direction=Direction.BACK, connection=1)   # connection 1 gets no answer
    Fault(FaultKind.CORRUPT, after=2)                                         # the first PDU is 4 GiB longer
    """

    kind: FaultKind
    after: int
    """Bytes in this direction before the fault."""
    direction: Direction = Direction.THERE
    connection: int | None = None
    """The number of the affected connection, from 1; None means all."""

    def __post_init__(self) -> None:
        if self.after < 0:
            raise ValueError(f"after is {self.after}, expected 0 or more bytes")

    @property
    def reach(self) -> int:
        """The number of bytes in this direction after the fault."""
        return self.after + (self.kind is FaultKind.CORRUPT)
