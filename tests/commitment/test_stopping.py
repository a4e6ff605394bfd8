"""The end of a receiver while commitments are looked up: the look-up ends, and the next start begins it again."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

from tests.commitment.asking import SCU, Keeper, expect_report, result, serving
from tests.scp.storages import Recorder

from dicomport import CommitmentSCP, SOPReference, Status, StorageSCP


class Endless:
    """A check that never ends on its own, and records how it ended."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.ended: list[str] = []

    async def look_up(self, wanted: Sequence[SOPReference]) -> list[Status]:
        self.begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.ended.append("cancelled")
            raise
        return []


def request_commitment(port: int) -> None:
    with SCU(port) as scu:
        assert scu.ask("1.2.77", "1.2.3") == 0


def test_stop_cancels_look_ups_and_keeps_their_requests(tmp_path: Path) -> None:
    async def scenario() -> None:
        endless = Endless()
        scp = StorageSCP(Recorder(), port=0, commitment=CommitmentSCP(endless, tmp_path))
        await scp.start()
        await asyncio.to_thread(request_commitment, scp.port)
        await endless.begun.wait()
        assert endless.ended == []
        await scp.stop()
        assert endless.ended == ["cancelled"]

    asyncio.run(scenario())
    with serving(Keeper(), tmp_path) as running, SCU(running.port) as scu:
        assert len(running.kept()) == 1
        assert scu.ask("1.2.77", "1.2.3") == 0
        assert expect_report(scu) == (1, result("1.2.77", "1.2.3"))
