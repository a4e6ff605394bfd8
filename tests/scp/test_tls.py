"""TLS: the handler receives the peer's certificate, and a failed handshake affects only its peer."""

import contextlib
import hashlib
import itertools
import logging
import socket
import ssl
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest
import trustme
from tests.scp.messages import DATA_SET, STORE, in_fragments, store, store_command
from tests.scp.storages import Recorder

from dicomport import FolderStorage, PeerRule, RejectedError, StorageSCP, Timeouts, blocking
from dicomport.files import read_part10
from dicomport.net import AssociationError, ConnectError
from dicomport.scu import Instance
from dicomport.testing import ScriptedSCU
from dicomport.wire import Abort, CStoreRSP

CT: Final = "1.2.840.10008.5.1.4.1.1.2"
EXPLICIT: Final = "1.2.840.10008.1.2.1"
HOUR: Final = 3600.0
PATIENT: Final = Timeouts(connect=HOUR, tls=HOUR, acse=HOUR, dimse=HOUR, network=HOUR)


@dataclass
class Contexts:
    server: ssl.SSLContext
    """It asks for a certificate of the peer."""
    open_server: ssl.SSLContext
    """It takes peers without a certificate."""
    client: ssl.SSLContext
    anonymous: ssl.SSLContext
    """It has no certificate."""
    stranger: ssl.SSLContext
    """A client whose certificate has an unknown authority."""
    suspicious: ssl.SSLContext
    """It does not trust the server's certificate."""
    fingerprint: str
    """Fingerprint of the client's certificate."""


@pytest.fixture
def tls() -> Contexts:
    authority, other = trustme.CA(), trustme.CA()
    shown = authority.issue_cert("127.0.0.1")

    def server(verify: ssl.VerifyMode) -> ssl.SSLContext:
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        shown.configure_cert(made)
        authority.configure_trust(made)
        made.verify_mode = verify
        return made

    def client(showing: trustme.LeafCert | None) -> ssl.SSLContext:
        made = ssl.create_default_context()
        authority.configure_trust(made)
        if showing is not None:
            showing.configure_cert(made)
        return made

    modality = authority.issue_cert("modality.example", common_name="MODALITY")
    der = ssl.PEM_cert_to_DER_cert(modality.cert_chain_pems[0].bytes().decode())

    return Contexts(
        server=server(ssl.CERT_REQUIRED),
        open_server=server(ssl.CERT_NONE),
        client=client(modality),
        anonymous=client(None),
        stranger=client(other.issue_cert("modality.example", common_name="MODALITY")),
        suspicious=ssl.create_default_context(),
        fingerprint=f"sha256:{hashlib.sha256(der).hexdigest()}",
    )


@pytest.fixture
def storage() -> Recorder:
    return Recorder()


@pytest.fixture
def scp(tls: Contexts, storage: Recorder, caplog: pytest.LogCaptureFixture) -> Iterator[StorageSCP]:
    """Yield a server that requires certificates, and check that it logs no error."""
    with (
        caplog.at_level(logging.INFO, "dicomport"),
        StorageSCP(storage, port=0, tls=tls.server, timeouts=PATIENT).in_thread() as running,
    ):
        yield running
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == []


def serves(scp: StorageSCP, tls: Contexts) -> bool:
    with ScriptedSCU("127.0.0.1", scp.port, tls=tls.client) as peer:
        peer.associate()
        status = peer.store("1.2.3.4", DATA_SET).status
        peer.release()
    return status == 0x0000


def test_the_certificate_of_the_peer_is_known_to_the_storage(scp: StorageSCP, tls: Contexts, storage: Recorder) -> None:
    with blocking.associate("127.0.0.1", scp.port, contexts=[CT], tls=tls.client) as association:
        response = association.c_store(Instance(CT, "1.2.3", EXPLICIT, DATA_SET))
    assert response.status.code == 0x0000
    certificate = storage.operations[0].association.tls_certificate
    assert certificate is not None
    assert (("commonName", "MODALITY"),) in certificate["subject"]
    assert certificate["subjectAltName"] == (("DNS", "modality.example"),)
    assert storage.operations[0].association.tls_fingerprint == tls.fingerprint


def test_a_rule_accepts_the_named_certificate_only(tls: Contexts, storage: Recorder) -> None:
    allowed = PeerRule(rule="ct", certificate_names=(tls.fingerprint,))
    with StorageSCP(storage, port=0, tls=tls.server, allow=[allowed]).in_thread() as scp:
        assert serves(scp, tls)
    refused = PeerRule(rule="ct", certificate_names=("sha256:" + "00" * 32,))
    with StorageSCP(storage, port=0, tls=tls.server, allow=[refused]).in_thread() as scp, pytest.raises(RejectedError):
        blocking.associate("127.0.0.1", scp.port, contexts=[CT], tls=tls.client).__enter__()


def test_without_a_certificate_of_the_peer_there_is_none_to_know(tls: Contexts, storage: Recorder) -> None:
    with (
        StorageSCP(storage, port=0, tls=tls.open_server).in_thread() as scp,
        blocking.associate("127.0.0.1", scp.port, contexts=[CT], tls=tls.anonymous) as association,
    ):
        assert association.c_store(Instance(CT, "1.2.3", EXPLICIT, DATA_SET)).accepted
    assert storage.operations[0].association.tls_certificate is None


@pytest.mark.parametrize("who", ["anonymous", "stranger"])
def test_a_peer_without_a_certificate_that_is_trusted_gets_no_association(
    scp: StorageSCP, tls: Contexts, storage: Recorder, who: str
) -> None:
    with (
        pytest.raises(AssociationError),
        blocking.associate("127.0.0.1", scp.port, contexts=[CT], tls=getattr(tls, who)),
    ):
        pass
    assert serves(scp, tls)
    assert len(storage.operations) == 1


def test_a_server_whose_certificate_is_not_trusted_is_not_talked_to(scp: StorageSCP, tls: Contexts) -> None:
    with (
        pytest.raises(ConnectError, match="not trusted"),
        blocking.associate("127.0.0.1", scp.port, contexts=[CT], tls=ssl.create_default_context()),
    ):
        pass
    assert serves(scp, tls)


@pytest.mark.parametrize("size", [1, 1000, 16384, 16385, 1_000_000])
def test_instances_of_any_size_in_records_of_any_size(tls: Contexts, tmp_path: Path, size: int) -> None:
    data = bytes(range(256)) * 3907
    with (
        StorageSCP(FolderStorage(tmp_path), port=0, tls=tls.server).in_thread() as scp,
        ScriptedSCU("127.0.0.1", scp.port, tls=tls.client) as peer,
    ):
        peer.associate()
        whole = store_command() + in_fragments(STORE, data[: max(size, 1000)], 1000)
        for at in range(0, len(whole), size if size > 1 else 100):
            peer.send(whole[at : at + (size if size > 1 else 100)])
        assert peer.expect(CStoreRSP).command.status == 0x0000
        peer.release()
    path = tmp_path / "1.2.3.4.dcm"
    assert path.read_bytes()[read_part10(path).offset :] == data[: max(size, 1000)]


def test_many_requests_in_one_record(scp: StorageSCP, tls: Contexts) -> None:
    with ScriptedSCU("127.0.0.1", scp.port, tls=tls.client) as peer:
        peer.associate()
        peer.send(b"".join(store(number) for number in range(50)))
        assert [peer.expect(CStoreRSP).command.message_id_being_responded_to for _ in range(50)] == list(range(50))


PLAIN: Final = {
    "an A-ASSOCIATE-RQ": bytes.fromhex("0100000000cc0001"),
    "HTTP": b"GET / HTTP/1.1\r\n\r\n",
    "NUL": bytes(100),
    "a TLS record of nonsense": bytes.fromhex("1603010005ffffffffff"),
}


@pytest.mark.parametrize("sent", PLAIN.values(), ids=PLAIN)
def test_plain_text_on_the_port_is_the_end_of_that_connection_alone(
    scp: StorageSCP, tls: Contexts, sent: bytes
) -> None:
    with ScriptedSCU("127.0.0.1", scp.port, tls=tls.client) as other, ScriptedSCU("127.0.0.1", scp.port) as peer:
        other.associate()
        peer.send(sent)
        # Perhaps a TLS alert, and then the end in one way or another.
        with contextlib.suppress(ConnectionResetError):
            while peer.socket.recv(1000):
                pass
        assert other.store("1.2.3.4", DATA_SET).status == 0x0000
    assert serves(scp, tls)


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        ("an A-ASSOCIATE-RQ", "the peer uses DICOM without TLS"),
        ("HTTP", "the peer uses HTTP"),
        ("NUL", "the peer uses another protocol"),
    ],
)
def test_the_log_names_the_protocol_of_a_peer_without_tls(
    scp: StorageSCP, tls: Contexts, caplog: pytest.LogCaptureFixture, sent: str, reason: str
) -> None:
    with ScriptedSCU("127.0.0.1", scp.port) as peer, contextlib.suppress(ConnectionResetError):
        peer.send(PLAIN[sent])
        while peer.socket.recv(1000):
            pass
    assert serves(scp, tls)
    assert f'reason="{reason}"' in said(caplog, "tls_failed")


WHY_NOT: Final = {
    "anonymous": "the peer sent no certificate",
    "stranger": "the certificate is not trusted: unable to get local issuer certificate",
    "suspicious": "the peer does not trust the issuer of our certificate",
}


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("who", WHY_NOT)
def test_the_log_has_the_reason_for_a_failed_handshake(
    scp: StorageSCP, tls: Contexts, caplog: pytest.LogCaptureFixture, who: str, version: ssl.TLSVersion
) -> None:
    context: ssl.SSLContext = getattr(tls, who)
    context.minimum_version = context.maximum_version = version
    with pytest.raises(AssociationError), blocking.associate("127.0.0.1", scp.port, contexts=[CT], tls=context):
        pass
    assert serves(scp, tls)
    assert f'reason="{WHY_NOT[who]}"' in said(caplog, "tls_failed")


def said(caplog: pytest.LogCaptureFixture, event: str) -> str:
    [message] = [record.getMessage() for record in caplog.records if record.getMessage().startswith(event)]
    return message


def test_a_connection_that_closes_at_once_logs_no_warning(
    scp: StorageSCP, tls: Contexts, caplog: pytest.LogCaptureFixture
) -> None:
    socket.create_connection(("127.0.0.1", scp.port)).close()
    assert serves(scp, tls)
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_new_connections_see_a_new_certificate_and_old_ones_go_on(tls: Contexts) -> None:
    newcomer = trustme.CA()
    renewed = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    newcomer.issue_cert("127.0.0.1").configure_cert(renewed)
    client = ssl.create_default_context()
    newcomer.configure_trust(client)
    with (
        StorageSCP(Recorder(), port=0, tls=tls.open_server).in_thread() as scp,
        ScriptedSCU("127.0.0.1", scp.port, tls=tls.client) as old,
    ):
        old.associate()
        scp.reload(allow=None, allow_any=False, user_identity=None, tls=renewed)
        with ScriptedSCU("127.0.0.1", scp.port, tls=client) as new:
            new.associate()
            assert new.store("1.2.3.4", DATA_SET).status == 0x0000
            new.release()
        with pytest.raises(ConnectError, match="not trusted"):
            blocking.associate("127.0.0.1", scp.port, contexts=[CT], tls=tls.client).__enter__()
        assert old.store("1.2.3.4", DATA_SET).status == 0x0000
        old.release()


def test_a_reload_works_before_the_server_listens(tls: Contexts) -> None:
    scp = StorageSCP(Recorder(), port=0, tls=tls.server)
    scp.reload(allow=None, allow_any=False, user_identity=None, tls=tls.open_server)
    with scp.in_thread(), blocking.associate("127.0.0.1", scp.port, contexts=[CT], tls=tls.anonymous) as association:
        assert association.c_store(Instance(CT, "1.2.3", EXPLICIT, DATA_SET)).accepted


def test_our_client_without_tls_reports_a_receiver_with(scp: StorageSCP, tls: Contexts) -> None:
    with pytest.raises(AssociationError), blocking.associate("127.0.0.1", scp.port, contexts=[CT]):
        pass
    assert serves(scp, tls)


def test_our_client_with_tls_reports_a_receiver_without(tls: Contexts) -> None:
    with (
        StorageSCP(Recorder(), port=0).in_thread() as scp,
        pytest.raises(ConnectError, match="that the peer uses TLS"),
        blocking.associate("127.0.0.1", scp.port, contexts=[CT], tls=tls.client),
    ):
        pass


STALLED: Final = {
    "nothing": b"",
    "the beginning of a ClientHello": bytes.fromhex("1603010200"),
    "half an A-ASSOCIATE-RQ": bytes.fromhex("0100"),
    "all but the end of a ClientHello": bytes.fromhex("16030102000100 01fc0303") + bytes(505),
}


def test_a_hundred_stalled_handshakes_delay_nothing_and_time_out(
    tls: Contexts, caplog: pytest.LogCaptureFixture
) -> None:
    """Robustness T2: a real sender stores meanwhile, and the handshake timer ends them all."""
    storage = Recorder()
    timeouts = Timeouts(tls=2.0, acse=HOUR, dimse=HOUR, network=HOUR)
    with (
        caplog.at_level(logging.INFO, "dicomport"),
        StorageSCP(storage, port=0, tls=tls.server, timeouts=timeouts).in_thread() as scp,
        contextlib.ExitStack() as stack,
    ):
        stalled = [stack.enter_context(ScriptedSCU("127.0.0.1", scp.port)) for _ in range(100)]
        for peer, sent in zip(stalled, itertools.cycle(STALLED.values()), strict=False):
            peer.send(sent)
        instances = [Instance(CT, f"1.2.3.{number}", EXPLICIT, DATA_SET) for number in range(50)]
        report = blocking.send(instances, "127.0.0.1", scp.port, tls=tls.client)
        assert len(report.accepted) == 50
        for peer in stalled:
            with contextlib.suppress(ConnectionResetError):
                assert peer.receive() is None
        assert serves(scp, tls)
        assert scp.counters["timer.tls"] == 100
    assert len(storage.operations) == 51
    assert caplog.text.count("the tls timer expired after 2 s") == 100


@pytest.mark.parametrize("reset", [False, True])
def test_a_peer_that_closes_leaves_nothing(scp: StorageSCP, tls: Contexts, storage: Recorder, reset: bool) -> None:
    with ScriptedSCU("127.0.0.1", scp.port, tls=tls.client) as peer:
        peer.associate()
        assert peer.store("1.2.3.4", DATA_SET).status == 0x0000
        peer.send(store()[:-1])
        if reset:
            peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    assert serves(scp, tls)
    assert storage.calls.count("commit") == 2


def test_an_idle_association_is_aborted_when_the_server_stops(tls: Contexts) -> None:
    with StorageSCP(Recorder(), port=0, tls=tls.server).in_thread() as scp:
        peer = ScriptedSCU("127.0.0.1", scp.port, tls=tls.client)
        peer.associate()
    peer.expect(Abort)
    peer.socket.close()
