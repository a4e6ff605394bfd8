"""Scripted peers: they send exactly the script's bytes, and report errors."""

import asyncio
import contextlib
import re
import socket
import ssl
import threading
from collections.abc import Callable
from dataclasses import replace

import pytest
import trustme

import dicomport
from dicomport.scu import Instance
from dicomport.testing import (
    GoneError,
    Peer,
    ScriptedSCP,
    ScriptedSCU,
    ScriptError,
    association_request,
    healthy,
    in_turn,
    response,
)
from dicomport.wire import (
    Abort,
    AssociateAC,
    AssociateRQ,
    AsynchronousOperationsWindow,
    CCancelRQ,
    CEchoRQ,
    CEchoRSP,
    ContextResult,
    CStoreRQ,
    CStoreRSP,
    NActionRQ,
    NActionRSP,
    NEventReportRQ,
    NEventReportRSP,
    PDataTF,
    ReleaseRP,
    ReleaseRQ,
)

CT = "1.2.840.10008.5.1.4.1.1.2"
MR = "1.2.840.10008.5.1.4.1.1.4"
EXPLICIT = "1.2.840.10008.1.2.1"
IMPLICIT = "1.2.840.10008.1.2"
VERIFICATION = "1.2.840.10008.1.1"
JPEG = "1.2.840.10008.1.2.4.50"
DATA = bytes.fromhex("0800 0500 4353 0a00") + b"ISO_IR 100"


def instances(count: int) -> list[Instance]:
    return [Instance(CT, f"1.2.3.{number}", EXPLICIT, DATA) for number in range(count)]


def drain(peer: Peer) -> None:
    peer.drain()


def test_a_real_sender_stores_and_gets_the_statuses_of_the_script() -> None:
    def script(peer: Peer) -> None:
        peer.accept()
        peer.serve(0xA700, 0xB000)

    with (
        ScriptedSCP(script) as scp,
        dicomport.blocking.associate("127.0.0.1", scp.port, contexts=[CT]) as association,
    ):
        codes = [association.c_store(instance).status.code for instance in instances(3)]

    assert codes == [0xA700, 0xB000, 0]
    assert [store.command.affected_sop_instance_uid for store in scp.stores] == ["1.2.3.0", "1.2.3.1", "1.2.3.2"]
    assert {store.data for store in scp.stores} == {DATA}


def test_a_real_receiver_stores_what_a_script_sends() -> None:
    received: list[bytes] = []

    def handle(request: dicomport.StoreRequest) -> int:
        received.append(request.encoded())
        return 0

    with dicomport.StorageSCP(handle, port=0).in_thread() as scp, ScriptedSCU("127.0.0.1", scp.port) as peer:
        peer.associate()
        assert peer.echo().status == 0
        assert peer.store("1.2.3", DATA).status == 0
        peer.release()

    assert received == [DATA]


def test_a_requestor_with_a_custom_request_address_and_message_id() -> None:
    def script(peer: Peer) -> None:
        assert peer.socket.getpeername()[0] == "127.0.0.3"
        peer.accept()
        peer.answer(peer.expect(CStoreRQ))
        assert peer.expect(Abort) == Abort()
        peer.expect_close()

    request = association_request(CT, calling="MODALITY")
    for receive_buffer in (None, 4096):
        with (
            ScriptedSCP(script) as scp,
            ScriptedSCU("127.0.0.1", scp.port, source="127.0.0.3", receive_buffer=receive_buffer) as peer,
        ):
            peer.associate(request=request)
            assert peer.silent
            assert peer.store("1.2.3", DATA, message_id=7).message_id_being_responded_to == 7
            peer.abort()
        assert scp.peers[0].request == request


def test_two_scripts_exchange_pdus_messages_and_bytes() -> None:
    def script(peer: Peer) -> None:
        request = peer.expect(AssociateRQ)
        peer.accept(request, refuse={MR, JPEG, 7}, window=3, maximum_length=4096)
        first, second = peer.expect(CStoreRQ), peer.expect(CStoreRQ)
        peer.answer(second)
        peer.answer(first, replace(response(first.command, 0xA700), error_comment="full"))
        assert peer.expect(CEchoRQ).data == b""
        peer.send(Abort())
        peer.expect_close()

    with ScriptedSCP(script) as scp, ScriptedSCU("127.0.0.1", scp.port) as peer:
        reply = peer.associate(
            "1.2.840.10008.1.1", (CT, [JPEG, EXPLICIT]), MR, CT, (CT, [JPEG]), window=0, calling="SOMEBODY"
        )
        peer.send(peer.encode_store("1.2.3", bytes(10000)), peer.encode_store("1.2.4", DATA))
        assert peer.expect(CStoreRSP).command.message_id_being_responded_to == 2
        assert peer.expect(CStoreRSP).command.error_comment == "full"
        peer.send_message(1, CEchoRQ(message_id=3, affected_sop_class_uid="1.2.840.10008.1.1"))
        peer.expect(Abort)

    assert [context.result for context in reply.presentation_contexts] == [
        ContextResult.ACCEPTED,
        ContextResult.ACCEPTED,
        ContextResult.ABSTRACT_SYNTAX_NOT_SUPPORTED,
        ContextResult.USER_REJECTION,
        ContextResult.TRANSFER_SYNTAXES_NOT_SUPPORTED,
    ]
    assert reply.user_information.operations_window == AsynchronousOperationsWindow(3, 1)
    assert {context.transfer_syntax for context in peer.contexts.values()} == {EXPLICIT}
    [first, second] = scp.stores
    assert (first.data, second.data) == (bytes(10000), DATA)
    assert first.longest == 4096
    assert first.fragments == (4090, 4090, 1820)
    [request] = [peer.request for peer in scp.peers]
    assert request is not None
    assert request.calling_ae_title == "SOMEBODY"
    assert request.user_information.operations_window == AsynchronousOperationsWindow(0, 1)


def test_each_connection_has_its_script_and_the_port_closes_after_the_last() -> None:
    def refuses(peer: Peer) -> None:
        peer.expect(AssociateRQ)
        peer.reset()

    with ScriptedSCP(in_turn(refuses, healthy), connections=2) as scp:
        with ScriptedSCU("127.0.0.1", scp.port) as peer, pytest.raises(GoneError):
            peer.associate()
        with ScriptedSCU("127.0.0.1", scp.port) as peer:
            peer.associate()
            peer.release()
        with pytest.raises(ConnectionRefusedError):
            ScriptedSCU("127.0.0.1", scp.port)

    assert [len(peer.heard) for peer in scp.peers] == [1, 2]


def test_a_connection_without_a_script_is_an_error() -> None:
    def run() -> None:
        with ScriptedSCP(in_turn(drain)) as scp:
            for _ in range(2):
                with ScriptedSCU("127.0.0.1", scp.port) as peer:
                    peer.half_close()
                    peer.expect_close()

    with pytest.raises(ScriptError, match="connection 2: expected 1 connections at most"):
        run()


@pytest.mark.parametrize(
    ("send", "text"),
    [
        (b"", "connection 1: expected CStoreRQ, but the connection ended (so far: nothing)"),
        (ReleaseRQ().encode(), "connection 1: expected CStoreRQ, received ReleaseRQ() (so far: ReleaseRQ)"),
        (b"\x09\x00\x00\x00\x00\x00", "received invalid data: unknown PDU type 09H"),
    ],
)
def test_an_unexpected_pdu_is_reported_at_the_end_of_the_block(send: bytes, text: str) -> None:
    def script(peer: Peer) -> None:
        peer.expect(CStoreRQ)

    def run() -> None:
        with ScriptedSCP(script) as scp, ScriptedSCU("127.0.0.1", scp.port) as peer:
            peer.send(send)
            peer.half_close()
            peer.drain()

    with pytest.raises(ScriptError) as caught:
        run()
    assert text in str(caught.value)


def test_no_wait_is_unlimited() -> None:
    with ScriptedSCP(drain) as scp, ScriptedSCU("127.0.0.1", scp.port, timeout=0.01) as peer:
        with pytest.raises(ScriptError, match=r"expected AssociateAC, nothing happened for 0.01 s"):
            peer.associate()
        with pytest.raises(ScriptError, match=r"expected the end of the connection, nothing happened for 0.01 s"):
            peer.drain()


def test_a_script_that_fails_is_a_note_of_a_test_that_fails() -> None:
    def script(peer: Peer) -> None:
        peer.expect(ReleaseRP)

    def run() -> None:
        with ScriptedSCP(script) as scp, ScriptedSCU("127.0.0.1", scp.port) as peer:
            peer.send(ReleaseRQ())
            peer.expect(ReleaseRP)

    with pytest.raises(GoneError) as caught:
        run()
    assert caught.value.__notes__ == [
        "A script raised ScriptError: connection 1: expected ReleaseRP, received ReleaseRQ() (so far: ReleaseRQ)"
    ]


def test_a_test_that_fails_does_not_wait_for_its_scripts() -> None:
    sock = socket.socket()

    def run() -> None:
        with ScriptedSCP(drain) as scp:
            sock.connect(("127.0.0.1", scp.port))
            raise ZeroDivisionError

    with sock, pytest.raises(ZeroDivisionError):
        run()


def test_a_stalled_peer_with_a_small_window_stops_the_sender() -> None:
    go_on = threading.Event()
    counts: list[int] = []

    def script(peer: Peer) -> None:
        peer.stall(go_on)
        counts.append(peer.drain())

    with ScriptedSCP(script, receive_buffer=4096) as scp, ScriptedSCU("127.0.0.1", scp.port) as peer:
        peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        peer.timeout = 0.05
        with pytest.raises(ScriptError, match="expected the other side to read 1000000 bytes"):
            peer.send(bytes(1_000_000))
        go_on.set()
        peer.half_close()
        peer.expect_close()

    assert 0 < counts[0] < 1_000_000


def fills(peer: Peer) -> int:
    """Return the number of bytes sent before the other side's window is full."""
    peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    peer.socket.settimeout(0.05)
    count = 0
    with contextlib.suppress(TimeoutError):
        while True:
            count += peer.socket.send(bytes(4096))
    return count


def test_a_window_can_be_small_from_the_start_or_shrink() -> None:
    def shrinking(peer: Peer) -> None:
        peer.expect(ReleaseRQ)
        peer.shrink_window(4096)
        peer.send(ReleaseRP())
        peer.stall()

    counts = []
    for script, receive_buffer in ((Peer.stall, None), (Peer.stall, 4096), (shrinking, None)):
        with (
            ScriptedSCP(script, receive_buffer=receive_buffer) as scp,
            ScriptedSCU("127.0.0.1", scp.port) as peer,
        ):
            if script is shrinking:
                peer.send(ReleaseRQ())
                peer.expect(ReleaseRP)
            counts.append(fills(peer))

    wide, small, shrunk = counts
    assert small < wide / 2
    assert shrunk < wide


def test_so_can_that_of_the_one_that_calls() -> None:
    counts: list[int] = []
    full = threading.Event()

    def script(peer: Peer) -> None:
        counts.append(fills(peer))
        full.set()
        peer.expect_close()

    for receive_buffer in (None, 4096):
        full.clear()
        with ScriptedSCP(script) as scp, ScriptedSCU("127.0.0.1", scp.port, receive_buffer=receive_buffer) as peer:
            peer.stall(full)

    wide, small = counts
    assert small < wide / 2


def test_a_stall_lasts_until_the_end_of_the_block() -> None:
    def script(peer: Peer) -> None:
        peer.stall()
        peer.expect(ReleaseRQ)

    with ScriptedSCP(script) as scp, ScriptedSCU("127.0.0.1", scp.port) as peer:
        peer.send(ReleaseRQ())


def test_a_reset_is_one() -> None:
    with (
        ScriptedSCP(lambda peer: peer.reset()) as scp,
        socket.create_connection(("127.0.0.1", scp.port)) as sock,
        pytest.raises(ConnectionResetError),
    ):
        sock.recv(1)


def test_an_incomplete_pdu_at_the_end_is_kept() -> None:
    def script(peer: Peer) -> None:
        peer.accept()
        assert list(peer.requests()) == []

    with ScriptedSCP(script) as scp, ScriptedSCU("127.0.0.1", scp.port) as peer:
        peer.associate()
        message = peer.encode_store("1.2.3", DATA)
        peer.send(message[:-1])
        peer.half_close()
        peer.expect_close()

    [scripted] = scp.peers
    assert message[:-1].endswith(scripted.unfinished)
    assert len(scripted.unfinished) == 12 + len(DATA) - 1
    assert scripted.stores == []


def test_raw_pdus_can_be_received() -> None:
    def script(peer: Peer) -> None:
        peer.accept()
        command, data = peer.expect(PDataTF), peer.expect(PDataTF)
        assert [value.is_command for value in command.values + data.values] == [True, False]
        assert data.values[0].data == DATA
        peer.expect_close()

    with ScriptedSCP(script) as scp, ScriptedSCU("127.0.0.1", scp.port) as peer:
        assert isinstance(peer.associate(), AssociateAC)
        peer.send(peer.encode_store("1.2.3", DATA))


def test_scripts_speak_tls() -> None:
    ca = trustme.CA()
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    ca.issue_cert("127.0.0.1").configure_cert(server)
    ca.configure_trust(client)

    with ScriptedSCP(healthy, tls=server) as scp, ScriptedSCU("127.0.0.1", scp.port, tls=client) as peer:
        peer.associate()
        assert peer.store("1.2.3", bytes(100_000)).status == 0
        peer.release()
    assert [len(store.data) for store in scp.stores] == [100_000]


def test_a_handshake_that_fails_is_the_script_s_to_see() -> None:
    def run() -> None:
        with (
            ScriptedSCP(healthy, tls=ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)) as scp,
            ScriptedSCU("127.0.0.1", scp.port) as peer,
        ):
            peer.send(b"hello")
            peer.drain()

    with pytest.raises(GoneError, match="expected AssociateRQ, reading failed"):
        run()


def test_data_sets_are_discarded_without_keep_data() -> None:
    with ScriptedSCP(healthy, keep_data=False) as scp, ScriptedSCU("127.0.0.1", scp.port) as peer:
        peer.associate()
        peer.store("1.2.3", bytes(100_000))
        peer.release()
    [store] = scp.stores
    assert store.data == b""
    assert sum(store.fragments) == 100_000


def test_an_asyncio_program_is_tested_in_its_own_loop() -> None:
    async def scenario() -> list[int]:
        with ScriptedSCP(healthy) as scp:
            async with dicomport.associate("127.0.0.1", scp.port, contexts=[CT]) as association:
                responses = [await association.c_store(instance) for instance in instances(2)]
        return [response.status.code for response in responses]

    assert asyncio.run(scenario()) == [0, 0]


def test_each_request_of_the_service_has_its_response() -> None:
    for request, kind in (
        (CStoreRQ(message_id=5, affected_sop_class_uid=CT, affected_sop_instance_uid="1.2"), CStoreRSP),
        (CEchoRQ(message_id=5, affected_sop_class_uid=CT), CEchoRSP),
        (
            NActionRQ(message_id=5, requested_sop_class_uid=CT, requested_sop_instance_uid="1.2", action_type_id=1),
            NActionRSP,
        ),
        (
            NEventReportRQ(message_id=5, affected_sop_class_uid=CT, affected_sop_instance_uid="1.2", event_type_id=1),
            NEventReportRSP,
        ),
    ):
        answer = response(request, 0x0110)
        assert type(answer) is kind
        assert (answer.message_id_being_responded_to, answer.status, answer.affected_sop_class_uid) == (5, 0x0110, CT)
    with pytest.raises(ValueError, match="unknown response"):
        response(CCancelRQ(message_id_being_responded_to=5))


@pytest.mark.parametrize(
    ("act", "text"),
    [
        (lambda peer: peer.serve(), "expected a request, received AssociateRQ("),
        (lambda peer: peer.expect_close(), "expected the end of the connection, received AssociateRQ("),
    ],
)
def test_a_pdu_in_place_of_a_request_or_of_the_end_is_reported(act: Callable[[Peer], None], text: str) -> None:
    def run() -> None:
        with ScriptedSCP(act) as scp, ScriptedSCU("127.0.0.1", scp.port) as peer:
            peer.send(association_request((CT, EXPLICIT)))
            peer.drain()

    with pytest.raises(ScriptError, match=re.escape(text)):
        run()


def test_a_stall_without_its_event_is_reported() -> None:
    with ScriptedSCP(drain) as scp, ScriptedSCU("127.0.0.1", scp.port, timeout=0.01) as peer:
        with pytest.raises(ScriptError, match=r"expected the end of a stall, nothing happened for 0.01 s"):
            peer.stall(threading.Event())
        peer.half_close()


def test_half_closing_a_closed_connection_is_reported() -> None:
    with ScriptedSCP(drain) as scp, ScriptedSCU("127.0.0.1", scp.port) as peer:
        peer.close()
        with pytest.raises(GoneError, match="could not half-close the connection"):
            peer.half_close()


def test_a_store_without_an_accepted_context_is_reported() -> None:
    with ScriptedSCP(healthy) as scp, ScriptedSCU("127.0.0.1", scp.port) as peer:
        peer.associate(VERIFICATION)
        with pytest.raises(ScriptError, match="no suitable accepted context"):
            peer.store("1.2.3", DATA)
        assert peer.echo().status == 0
        peer.release()


def test_a_script_that_does_not_end_is_reported() -> None:
    end, begun = threading.Event(), threading.Event()

    def script(_peer: Peer) -> None:
        begun.set()
        end.wait(60)

    def run() -> None:
        with ScriptedSCP(script, timeout=0.01) as scp, socket.create_connection(("127.0.0.1", scp.port)):
            assert begun.wait(60)

    try:
        with pytest.raises(ScriptError, match=r"connection 1: the script still runs 0.01 s after the end"):
            run()
    finally:
        end.set()
