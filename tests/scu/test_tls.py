"""Sending over TLS, and the messages if only one side uses TLS (robustness T3)."""

import ssl
from pathlib import Path
from typing import Any, Final

import pytest
import trustme
from tests.scu.data import CT, CT_FILE, EXPLICIT, data_set_of, image, instance, part10, pattern
from tests.scu.runners import Api, with_both

import dicomport
from dicomport.scu import SendReport
from dicomport.testing import Peer, ScriptedSCP
from dicomport.wire import AssociateRQ

HOST: Final = "127.0.0.1"
CA: Final = trustme.CA()
BROKEN: Final = "the peer violated the protocol and the association was aborted"


def server_context(ca: trustme.CA = CA, *, mutual: bool = False) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("127.0.0.1", "localhost").configure_cert(context)
    if mutual:
        context.verify_mode = ssl.CERT_REQUIRED
        CA.configure_trust(context)
    return context


def client_context(*, showing: bool = False) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    CA.configure_trust(context)
    if showing:
        CA.issue_cert("modality.example").configure_cert(context)
    return context


async def _sent(api: Api, what: object, port: int, **options: Any) -> SendReport:
    return await api.send(what, HOST, port, **options)


@with_both
def test_instances_arrive_whole_over_tls(api: Api, tmp_path: Path) -> None:
    received: list[tuple[bytes, object]] = []

    def handle(request: dicomport.StoreRequest) -> int:
        certificate = request.association.tls_certificate
        received.append((request.encoded(), certificate and certificate["subjectAltName"]))
        return 0

    path = part10(tmp_path / "1.dcm", syntax=EXPLICIT, data=image(pattern(1_200_000)))

    with dicomport.StorageSCP(handle, port=0, tls=server_context(mutual=True)).in_thread() as scp:

        async def scenario() -> None:
            async with api.associate(HOST, scp.port, contexts=[CT], tls=client_context(showing=True)) as association:
                for what in (path, CT_FILE):
                    assert (await association.c_store(what)).accepted
            report = await api.send([path, instance(2)], HOST, scp.port, tls=client_context(showing=True), window=1)
            assert (len(report.accepted), report.error) == (2, "")

        api.run(scenario())

    modality = (("DNS", "modality.example"),)
    assert received == [
        (data, modality)
        for data in (image(pattern(1_200_000)), data_set_of(CT_FILE), image(pattern(1_200_000)), pattern(100))
    ]


@with_both
def test_tls_to_a_plain_receiver_is_reported(api: Api) -> None:
    with dicomport.StorageSCP(lambda _request: 0, port=0).in_thread() as scp:
        report = api.run(_sent(api, [instance()], scp.port, tls=client_context()))

    assert report.error.startswith(f"127.0.0.1:{scp.port}")
    assert report.error.endswith("(the peer uses DICOM without TLS): check that the peer uses TLS on this port")
    assert report.associations == 0


@with_both
def test_a_plain_connection_to_a_receiver_with_tls_is_reported(api: Api) -> None:
    with dicomport.StorageSCP(lambda _request: 0, port=0, tls=server_context()).in_thread() as scp:
        report = api.run(_sent(api, [instance()], scp.port, retry=dicomport.RetryPolicy(retries=0)))

    assert report.associations == 0
    assert report.error in (
        "the peer closed the connection",
        f"{BROKEN}: unknown PDU type 15H: does the peer use TLS?",
    )


@with_both
def test_an_alert_in_answer_to_a_plain_request_is_a_hint_at_tls(api: Api) -> None:
    """A server's reply to bytes that are not TLS, before it closes: many servers close before the alert arrives."""

    def script(peer: Peer) -> None:
        peer.expect(AssociateRQ)
        peer.send(bytes.fromhex("15 0301 0002 0246"))
        peer.drain()

    with ScriptedSCP(script) as scp:
        report = api.run(_sent(api, [instance()], scp.port))

    assert report.error == f"{BROKEN}: unknown PDU type 15H: does the peer use TLS?"


@with_both
def test_a_receiver_that_is_not_trusted_gets_nothing(api: Api) -> None:
    received: list[bytes] = []

    def handle(request: dicomport.StoreRequest) -> int:
        received.append(request.encoded())
        return 0

    with dicomport.StorageSCP(handle, port=0, tls=server_context(trustme.CA())).in_thread() as scp:
        report = api.run(_sent(api, [instance()], scp.port, tls=client_context()))

    assert report.error.startswith(f"127.0.0.1:{scp.port} sent a certificate that is not trusted: ")
    assert (report.associations, received) == (0, [])


@with_both
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_sender_without_the_certificate_that_is_asked_for_is_turned_away(
    api: Api, version: ssl.TLSVersion, caplog: pytest.LogCaptureFixture
) -> None:
    """In TLS 1.3 the client notices the rejection only when it reads. A retry would fail again."""
    context = client_context()
    context.minimum_version = context.maximum_version = version
    with dicomport.StorageSCP(lambda _request: 0, port=0, tls=server_context(mutual=True)).in_thread() as scp:
        report = api.run(_sent(api, [instance()], scp.port, tls=context))

    assert report.associations == 0
    assert "requires a certificate" in report.error
    assert caplog.text.count("tls_failed") == 1


def test_an_association_error_over_tls_is_one_too() -> None:
    with dicomport.StorageSCP(lambda _request: 0, port=0, tls=server_context()).in_thread() as scp:
        with (
            pytest.raises(dicomport.ConnectError, match="not trusted"),
            dicomport.blocking.associate(HOST, scp.port, contexts=[CT], tls=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)),
        ):
            raise AssertionError
        with dicomport.blocking.associate(HOST, scp.port, contexts=[CT], tls=client_context()) as association:
            assert association.c_store(instance()).accepted
