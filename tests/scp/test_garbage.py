"""No end of a connection leaves work for the garbage collector: a hostile peer decides how many connections end.

Objects in a reference cycle stay until a collection of the oldest generation, with their buffers.
"""

import asyncio
import gc
import types
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest
from tests.archive.sending import bytes_of, instance
from tests.core.messages import command_set, p_data, pdv, store_elements

from dicomport import FolderStorage, Status, StorageSCP, StoreRequest
from dicomport.archive import Archive
from dicomport.net import Timeouts
from dicomport.scp import Handler, Limits
from dicomport.testing import ScriptedSCU, association_request
from dicomport.wire import Abort, CStoreRSP

SHORT: Final = Timeouts(acse=0.05, network=0.05)
LIMITS: Final = Limits(instance_bytes=100_000, drained_bytes=50_000)
TIMES: Final = 3

DATA_SET: Final = bytes_of(instance("1.2.3.4"))


def released(peer: ScriptedSCU) -> None:
    peer.associate()
    assert peer.echo().status == 0
    peer.release()


def stored(peer: ScriptedSCU) -> None:
    peer.associate()
    assert peer.store("1.2.3.4", DATA_SET).status == 0
    peer.release()


def refused_for_its_content(peer: ScriptedSCU) -> None:
    peer.associate()
    peer.store("1.2.3.4", b"no data set")
    peer.release()


def refused_for_its_request(peer: ScriptedSCU) -> None:
    peer.associate()
    elements = store_elements()
    del elements[0x1000]
    peer.send(p_data(pdv(3, 3, command_set(elements)), pdv(3, 2, DATA_SET)))
    assert peer.expect(CStoreRSP).command.status == 0x0117
    peer.release()


def aborted(peer: ScriptedSCU) -> None:
    peer.associate()
    peer.send(Abort())
    peer.expect_close()


def another_protocol(peer: ScriptedSCU) -> None:
    peer.send(b"GET / HTTP/1.1\r\n\r\n")
    peer.drain()


def no_command_set(peer: ScriptedSCU) -> None:
    peer.associate()
    peer.send(p_data(pdv(3, 3, b"1234")))
    peer.drain()


def a_request_out_of_place(peer: ScriptedSCU) -> None:
    peer.associate()
    peer.send(association_request())
    peer.drain()


def longer_than_a_limit(peer: ScriptedSCU) -> None:
    peer.associate()
    peer.send(peer.encode_store("1.2.3.4", bytes(160_000)))
    peer.drain()


def silent(peer: ScriptedSCU) -> None:
    peer.drain()


def silent_in_an_association(peer: ScriptedSCU) -> None:
    peer.associate()
    peer.drain()


def silent_in_a_data_set(peer: ScriptedSCU) -> None:
    peer.associate()
    peer.send(peer.encode_store("1.2.3.4", DATA_SET)[:-10])
    peer.drain()


def reset(peer: ScriptedSCU) -> None:
    peer.associate()
    peer.reset()


def reset_in_a_data_set(peer: ScriptedSCU) -> None:
    peer.associate()
    peer.send(peer.encode_store("1.2.3.4", DATA_SET)[:-10])
    peer.reset()


HOW: Final[tuple[Callable[[ScriptedSCU], None], ...]] = (
    *(released, stored, refused_for_its_content, refused_for_its_request, aborted, another_protocol, no_command_set),
    *(a_request_out_of_place, longer_than_a_limit, silent, silent_in_an_association, silent_in_a_data_set),
    *(reset, reset_in_a_data_set),
)


def handle(received: StoreRequest) -> Status:
    assert list(received.chunks())
    return Status(0)


STORAGES: Final[dict[str, Callable[[Path], Archive | FolderStorage | Handler]]] = {
    "archive": Archive,
    "folder": FolderStorage,
    "handler": lambda _: handle,
}
CASES: Final = (
    *(("archive", how) for how in HOW),
    *((name, how) for name in ("folder", "handler") for how in (stored, silent_in_a_data_set, reset_in_a_data_set)),
)


def connect(port: int, how: Callable[[ScriptedSCU], None], times: int) -> None:
    for _ in range(times):
        with ScriptedSCU("127.0.0.1", port) as peer:
            how(peer)


def garbage() -> Counter[str]:
    """Collect reference cycles, and count the objects in them that are ours or refer to ours."""
    gc.set_debug(gc.DEBUG_SAVEALL)
    gc.collect()
    gc.set_debug(0)
    kinds = [type(each) for each in gc.garbage]
    gc.garbage.clear()
    ours = (types.FrameType, types.TracebackType, memoryview)
    return Counter(kind.__qualname__ for kind in kinds if kind in ours or kind.__module__.startswith("dicomport"))


@pytest.mark.parametrize(("name", "how"), CASES, ids=[f"{name}-{how.__name__}" for name, how in CASES])
def test_nothing_is_left_to_the_garbage_collector(
    tmp_path: Path, name: str, how: Callable[[ScriptedSCU], None]
) -> None:
    storage = STORAGES[name](tmp_path)

    async def serve() -> Counter[str]:
        async with StorageSCP(storage, port=0, timeouts=SHORT, limits=LIMITS) as scp:
            # Objects that are created once may form cycles.
            await asyncio.to_thread(connect, scp.port, how, 1)
            await asyncio.to_thread(connect, scp.port, released, 2)
            gc.collect()
            await asyncio.to_thread(connect, scp.port, how, TIMES)
            await asyncio.to_thread(connect, scp.port, released, 2)
            return garbage()

    gc.disable()
    try:
        assert asyncio.run(serve()) == Counter()
    finally:
        gc.enable()
        if isinstance(storage, Archive):
            storage.close()
