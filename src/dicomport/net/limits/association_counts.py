"""Numbers of associations, of one process or of several processes that share an address."""

from __future__ import annotations

import mmap
from collections import Counter
from typing import Final, Protocol


class AssociationCounts(Protocol):
    """Numbers of associations by kind and value, such as ("associations_per_address", "192.0.2.7")."""

    def of(self, kind: str, value: str) -> int:
        """Return the number."""

    def change(self, kind: str, value: str, by: int) -> None:
        """Add `by` to the number: the associations that have begun or, if negative, ended."""


class LocalCounts:
    """The counts of one process."""

    def __init__(self) -> None:
        self._numbers: Counter[tuple[str, str]] = Counter()

    def of(self, kind: str, value: str) -> int:
        """Return the number."""
        return self._numbers[kind, value]

    def change(self, kind: str, value: str, by: int) -> None:
        """Add `by` to the number."""
        self._numbers[kind, value] += by
        if not self._numbers[kind, value]:
            # Keep nothing of peers that have no association any more.
            del self._numbers[kind, value]


_SLOTS: Final = 4096


class SharedCounts:
    """The counts of several processes, created before the fork: each process changes its own row and reads the sum.

    Values are distinguished by hash. Two values in one slot are counted as one, which matters only if both reach a
    limit together. Each process writes only its own row, so there is no lock; two processes that check a limit at the
    same time may together admit one association too many.
    """

    def __init__(self, processes: int) -> None:
        self._processes = processes
        self._table = memoryview(mmap.mmap(-1, 4 * _SLOTS * processes)).cast("i")
        self._own = 0

    def use_row(self, number: int) -> None:
        """Use the row of process `number`, and clear it: the associations of a crashed predecessor have ended."""
        self._own = number * _SLOTS
        for slot in range(self._own, self._own + _SLOTS):
            self._table[slot] = 0

    def of(self, kind: str, value: str) -> int:
        """Return the number, the sum of all processes."""
        slot = hash((kind, value)) % _SLOTS
        return sum(self._table[slot + row * _SLOTS] for row in range(self._processes))

    def change(self, kind: str, value: str, by: int) -> None:
        """Add `by` to the number."""
        self._table[self._own + hash((kind, value)) % _SLOTS] += by
