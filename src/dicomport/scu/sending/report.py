"""The report of a run of `send`."""

from __future__ import annotations

from dataclasses import dataclass, field

from dicomport.scu.results import InstanceResult, Timing

__all__ = ["SendReport"]


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
    timing: Timing
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
        timing, answers = self.timing, sum(result.status is not None and not result.earlier for result in self.results)
        if not answers:
            return ""
        if timing.reading >= max(timing.sending, timing.waiting):
            return "disk"
        if timing.sending >= timing.waiting:
            return "network"
        # A peer that answers an instance about as fast as it answers an association request is not what takes time.
        return "latency" if timing.waiting < 2 * self.round_trip * answers else "peer"
