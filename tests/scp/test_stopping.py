"""Stopping the server: no new work, operations in flight finish within a deadline, the others are aborted.

Events prove the order: a held operation continues only when the test allows it.
"""

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final, TypeVar

import pytest
from tests.core.messages import RELEASE_RQ, USER_ABORT
from tests.scp.messages import DATA_SET, STORE, in_fragments, store, store_command
from tests.scp.storages import Recorder

from dicomport import Handler, Storage, StorageSCP, StoreRequest, Timeouts
from dicomport.testing import ScriptedSCU
from dicomport.wire import Abort, CStoreRSP, ReleaseRP, encode

T = TypeVar("T")

LONG_ENOUGH: Final = 3600.0
TIMEOUT: Final = 60.0


class Held:
    """A handler that sets an event on entry, and waits for another to return."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.go = threading.Event()
        self.cancelled = False

    def function(self, _request: StoreRequest) -> int:
        self.entered.set()
        assert self.go.wait(TIMEOUT)
        return 0

    async def coroutine(self, _request: StoreRequest) -> int:
        self.entered.set()
        try:
            await asyncio.to_thread(self.go.wait, TIMEOUT)
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        return 0


async def do(function: Callable[..., T], *arguments: object) -> T:
    return await asyncio.to_thread(function, *arguments)


@asynccontextmanager
async def connected(scp: StorageSCP, *, associated: bool = True) -> AsyncIterator[ScriptedSCU]:
    with await do(ScriptedSCU, "127.0.0.1", scp.port) as peer:
        if associated:
            await do(peer.associate)
        yield peer


def run(scenario: Callable[[StorageSCP], Awaitable[None]], to: Handler | Storage) -> None:
    """Run a scenario with a server without timeouts, and check that no task is left."""
    timeouts = Timeouts(connect=LONG_ENOUGH, acse=LONG_ENOUGH, dimse=LONG_ENOUGH, network=LONG_ENOUGH)

    async def main() -> None:
        async with StorageSCP(to, port=0, timeouts=timeouts) as scp:
            await scenario(scp)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(main())


async def stop(scp: StorageSCP) -> None:
    """Stop with a deadline that no test reaches: it would fail by `TIMEOUT`."""
    async with asyncio.timeout(TIMEOUT):
        await scp.stop(within=LONG_ENOUGH)


@pytest.mark.parametrize("kind", ["function", "coroutine"])
def test_stop_aborts_idle_associations_and_completes_operations(kind: str) -> None:
    held = Held()

    async def scenario(scp: StorageSCP) -> None:
        async with connected(scp) as busy, connected(scp) as idle, connected(scp, associated=False) as silent:
            await do(busy.send, store(7))
            await do(held.entered.wait, TIMEOUT)
            stopping = asyncio.create_task(stop(scp))
            assert encode(await do(idle.expect, Abort)) == USER_ABORT
            assert await do(idle.receive) is None
            # Without a request for an association there is none to abort.
            assert await do(silent.receive) is None
            with pytest.raises(ConnectionRefusedError):
                await do(ScriptedSCU, "127.0.0.1", scp.port)
            assert busy.silent
            assert not stopping.done()
            held.go.set()
            answer = (await do(busy.expect, CStoreRSP)).command
            assert (answer.message_id_being_responded_to, answer.status) == (7, 0x0000)
            assert encode(await do(busy.expect, Abort)) == USER_ABORT
            await stopping

    run(scenario, getattr(held, kind))


def test_a_data_set_that_has_begun_is_taken_to_its_end() -> None:
    storage = Recorder()

    async def scenario(scp: StorageSCP) -> None:
        async with connected(scp) as busy, connected(scp) as idle:
            whole = store_command(7) + in_fragments(STORE, DATA_SET, 10)
            await do(busy.send, whole[:-1])
            # A later answer on the other association proves that the command has been read.
            await do(idle.store, "1.2.9", DATA_SET)
            stopping = asyncio.create_task(stop(scp))
            await do(idle.expect, Abort)
            assert not stopping.done()
            await do(busy.send, whole[-1:])
            assert (await do(busy.expect, CStoreRSP)).command.status == 0x0000
            await do(busy.expect, Abort)
            await stopping

    run(scenario, storage)
    assert storage.data["1.2.3.4"] == DATA_SET


def test_requests_behind_the_one_in_flight_are_not_begun() -> None:
    held = Held()
    asked: list[str] = []

    def handler(request: StoreRequest) -> int:
        asked.append(request.sop_instance_uid)
        return held.function(request)

    async def scenario(scp: StorageSCP) -> None:
        async with connected(scp) as busy, connected(scp) as idle:
            await do(busy.send, store(1, "1.2.1"), store(2, "1.2.2"))
            await do(held.entered.wait, TIMEOUT)
            stopping = asyncio.create_task(stop(scp))
            await do(idle.expect, Abort)
            held.go.set()
            assert (await do(busy.expect, CStoreRSP)).command.message_id_being_responded_to == 1
            assert encode(await do(busy.expect, Abort)) == USER_ABORT
            await stopping

    run(scenario, handler)
    assert asked == ["1.2.1"]


def test_operations_in_flight_are_cut_off_at_the_deadline() -> None:
    held = Held()

    async def scenario(scp: StorageSCP) -> None:
        async with connected(scp) as busy:
            await do(busy.send, store())
            await do(held.entered.wait, TIMEOUT)
            await scp.stop(within=0)
            assert held.cancelled
            held.go.set()
            assert await do(busy.receive) is None

    run(scenario, held.coroutine)


def test_at_the_deadline_a_data_set_that_has_not_ended_is_discarded() -> None:
    written = threading.Event()

    class Told(Recorder):
        def called(self, what: str) -> None:
            super().called(what)
            if what == "write":
                written.set()

    storage = Told()

    async def scenario(scp: StorageSCP) -> None:
        async with connected(scp) as busy:
            await do(busy.send, (store_command() + in_fragments(STORE, DATA_SET, 10))[:-1])
            await do(written.wait, TIMEOUT)
            await scp.stop(within=0)
            assert await do(busy.receive) is None

    run(scenario, storage)
    assert storage.calls == ["begin", "write", "discard"]


@pytest.mark.parametrize("ending", [RELEASE_RQ, store_command() + RELEASE_RQ, b"GET / HTTP/1.1"])
def test_peers_that_were_only_to_close_their_connection_are_not_waited_for(
    ending: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(scp: StorageSCP) -> None:
        async with connected(scp) as peer:
            await do(peer.send, ending)
            await do(peer.receive)
            await stop(scp)
            assert await do(peer.receive) is None

    run(scenario, Recorder())
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


def test_a_release_during_stop_is_confirmed_or_aborted() -> None:
    held = Held()

    async def scenario(scp: StorageSCP) -> None:
        async with connected(scp) as busy, connected(scp) as idle:
            await do(busy.send, store(), RELEASE_RQ)
            await do(held.entered.wait, TIMEOUT)
            stopping = asyncio.create_task(stop(scp))
            await do(idle.expect, Abort)
            held.go.set()
            assert (await do(busy.expect, CStoreRSP)).command.status == 0x0000
            last = await do(busy.receive)
            assert last in (ReleaseRP(), Abort())
            await stopping

    run(scenario, held.function)


def test_leaving_the_block_waits_for_operations_in_flight() -> None:
    held = Held()
    with StorageSCP(held.function, port=0).in_thread() as scp:
        peer, idle = ScriptedSCU("127.0.0.1", scp.port), ScriptedSCU("127.0.0.1", scp.port)
        peer.associate()
        idle.associate()
        peer.send(store())
        assert held.entered.wait(TIMEOUT)

        def go_on() -> None:
            idle.expect(Abort)
            held.go.set()

        goes_on = threading.Thread(target=go_on)
        goes_on.start()
    goes_on.join()
    with idle, peer:
        # Both were sent before the block was left.
        assert peer.expect(CStoreRSP).command.status == 0x0000
        assert encode(peer.expect(Abort)) == USER_ABORT
