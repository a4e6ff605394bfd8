"""Both ways of a receiver's association: the straight path and the general one."""

from __future__ import annotations

from typing import Any, Final

from tests.scp.both_ways import WINDOW, Behaviour, Recorder, both
from tests.scp.streams import RELEASE, cut, store

__all__ = ["BEHAVIOURS", "ways"]

BEHAVIOURS: Final = ("", "waits", "slow", "refused", "warned", "begin_fails", "write_fails", "commit_fails")
"""Behaviours of the storage with the instances 1 and 3; the first byte of the target's data selects one."""


def ways(data: bytes) -> None:
    """Send a message that both ways know, and then any bytes in any pieces.

    The first two bytes are the behaviour of the storage and the number of pieces, the next ones their places. Both
    ways have the same responses, calls of the storage, reports, counters and lines of the log.
    """
    kind, number = data[0] if data else 0, data[1] % 8 if len(data) > 1 else 0
    places, stream = data[2 : 2 + number], data[2 + number :]
    name = BEHAVIOURS[kind % len(BEHAVIOURS)]
    changed: dict[str, Any] = {name: frozenset((1, 3))} if name else {}
    pieces = cut(stream, [place * (len(stream) // 256 + 1) for place in places])
    both(
        lambda: Recorder(Behaviour(**changed)),
        lambda recorder: recorder.calls,
        [store(10), *pieces, RELEASE],
        window=WINDOW if kind & 0x80 else None,
    )
