"""The acceptor's timers: the peer sees each expiry, the log names it, and it is counted (robustness T)."""

import asyncio
import contextlib
import logging
import select
import socket
import ssl
import time
from collections.abc import Callable
from typing import Final

import pytest
import trustme
from tests.core.messages import LAST_DATA, RELEASE_RQ, USER_ABORT, p_data, pdv
from tests.scp.messages import STORE, request, store, store_command
from tests.scp.storages import Recorder

from dicomport import Sink, Status, StorageSCP, StoreOperation, Timeouts
from dicomport.testing import ScriptedSCU
from dicomport.wire import Abort, CStoreRSP, ReleaseRP, encode

HOUR: Final = 3600.0
SOON: Final = 0.2


def patient(**short: float) -> Timeouts:
    """Return timeouts of which only the named ones can expire during a test."""
    return Timeouts(**{"connect": HOUR, "tls": HOUR, "acse": HOUR, "dimse": HOUR, "network": HOUR} | short)


def tls_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("localhost").configure_cert(context)
    return context


def trickle(peer: ScriptedSCU, data: bytes) -> None:
    """Send a byte occasionally, until the peer sends something or the bytes end."""
    for byte in data:
        if select.select([peer.socket], [], [], 0.02)[0]:
            return
        peer.send(bytes((byte,)))


def said(what: bytes) -> Callable[[ScriptedSCU], None]:
    """Send these bytes and nothing more, and expect the end of the connection."""

    def scenario(peer: ScriptedSCU) -> None:
        peer.send(what)
        assert peer.receive() is None

    return scenario


def associated(then: bytes = b"", trickled: bytes = b"") -> Callable[[ScriptedSCU], None]:
    """Ask for an association, send something, then some more byte by byte, and be aborted."""

    def scenario(peer: ScriptedSCU) -> None:
        peer.associate()
        peer.send(then)
        trickle(peer, trickled)
        assert encode(peer.expect(Abort)) == USER_ABORT
        assert peer.receive() is None

    return scenario


def released(peer: ScriptedSCU) -> None:
    """Release the association, and never close the connection."""
    peer.associate()
    peer.send(RELEASE_RQ)
    peer.expect(ReleaseRP)
    peer.expect_close()


DATA: Final = p_data(pdv(STORE, LAST_DATA, bytes(1000)))

SCENARIOS: Final = {
    "T1, not a byte": ("artim", "ARTIM", said(b"")),
    "T1, three bytes of a header": ("artim", "ARTIM", said(b"\1\0\0")),
    "T1, a request that stops in its middle": ("artim", "ARTIM", said(encode(request())[:100])),
    "T4, no close after the release": ("artim", "ARTIM", released),
    "T2, not a byte on the TLS port": ("tls", "tls", said(b"")),
    "T2, five bytes of a ClientHello": ("tls", "tls", said(bytes.fromhex("16 03 01 02 00"))),
    "nothing after the association": ("idle", "idle", associated()),
    "three bytes of a command": ("idle", "idle", associated(store_command()[:3])),
    "a command a byte at a time": ("idle", "idle", associated(b"", store_command())),
    "nothing of the data set": ("progress", "progress", associated(store_command())),
    "three bytes of the data set's header": ("progress", "progress", associated(store_command(), DATA[:3])),
    "T5, the data set a byte at a time": ("progress", "progress", associated(store_command(), DATA)),
}


@pytest.mark.parametrize(("field", "name", "scenario"), SCENARIOS.values(), ids=SCENARIOS)
def test_a_timer_that_expires_ends_it_is_named_and_counted(
    field: str, name: str, scenario: Callable[[ScriptedSCU], None], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "dicomport")
    tls = tls_context() if field == "tls" else None
    # A byte every 20 ms is 10 in a window of 200 ms, where 256 are asked for.
    timeouts = patient(**{field: SOON, "slowest": 256 / SOON})
    with StorageSCP(Recorder(), port=0, tls=tls, timeouts=timeouts).in_thread() as scp:
        with ScriptedSCU("127.0.0.1", scp.port) as peer:
            scenario(peer)
        assert scp.counters == {f"timer.{name}": 1}
    assert f"the {name} timer expired after {SOON} s" in caplog.text
    assert f'server_stopped counters="timer.{name}: 1' in caplog.text
    assert all(record.exc_info is None for record in caplog.records)


def test_a_data_set_that_comes_slowly_but_steadily_is_stored() -> None:
    """Robustness T5: for longer than a window, a byte at a time, each of them just what a window asks for."""
    storage = Recorder()
    window = 1.0
    timeouts = patient(progress=window, slowest=1.0)
    data = p_data(pdv(STORE, LAST_DATA, bytes(300)))
    with StorageSCP(storage, port=0, timeouts=timeouts).in_thread() as scp, ScriptedSCU("127.0.0.1", scp.port) as peer:
        peer.associate()
        peer.send(store_command())
        began, sent = time.monotonic(), 0
        while time.monotonic() - began < 1.5 * window:
            trickle(peer, data[sent : sent + 1])
            sent += 1
        peer.send(data[sent:])
        assert peer.expect(CStoreRSP).command.status == 0
    assert storage.data == {"1.2.3.4": bytes(300)}
    assert scp.counters == {}


def test_a_peer_that_does_not_read_its_answers_expires_the_write_timer(caplog: pytest.LogCaptureFixture) -> None:
    """Robustness T6, the other way round: its window is full, so no response can leave."""
    caplog.set_level(logging.INFO, "dicomport")
    timeouts = patient(write=SOON)
    with StorageSCP(Recorder(), port=0, timeouts=timeouts).in_thread() as scp, socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        sock.settimeout(60)
        sock.connect(("127.0.0.1", scp.port))
        sock.sendall(encode(request()))
        # The response repeats the offending value: long responses fill the window soon.
        message = store(sop_instance="1" * 60_000)
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            while True:
                sock.sendall(message)
        assert scp.counters == {"timer.write": 1}
    assert f"the write timer expired after {SOON} s" in caplog.text


def test_the_shutdown_timer_ends_operations_that_take_too_long(caplog: pytest.LogCaptureFixture) -> None:
    class Never(Recorder):
        async def begin(self, operation: StoreOperation) -> Sink | Status:
            entered.set()
            return await asyncio.get_running_loop().create_future()  # type: ignore[no-any-return]  # it never comes

    entered = asyncio.Event()

    async def scenario() -> None:
        async with StorageSCP(Never(), port=0, timeouts=patient(shutdown=SOON)) as scp:
            with await asyncio.to_thread(ScriptedSCU, "127.0.0.1", scp.port) as peer:
                await asyncio.to_thread(peer.associate)
                peer.send(store())
                await entered.wait()
                await scp.stop()
                assert await asyncio.to_thread(peer.receive) is None
            assert scp.counters == {"timer.shutdown": 1}

    asyncio.run(scenario())
    assert f'connection_timed_out reason="the shutdown timer expired after {SOON} s"' in caplog.text


def test_a_load_balancer_s_probe_is_logged_below_info(caplog: pytest.LogCaptureFixture) -> None:
    """Robustness T10."""
    caplog.set_level(logging.DEBUG, "dicomport")
    with StorageSCP(Recorder(), port=0).in_thread() as scp:
        for _ in range(10):
            ScriptedSCU("127.0.0.1", scp.port).socket.close()
            ScriptedSCU("127.0.0.1", scp.port).reset()
        with ScriptedSCU("127.0.0.1", scp.port) as peer:
            peer.associate()
            peer.release()
    ends = [record for record in caplog.records if "association_ended" in record.getMessage()]
    assert [record.levelno for record in ends].count(logging.INFO) == 1
    assert {record.levelno for record in ends} == {logging.DEBUG, logging.INFO}
