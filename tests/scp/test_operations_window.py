"""Several operations outstanding on one association (PS3.7 D.3.3.3): stored at once, answered as they are done."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator, Callable

import pytest

import dicomport
from dicomport.testing import ScriptedSCU
from dicomport.wire import CEchoRQ, CEchoRSP, CStoreRSP, ReleaseRP, ReleaseRQ

DATA = b"\x08\x00\x16\x00UI\x00\x00"


class Held:
    """A handler whose answers wait for the test."""

    def __init__(self, status: int = 0x0000) -> None:
        self.status = status
        self.begun: list[str] = []
        self.changed = asyncio.Condition()
        self.allowed: set[str] = set()

    async def take(self, request: dicomport.StoreRequest) -> int:
        async with self.changed:
            self.begun.append(request.sop_instance_uid)
            self.changed.notify_all()
            await self.changed.wait_for(lambda: request.sop_instance_uid in self.allowed)
        return self.status

    async def wait_begun(self, *uids: str) -> None:
        async with self.changed, asyncio.timeout(30):
            await self.changed.wait_for(lambda: sorted(self.begun) == sorted(uids))

    async def allow(self, *uids: str) -> None:
        async with self.changed:
            self.allowed.update(uids)
            self.changed.notify_all()


@contextlib.asynccontextmanager
async def receiving(held: Held, window: int | None) -> AsyncIterator[ScriptedSCU]:
    async with dicomport.StorageSCP(held.take, port=0) as scp:
        peer = await asyncio.to_thread(ScriptedSCU, "127.0.0.1", scp.port)
        with peer:
            await asyncio.to_thread(peer.associate, window=window)
            yield peer


async def answered(peer: ScriptedSCU) -> str:
    response = await asyncio.to_thread(peer.expect, CStoreRSP)
    assert response.command.status == 0x0000
    return response.command.affected_sop_instance_uid


def test_within_the_window_each_is_answered_when_it_is_done() -> None:
    async def scenario() -> None:
        held = Held()
        async with receiving(held, 3) as peer:
            peer.send(*(peer.encode_store(uid, DATA) for uid in ("1.1", "1.2", "1.3")))
            await held.wait_begun("1.1", "1.2", "1.3")
            for uid in ("1.2", "1.3", "1.1"):
                await held.allow(uid)
                assert await answered(peer) == uid

    asyncio.run(scenario())


def test_more_than_the_window_are_not_stored_at_once() -> None:
    async def scenario() -> None:
        held = Held()
        async with receiving(held, 2) as peer:
            peer.send(*(peer.encode_store(uid, DATA) for uid in ("1.1", "1.2", "1.3")))
            await held.wait_begun("1.1", "1.2")
            await held.allow("1.2")
            assert await answered(peer) == "1.2"
            await held.wait_begun("1.1", "1.2", "1.3")
            await held.allow("1.1", "1.3")
            assert {await answered(peer), await answered(peer)} == {"1.1", "1.3"}

    asyncio.run(scenario())


@pytest.mark.parametrize("window", [None, 1])
def test_a_peer_that_sends_on_without_a_window_is_served_in_order(window: int | None) -> None:
    """Robustness C9."""

    async def scenario() -> None:
        held = Held()
        uids = [f"1.{number}" for number in range(1, 21)]
        async with receiving(held, window) as peer:
            peer.send(*(peer.encode_store(uid, DATA) for uid in uids))
            for number, uid in enumerate(uids, 1):
                await held.wait_begun(*uids[:number])
                await held.allow(uid)
                assert await answered(peer) == uid

    asyncio.run(scenario())


def test_a_release_waits_for_the_answers() -> None:
    async def scenario() -> None:
        held = Held()
        async with receiving(held, 2) as peer:
            peer.send(peer.encode_store("1.1", DATA))
            await held.wait_begun("1.1")
            peer.send(ReleaseRQ())
            await held.allow("1.1")
            assert await answered(peer) == "1.1"
            await asyncio.to_thread(peer.expect, ReleaseRP)

    asyncio.run(scenario())


def test_an_echo_is_answered_meanwhile() -> None:
    async def scenario() -> None:
        held = Held()
        async with receiving(held, 2) as peer:
            peer.send(peer.encode_store("1.1", DATA))
            await held.wait_begun("1.1")
            peer.send_message(1, CEchoRQ(message_id=77, affected_sop_class_uid="1.2.840.10008.1.1"))
            assert (await asyncio.to_thread(peer.expect, CEchoRSP)).command.message_id_being_responded_to == 77
            await held.allow("1.1")
            assert await answered(peer) == "1.1"

    asyncio.run(scenario())


def _half_close(peer: ScriptedSCU) -> None:
    peer.socket.shutdown(socket.SHUT_WR)


@pytest.mark.parametrize("end", [ScriptedSCU.reset, ScriptedSCU.abort, _half_close], ids=["reset", "aborted", "closed"])
@pytest.mark.parametrize("status", [0x0000, 0xA700])
def test_an_instance_is_reported_that_is_stored_after_the_end(
    end: Callable[[ScriptedSCU], None], status: int, caplog: pytest.LogCaptureFixture
) -> None:
    ended: list[dicomport.AssociationInfo] = []
    answers: list[tuple[str, int, int]] = []

    async def scenario() -> None:
        held = Held(status)
        over = asyncio.Event()

        def on_association_end(association: dicomport.AssociationInfo) -> None:
            ended.append(association)
            over.set()

        scp = dicomport.StorageSCP(
            held.take,
            port=0,
            on_association_end=on_association_end,
            on_stored=lambda operation, status, size: answers.append((operation.sop_instance_uid, status.code, size)),
        )
        async with scp:
            peer = await asyncio.to_thread(ScriptedSCU, "127.0.0.1", scp.port)
            await asyncio.to_thread(peer.associate, window=3)
            peer.send(peer.encode_store("1.1", DATA), peer.encode_store("1.2", DATA))
            await held.wait_begun("1.1", "1.2")
            end(peer)
            # The receiver notices the end before it answers a later peer.
            with await asyncio.to_thread(ScriptedSCU, "127.0.0.1", scp.port) as later:
                await asyncio.to_thread(later.associate)
                await asyncio.to_thread(later.echo)
                await asyncio.to_thread(later.echo)
                assert answers == []
                await held.allow("1.1", "1.2")
                async with asyncio.timeout(30):
                    await over.wait()
            peer.socket.close()

    with caplog.at_level(logging.INFO, "dicomport"):
        asyncio.run(scenario())
    assert sorted(answers) == [("1.1", status, len(DATA)), ("1.2", status, len(DATA))]
    event, field = ("instance_refused", "refused") if status else ("instance_stored", "stored")
    assert [record.message.split()[0] for record in caplog.records].count(event) == 2
    ends = [record for record in caplog.records if record.message.startswith("association_ended ")]
    counts = [record.__dict__["fields"][field] for record in ends]
    assert sorted(counts) == [0, 2]
    assert len(ended) == 2


def test_stopping_waits_for_the_answers_and_no_longer_than_it_should() -> None:
    async def scenario(*, allows: bool) -> list[str]:
        held = Held()
        scp = dicomport.StorageSCP(held.take, port=0)
        await scp.start()
        peer = await asyncio.to_thread(ScriptedSCU, "127.0.0.1", scp.port)
        with peer:
            await asyncio.to_thread(peer.associate, window=2)
            peer.send(peer.encode_store("1.1", DATA))
            await held.wait_begun("1.1")
            stopping = asyncio.create_task(scp.stop(30 if allows else 0.1))
            if allows:
                await held.allow("1.1")
                got = [await answered(peer)]
            else:
                got = []
            await stopping
        return got

    assert asyncio.run(scenario(allows=True)) == ["1.1"]
    assert asyncio.run(scenario(allows=False)) == []
