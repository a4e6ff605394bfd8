"""`on_association_end` is called once for each association that was accepted, in every way that one can end."""

import asyncio
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import pytest
from tests.core.messages import INVALID
from tests.scp.messages import DATA_SET, STORE, in_fragments, request, store_command
from tests.scp.storages import Recorder

from dicomport import AssociationInfo, StorageSCP, Timeouts
from dicomport.testing import ScriptedSCU
from dicomport.wire import Abort, AssociateRJ

HOUR: Final = 3600.0
TIMEOUT: Final = 60.0
SOON: Final = 0.2


def patient(**short: float) -> Timeouts:
    """Return timeouts of which only the named ones can expire during a test."""
    return Timeouts(**{"connect": HOUR, "acse": HOUR, "dimse": HOUR, "network": HOUR} | short)


@dataclass
class Told:
    """The recorded ends of associations; `over` is set with each."""

    associations: list[AssociationInfo] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    def tell(self, association: AssociationInfo) -> None:
        self.associations.append(association)
        self.over.set()


def _reset_in_a_data_set(peer: ScriptedSCU) -> None:
    peer.send(store_command(), in_fragments(STORE, bytes(1000), 100)[:300])
    peer.reset()


ENDS: Final[dict[str, Callable[[ScriptedSCU], None]]] = {
    "released": ScriptedSCU.release,
    "aborted": ScriptedSCU.abort,
    "closed": lambda peer: peer.socket.close(),
    "lost": ScriptedSCU.reset,
    "lost in a data set": _reset_in_a_data_set,
    "aborted by us": lambda peer: peer.send(INVALID),
}


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
@pytest.mark.parametrize("stored", [True, False])
def test_once_for_each_way_to_end(end: Callable[[ScriptedSCU], None], *, stored: bool) -> None:
    told = Told()
    with (
        StorageSCP(Recorder(), port=0, timeouts=patient(), on_association_end=told.tell).in_thread() as scp,
        ScriptedSCU("127.0.0.1", scp.port) as peer,
    ):
        peer.associate(request=request(calling="CT1"))
        if stored:
            peer.store("1.2.3.4", DATA_SET)
        assert not told.over.is_set()
        end(peer)
        assert told.over.wait(TIMEOUT)
    assert [association.calling_ae_title for association in told.associations] == ["CT1"]


def test_the_association_is_the_one_that_the_storage_saw() -> None:
    told = Told()
    storage = Recorder()
    with (
        StorageSCP(storage, port=0, on_association_end=told.tell).in_thread() as scp,
        ScriptedSCU("127.0.0.1", scp.port) as peer,
    ):
        peer.associate()
        peer.store("1.2.3.4", DATA_SET)
        peer.release()
        assert told.over.wait(TIMEOUT)
    assert [operation.association for operation in storage.operations] == told.associations
    assert hash(told.associations[0]) == hash(storage.operations[0].association)


def test_after_silence() -> None:
    told = Told()
    with (
        StorageSCP(Recorder(), port=0, timeouts=patient(network=SOON), on_association_end=told.tell).in_thread() as scp,
        ScriptedSCU("127.0.0.1", scp.port) as peer,
    ):
        peer.associate()
        peer.expect(Abort)
        assert told.over.wait(TIMEOUT)
    assert len(told.associations) == 1


def test_after_the_server_has_stopped_or_cut_it_off() -> None:
    told = Told()
    begun = threading.Event()

    async def hold(_request: object) -> int:
        begun.set()
        await asyncio.Event().wait()
        return 0

    async def main() -> None:
        async with StorageSCP(hold, port=0, timeouts=patient(), on_association_end=told.tell) as scp:
            idle = await asyncio.to_thread(ScriptedSCU, "127.0.0.1", scp.port)
            busy = await asyncio.to_thread(ScriptedSCU, "127.0.0.1", scp.port)
            with idle, busy:
                await asyncio.to_thread(idle.associate, calling="IDLE")
                await asyncio.to_thread(busy.associate, calling="BUSY")
                busy.send(store_command(), in_fragments(STORE, bytes(100), 100))
                await asyncio.to_thread(begun.wait, TIMEOUT)
                await scp.stop(within=SOON)
        assert sorted(association.calling_ae_title for association in told.associations) == ["BUSY", "IDLE"]

    asyncio.run(main())


def test_connections_without_an_association_have_no_end() -> None:
    told = Told()
    scp = StorageSCP(Recorder(), port=0, allow=["CT1"], timeouts=patient(), on_association_end=told.tell)
    with scp.in_thread():
        with ScriptedSCU("127.0.0.1", scp.port):
            pass
        with ScriptedSCU("127.0.0.1", scp.port) as peer:
            peer.send(INVALID)
            peer.receive()
        with ScriptedSCU("127.0.0.1", scp.port) as peer:
            peer.send(request(calling="NOBODY"))
            assert isinstance(peer.receive(), AssociateRJ)
    assert told.associations == []


def test_a_callback_that_raises_costs_the_peer_nothing(caplog: pytest.LogCaptureFixture) -> None:
    def fail(_association: AssociationInfo) -> None:
        raise ValueError("some bug")

    with StorageSCP(Recorder(), port=0, on_association_end=fail).in_thread() as scp:
        for _ in range(2):
            with ScriptedSCU("127.0.0.1", scp.port) as peer:
                peer.associate()
                peer.release()
    errors = [entry for entry in caplog.records if entry.levelno >= logging.ERROR]
    assert [entry.getMessage().split()[0] for entry in errors] == ["on_association_end_raised"] * 2
