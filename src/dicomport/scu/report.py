"""What became of each instance."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dicomport.standard import Status

__all__ = ["InstanceResult", "SendReport"]


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceResult:
    """The fate of one file or data set."""

    path: Path | None = None
    """None for a data set in memory."""
    sop_class_uid: str = ""
    """Empty, as the others are, where the file holds no instance."""
    sop_instance_uid: str = ""
    transfer_syntax_uid: str = ""
    size: int = 0
    """Length of the data set, bytes."""
    status: Status | None = None
    """The peer's answer; None where none came."""
    reason: str = ""
    """Why it was not accepted, or what the peer warns of; empty for a plain success."""

    @property
    def accepted(self) -> bool:
        """Whether the peer took the instance: a success or a warning."""
        return self.status is not None and self.status.accepted


@dataclass(frozen=True, slots=True, kw_only=True)
class SendReport:
    """The fate of everything that was to be sent."""

    results: tuple[InstanceResult, ...]
    associations: int
    """How many associations were established."""
    error: str = ""
    """Why the last association could not be had; empty where that did not happen."""
    seconds: float
    """From the first connection to the end of the last one."""

    @property
    def accepted(self) -> tuple[InstanceResult, ...]:
        """What the peer took."""
        return tuple(result for result in self.results if result.accepted)

    @property
    def failed(self) -> tuple[InstanceResult, ...]:
        """What it did not take, and what could not be sent."""
        return tuple(result for result in self.results if not result.accepted)

    @property
    def accepted_bytes(self) -> int:
        """Length of the accepted data sets together."""
        return sum(result.size for result in self.accepted)
