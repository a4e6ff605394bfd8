"""Associations that are explained: each step with its facts, and for each way to fail the cause and what to do."""

import asyncio
import contextlib
import datetime as dt
import itertools
import socket
import ssl
from collections.abc import Callable, Collection
from typing import Any, Final, TypeVar

import pytest
import trustme

import dicomport
from dicomport.net import Address
from dicomport.net.tls.certificates import Certificate
from dicomport.scu.explain.probe import explain
from dicomport.scu.explain.proposals import USUAL_CONTEXTS
from dicomport.scu.explain.steps import Associated, Connected, Echoed, Failure, Resolved, Secured, Step
from dicomport.testing import Peer, ScriptedSCP
from dicomport.wire import (
    Abort,
    AbortReason,
    AssociateRJ,
    AssociateRQ,
    CEchoRQ,
    RejectReason,
    ReleaseRQ,
    SOPClassExtendedNegotiation,
)

CT: Final = dicomport.sop_classes.CTImageStorage
MR: Final = dicomport.sop_classes.MRImageStorage
VERIFICATION: Final = "1.2.840.10008.1.1"
EXPLICIT: Final = "1.2.840.10008.1.2.1"
IMPLICIT: Final = "1.2.840.10008.1.2"
JPEG: Final = "1.2.840.10008.1.2.4.50"
CA: Final = trustme.CA(organization_name="Hospital")

StepT = TypeVar("StepT", bound=Step)


def explained(port: int, *, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None, **options: Any) -> list[Step]:
    async def collect() -> list[Step]:
        return [step async for step in explain(Address(host, port, tls), **{"contexts": [CT], **options})]

    return asyncio.run(collect())


def the(kind: type[StepT], steps: Collection[Step]) -> StepT:
    [found] = [step for step in steps if isinstance(step, kind)]
    return found


def names(steps: Collection[Step]) -> list[str]:
    return [step.NAME for step in steps]


def why_not(steps: list[Step]) -> Failure:
    """Return the failure of the last step, and check that it is the only one."""
    assert [step.failure for step in steps[:-1]] == [None] * (len(steps) - 1)
    assert steps[-1].failure is not None
    return steps[-1].failure


def server(*, mutual: bool = False, certificate: trustme.LeafCert | None = None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    (certificate or CA.issue_cert("127.0.0.1", "localhost", common_name="PACS")).configure_cert(context)
    if mutual:
        context.verify_mode = ssl.CERT_REQUIRED
        CA.configure_trust(context)
    return context


def client(*, trusting: trustme.CA = CA, showing: trustme.CA | None = None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trusting.configure_trust(context)
    if showing is not None:
        showing.issue_cert("modality.example").configure_cert(context)
    return context


def scp(**options: Any) -> dicomport.StorageSCP:
    return dicomport.StorageSCP(lambda _request: 0, port=0, **options)


# Successful runs.


def test_all_steps_are_told_with_their_facts() -> None:
    with scp(maximum_length=65536).in_thread() as peer:
        steps = explained(peer.port, contexts=[CT, (MR, [JPEG, EXPLICIT])], repeat=3)

    assert names(steps) == ["resolve", "connect", "associate", "echo", "release"]
    assert [step.failure for step in steps] == [None] * 5
    assert all(step.seconds > 0 for step in steps)
    assert list(map(str, the(Resolved, steps).endpoints)) == [f"127.0.0.1:{peer.port}"]
    assert str(the(Connected, steps).endpoint) == f"127.0.0.1:{peer.port}"
    outcome = the(Associated, steps).outcome
    assert outcome is not None
    assert (outcome.peer_maximum_length, outcome.peer.version_name) == (65536, "DICOMPORT_0_1_0")
    assert outcome.operations_window.invoked == 16
    assert [(role.sop_class_uid, role.scu) for role in outcome.roles] == [(CT.uid, True), (MR.uid, True)]
    # PS3.4 B.3.1.2: all attributes are kept, signatures too, and nothing is coerced.
    level = bytes((2, 0, 3, 0, 0, 0))
    assert outcome.extended == tuple(SOPClassExtendedNegotiation(sop_class.uid, level) for sop_class in (CT, MR))
    assert [(c.abstract_syntax, c.transfer_syntax) for c in outcome.contexts] == [
        (VERIFICATION, EXPLICIT),
        (CT.uid, EXPLICIT),
        (MR.uid, JPEG),
    ]
    echoed = the(Echoed, steps)
    assert echoed.status is not None
    assert (len(echoed.round_trips), echoed.status.code) == (3, 0)
    assert sum(echoed.round_trips) <= echoed.seconds


def test_the_default_proposal_fits_into_one_association() -> None:
    with scp().in_thread() as peer:
        associated = the(Associated, explained(peer.port, contexts=USUAL_CONTEXTS))

    proposed = associated.request.presentation_contexts
    assert len(proposed) == 125
    assert len({(c.abstract_syntax, c.transfer_syntaxes) for c in proposed}) == 125
    assert associated.outcome is not None
    assert len(associated.outcome.accepted) == 125


def test_invalid_arguments_are_refused_at_once() -> None:
    for options in ({"ae_title": "\\"}, {"called_ae_title": "x" * 17}, {"contexts": [CT] * 128}):
        with pytest.raises(ValueError, match=r"AE title|presentation contexts"):
            explain(Address("127.0.0.1", 104), **options)


def test_the_failed_addresses_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    resolve = socket.getaddrinfo

    def both(_host: str, port: int, *_args: int, **_kwargs: int) -> list[object]:
        return [*resolve("::1", port, type=socket.SOCK_STREAM), *resolve("127.0.0.1", port, type=socket.SOCK_STREAM)]

    with scp().in_thread() as peer:
        monkeypatch.setattr(socket, "getaddrinfo", both)
        connected = the(Connected, explained(peer.port, host="pacs.example"))

    assert [(str(attempt.endpoint), type(attempt.error)) for attempt in connected.failed] == [
        (f"[::1]:{peer.port}", ConnectionRefusedError)
    ]
    assert str(connected.endpoint) == f"127.0.0.1:{peer.port}"


@pytest.mark.parametrize("mutual", [False, True])
def test_tls_is_reported_with_the_certificate(*, mutual: bool) -> None:
    with scp(tls=server(mutual=mutual)).in_thread() as peer:
        steps = explained(peer.port, tls=client(showing=CA))

    assert names(steps) == ["resolve", "connect", "tls", "associate", "echo", "release"]
    secured = the(Secured, steps)
    assert (secured.version, secured.certificate_asked) == ("TLSv1.3", mutual)
    assert secured.cipher.startswith("TLS_")
    assert secured.certificate is not None
    assert "CN=PACS" in secured.certificate.subject
    assert "O=Hospital" in secured.certificate.issuer
    assert secured.certificate.names == ("127.0.0.1", "localhost")
    assert secured.certificate.not_before < dt.datetime.now(dt.UTC) < secured.certificate.not_after


def test_closing_the_steps_leaves_no_association_open() -> None:
    def script(peer: Peer) -> None:
        peer.accept()
        peer.expect(Abort)
        peer.expect_close()

    async def scenario(port: int) -> None:
        async with contextlib.aclosing(explain(Address("127.0.0.1", port))) as steps:
            async for step in steps:
                if isinstance(step, Associated):
                    break

    with ScriptedSCP(script) as peer:
        asyncio.run(scenario(peer.port))


# Failures before the association.


def test_a_name_that_nobody_knows() -> None:
    steps = explained(104, host="no-such-host.invalid")

    assert names(steps) == ["resolve"]
    assert why_not(steps).cause == "unknown host name no-such-host.invalid: check its spelling"


def test_nobody_listening() -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
        steps = explained(port)

    assert names(steps) == ["resolve", "connect"]
    assert why_not(steps).cause.startswith(f"nothing listens on 127.0.0.1:{port}")
    assert "104 or 11112" in why_not(steps).advice
    connected = the(Connected, steps)
    assert (len(connected.failed), connected.endpoint) == (1, None)


@pytest.mark.parametrize(
    ("reason", "transient", "cause", "advice"),
    [
        (
            RejectReason.CALLED_AE_TITLE_NOT_RECOGNIZED,
            False,
            "rejected permanently (1/1/7): the peer's AE title is not WRONG",
            "-aec",
        ),
        (
            RejectReason.CALLING_AE_TITLE_NOT_RECOGNIZED,
            False,
            "rejected permanently (1/1/3): the peer does not know the calling AE title CT1",
            "-aet",
        ),
        (
            RejectReason.LOCAL_LIMIT_EXCEEDED,
            True,
            "rejected temporarily (2/3/2): the peer has reached its limit of associations",
            "Try again later",
        ),
        (RejectReason.USER_NO_REASON, False, "rejected permanently (1/1/1): the peer states no reason", "log"),
        (RejectReason.ACSE_NO_REASON, False, "rejected permanently (1/2/1): the peer states no reason", "--user"),
    ],
)
def test_a_rejection(reason: RejectReason, cause: str, advice: str, *, transient: bool) -> None:
    def script(peer: Peer) -> None:
        peer.expect(AssociateRQ)
        peer.send(AssociateRJ(reason, transient=transient))
        peer.expect_close()

    with ScriptedSCP(script) as peer:
        steps = explained(peer.port, ae_title="CT1", called_ae_title="WRONG")

    assert names(steps) == ["resolve", "connect", "associate"]
    assert why_not(steps).cause == cause
    assert advice in why_not(steps).advice


def test_a_called_ae_title_that_our_own_receiver_does_not_have() -> None:
    with scp(ae_title="ARCHIVE", check_called_ae_title=True).in_thread() as peer:
        assert why_not(explained(peer.port)).cause == "rejected permanently (1/1/7): the peer's AE title is not ANY-SCP"


@pytest.mark.parametrize(
    ("banner", "protocol"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "HTTP"),
        (b"SSH-2.0-OpenSSH_9.2p1\r\n", "SSH"),
        (b"\x00\x01\x1b[2J", "an unknown protocol"),
    ],
)
def test_a_peer_of_another_protocol(banner: bytes, protocol: str) -> None:
    def script(peer: Peer) -> None:
        peer.expect(AssociateRQ)
        peer.send(banner)
        peer.drain()

    with ScriptedSCP(script) as peer:
        failure = why_not(explained(peer.port))

    shown = banner.partition(b"\r\n")[0].decode()
    assert failure.cause == f"the peer does not use DICOM, but {protocol}: {shown}"
    assert failure.advice.startswith("This is not a DICOM port.")


def test_a_peer_that_never_answers() -> None:
    with ScriptedSCP(Peer.stall) as peer:
        failure = why_not(explained(peer.port, timeouts=dicomport.Timeouts(acse=0.2)))

    assert failure.cause == "the acse timer expired after 0.2 s"
    assert "does not respond" in failure.advice


def test_an_answer_that_breaks_the_protocol() -> None:
    def script(peer: Peer) -> None:
        peer.expect(AssociateRQ)
        peer.send(bytes.fromhex("02 00 00000004 00010000"))
        peer.drain()

    with ScriptedSCP(script) as peer:
        failure = why_not(explained(peer.port))

    assert failure.cause.startswith("the peer violated the protocol")
    assert "software is at fault" in failure.advice


def test_an_address_that_no_way_leads_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """The system is asked for none, so that none has to be known here."""
    broadcast = [(socket.AF_INET, socket.SOCK_STREAM, 0, "", ("255.255.255.255", 104))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_kwargs: broadcast)
    failure = why_not(explained(104, host="pacs.example"))

    assert failure.cause.startswith("cannot connect to pacs.example:104: ")
    assert failure.advice.startswith("There is no route to it")


def test_an_address_that_swallows_everything() -> None:
    """Like a firewall: here a socket with a full backlog, which ignores further connections."""
    with socket.socket() as sock, contextlib.ExitStack() as stack:
        sock.bind(("127.0.0.1", 0))
        sock.listen(0)
        for _ in range(3):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(sock.getsockname())
        failure = why_not(explained(sock.getsockname()[1], timeouts=dicomport.Timeouts(connect=0.2)))

    assert "did not answer in time" in failure.cause
    assert "firewall" in failure.advice


# TLS on one side only.


def test_plain_to_a_port_that_speaks_tls() -> None:
    """With or without the server's alert before its reset: a peer that drops the request is probed for TLS."""
    with scp(tls=server(mutual=True)).in_thread() as peer:
        steps = explained(peer.port)

    assert names(steps) == ["resolve", "connect", "associate"]
    assert why_not(steps) == Failure(
        "the peer expects TLS on this port, but the connection was made without", "Connect with --tls."
    )


def test_plain_to_a_port_that_answers_with_an_alert() -> None:
    def script(peer: Peer) -> None:
        peer.expect(AssociateRQ)
        peer.send(bytes.fromhex("15 0301 0002 0246"))
        peer.drain()

    with ScriptedSCP(script) as peer:
        assert why_not(explained(peer.port)).advice == "Connect with --tls."


def test_tls_to_a_plain_peer() -> None:
    with scp().in_thread() as peer:
        steps = explained(peer.port, tls=client())

    assert names(steps) == ["resolve", "connect", "tls"]
    assert why_not(steps).cause == (
        f"127.0.0.1:{peer.port}: no TLS connection (the peer uses DICOM without TLS): "
        "check that the peer uses TLS on this port"
    )
    assert why_not(steps).advice.startswith("Connect without --tls")


def test_tls_to_a_web_server() -> None:
    def script(peer: Peer) -> None:
        peer.socket.recv(1 << 16)
        peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        peer.drain()

    with ScriptedSCP(script) as peer:
        assert why_not(explained(peer.port, tls=client())).advice.startswith("This is not a DICOM port.")


@pytest.mark.parametrize(
    ("end", "cause"),
    [(Peer.close, "closed the connection instead of answering"), (Peer.reset, "the peer reset it")],
    ids=["closed", "reset"],
)
def test_tls_to_a_peer_that_closes(end: Callable[[Peer], None], cause: str) -> None:
    def script(peer: Peer) -> None:
        peer.socket.recv(1 << 16)
        end(peer)

    with ScriptedSCP(script) as peer:
        failure = why_not(explained(peer.port, tls=client()))

    assert cause in failure.cause
    assert "try without --tls" in failure.advice


def test_tls_to_a_peer_that_waits() -> None:
    with ScriptedSCP(Peer.stall) as peer:
        failure = why_not(explained(peer.port, tls=client(), timeouts=dicomport.Timeouts(tls=0.2)))

    assert "the tls timer expired after 0.2 s" in failure.cause
    assert "try without --tls" in failure.advice


# Certificates.


def issued(ca: trustme.CA = CA, *names: str, not_after: dt.datetime | None = None) -> trustme.LeafCert:
    return ca.issue_cert(*(names or ("127.0.0.1",)), not_after=not_after)


@pytest.mark.parametrize(
    ("certificate", "cause", "advice"),
    [
        (issued(trustme.CA()), "issuer", "--tls-ca"),
        (issued(CA, not_after=dt.datetime(2020, 1, 1, tzinfo=dt.UTC)), "expired", "renewed"),
        (issued(CA, "pacs.example"), "IP address mismatch", "a host name that the certificate is for"),
    ],
    ids=["stranger", "expired", "another name"],
)
def test_a_certificate_that_is_not_trusted_is_shown(certificate: trustme.LeafCert, cause: str, advice: str) -> None:
    with scp(tls=server(certificate=certificate)).in_thread() as peer:
        steps = explained(peer.port, tls=client())

    failure = why_not(steps)
    assert "sent a certificate that is not trusted" in failure.cause
    assert cause in failure.cause
    assert advice in failure.advice
    shown = the(Secured, steps).certificate
    assert shown is not None
    der = ssl.PEM_cert_to_DER_cert(certificate.cert_chain_pems[0].bytes().decode())
    assert shown == Certificate.decode(der)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_certificate_of_ours_is_demanded(version: ssl.TLSVersion) -> None:
    """In TLS 1.2 that is found out in the handshake, in TLS 1.3 only after it."""
    context = client()
    context.minimum_version = context.maximum_version = version
    with scp(tls=server(mutual=True)).in_thread() as peer:
        steps = explained(peer.port, tls=context)

    assert ("tls" if version is ssl.TLSVersion.TLSv1_2 else "associate") == steps[-1].NAME
    assert "requires a certificate" in why_not(steps).cause
    assert "--tls-cert" in why_not(steps).advice
    assert the(Secured, steps).certificate_asked


def test_a_certificate_of_ours_that_is_not_trusted() -> None:
    with scp(tls=server(mutual=True)).in_thread() as peer:
        failure = why_not(explained(peer.port, tls=client(showing=trustme.CA())))

    assert "the peer does not trust the issuer of our certificate" in failure.cause
    assert "as trusted at the peer" in failure.advice


def test_no_cipher_suite_in_common() -> None:
    strict, context = server(), client()
    strict.maximum_version = context.maximum_version = ssl.TLSVersion.TLSv1_2
    strict.set_ciphers("ECDHE+AES256")
    context.set_ciphers("ECDHE+CHACHA20")
    with scp(tls=strict).in_thread() as peer:
        failure = why_not(explained(peer.port, tls=context))

    assert "no TLS version or cipher suite in common" in failure.cause
    assert "--tls-profile" in failure.advice


# Peers that drop the connection instead of answering.


def dropping(unless: Callable[[AssociateRQ], bool], *last: Abort) -> Callable[[Peer], None]:
    """Build the script of a peer that drops the requests that fail `unless`, and TLS handshakes too."""

    def script(peer: Peer) -> None:
        if peer.socket.recv(1, socket.MSG_PEEK) == b"\x16":
            return
        request = peer.expect(AssociateRQ)
        if unless(request):
            peer.accept(request)
            peer.serve()
        else:
            peer.send(*last)

    return script


@pytest.mark.parametrize("last", [(), (Abort(AbortReason.NOT_SPECIFIED),)], ids=["closing", "aborting"])
@pytest.mark.parametrize(
    ("likes", "left_out"),
    [
        (lambda request: request.user_information.operations_window is None, "window (item 53H)"),
        (lambda request: not request.user_information.roles, "optional items (53H, 54H, 56H)"),
        (lambda request: len(request.presentation_contexts) == 1, "anything but Verification"),
    ],
)
def test_the_item_that_makes_a_peer_drop_a_request_is_found(
    likes: Callable[[AssociateRQ], bool], left_out: str, last: tuple[Abort, ...]
) -> None:
    with ScriptedSCP(dropping(likes, *last)) as peer:
        steps = explained(peer.port)

    asked = [step for step in steps if isinstance(step, Associated)]
    assert [step.dropped for step in asked] == [True] * (len(asked) - 1) + [False]
    for step, following in itertools.pairwise(asked):
        assert step.failure is not None
        assert step.failure.advice == f"Asking again without {following.left_out}."
    assert left_out in asked[-1].left_out
    assert asked[-1].failure is None
    assert names(steps[-2:]) == ["echo", "release"]


def test_a_peer_that_drops_every_request() -> None:
    with ScriptedSCP(dropping(lambda _request: False)) as peer:
        steps = explained(peer.port)

    assert names(steps) == ["resolve", *["connect", "associate"] * 4]
    failure = steps[-1].failure
    assert failure is not None
    assert failure.cause == "the peer closed the connection"
    assert "accepts only registered addresses" in failure.advice


def test_a_peer_that_closes_before_it_was_asked_anything() -> None:
    with ScriptedSCP(Peer.close) as peer:
        steps = explained(peer.port)

    assert steps[-1].failure is not None
    assert "accepts only registered addresses" in steps[-1].failure.advice


# Failures after the association was accepted.


def accepting(*refused: str) -> Callable[[Peer], None]:
    def script(peer: Peer) -> None:
        peer.accept(refuse=refused)
        peer.serve()

    return script


@pytest.mark.parametrize(
    ("refused", "advice"),
    [((VERIFICATION, CT.uid), "Configure the SOP Classes"), ((EXPLICIT, IMPLICIT), "Propose other transfer syntaxes")],
)
def test_no_context_in_common(refused: tuple[str, ...], advice: str) -> None:
    with ScriptedSCP(accepting(*refused)) as peer:
        steps = explained(peer.port)

    assert names(steps) == ["resolve", "connect", "associate", "release"]
    failure = the(Associated, steps).failure
    assert failure is not None
    assert failure.cause == "the peer accepted the association, but none of the contexts"
    assert advice in failure.advice


def test_no_context_for_verification() -> None:
    with ScriptedSCP(accepting(VERIFICATION)) as peer:
        steps = explained(peer.port)

    assert names(steps) == ["resolve", "connect", "associate", "release"]
    failure = the(Associated, steps).failure
    assert failure is not None
    assert "C-ECHO cannot be sent: the peer does not support the SOP Class" in failure.cause


def test_a_failure_in_answer_to_c_echo() -> None:
    def script(peer: Peer) -> None:
        peer.accept()
        peer.answer(peer.expect(CEchoRQ), 0x0122)
        peer.expect(ReleaseRQ)

    with ScriptedSCP(script) as peer:
        echoed = the(Echoed, explained(peer.port))

    assert echoed.status is not None
    assert echoed.status.code == 0x0122
    assert echoed.failure is not None
    assert "answered C-ECHO with 0x0122" in echoed.failure.cause


def test_no_answer_to_c_echo() -> None:
    def script(peer: Peer) -> None:
        peer.accept()
        peer.expect(CEchoRQ)
        peer.expect(Abort)

    with ScriptedSCP(script) as peer:
        steps = explained(peer.port, timeouts=dicomport.Timeouts(dimse=0.2))

    assert names(steps) == ["resolve", "connect", "associate", "echo"]
    assert why_not(steps).cause == "the dimse timer expired after 0.2 s"
    assert why_not(steps).advice == "See the peer's log, or ask its administrator."


def test_a_connection_lost_in_the_middle_of_c_echos() -> None:
    def script(peer: Peer) -> None:
        peer.accept()
        for _ in range(2):
            peer.answer(peer.expect(CEchoRQ))
        peer.expect(CEchoRQ)

    with ScriptedSCP(script) as peer:
        steps = explained(peer.port, repeat=5)

    assert len(the(Echoed, steps).round_trips) == 2
    assert why_not(steps).cause == "the peer closed the connection"
    assert why_not(steps).advice == "See the peer's log, or ask its administrator."


def test_a_peer_that_closes_its_port_meanwhile_has_no_certificate() -> None:
    """The certificate is fetched over a second connection, as the first one failed because of it."""

    def script(peer: Peer) -> None:
        with contextlib.suppress(ssl.SSLError):
            peer.socket.recv(1)

    with ScriptedSCP(script, connections=1, tls=server(certificate=issued(trustme.CA()))) as peer:
        steps = explained(peer.port, tls=client())

    assert "sent a certificate that is not trusted" in why_not(steps).cause
    assert the(Secured, steps).certificate is None
