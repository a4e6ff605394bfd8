"""Rows T1 to T10: silent, slow and stalled peers, and connections that end (PS3.8 9.1.5, 9.2)."""

from __future__ import annotations

import contextlib
import datetime as dt
import itertools
import os
import select
import signal
import socket
import ssl
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest
from tests.archive.sending import instance
from tests.certificates import Files
from tests.core.messages import DATA, LAST_COMMAND, LAST_DATA, command_set, p_data, pdv
from tests.robustness.attacks import Attack, Target, data_set, receiver, sent
from tests.scp.messages import store_elements
from tests.scu.data import part10

from dicomport.testing import GoneError, Peer, ScriptedSCP, ScriptedSCU, acceptance, association_request
from dicomport.wire import Abort, AssociateRJ, AssociateRQ, CStoreRQ, CStoreRSP, RejectReason, ReleaseRQ, encode

CT: Final = 3
"""The context id of CT images in the proposal of `Attack.associated`."""

HALF_OPEN: Final = 20
ASSOCIATIONS: Final = 8
ONCE: Final = ("-j", "1", "--retries", "0")

LONG_AGO: Final = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
START_OF_A_HELLO: Final = bytes.fromhex("16 03 01 02 00")


@pytest.fixture(scope="module")
def options() -> tuple[str, ...]:
    return (
        *("--max-half-open", str(HALF_OPEN), "--max-associations", str(ASSOCIATIONS)),
        *("--progress-timeout", "2", "--min-rate", "256"),
    )


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return Files(tmp_path_factory.mktemp("certificates") / "authority")


@pytest.fixture(scope="module")
def tls_target(tmp_path_factory: pytest.TempPathFactory, authority: Files) -> Iterator[Target]:
    """Run a receiver that accepts peers with a certificate of the authority."""
    server, modality = authority.issue("127.0.0.1"), authority.issue("modality.example")
    client = ssl.create_default_context(cafile=authority.authority)
    client.load_cert_chain(modality.certificate, modality.key)
    options = ("--tls-cert", server.certificate, "--tls-key", server.key, "--tls-ca", authority.authority)
    with receiver(tmp_path_factory.mktemp("target") / "archive", *options, "--tls-timeout", "4", tls=client) as running:
        yield running


@pytest.fixture
def tls_attack(tls_target: Target) -> Iterator[Attack]:
    with Attack(tls_target) as going_on:
        yield going_on


def store_command(uid: str) -> bytes:
    return p_data(pdv(CT, LAST_COMMAND, command_set(store_elements(1, uid))))


def a_newcomer_stores(attack: Attack) -> None:
    uid = attack.uid()
    with attack.target.association("NEWCOMER") as association:
        assert association.c_store(instance(uid)).status.code == 0
    attack.keep(data_set(uid))


def is_cut_off(peer: ScriptedSCU) -> bool:
    """Return whether the connection ends, in any way, without further bytes."""
    try:
        return peer.socket.recv(1) == b""
    except ConnectionResetError:
        return True


def test_t1_silent_connections_keep_no_sender_out_and_artim_ends_them(attack: Attack) -> None:
    with attack.crowd(HALF_OPEN + 50) as silent:
        for peer in silent[::2]:
            with contextlib.suppress(GoneError):
                peer.send(encode(association_request())[:3])
        a_newcomer_stores(attack)
        assert all(map(is_cut_off, silent))
    assert "the ARTIM timer expired" in attack.end_of(silent[-2])["how"]
    assert attack.line(silent[0], "connection_evicted")["limit"] == "half_open"


def test_t2_stalled_handshakes_block_no_sender_and_time_out(tls_attack: Attack) -> None:
    with tls_attack.crowd(200) as stalled:
        for peer in stalled:
            peer.send(START_OF_A_HELLO)
        tls_attack.others_go_on()
        a_newcomer_stores(tls_attack)
        assert all(map(is_cut_off, stalled))
    for peer in stalled:
        assert "the tls timer expired" in tls_attack.line(peer, "connection_ended")["reason"]


def test_t3_tls_to_a_port_without_tls_is_aborted(attack: Attack) -> None:
    with attack.connect() as peer:
        peer.send(START_OF_A_HELLO)
        peer.expect(Abort)
    assert "does the peer use TLS?" in attack.end_of(peer)["how"]


def hello_of_tls_1_0() -> bytes:
    """Encode a ClientHello of TLS 1.0 with one cipher suite (RFC 2246 7.4.1.2)."""
    body = b"\3\1" + bytes(32) + bytes.fromhex("00 0002 002F 01 00")
    handshake = b"\1" + struct.pack(">L", len(body))[1:] + body
    return b"\x16\3\1" + struct.pack(">H", len(handshake)) + handshake


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (encode(association_request()), "DICOM without TLS"),
        (hello_of_tls_1_0(), "no TLS version in common"),
    ],
    ids=["no TLS", "TLS 1.0"],
)
def test_t3_an_unacceptable_tls_handshake_is_closed(tls_attack: Attack, said: bytes, reason: str) -> None:
    with tls_attack.connect() as peer:
        peer.send(said)
        assert reason in tls_attack.line(peer, "tls_failed")["reason"]


@pytest.mark.parametrize(
    ("shown", "reason"),
    [("none", "sent no certificate"), ("a stranger's", "is not trusted"), ("an old one", "has expired")],
)
def test_t3_a_certificate_that_will_not_do_is_named(
    tls_attack: Attack, authority: Files, tmp_path: Path, shown: str, reason: str
) -> None:
    client = ssl.create_default_context(cafile=authority.authority)
    if shown != "none":
        issuer = authority if shown == "an old one" else Files(tmp_path / "stranger")
        identity = issuer.issue("elsewhere.example", not_after=LONG_AGO if issuer is authority else None)
        client.load_cert_chain(identity.certificate, identity.key)
    with tls_attack.connect() as peer:
        # In TLS 1.3 the client's handshake ends before the server has checked the client's certificate.
        with (
            contextlib.suppress(ssl.SSLError, ConnectionError),
            client.wrap_socket(peer.socket, server_hostname="127.0.0.1") as tls,
        ):
            assert tls.recv(1) == b""
        assert reason in tls_attack.line(peer, "tls_failed")["reason"]


def leave_without_a_word(peer: ScriptedSCU) -> None:
    peer.close()


def leave_with_an_abort(peer: ScriptedSCU) -> None:
    peer.send(Abort())


LEAVING: Final = (ScriptedSCU.release, leave_with_an_abort, leave_without_a_word, ScriptedSCU.reset)


def test_t4_places_are_free_at_once_after_associations_end(attack: Attack) -> None:
    with attack.crowd(ASSOCIATIONS - 1) as there:
        for peer in there:
            peer.associate()
        with attack.connect() as late:
            late.send(association_request())
            assert late.expect(AssociateRJ) == AssociateRJ(RejectReason.LOCAL_LIMIT_EXCEEDED, transient=True)
        for number, peer in enumerate(there):
            LEAVING[number % len(LEAVING)](peer)
            attack.end_of(peer)
            a_newcomer_stores(attack)


def test_t5_a_trickling_sender_is_cut_off_and_a_slow_one_is_not(attack: Attack) -> None:
    """Both send for longer than a window: one a byte occasionally, the other more than the minimum rate."""
    uid = attack.uid()
    data = data_set(uid, bytes(40_000))
    with attack.associated() as trickling, attack.associated() as slow:
        trickling.send(store_command("1.2.3.4"))
        slow.send(store_command(uid))
        pieces = (data[at : at + 100] for at in itertools.count(0, 100))
        rounds = 0
        while not select.select([trickling.socket], [], [], 0.05)[0]:
            trickling.send(p_data(pdv(CT, DATA, b"x")))
            slow.send(p_data(pdv(CT, DATA, next(pieces))))
            rounds += 1
        trickling.expect(Abort)
        for _ in range(rounds):
            slow.send(p_data(pdv(CT, DATA, next(pieces))))
            assert not select.select([slow.socket], [], [], 0.05)[0]
        slow.send(p_data(pdv(CT, LAST_DATA, data[2 * rounds * 100 :])))
        assert slow.expect(CStoreRSP).command.status == 0
        attack.keep(data)
    assert "the progress timer expired" in attack.end_of(trickling)["how"]


def big(folder: Path) -> Path:
    """Make a file that no buffer of the system holds."""
    return part10(folder / "1.dcm", size=64 << 20)


def test_t6_a_sender_does_not_wait_for_ever_for_a_peer_that_stops_reading(tmp_path: Path) -> None:
    def script(peer: Peer) -> None:
        peer.accept()
        peer.stall()

    with ScriptedSCP(script, receive_buffer=4096) as scp:
        done = sent(scp.port, big(tmp_path), *ONCE, "--write-timeout", "0.5", "--abort-timeout", "0.5")
    assert (done.code, done.statuses) == (1, [None])
    assert "the write timer expired after 0.5 s" in done.reasons[0]


@contextlib.contextmanager
def black_hole() -> Iterator[int]:
    """Yield a port with a full backlog: no more connections until the waiting ones are accepted."""
    with contextlib.ExitStack() as stack:
        listening = stack.enter_context(socket.socket())
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        while True:
            waiting = stack.enter_context(socket.socket())
            waiting.settimeout(0.3)
            try:
                waiting.connect(listening.getsockname())
            except TimeoutError:
                break
        yield int(listening.getsockname()[1])


def test_t7_a_sender_stops_after_the_connect_timeout(tmp_path: Path) -> None:
    with black_hole() as port:
        done = sent(port, part10(tmp_path / "1.dcm"), *ONCE, "--connect-timeout", "0.5")
    assert done.code == 3
    assert "did not answer in time" in done.reasons[0]


def test_t7_a_sender_stops_if_the_port_has_no_listener(tmp_path: Path) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        done = sent(bound.getsockname()[1], part10(tmp_path / "1.dcm"), *ONCE)
    assert done.code == 3
    assert "nothing listens on" in done.reasons[0]


def silent(peer: Peer) -> None:
    """Read the request, and answer only after the timeout."""
    request = peer.expect(AssociateRQ)
    peer.expect(Abort)
    with contextlib.suppress(GoneError):
        peer.send(acceptance(request))


def test_t7_a_sender_stops_after_its_retries_without_an_answer(tmp_path: Path) -> None:
    with ScriptedSCP(silent) as scp:
        done = sent(
            scp.port, part10(tmp_path / "1.dcm"), "-j", "1", "--retries", "2", "--retry-delay", "0.1", "-ta", "0.5"
        )
    assert done.code == 3
    assert len(scp.peers) == 3
    assert "the acse timer expired after 0.5 s" in done.reasons[0]


def test_t7_a_release_that_is_not_answered_spoils_nothing(tmp_path: Path) -> None:
    def script(peer: Peer) -> None:
        peer.accept()
        peer.answer(peer.expect(CStoreRQ))
        peer.expect(ReleaseRQ)
        peer.expect(Abort)

    with ScriptedSCP(script) as scp:
        done = sent(scp.port, part10(tmp_path / "1.dcm"), *ONCE, "--release-timeout", "0.5")
    assert (done.code, done.statuses) == (0, [0])
    assert [facts for facts in done.log if facts["event"] == "release_failed"]


def go_after_the_release(peer: ScriptedSCU) -> None:
    peer.send(ReleaseRQ())
    peer.close()


def go_inside_an_instance(peer: ScriptedSCU) -> None:
    peer.send(store_command("1.2.3.4"))
    peer.close()


@pytest.mark.parametrize("go", [go_after_the_release, leave_without_a_word, go_inside_an_instance])
def test_t8_a_disconnection_at_any_time_is_one_line_in_the_log(
    attack: Attack, go: Callable[[ScriptedSCU], None]
) -> None:
    with attack.crowd(ASSOCIATIONS - 2) as peers:
        for peer in peers:
            peer.associate()
            go(peer)
            attack.end_of(peer)
    for peer in peers:
        events = [facts["event"] for facts in attack.lines(peer)]
        assert events.count("association_ended") == 1
        assert ("instance_incomplete" in events) is (go is go_inside_an_instance)


def test_t9_a_suspended_receiver_continues(attack: Attack) -> None:
    uid = attack.uid()
    data = data_set(uid, bytes(5000))
    with attack.associated() as peer:
        peer.send(store_command(uid), p_data(pdv(CT, DATA, data[:1000])))
        attack.others_go_on()
        attack.target.process.send_signal(signal.SIGSTOP)
        try:
            os.waitid(os.P_PID, attack.target.process.pid, os.WSTOPPED)
            peer.send(p_data(pdv(CT, LAST_DATA, data[1000:])))
            assert not select.select([peer.socket], [], [], 0.5)[0]
        finally:
            attack.target.process.send_signal(signal.SIGCONT)
        assert peer.expect(CStoreRSP).command.status == 0
        attack.keep(data)
        peer.release()


WILD_CLOCK: Final = """
import itertools, time

real, jumps = time.time, itertools.cycle((3600, -3600))
time.time = lambda: real() + next(jumps)
"""


def test_t9_a_clock_that_jumps_by_hours_expires_no_timer_and_holds_up_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sitecustomize.py").write_text(WILD_CLOCK)
    with monkeypatch.context() as patch:
        patch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
        with receiver(tmp_path / "archive") as target, Attack(target) as attack:
            with attack.connect() as silent, attack.associated() as peer:
                attack.others_go_on()
                silent.expect_close()
                uid = attack.uid()
                assert peer.store(uid, data_set(uid)).status == 0
                attack.keep(data_set(uid))
                peer.release()
            stamps = [dt.datetime.fromisoformat(facts["timestamp"]) for facts in target.log.events]
    # The clock did jump: the log's timestamps show it.
    assert max(stamps) - min(stamps) > dt.timedelta(hours=1)


@pytest.mark.parametrize("end", [ScriptedSCU.close, ScriptedSCU.reset])
def test_t10_a_probe_is_not_logged(attack: Attack, end: Callable[[ScriptedSCU], None]) -> None:
    probes = []
    for _ in range(10):
        with attack.connect() as peer:
            end(peer)
        probes.append(peer)
    a_newcomer_stores(attack)
    assert [attack.lines(peer) for peer in probes] == [[]] * 10
