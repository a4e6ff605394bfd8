"""The end of a receiver while commitments are looked up: the look-up ends, and the next start begins it again."""

import asyncio
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.commitment.asking import SCU, Keeper, expect_report, result, serving

from dicomport import SOPReference, Status


@dataclass
class Endless:
    """A check that never ends on its own, and records how it ended."""

    begun: threading.Event = field(default_factory=threading.Event)
    ended: list[str] = field(default_factory=list)

    async def look_up(self, wanted: Sequence[SOPReference]) -> list[Status]:
        try:
            self.begun.set()
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.ended.append("cancelled")
            raise
        return []


def test_stop_cancels_look_ups_and_keeps_their_requests(tmp_path: Path) -> None:
    endless = Endless()
    with serving(endless, tmp_path) as running:
        with SCU(running.port) as scu:
            assert scu.ask("1.2.77", "1.2.3") == 0
        assert endless.begun.wait(30)
        assert endless.ended == []
    assert endless.ended == ["cancelled"]
    assert len(running.kept()) == 1

    with serving(Keeper(), tmp_path) as running, SCU(running.port) as scu:
        assert scu.ask("1.2.77", "1.2.3") == 0
        assert expect_report(scu) == (1, result("1.2.77", "1.2.3"))
