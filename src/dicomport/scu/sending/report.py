"""The report of a run of `send`."""

from __future__ import annotations

from dataclasses import field
from typing import Final

from dicomport.scu.results import InstanceResult, Timing
from dicomport.values import frozen

_MIN_LATENCY: Final = 0.001
"""Seconds: shorter round trips, as on the same machine, are not the bottleneck."""


@frozen(kw_only=True)
class SendReport:
    """The results of all instances, and of the run as a whole."""

    results: tuple[InstanceResult, ...] = field(repr=False)
    associations: int
    """Number of associations that were established."""
    error: str = ""
    """The reason why the last association could not be established; empty if all were."""
    journal_error: str = ""
    """The reason why the journal lacks accepted instances, which the next run would send again; empty if complete."""
    not_attempted: int = 0
    """Number of instances that were found but have no result, because the run was stopped."""
    seconds: float
    """Time from the first connection to the end of the last association."""
    round_trip: float = 0.0
    """Time of the fastest TCP connection, seconds; 0 without an association."""
    timing: Timing
    """Time that the associations spent on each step."""

    @property
    def accepted(self) -> tuple[InstanceResult, ...]:
        """The results of the instances that the peer accepted."""
        return tuple(result for result in self.results if result.accepted)

    @property
    def failed(self) -> tuple[InstanceResult, ...]:
        """The results of the other instances, and of the files that could not be sent."""
        return tuple(result for result in self.results if not (result.accepted or result.skipped))

    @property
    def skipped(self) -> tuple[InstanceResult, ...]:
        """The results of the files in folders and archives that are not instances, such as texts and DICOMDIRs."""
        return tuple(result for result in self.results if result.skipped)

    @property
    def accepted_bytes(self) -> int:
        """Total length of the accepted data sets, without those of earlier runs, bytes."""
        return sum(result.size for result in self.results if result.accepted and not result.earlier)

    @property
    def bottleneck(self) -> str:
        """The bottleneck of the run: "disk", "network", "latency" or "peer"; empty if nothing was sent."""
        timing = self.timing
        responses = sum(result.status is not None and not result.earlier for result in self.results)
        if not responses:
            return ""
        if timing.reading >= max(timing.sending, timing.waiting):
            return "disk"
        if timing.sending >= timing.waiting:
            return "network"
        # A peer that responds to instances nearly as fast as its system to connections is not the bottleneck.
        is_remote = self.round_trip >= _MIN_LATENCY
        return "latency" if is_remote and timing.waiting < 2 * self.round_trip * responses else "peer"
