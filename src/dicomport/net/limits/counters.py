"""What a server has counted since it was made, by name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from types import MappingProxyType

from dicomport.net.timers import Deadline
from dicomport.wire import Deviation

__all__ = ["Counters"]


class Counters:
    """How often each thing happened, under names such as "timer.idle" and "deviation.uid-padding"."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def snapshot(self) -> Mapping[str, int]:
        """Give all counts as they are now; what is not there has not happened."""
        return MappingProxyType(dict(self._counts))

    def count(self, name: str) -> None:
        """Count what has happened."""
        self._counts[name] += 1

    def timer(self, timer: Deadline) -> None:
        """Count a timer that has expired."""
        self.count(f"timer.{timer.name}")

    def limit(self, name: str) -> None:
        """Count that a limit was met, by its name among the fields of `Limits`."""
        self.count(f"limit.{name}")

    def deviations(self, noted: Mapping[Deviation, int]) -> None:
        """Count what a peer got wrong and was put up with."""
        for deviation, number in noted.items():
            self._counts[f"deviation.{deviation}"] += number
