"""The server: accepted peers, invalid and silent peers, and start."""

import asyncio
import logging
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest
from tests.core.messages import INVALID, RELEASE_RQ, USER_ABORT, associate_rq
from tests.scp.messages import DATA_SET, STORE, in_fragments, request, store, store_command
from tests.scp.storages import Recorder

from dicomport import FolderStorage, StorageSCP, Timeouts, blocking
from dicomport.net import ConnectError
from dicomport.scp import is_loopback
from dicomport.testing import ScriptedSCU
from dicomport.wire import (
    Abort,
    AbortReason,
    AssociateRJ,
    AssociateRQ,
    CStoreRSP,
    RejectReason,
    ReleaseRP,
    UserInformation,
    encode,
)

HOUR: Final = 3600.0
SOON: Final = 0.2


def patient(**short: float) -> Timeouts:
    """Return timeouts of which only the named ones can expire during a test."""
    return Timeouts(**{"connect": HOUR, "tls": HOUR, "acse": HOUR, "dimse": HOUR, "network": HOUR} | short)


@pytest.fixture(autouse=True)
def _no_errors_in_the_log(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Check that no action of a peer logs an error or a traceback."""
    with caplog.at_level(logging.DEBUG, "dicomport"):
        yield
    assert [record.getMessage() for record in caplog.get_records("call") if record.levelno >= logging.ERROR] == []


@pytest.fixture
def scp() -> Iterator[StorageSCP]:
    with StorageSCP(Recorder(), port=0, timeouts=patient()).in_thread() as running:
        yield running


def serves(scp: StorageSCP) -> bool:
    """Return whether a correct peer is served."""
    with ScriptedSCU("127.0.0.1", scp.port) as peer:
        peer.associate()
        status = peer.store("1.2.3.4", DATA_SET).status
        peer.release()
    return status == 0x0000


# Accepted peers.


@pytest.mark.parametrize("host", ["", "0.0.0.0", "::", "192.0.2.7", "2001:db8::7", "pacs.example", "127.0.0.1.example"])
def test_a_reachable_address_needs_allow_or_allow_any(host: str) -> None:
    with pytest.raises(
        ValueError, match=r"other machines can reach .*: pass those that may connect \(allow\) or allow_any"
    ):
        StorageSCP(Recorder(), host=host)
    StorageSCP(Recorder(), host=host, allow_any=True)
    StorageSCP(Recorder(), host=host, allow=["MODALITY"])


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_this_machine_may_always_connect(host: str) -> None:
    assert is_loopback(host)
    StorageSCP(Recorder(), host=host)


@pytest.mark.parametrize("title", ["", "  ", "A" * 17, "A\\B", "A\nB", "\u00c4RZTE"])
def test_an_invalid_ae_title_raises_at_once(title: str) -> None:
    with pytest.raises(ValueError, match="AE title"):
        StorageSCP(Recorder(), ae_title=title)
    with pytest.raises(ValueError, match="AE title"):
        StorageSCP(Recorder(), allow=["MODALITY", title])


def rejected(scp: StorageSCP, wanted: AssociateRQ) -> AssociateRJ:
    with ScriptedSCU("127.0.0.1", scp.port) as peer:
        peer.send(wanted)
        reply = peer.receive()
        assert isinstance(reply, AssociateRJ), reply
        return reply


def test_allow_matches_the_calling_ae_title() -> None:
    with StorageSCP(Recorder(), port=0, allow=[" MODALITY ", "OTHER"]).in_thread() as scp:
        for calling in ("INTRUDER", "modality", "MODALITY 1", "", "MODALITY\n", "OTHE", "OTHER2"):
            reply = rejected(scp, request(calling=calling))
            assert reply == AssociateRJ(RejectReason.CALLING_AE_TITLE_NOT_RECOGNIZED)
            assert encode(reply) == bytes.fromhex("03 00 00000004 00 01 01 03")
        for calling in ("MODALITY", "  MODALITY", "OTHER"):
            with ScriptedSCU("127.0.0.1", scp.port) as peer:
                peer.associate(request=request(calling=calling))


def test_an_empty_list_of_peers_rejects_all() -> None:
    with StorageSCP(Recorder(), port=0, allow=[]).in_thread() as scp:
        assert rejected(scp, request()) == AssociateRJ(RejectReason.CALLING_AE_TITLE_NOT_RECOGNIZED)


def test_the_called_ae_title_is_checked_where_that_is_asked_for() -> None:
    with StorageSCP(Recorder(), port=0, ae_title="ARCHIVE", check_called_ae_title=True).in_thread() as scp:
        for called in ("DICOMPORT", "archive", "ARCHIVE2", ""):
            reply = rejected(scp, request(called=called))
            assert reply == AssociateRJ(RejectReason.CALLED_AE_TITLE_NOT_RECOGNIZED)
            assert encode(reply) == bytes.fromhex("03 00 00000004 00 01 01 07")
        for called in ("ARCHIVE", " ARCHIVE "):
            with ScriptedSCU("127.0.0.1", scp.port) as peer:
                peer.associate(request=request(called=called))


def test_any_called_ae_title_will_do_otherwise(scp: StorageSCP) -> None:
    for called in ("DICOMPORT", "whatever", "../../etc", "%s%n"):
        with ScriptedSCU("127.0.0.1", scp.port) as peer:
            peer.associate(request=request(called=called))


def test_requests_that_are_none_are_rejected(scp: StorageSCP) -> None:
    items = UserInformation(maximum_length=16384)
    nothing = AssociateRQ(called_ae_title="A", calling_ae_title="B", presentation_contexts=(), user_information=items)
    assert rejected(scp, nothing) == AssociateRJ(RejectReason.USER_NO_REASON)
    other = AssociateRQ(
        called_ae_title="A",
        calling_ae_title="B",
        presentation_contexts=request().presentation_contexts,
        user_information=items,
        application_context="1.2.3",
    )
    assert rejected(scp, other) == AssociateRJ(RejectReason.APPLICATION_CONTEXT_NAME_NOT_SUPPORTED)
    cramped = request(items=UserInformation(maximum_length=7))
    assert rejected(scp, cramped) == AssociateRJ(RejectReason.USER_NO_REASON)
    with ScriptedSCU("127.0.0.1", scp.port) as peer:
        peer.send(associate_rq(version=2))
        assert peer.receive() == AssociateRJ(RejectReason.PROTOCOL_VERSION_NOT_SUPPORTED)
    assert serves(scp)


# Starting.


def test_a_port_in_use_raises_at_the_start(scp: StorageSCP) -> None:
    second = StorageSCP(Recorder(), port=scp.port)
    with pytest.raises(OSError, match="in use"), second.in_thread():
        pass

    async def start() -> None:
        await second.start()

    with pytest.raises(OSError, match="in use"):
        asyncio.run(start())
    assert serves(scp)


def test_start_raises_for_an_address_of_another_machine() -> None:
    server = StorageSCP(Recorder(), host="192.0.2.7", port=0, allow_any=True)
    with pytest.raises(OSError, match=r"\[Errno"), server.in_thread():
        pass


def test_a_server_can_be_started_again_on_its_port() -> None:
    server = StorageSCP(Recorder(), port=0)
    with server.in_thread() as scp:
        port = scp.port
        assert port > 0
        assert serves(scp)
    assert server.port == port
    with pytest.raises(ConnectionRefusedError):
        ScriptedSCU("127.0.0.1", port)
    with server.in_thread() as scp:
        assert scp.port == port
        assert serves(scp)


def test_an_exception_in_the_block_stops_the_server_in_a_thread() -> None:
    server = StorageSCP(Recorder(), port=0)

    def fail_inside() -> None:
        with server.in_thread():
            assert serves(server)
            raise KeyError

    with pytest.raises(KeyError):
        fail_inside()
    with pytest.raises(ConnectionRefusedError):
        ScriptedSCU("127.0.0.1", server.port)


def test_it_serves_until_it_is_stopped() -> None:
    async def scenario() -> None:
        async with StorageSCP(Recorder(), port=0) as scp:
            serving = asyncio.create_task(scp.serve_forever())
            assert await asyncio.to_thread(serves, scp)
            assert not serving.done()
            await scp.stop()
            await serving
            await scp.stop()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(scenario())


def test_ipv6() -> None:
    storage = Recorder()
    with StorageSCP(storage, host="::1", port=0).in_thread() as scp, ScriptedSCU("::1", scp.port) as peer:
        peer.associate()
        assert peer.store("1.2.3.4", DATA_SET).status == 0x0000
        own_port = peer.socket.getsockname()[1]
    assert storage.operations[0].association.address == f"[::1]:{own_port}"


def test_a_host_name_is_listened_on_at_all_its_addresses() -> None:
    with StorageSCP(Recorder(), host="localhost", port=0).in_thread() as scp:
        for found in {str(info[4][0]) for info in socket.getaddrinfo("localhost", None, type=socket.SOCK_STREAM)}:
            with ScriptedSCU(found, scp.port) as peer:
                peer.associate()


# Invalid and silent peers.


OTHER_PROTOCOLS: Final = {
    "HTTP": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "SSH": b"SSH-2.0-x\r\n",
    "TLS": bytes.fromhex("16030100c8010000c40303"),
    "NUL": b"\0",
    "anything": bytes(range(200, 256)),
    "P-DATA-TF before the association": store(),
    "A-RELEASE-RQ before the association": RELEASE_RQ,
    "an A-ASSOCIATE-RQ without an end": bytes.fromhex("0100ffffffff"),
    "an A-ASSOCIATE-RQ of nothing": bytes.fromhex("010000000000"),
}


@pytest.mark.parametrize("sent", OTHER_PROTOCOLS.values(), ids=OTHER_PROTOCOLS)
def test_another_protocol_is_answered_with_an_abort(scp: StorageSCP, sent: bytes) -> None:
    with ScriptedSCU("127.0.0.1", scp.port) as peer:
        peer.send(sent)
        # Before there is an association, an abort has the service-user as its source (AA-1).
        assert encode(peer.expect(Abort)) == USER_ABORT
    assert serves(scp)


def test_a_broken_pdu_in_an_association_is_answered_with_an_abort(scp: StorageSCP) -> None:
    with ScriptedSCU("127.0.0.1", scp.port) as peer:
        peer.associate()
        peer.send(bytes.fromhex("04 00 00000005 0000000000"))
        assert encode(peer.expect(Abort)) == INVALID
    with ScriptedSCU("127.0.0.1", scp.port) as peer:
        peer.associate()
        peer.send(OTHER_PROTOCOLS["HTTP"])
        assert peer.expect(Abort) == Abort(AbortReason.UNRECOGNIZED_PDU)
    assert serves(scp)


def test_a_load_balancer_that_connects_and_closes_is_nothing_to_talk_about(
    scp: StorageSCP, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(20):
        ScriptedSCU("127.0.0.1", scp.port).socket.close()
        ScriptedSCU("127.0.0.1", scp.port).reset()
    assert serves(scp)
    assert {record.levelno for record in caplog.records} <= {logging.DEBUG, logging.INFO}


@pytest.mark.parametrize("said", [b"", b"\1", bytes.fromhex("0100"), bytes.fromhex("0100000000cc0001")])
def test_a_peer_that_never_ends_its_request_is_dropped_by_artim(said: bytes) -> None:
    with (
        StorageSCP(Recorder(), port=0, timeouts=patient(acse=SOON)).in_thread() as scp,
        ScriptedSCU("127.0.0.1", scp.port) as peer,
    ):
        peer.send(said)
        assert peer.receive() is None


def test_silent_peers_delay_no_other(scp: StorageSCP) -> None:
    silent = [ScriptedSCU("127.0.0.1", scp.port) for _ in range(100)]
    for peer in silent[::2]:
        peer.send(bytes.fromhex("0100000000cc"))
    assert serves(scp)
    for peer in silent:
        assert peer.silent
        peer.socket.close()


def test_a_peer_that_never_closes_after_the_end_is_dropped_by_artim() -> None:
    with StorageSCP(Recorder(), port=0, timeouts=patient(acse=SOON), allow=["A"]).in_thread() as scp:
        with ScriptedSCU("127.0.0.1", scp.port) as peer:
            peer.associate(request=request(calling="A"))
            peer.send(RELEASE_RQ)
            peer.expect(ReleaseRP)
            peer.expect_close()
        with ScriptedSCU("127.0.0.1", scp.port) as peer:
            peer.send(request(calling="B"))
            assert isinstance(peer.receive(), AssociateRJ)
            assert peer.receive() is None
        with ScriptedSCU("127.0.0.1", scp.port) as peer:
            peer.send(OTHER_PROTOCOLS["SSH"])
            peer.expect(Abort)
            assert peer.receive() is None


def test_an_idle_association_is_aborted_by_the_network_timer() -> None:
    with (
        StorageSCP(Recorder(), port=0, timeouts=patient(network=SOON)).in_thread() as scp,
        ScriptedSCU("127.0.0.1", scp.port) as peer,
    ):
        peer.associate()
        assert encode(peer.expect(Abort)) == USER_ABORT
        assert peer.receive() is None


def test_a_stalled_data_set_is_aborted_and_discarded() -> None:
    storage = Recorder()
    with (
        StorageSCP(storage, port=0, timeouts=patient(network=SOON)).in_thread() as scp,
        ScriptedSCU("127.0.0.1", scp.port) as peer,
    ):
        peer.associate()
        peer.send(store_command(), in_fragments(STORE, DATA_SET, 10)[:-1])
        assert encode(peer.expect(Abort)) == USER_ABORT
        assert peer.receive() is None
    assert storage.calls == ["begin", "write", "discard"]
    assert storage.data == {}


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


ENDS: Final[dict[str, Callable[[ScriptedSCU], None]]] = {
    "release": ScriptedSCU.release,
    "abort": ScriptedSCU.abort,
    "reset": ScriptedSCU.reset,
    "close": lambda peer: peer.socket.close(),
}


def test_no_descriptor_and_no_task_is_left_of_associations_that_end_anyhow(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with StorageSCP(FolderStorage(tmp_path), port=0) as scp:

            def misbehave() -> None:
                for end in ENDS.values():
                    for before in (b"", store(), store()[:-1], OTHER_PROTOCOLS["HTTP"]):
                        with ScriptedSCU("127.0.0.1", scp.port) as peer:
                            peer.associate()
                            peer.send(before)
                            if end is not ScriptedSCU.release or before == b"":
                                end(peer)
                serves(scp)

            await asyncio.to_thread(misbehave)
            descriptors = open_descriptors()
            for _ in range(3):
                await asyncio.to_thread(misbehave)
            await scp.stop()
            # The listening socket is closed, the loop's own descriptors stay.
            assert open_descriptors() < descriptors
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(scenario())


def test_many_associations_at_once(scp: StorageSCP) -> None:
    peers = [ScriptedSCU("127.0.0.1", scp.port) for _ in range(50)]
    for peer in peers:
        peer.associate()
    for number, peer in enumerate(peers):
        peer.send(store(number, f"1.2.{number}"))
    for number, peer in enumerate(peers):
        assert peer.expect(CStoreRSP).command.message_id_being_responded_to == number
        peer.release()
        peer.socket.close()


def test_our_client_reports_the_missing_listener() -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    with (
        pytest.raises(ConnectError, match="nothing listens"),
        blocking.associate("127.0.0.1", port, contexts=["1.2.840.10008.1.1"]),
    ):
        pass
