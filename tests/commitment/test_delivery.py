"""Reports that cannot be built reach their senders as errors, and finished transactions take no memory."""

import asyncio
import contextlib
import gc
import tracemalloc
from pathlib import Path

import pytest
from tests.commitment.test_scp import Listener

from dicomport import Status
from dicomport.commitment import pending as module
from dicomport.commitment.data_sets import CommitmentResult
from dicomport.commitment.delivery import ReportDelivery, StoppedError
from dicomport.commitment.limits import CommitmentLimits
from dicomport.commitment.pending import PeerKey, Pending, PendingCommitments
from dicomport.net import Address, Timeouts
from dicomport.testing import ScriptedSCP


def test_the_error_of_a_report_that_cannot_be_built_reaches_its_sender() -> None:
    """The next report is sent on the same association."""

    async def broken() -> CommitmentResult:
        raise LookupError("no such transaction")

    async def whole() -> CommitmentResult:
        return CommitmentResult("1.2.3", (), ())

    async def scenario(port: int) -> Status:
        delivery = ReportDelivery(
            Address("127.0.0.1", port), ae_title="US", called_ae_title="PEER", timeouts=Timeouts()
        )
        async with asyncio.timeout(60):
            running = asyncio.create_task(delivery.run())
            both = await asyncio.gather(delivery.deliver(broken), delivery.deliver(whole), return_exceptions=True)
            delivery.stop()
            with contextlib.suppress(asyncio.CancelledError):
                await running
        assert isinstance(both[0], LookupError)
        assert isinstance(both[1], Status)
        return both[1]

    with ScriptedSCP(Listener()) as peer:
        assert asyncio.run(scenario(peer.port)).code == 0


@pytest.mark.parametrize("number", [20_000])
def test_transactions_that_are_done_take_no_memory(number: int) -> None:
    commitments = PendingCommitments(CommitmentLimits())

    def add_and_remove(first: int) -> None:
        for at in range(first, first + number):
            pending = Pending(Path(str(at)), f"1.2.{at}", PeerKey(f"AE{at}", "192.0.2.7", ""), 1, 0.0, False)
            commitments.add(pending)
            assert commitments.find(pending.uid, pending.peer) is pending
            commitments.remove(pending)
            assert commitments.find(pending.uid, pending.peer) is None

    add_and_remove(0)
    tracemalloc.start()
    try:
        add_and_remove(number)
        gc.collect()
        # The table of interned strings grows, too: pathlib puts the names of files there.
        kept = tracemalloc.take_snapshot().filter_traces([tracemalloc.Filter(True, module.__file__)])
        assert sum(trace.size for trace in kept.traces) < 20 * number
    finally:
        tracemalloc.stop()


def test_a_report_after_the_end_is_refused_at_once() -> None:
    async def whole() -> CommitmentResult:
        raise AssertionError

    async def scenario() -> None:
        delivery = ReportDelivery(Address("127.0.0.1", 1), ae_title="US", called_ae_title="PEER", timeouts=Timeouts())
        delivery.stop()
        with pytest.raises(StoppedError):
            await delivery.deliver(whole)

    asyncio.run(scenario())


@pytest.mark.parametrize("fails", [False, True])
def test_the_result_of_a_report_that_nobody_awaits_disturbs_no_other(*, fails: bool) -> None:
    async def scenario(port: int) -> Status:
        delivery = ReportDelivery(
            Address("127.0.0.1", port), ae_title="US", called_ae_title="PEER", timeouts=Timeouts()
        )

        async def given_up() -> CommitmentResult:
            first.cancel()
            await asyncio.wait([first])
            if fails:
                raise LookupError("no such transaction")
            return CommitmentResult("1.2.3", (), ())

        async def whole() -> CommitmentResult:
            return CommitmentResult("1.2.4", (), ())

        async with asyncio.timeout(60):
            running = asyncio.create_task(delivery.run())
            first = asyncio.create_task(delivery.deliver(given_up))
            await asyncio.sleep(0)
            status = await delivery.deliver(whole)
            delivery.stop()
            await running
        assert first.cancelled()
        return status

    with ScriptedSCP(Listener()) as peer:
        assert asyncio.run(scenario(peer.port)).code == 0
