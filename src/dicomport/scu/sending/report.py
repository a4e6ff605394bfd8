"""What became of each instance."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from dicomport.scu.requestor import Timing
from dicomport.standard import Status

__all__ = ["InstanceResult", "SendReport"]

Facts: TypeAlias = "dict[str, str | int | float | bool | None]"


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceResult:
    """The fate of one file or data set."""

    name: str = ""
    """Where it was found, as people write it; empty for a data set in memory."""
    sop_class_uid: str = ""
    """Empty, as the others are, where the file holds no instance."""
    sop_instance_uid: str = ""
    transfer_syntax_uid: str = ""
    """What it was sent in, or would have been."""
    converted_from: str = ""
    """The transfer syntax that the file has, where that is another one."""
    size: int = 0
    """Length of the data set, bytes."""
    status: Status | None = None
    """The peer's answer; None where none came."""
    reason: str = ""
    """Why it was not accepted, or what the peer warns of; empty for a plain success."""
    association: int = 0
    """Over which association of the run it went last, counted from 1; 0 where it went over none."""
    context_id: int = 0
    """Its Presentation Context there."""
    attempts: int = 0
    """How often it was sent."""
    seconds: float = 0.0
    """From the first byte of the last request to the answer."""
    earlier: bool = False
    """Whether the peer had accepted it in an earlier run, as the journal says: then it was not sent again."""

    @property
    def path(self) -> Path | None:
        """Its name as a path; None for a data set in memory."""
        return Path(self.name) if self.name else None

    @property
    def accepted(self) -> bool:
        """Whether the peer took the instance: a success or a warning."""
        return self.status is not None and self.status.accepted

    def describe(self) -> Facts:
        """Give all there is to say as plain values, the keys as they are in a report's JSON."""
        status = self.status
        return {
            "path": self.name or None,
            "sop_class_uid": self.sop_class_uid,
            "sop_instance_uid": self.sop_instance_uid,
            "transfer_syntax_uid": self.transfer_syntax_uid,
            "converted_from": self.converted_from,
            "size": self.size,
            "accepted": self.accepted,
            "status": None if status is None else status.code,
            "category": None if status is None else status.category.value,
            "meaning": None if status is None else status.meaning,
            "error_comment": "" if status is None else status.comment,
            "reason": self.reason,
            "association": self.association,
            "context_id": self.context_id,
            "attempts": self.attempts,
            "milliseconds": round(self.seconds * 1000, 3),
            "earlier": self.earlier,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class SendReport:
    """The fate of everything that was to be sent."""

    results: tuple[InstanceResult, ...] = field(repr=False)
    associations: int
    """How many associations were established."""
    error: str = ""
    """Why the last association could not be had; empty where that did not happen."""
    journal_error: str = ""
    """Why the journal lacks some of what was accepted, which would be sent once more; empty where it has all."""
    untried: int = 0
    """Instances that were found and not sent, as the run was stopped before."""
    seconds: float
    """From the first connection to the end of the last one."""
    round_trip: float = 0.0
    """Seconds that the peer took for the fastest answer to an association request; 0 without an association."""
    spent: Timing
    """Where the associations' time went."""

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
        """Length of the accepted data sets together, without those of earlier runs."""
        return sum(result.size for result in self.results if result.accepted and not result.earlier)

    @property
    def limit(self) -> str:
        """What the run was limited by: "disk", "network", "latency" or "peer"; empty where nothing was sent."""
        spent, answers = self.spent, sum(result.status is not None and not result.earlier for result in self.results)
        if not answers:
            return ""
        if spent.reading >= max(spent.sending, spent.waiting):
            return "disk"
        if spent.sending >= spent.waiting:
            return "network"
        # A peer that answers an instance about as fast as it answers an association request is not what takes time.
        return "latency" if spent.waiting < 2 * self.round_trip * answers else "peer"
