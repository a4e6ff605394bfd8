"""What can go wrong on a link, and where."""

from __future__ import annotations

import enum
from dataclasses import dataclass

__all__ = ["Direction", "Fault", "FaultKind"]


class Direction(enum.Enum):
    """A direction of a connection."""

    THERE = "from the one that connects"
    BACK = "to the one that connects"


class FaultKind(enum.Enum):
    """What a fault does to a connection."""

    CORRUPT = "the next byte arrives with all its bits inverted"
    STALL = "nothing more arrives this way, not even the end of the connection; the sender's TCP soon has to stop"
    CLOSE = "both ends see the connection closed in good order (FIN)"
    RESET = "both ends see the connection broken (RST)"


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault of a link, on each of its connections or on one of them.

    Fault(Harm.RESET, after=100_000)                             # in the middle of an instance
    Fault(Harm.STALL, after=0, way=Way.BACK, connection=1)       # the first connection is never answered
    Fault(Harm.CORRUPT, after=2)                                 # 4 GiB more in the length of the first PDU
    """

    harm: FaultKind
    after: int
    """Bytes that go this way unharmed before it."""
    way: Direction = Direction.THERE
    connection: int | None = None
    """Which connection it strikes, from 1; None is each."""

    def __post_init__(self) -> None:
        if self.after < 0:
            raise ValueError(f"a fault after {self.after} bytes")

    @property
    def reach(self) -> int:
        """How many bytes have gone this way once it has struck."""
        return self.after + (self.harm is FaultKind.CORRUPT)
