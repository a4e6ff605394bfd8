"""Limits of the server: number of associations, length of an instance, minimum rate.

Each limit reached is counted, and affects only the peer that reached it.
"""

import contextlib
import logging
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest
import trustme
from tests.core.messages import LAST_COMMAND, LAST_DATA, RELEASE_RQ, command_set, item, number, p_data, pdu, pdv
from tests.scp.messages import DATA_SET, ECHO, STORE, request, store, store_command, store_elements
from tests.scp.storages import Recorder

from dicomport import FolderStorage, Limits, PeerRule, Storage, StorageSCP, Timeouts
from dicomport.archive import Archive
from dicomport.testing import Heard, ScriptedSCU
from dicomport.wire import Abort, AssociateAC, AssociateRJ, AssociateRQ, CStoreRSP, RejectReason, ReleaseRP, encode

HOUR: Final = 3600.0
PATIENT: Final = Timeouts(connect=HOUR, tls=HOUR, acse=HOUR, dimse=HOUR, network=HOUR)
NO_MORE: Final = AssociateRJ(RejectReason.LOCAL_LIMIT_EXCEEDED, transient=True)


@pytest.fixture(autouse=True)
def _no_errors_in_the_log(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Check that no action of a peer logs an error or a traceback."""
    with caplog.at_level(logging.DEBUG, "dicomport"):
        yield
    assert [record.getMessage() for record in caplog.get_records("call") if record.levelno >= logging.ERROR] == []


@contextlib.contextmanager
def serving(*, storage: FolderStorage | Recorder | None = None, **limits: int) -> Iterator[StorageSCP]:
    with StorageSCP(storage or Recorder(), port=0, timeouts=PATIENT, limits=Limits(**limits)).in_thread() as scp:
        yield scp


def serves(scp: StorageSCP, *, tls: ssl.SSLContext | None = None) -> bool:
    """Return whether a correct peer is served."""
    with ScriptedSCU("127.0.0.1", scp.port, tls=tls) as peer:
        peer.associate()
        status = peer.store("1.2.3.4", DATA_SET).status
        peer.release()
    return status == 0x0000


# Associations: rejected for now, at once, result 2, source 3, reason 2 (PS3.8 9.3.4).


def test_as_many_associations_as_there_may_be() -> None:
    with serving(associations=3) as scp, contextlib.ExitStack() as stack:
        peers = [stack.enter_context(ScriptedSCU("127.0.0.1", scp.port)) for _ in range(3)]
        for peer in peers:
            peer.associate()
        for _ in range(3):
            with ScriptedSCU("127.0.0.1", scp.port) as peer:
                peer.send(request())
                reply = peer.receive()
                assert reply == NO_MORE
                assert encode(NO_MORE) == bytes.fromhex("03 00 00000004 00 02 03 02")
        assert scp.counters == {"limit.associations": 3}
        # Those who are there are served on.
        assert peers[0].store("1.2.3.4", DATA_SET).status == 0x0000
        peers[0].release()
        assert serves(scp)


@pytest.mark.parametrize(
    "end", [ScriptedSCU.release, ScriptedSCU.abort, ScriptedSCU.reset, lambda peer: peer.socket.close()]
)
def test_each_end_of_an_association_frees_its_place(end: Callable[[ScriptedSCU], None]) -> None:
    """Robustness T4."""
    with serving(associations=1, associations_per_address=1, associations_per_ae_title=1) as scp:
        for _ in range(5):
            with wait_for_a_place(scp) as peer:
                assert peer.store("1.2.3.4", DATA_SET).status == 0x0000
                end(peer)


def reply_to(wanted: AssociateRQ, scp: StorageSCP) -> Heard | None:
    with ScriptedSCU("127.0.0.1", scp.port) as peer:
        peer.send(wanted)
        return peer.receive()


def wait_for_a_place(scp: StorageSCP, calling: str = "MODALITY") -> ScriptedSCU:
    """Request an association until one is accepted: the receiver notices the end of the one before a little later."""
    while True:
        peer = ScriptedSCU("127.0.0.1", scp.port)
        peer.send(request(calling=calling))
        reply = peer.receive()
        if reply != NO_MORE:
            assert isinstance(reply, AssociateAC)
            return peer
        peer.close()


def test_a_rejected_request_takes_no_place() -> None:
    nothing = AssociateRQ(
        called_ae_title="A",
        calling_ae_title="B",
        presentation_contexts=(),
        user_information=request().user_information,
    )
    with serving(associations=1) as scp:
        rejected = [ScriptedSCU("127.0.0.1", scp.port) for _ in range(5)]
        for peer in rejected:
            peer.send(nothing)
            assert peer.receive() == AssociateRJ(RejectReason.USER_NO_REASON)
        # They have not closed yet.
        assert serves(scp)
        for peer in rejected:
            peer.socket.close()


def test_one_address_leaves_room_for_the_others(caplog: pytest.LogCaptureFixture) -> None:
    with serving(associations_per_address=2) as scp, contextlib.ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(ScriptedSCU("127.0.0.1", scp.port)).associate()
        assert reply_to(request(), scp) == NO_MORE
        stack.enter_context(ScriptedSCU("127.0.0.1", scp.port, source="127.0.0.2")).associate()
        assert scp.counters == {"limit.associations_per_address": 1}
    assert "there are 2 associations from that address already (limit associations_per_address)" in caplog.text


def test_one_calling_ae_title_leaves_room_for_the_others(caplog: pytest.LogCaptureFixture) -> None:
    with serving(associations_per_ae_title=2) as scp, contextlib.ExitStack() as stack:
        for calling in ("MODALITY", " MODALITY", "OTHER"):
            stack.enter_context(ScriptedSCU("127.0.0.1", scp.port)).associate(request=request(calling=calling))
        assert reply_to(request(calling="MODALITY"), scp) == NO_MORE
        stack.enter_context(ScriptedSCU("127.0.0.1", scp.port)).associate(request=request(calling="OTHER"))
        assert scp.counters == {"limit.associations_per_ae_title": 1}
    assert "there are 2 associations with that calling AE title already" in caplog.text


# Connections without an association: the oldest makes room.


def test_idle_connections_keep_no_sender_out(caplog: pytest.LogCaptureFixture) -> None:
    """Robustness T1: as many as there may be, and fifty more."""
    with serving(half_open=20) as scp, contextlib.ExitStack() as stack:
        idle = [stack.enter_context(ScriptedSCU("127.0.0.1", scp.port)) for _ in range(70)]
        for number, peer in enumerate(idle):
            with contextlib.suppress(OSError):
                peer.send(encode(request())[: number % 7])
        assert serves(scp)
        for peer in idle[:50]:
            assert peer.receive() is None
        # The served connection displaced an idle one, and has ended.
        assert peer_count(idle[50:]) >= 18
        assert scp.counters["limit.half_open"] in (50, 51, 52)
    assert "connection_evicted address=127.0.0.1 port=" in caplog.text


def peer_count(peers: list[ScriptedSCU]) -> int:
    return sum(peer.silent for peer in peers)


def test_closing_connections_make_room_and_associations_do_not() -> None:
    with serving(half_open=2) as scp, contextlib.ExitStack() as stack:
        peers = [stack.enter_context(ScriptedSCU("127.0.0.1", scp.port)) for _ in range(2)]
        for peer in peers:
            peer.associate()
        released = stack.enter_context(ScriptedSCU("127.0.0.1", scp.port))
        released.associate()
        released.send(RELEASE_RQ)
        released.expect(ReleaseRP)
        idle = [stack.enter_context(ScriptedSCU("127.0.0.1", scp.port)) for _ in range(5)]
        assert released.receive() is None
        assert serves(scp)
        for peer in peers:
            assert peer.store("1.2.3.4", DATA_SET).status == 0x0000
        assert idle[0].receive() is None


def test_connections_of_another_address_do_not_make_room() -> None:
    """One address that opens connections without an end closes its own."""
    with serving(half_open=10) as scp, contextlib.ExitStack() as stack:
        slow = stack.enter_context(ScriptedSCU("127.0.0.1", scp.port, source="127.0.0.2"))
        slow.send(encode(request())[:10])
        idle = [stack.enter_context(ScriptedSCU("127.0.0.1", scp.port)) for _ in range(50)]
        assert idle[0].receive() is None
        assert idle[39].receive() is None
        slow.send(encode(request())[10:])
        assert isinstance(slow.receive(), AssociateAC)


def test_t1_t2_idle_connections_and_stalled_handshakes_block_no_sender(tmp_path: Path) -> None:
    """With the limits that there are by default."""
    ca = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("127.0.0.1").configure_cert(server)
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    ca.configure_trust(client)
    hello = bytes.fromhex("16 03 01 02 00")
    with (
        StorageSCP(FolderStorage(tmp_path), port=0, tls=server, timeouts=PATIENT).in_thread() as scp,
        contextlib.ExitStack() as stack,
    ):
        for number in range(600):
            peer = stack.enter_context(ScriptedSCU("127.0.0.1", scp.port))
            if number % 6 == 0:
                with contextlib.suppress(OSError):
                    peer.send(hello)
        for _ in range(3):
            assert serves(scp, tls=client)
        assert scp.counters["limit.half_open"] >= 600 - 256
    assert [path.name for path in tmp_path.iterdir()] == ["1.2.3.4.dcm"]


# Instances.


def test_an_instance_that_is_too_long_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    """Robustness P8: fragments of 16 KiB; refused in its middle, answered at its end."""
    with serving(storage=FolderStorage(tmp_path), instance_bytes=3 << 20, drained_bytes=8 << 20) as scp:
        with ScriptedSCU("127.0.0.1", scp.port) as peer:
            peer.associate()
            for size, status in ((3 << 20, 0x0000), ((3 << 20) + 2, 0xA700), (11 << 20, 0xA700), (3 << 20, 0x0000)):
                peer.send(store_command(1, f"1.2.{size}"))
                for at in range(0, size, 1 << 14):
                    part = bytes(min(1 << 14, size - at))
                    peer.send(p_data(pdv(STORE, LAST_DATA if at + len(part) == size else 0, part)))
                answer = peer.expect(CStoreRSP).command
                assert answer.status == status
                assert answer.error_comment == ("" if status == 0 else f"longer than {3 << 20} bytes")
            peer.release()
        assert scp.counters == {"limit.instance_bytes": 2}
        assert serves(scp)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1.2.3.4.dcm", f"1.2.{3 << 20}.dcm"]


def test_an_instance_without_an_end_is_aborted(tmp_path: Path) -> None:
    """Robustness P8: data fragments for ever."""
    part = p_data(pdv(STORE, 0, bytes(1 << 16)))
    with serving(storage=FolderStorage(tmp_path), instance_bytes=1 << 20, drained_bytes=1 << 20) as scp:
        with ScriptedSCU("127.0.0.1", scp.port) as peer:
            peer.associate()
            peer.send(store_command())
            peer.send(*[part] * 32)
            assert peer.silent
            peer.send(p_data(pdv(STORE, 0, b"12")))
            peer.expect(Abort)
        assert serves(scp)
    assert scp.counters == {"limit.instance_bytes": 1, "limit.drained_bytes": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["1.2.3.4.dcm"]


def test_a_data_set_rejected_at_once_is_not_read_for_ever() -> None:
    with serving(instance_bytes=1 << 20, drained_bytes=0) as scp:
        with ScriptedSCU("127.0.0.1", scp.port) as peer:
            peer.associate()
            peer.send(store_command(1, "1" * 65))
            peer.send(*[p_data(pdv(STORE, 0, bytes(1 << 16)))] * 16)
            assert peer.silent
            peer.send(p_data(pdv(STORE, 0, b"12")))
            peer.expect(Abort)
        assert serves(scp)
    assert scp.counters == {"limit.drained_bytes": 1}


ENDLESS: Final = {
    "C-ECHO": (0x0030, ECHO),
    "C-FIND": (0x0020, STORE),
    "C-MOVE": (0x0021, STORE),
    "N-EVENT-REPORT": (0x0100, STORE),
    "N-GET": (0x0110, STORE),
    "N-SET": (0x0120, STORE),
    "N-ACTION": (0x0130, STORE),
    "an unknown command": (0x0777, STORE),
    "a response": (0x8130, STORE),
}


@pytest.mark.parametrize(("field", "context"), ENDLESS.values(), ids=ENDLESS)
def test_a_request_with_an_endless_data_set_is_aborted(field: int, context: int) -> None:
    """The limit is `drained_bytes`, however long an instance may be."""
    elements = store_elements() | {0x0100: number(field)}
    if field & 0x8000:
        elements = {0x0100: number(field), 0x0120: number(1), 0x0800: number(0), 0x0900: number(0)}
    with serving(drained_bytes=1 << 20) as scp:
        with ScriptedSCU("127.0.0.1", scp.port) as peer:
            peer.associate()
            peer.send(p_data(pdv(context, LAST_COMMAND, command_set(elements))))
            peer.send(*[p_data(pdv(context, 0, bytes(1 << 16)))] * 16)
            assert peer.silent
            peer.send(p_data(pdv(context, 0, b"12")))
            peer.expect(Abort)
        assert serves(scp)
    assert scp.counters["limit.drained_bytes"] == 1


# Too long and too slow instances.

ASSOCIATED: Final = {
    "P7, fragments without a byte": (store_command() + p_data(pdv(STORE, 0)) * 1025, "idle_fragments"),
    "P7, P-DATA-TFs without a fragment": (p_data() * 1025, "idle_fragments"),
    "P4, a P-DATA-TF without an end": (pdu(4, length=0xFFFFFFFF), "p_data_pdu_bytes"),
    "P9, a command without an end": (p_data(pdv(STORE, 1, bytes(1 << 14))) * 5, "command_bytes"),
    "P9, a command of fragments without an end": (p_data(pdv(STORE, 1, b"1")) * 257, "command_fragments"),
}
REQUESTS: Final = {
    "P3, a request without an end": (pdu(1, length=0xFFFFFFFF), "associate_pdu_bytes"),
    "A4, 500 contexts": (item(0x20, b"\1\0\0\0") * 500, "presentation_contexts"),
    "A4, 500 transfer syntaxes": (item(0x20, b"\1\0\0\0" + item(0x40, "1.2") * 500), "transfer_syntaxes_per_context"),
    "A12, 2000 roles": (item(0x50, item(0x54, bytes(4)) * 2000), "user_items"),
}


@pytest.mark.parametrize(("sent", "limit"), ASSOCIATED.values(), ids=ASSOCIATED)
def test_an_endless_data_set_is_aborted(sent: bytes, limit: str) -> None:
    with serving() as scp:
        with ScriptedSCU("127.0.0.1", scp.port) as peer:
            peer.associate()
            peer.send(sent)
            peer.expect(Abort)
        assert serves(scp)
    assert scp.counters[f"limit.{limit}"] == 1


@pytest.mark.parametrize(("sent", "limit"), REQUESTS.values(), ids=REQUESTS)
def test_a_request_that_asks_for_too_much_is_aborted(sent: bytes, limit: str) -> None:
    with serving() as scp:
        with ScriptedSCU("127.0.0.1", scp.port) as peer:
            body = b"\0\1\0\0" + b"DICOMPORT".ljust(16) + b"MODALITY".ljust(16) + bytes(32) + sent
            peer.send(sent if sent[0] == 1 else pdu(1, body))
            peer.expect(Abort)
        assert serves(scp)
    assert scp.counters == {f"limit.{limit}": 1}


def test_one_byte_fragments_do_not_delay_other_peers() -> None:
    """Robustness P7: one read may contain any number of events, and other peers are served between them."""
    storage = Recorder()
    bytes_of_one = p_data(*[pdv(STORE, 0, b"1")] * 30_000)
    with serving(storage=storage) as scp, ScriptedSCU("127.0.0.1", scp.port) as peer:
        peer.associate()
        peer.send(store_command(), bytes_of_one)
        assert serves(scp)
        peer.send(p_data(pdv(STORE, LAST_DATA, b"1")))
        assert peer.expect(CStoreRSP).command.status == 0x0000
    assert len(storage.data["1.2.3.4"]) in (30_001, len(DATA_SET))


def test_a_second_request_is_not_kept_to_be_refused() -> None:
    """Robustness P15: it is judged by its header, so the peer need not send the rest."""
    for before in (b"", store_command()):
        with serving() as scp, ScriptedSCU("127.0.0.1", scp.port) as peer:
            peer.associate()
            peer.send(before, encode(request())[:6])
            peer.expect(Abort)


def test_tolerated_deviations_are_counted() -> None:
    with serving() as scp, ScriptedSCU("127.0.0.1", scp.port) as peer:
        peer.associate(request=request(calling=""))
        peer.send(store(sop_instance="1.2.3.4 "))
        assert peer.expect(CStoreRSP).command.status == 0x0000
        peer.release()
    assert scp.counters == {"deviation.ae-title-blank": 1, "deviation.uid-padding": 1}


# Of one rule.


def test_a_rule_has_limits_of_its_own(caplog: pytest.LogCaptureFixture) -> None:
    rules = [
        PeerRule(rule="few", ae_title="FEW", associations=2),
        PeerRule(rule="short", ae_title="SHORT", instance_bytes=100),
        PeerRule(rule="long", ae_title="LONG", instance_bytes=10**6),
        PeerRule(rule="all"),
    ]
    limits = Limits(instance_bytes=1000)
    scp = StorageSCP(Recorder(), port=0, timeouts=PATIENT, limits=limits, allow=rules)
    with scp.in_thread(), contextlib.ExitStack() as stack:
        few = [stack.enter_context(ScriptedSCU("127.0.0.1", scp.port)) for _ in range(2)]
        for peer in few:
            peer.associate(request=request(calling="FEW"))
        assert reply_to(request(calling="FEW"), scp) == NO_MORE
        assert scp.counters == {"limit.associations": 1}
        few[0].release()
        with wait_for_a_place(scp, "FEW") as again:
            assert again.store("1.2.3.4", DATA_SET).status == 0x0000
        for title, length, status in (
            ("SHORT", 98, 0x0000),
            ("SHORT", 102, 0xA700),
            ("LONG", 2000, 0x0000),
            ("OTHER", 1002, 0xA700),
        ):
            peer = stack.enter_context(ScriptedSCU("127.0.0.1", scp.port))
            peer.associate(request=request(calling=title))
            assert peer.store("1.2.3.4", bytes(length)).status == status, (title, length)
    assert "there are 2 associations by rule few already" in caplog.text


# Memory.


@pytest.mark.parametrize("kind", ["folder", "archive", "handler"])
@pytest.mark.parametrize("memory", [0, 128 << 20])
def test_nothing_is_held_of_instances_that_are_over_however_they_ended(tmp_path: Path, kind: str, memory: int) -> None:
    """Stored, refused, or cut off in their middle: with all the memory there is, and with none."""
    refused = StorageSCP(lambda request: 0x0000 if request.size % 2 == 0 else 0xA900)._settings.storage
    storages: dict[str, Callable[[], Storage]] = {
        "folder": lambda: FolderStorage(tmp_path),
        "archive": lambda: Archive(tmp_path),
        "handler": lambda: refused,
    }
    storage = storages[kind]()
    scp = StorageSCP(storage, port=0, timeouts=PATIENT, limits=Limits(memory_bytes=memory, instance_bytes=2_000_000))
    with scp.in_thread():
        for size in (0, 10, 11, 100_000, 1_500_000, 2_000_001):
            data = DATA_SET + bytes(size)
            with ScriptedSCU("127.0.0.1", scp.port) as peer:
                peer.associate()
                peer.send(store(data=data))
                peer.expect(CStoreRSP)
                peer.release()
            with ScriptedSCU("127.0.0.1", scp.port) as peer:
                peer.associate()
                peer.send(store(data=data)[:-1])
                peer.reset()
        assert serves(scp) or kind == "archive"
    if isinstance(storage, Archive):
        storage.close()
    assert scp._settings.memory.held == 0


def test_buffers_come_back_from_every_connection() -> None:
    scp = StorageSCP(Recorder(), port=0, timeouts=PATIENT)
    with scp.in_thread():
        for end in (ScriptedSCU.release, ScriptedSCU.abort, ScriptedSCU.reset, lambda peer: peer.socket.close()):
            for before in (b"", store_command(), store_command() + bytes(3)):
                with ScriptedSCU("127.0.0.1", scp.port) as peer:
                    peer.associate()
                    peer.send(before)
                    if end is not ScriptedSCU.release or before == b"":
                        end(peer)
        assert serves(scp)
        assert scp._listener is not None
        buffers = scp._listener._buffers
    assert len(buffers._free) == buffers._made > 0
