"""A server's counters since its start, by name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from types import MappingProxyType

from dicomport.net.timers import Deadline


class Counters:
    """Counts events by name, such as "timer.idle" and "deviation.uid-padding"."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def snapshot(self) -> Mapping[str, int]:
        """Return all counts as they are now, without those that are 0."""
        return MappingProxyType(dict(self._counts))

    def count(self, name: str) -> None:
        """Count an event."""
        self._counts[name] += 1

    def timer(self, timer: Deadline) -> None:
        """Count an expired timer."""
        self.count(f"timer.{timer.name}")

    def limit(self, name: str) -> None:
        """Count that a limit was reached, by the name of its field."""
        self.count(f"limit.{name}")

    def deviations(self, noted: Mapping[str, int]) -> None:
        """Count a peer's tolerated deviations from the standard."""
        for deviation, number in noted.items():
            self._counts[f"deviation.{deviation}"] += number
