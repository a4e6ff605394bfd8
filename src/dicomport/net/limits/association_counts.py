"""How many associations there are, of one process or of several that serve together."""

from __future__ import annotations

import mmap
from collections import Counter
from typing import Final, Protocol

__all__ = ["AssociationCounts", "LocalCounts", "SharedCounts"]


class AssociationCounts(Protocol):
    """Numbers of associations by kind and value, such as ("associations_per_address", "192.0.2.7")."""

    def of(self, kind: str, value: str) -> int:
        """Give the number."""

    def change(self, kind: str, value: str, by: int) -> None:
        """Count associations that have begun, or, with a negative number, ended."""


class LocalCounts:
    """The counts of one process."""

    def __init__(self) -> None:
        self._numbers: Counter[tuple[str, str]] = Counter()

    def of(self, kind: str, value: str) -> int:
        """See `AssociationCounts`."""
        return self._numbers[kind, value]

    def change(self, kind: str, value: str, by: int) -> None:
        """See `AssociationCounts`."""
        # Addition drops who has none left, so that nothing is kept of those who have gone.
        self._numbers[kind, value] += by
        if not self._numbers[kind, value]:
            del self._numbers[kind, value]


_SLOTS: Final = 4096


class SharedCounts:
    """The counts of several processes, made before they fork: each changes its own row and sees the sum of all.

    Values are told apart by hash: two of them in one slot are counted as one, which matters only where they reach a
    limit together. Nobody else writes into a process's row, so nothing is locked; two that look at the same instant may
    admit one association too many.
    """

    def __init__(self, processes: int) -> None:
        self._processes = processes
        self._table = memoryview(mmap.mmap(-1, 4 * _SLOTS * processes)).cast("i")
        self._own = 0

    def take_row(self, number: int) -> None:
        """Be process `number`, whose predecessor, if there was one, has gone with its associations."""
        self._own = number * _SLOTS
        for slot in range(self._own, self._own + _SLOTS):
            self._table[slot] = 0

    def of(self, kind: str, value: str) -> int:
        """See `AssociationCounts`."""
        slot = hash((kind, value)) % _SLOTS
        return sum(self._table[slot + row * _SLOTS] for row in range(self._processes))

    def change(self, kind: str, value: str, by: int) -> None:
        """See `AssociationCounts`."""
        self._table[self._own + hash((kind, value)) % _SLOTS] += by
