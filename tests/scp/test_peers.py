"""Rules for peers by calling AE title, address and certificate, and the contexts that each accepts (PS3.8 9.3.4)."""

import datetime as dt
import ipaddress
import logging
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtensionOID, NameOID
from tests.certificates import Files
from tests.core.messages import CT, EXPLICIT, IMPLICIT, VERIFICATION
from tests.scp.messages import DATA_SET, context, request
from tests.scp.storages import Recorder

from dicomport import PeerRule, StorageSCP, sop_classes, tls_server_context
from dicomport.core import AcceptorPolicy, ImplementationInfo
from dicomport.scp.access.peers import Rejection, certificate_names, match_rule
from dicomport.testing import ScriptedSCU
from dicomport.wire import AssociateAC, AssociateRJ, ContextResult, RejectReason, encode

MR: Final = sop_classes.MRImageStorage.uid
STUDY_ROOT_FIND: Final = "1.2.840.10008.5.1.4.1.2.2.1"
NO_REASON: Final = bytes.fromhex("03 00 00000004 00 01 01 01")
WRONG_CALLING: Final = bytes.fromhex("03 00 00000004 00 01 01 03")


def judged(peers: list[PeerRule], calling: str, address: str, names: tuple[str, ...] = ()) -> PeerRule | Rejection:
    return match_rule(peers, request(calling=calling), address, names)


def reason(peers: list[PeerRule], calling: str, address: str, names: tuple[str, ...] = ()) -> RejectReason:
    refusal = judged(peers, calling, address, names)
    assert isinstance(refusal, Rejection)
    return refusal.reason


# Rules as text.


@pytest.mark.parametrize(
    ("text", "ae_title", "networks"),
    [
        ("CT1", "CT1", ()),
        ("  CT 1 ", "CT 1", ()),
        ("CT1@192.0.2.7", "CT1", ("192.0.2.7/32",)),
        ("CT1@192.0.2.0/24", "CT1", ("192.0.2.0/24",)),
        ("CT1@2001:db8::7", "CT1", ("2001:db8::7/128",)),
        ("CT1@2001:db8::/32", "CT1", ("2001:db8::/32",)),
        ("*", None, ()),
        ("*@192.0.2.0/24", None, ("192.0.2.0/24",)),
        ("CT@1@192.0.2.7", "CT@1", ("192.0.2.7/32",)),
    ],
)
def test_a_rule_may_be_text(text: str, ae_title: str | None, networks: tuple[str, ...]) -> None:
    peer = PeerRule.parse(text)
    assert peer == PeerRule(rule=text, ae_title=ae_title, networks=tuple(map(ipaddress.ip_network, networks)))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "at least one character"),
        ("@192.0.2.7", "at least one character"),
        ("A" * 17, "17 characters; the maximum is 16"),
        ("CT\n1", "invalid characters"),
        ("CT1@", "'' is not an address or network"),
        ("CT1@ct1.example", "'ct1.example' is not an address or network, such as 192.0.2.7"),
        ("CT1@192.0.2.256", "not an address"),
        ("CT1@192.0.2.0/33", "not an address"),
        ("CT1@192.0.2.7/24", r"'192.0.2.7/24' has bits outside its network mask; the network is 192.0.2.0/24"),
    ],
)
def test_an_invalid_rule_raises_at_once(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        PeerRule.parse(text)
    with pytest.raises(ValueError, match=problem):
        StorageSCP(Recorder(), allow=["CT1", text])


# The decision.


def test_the_first_rule_that_a_requestor_meets_is_its_rule() -> None:
    peers = [PeerRule.parse(text) for text in ("CT1@192.0.2.0/24", "CT1", "*@198.51.100.0/24", "MR1")]
    assert judged(peers, "CT1", "192.0.2.7") is peers[0]
    assert judged(peers, "CT1", "203.0.113.9") is peers[1]
    assert judged(peers, "CT1", "198.51.100.1") is peers[1]
    assert judged(peers, "MR1", "198.51.100.1") is peers[2]
    assert judged(peers, "MR1", "2001:db8::1") is peers[3]
    assert reason(peers, "ct1", "192.0.2.7") is RejectReason.CALLING_AE_TITLE_NOT_RECOGNIZED


@pytest.mark.parametrize("address", ["2001:db8::7", "fe80::1%eth0"])
def test_addresses_of_either_version_are_told_apart(address: str) -> None:
    within = PeerRule.parse("CT1@fe80::/10") if address.startswith("fe80") else PeerRule.parse("CT1@2001:db8::/32")
    assert judged([within], "CT1", address) is within
    assert reason([PeerRule.parse("CT1@0.0.0.0/0")], "CT1", address) is RejectReason.USER_NO_REASON


def test_a_wrong_address_learns_nothing_of_the_ae_titles_that_would_do() -> None:
    peers = [PeerRule.parse("CT1@192.0.2.0/24"), PeerRule.parse("MR1@198.51.100.0/24")]
    assert {reason(peers, title, "203.0.113.9") for title in ("CT1", "OTHER")} == {RejectReason.USER_NO_REASON}
    # MR1 is as unknown there as an unused title.
    assert {reason(peers, title, "192.0.2.7") for title in ("MR1", "OTHER")} == {
        RejectReason.CALLING_AE_TITLE_NOT_RECOGNIZED
    }


def test_a_wrong_certificate_learns_nothing_of_the_ae_titles_that_would_do() -> None:
    peers = [
        PeerRule(rule="ct", ae_title="CT1", certificate_names=("ct1.example", "ct2.example")),
        PeerRule(rule="mr", ae_title="MR1", certificate_names=("mr1.example",)),
    ]
    assert judged(peers, "CT1", "192.0.2.7", ("other", "CT2.Example")) is peers[0]
    for names in ((), ("other.example",), ("ct1.example.evil",)):
        assert {reason(peers, title, "192.0.2.7", names) for title in ("CT1", "OTHER")} == {RejectReason.USER_NO_REASON}
    assert {reason(peers, title, "192.0.2.7", ("ct1.example",)) for title in ("MR1", "OTHER")} == {
        RejectReason.CALLING_AE_TITLE_NOT_RECOGNIZED
    }


def why(peers: list[PeerRule], calling: str, address: str, names: tuple[str, ...] = ()) -> str:
    refusal = judged(peers, calling, address, names)
    assert isinstance(refusal, Rejection)
    return refusal.text


def test_the_log_names_the_rule_that_would_accept_the_requestor() -> None:
    peers = [PeerRule.parse("CT1@192.0.2.0/24"), PeerRule.parse("MR1")]
    assert why(peers, "X", "203.0.113.9") == (
        "calling AE title 'X' from 203.0.113.9 matches no rule: allow it with --allow X@203.0.113.9"
    )
    assert why(peers[:1], "X", "203.0.113.9") == (
        "no rule allows the address 203.0.113.9, calling AE title 'X': allow it with --allow X@203.0.113.9"
    )
    assert "rule CT1@192.0.2.0/24 has this AE title, but another address" in why(peers, "CT1", "2001:db8::1")
    sure = [PeerRule(rule="peers.ct", ae_title="CT1", certificate_names=("ct1.example",))]
    assert "allows a peer without a verified certificate" in why(sure, "CT1", "192.0.2.7")
    assert "rule peers.ct has this AE title" in why(sure, "CT1", "192.0.2.7")
    assert "allows the certificate names b, a" in why(sure, "CT1", "192.0.2.7", ("b", "a"))


@pytest.mark.parametrize(
    ("title", "advice"),
    [
        ("$(reboot)", "--allow '$(reboot)@192.0.2.7'"),
        ("';id;'", """--allow ''"'"';id;'"'"'@192.0.2.7'"""),
        ("CT 1", "--allow 'CT 1@192.0.2.7'"),
        ("*", "only --allow-any accepts this peer"),
        ("", "this is not a valid AE title"),
        ("A\nB", "this is not a valid AE title"),
        ("\x1b[2J", "this is not a valid AE title"),
    ],
)
def test_the_advice_can_be_given_to_a_shell(title: str, advice: str) -> None:
    told = why([PeerRule.parse("CT1")], title, "192.0.2.7")
    assert advice in told
    assert told.isprintable()


def test_the_names_of_a_certificate_are_its_hosts_and_its_common_name() -> None:
    certificate = {
        "subject": ((("countryName", "DE"),), (("commonName", "CT1"),)),
        "subjectAltName": (
            ("DirName", ((("commonName", "ct2.example"),),)),
            ("DNS", "ct1.example"),
            ("email", "ct3.example"),
            ("URI", "ct4.example"),
            ("Registered ID", "1.2.3"),
            ("IP Address", "192.0.2.7"),
            ("DNS", "ct1.example"),
        ),
    }
    assert certificate_names(certificate) == ("ct1.example", "192.0.2.7", "cn:CT1")
    assert certificate_names({}) == certificate_names(None) == ()


@pytest.mark.parametrize(
    ("allowed", "shown", "matches"),
    [
        ("CT1", "cn:CT1", False),
        ("cn:CT1", "cn:CT1", True),
        ("CN:ct1", "cn:CT1", True),
        ("cn:CT1", "CT1", False),
        ("2001:db8::7", "2001:DB8:0:0:0:0:0:7", True),
        ("2001:db8::7", "2001:DB8:0:0:0:0:0:8", False),
        ("192.0.2.7", "192.0.2.7", True),
    ],
)
def test_a_rule_matches_the_name_that_it_has(allowed: str, shown: str, *, matches: bool) -> None:
    assert PeerRule(certificate_names=(allowed,)).allows_certificate((shown,)) is matches


FINGERPRINT: Final = "sha256:" + "0a" * 32


def test_a_certificate_can_be_meant_itself_by_its_fingerprint() -> None:
    certificate = {"subject": ((("commonName", "CT1"),),)}
    names = certificate_names(certificate, FINGERPRINT)
    assert names == ("cn:CT1", FINGERPRINT)
    for written in (FINGERPRINT, FINGERPRINT.upper(), "sha256:" + ":".join(["0A"] * 32)):
        rule = PeerRule(certificate_names=(written,))
        assert judged([rule], "CT1", "192.0.2.7", names) is rule
    assert (
        reason([PeerRule(certificate_names=("sha256:00",))], "CT1", "192.0.2.7", names) is RejectReason.USER_NO_REASON
    )


def test_a_host_name_is_not_mistaken_for_a_fingerprint_or_a_common_name() -> None:
    certificate = {
        "subject": ((("commonName", FINGERPRINT),),),
        "subjectAltName": (("DNS", FINGERPRINT.upper()), ("DNS", "Cn:CT1"), ("DNS", "cnc.example")),
    }
    assert certificate_names(certificate, "sha256:11") == ("cnc.example", f"cn:{FINGERPRINT}", "sha256:11")


# On the wire.


def ask(scp: StorageSCP, calling: str, source: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> bytes:
    """Request an association and return the reply; after a rejection only the end of the connection follows."""
    with ScriptedSCU("127.0.0.1", scp.port, source=source, tls=tls) as peer:
        peer.send(request(calling=calling))
        reply = peer.receive()
        assert isinstance(reply, AssociateRJ | AssociateAC)
        if isinstance(reply, AssociateRJ):
            return encode(reply)
        assert peer.store("1.2.3.4", DATA_SET).status == 0x0000
        peer.release()
        return b""


def test_the_log_has_the_reason_of_each_rejected_context(caplog: pytest.LogCaptureFixture) -> None:
    with (
        caplog.at_level(logging.INFO, "dicomport.scp"),
        StorageSCP(Recorder(), port=0).in_thread() as scp,
        ScriptedSCU("127.0.0.1", scp.port) as peer,
    ):
        peer.associate("1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.2.2.1", "1.2.840.10008.1.1")
        peer.release()
    [accepted] = [record.getMessage() for record in caplog.records if "association_accepted" in record.getMessage()]
    assert "accepted=2" in accepted
    assert 'rejected_contexts="1.2.840.10008.5.1.4.1.2.2.1: Study Root Query/Retrieve' in accepted


def test_titles_and_addresses_decide(caplog: pytest.LogCaptureFixture) -> None:
    allow = ["CT1@127.0.0.2", "*@127.0.1.0/24", "MR1@127.0.0.1"]
    with (
        caplog.at_level(logging.INFO, "dicomport.scp"),
        StorageSCP(Recorder(), port=0, allow=allow).in_thread() as scp,
    ):
        assert ask(scp, "CT1", "127.0.0.2") == b""
        assert ask(scp, "ANY", "127.0.1.9") == b""
        assert ask(scp, "CT1", "127.0.0.3") == NO_REASON
        assert ask(scp, "CT1", "127.0.0.1") == WRONG_CALLING
    said = [record.getMessage() for record in caplog.records]
    assert any("association_accepted" in line and "rule=CT1@127.0.0.2" in line for line in said)
    assert any("association_accepted" in line and "rule=*@127.0.1.0/24" in line for line in said)
    [nowhere, unknown] = [line for line in said if "association_rejected" in line]
    assert "address 127.0.0.3" in nowhere
    assert "--allow CT1@127.0.0.3" in nowhere
    assert "--allow CT1@127.0.0.1" in unknown


def test_ipv6_addresses_decide() -> None:
    with StorageSCP(Recorder(), host="::1", port=0, allow=["CT1@::1", "MR1@::2"]).in_thread() as scp:
        for title, good in (("CT1", True), ("MR1", False)):
            with ScriptedSCU("::1", scp.port) as peer:
                peer.send(request(calling=title))
                assert isinstance(peer.receive(), AssociateAC) is good


def test_allow_any_allows_peers_that_match_no_rule() -> None:
    named = PeerRule(rule="ct", ae_title="CT1", sop_classes={CT})
    with StorageSCP(Recorder(), port=0, allow=[named], allow_any=True).in_thread() as scp:
        assert ask(scp, "CT1") == b""
        assert ask(scp, "OTHER") == b""
        assert answers(scp, "CT1")[MR] is ContextResult.ABSTRACT_SYNTAX_NOT_SUPPORTED
        assert answers(scp, "OTHER")[MR] is ContextResult.ACCEPTED


def answers(scp: StorageSCP, calling: str) -> dict[str, ContextResult]:
    """Propose Verification, CT in Explicit VR, MR in Implicit VR."""
    proposed = (context(1, VERIFICATION, IMPLICIT), context(3, CT, EXPLICIT), context(5, MR, IMPLICIT))
    with ScriptedSCU("127.0.0.1", scp.port) as peer:
        reply = peer.associate(request=request(*proposed, calling=calling))
        peer.release()
    by_id = {answer.context_id: answer.result for answer in reply.presentation_contexts}
    return {asked.abstract_syntax: by_id[asked.context_id] for asked in proposed}


def test_each_peer_has_the_classes_and_syntaxes_of_its_rule() -> None:
    peers = [
        PeerRule(ae_title="CT1", sop_classes=frozenset({CT})),
        PeerRule(ae_title="PLAIN", transfer_syntaxes=(IMPLICIT,)),
        PeerRule(ae_title="NEITHER", sop_classes=(), transfer_syntaxes=(EXPLICIT,)),
        PeerRule(ae_title="ALL"),
    ]
    no_class, no_syntax = ContextResult.ABSTRACT_SYNTAX_NOT_SUPPORTED, ContextResult.TRANSFER_SYNTAXES_NOT_SUPPORTED
    good = ContextResult.ACCEPTED
    with StorageSCP(Recorder(), port=0, allow=peers).in_thread() as scp:
        assert answers(scp, "CT1") == {VERIFICATION: good, CT: good, MR: no_class}
        assert answers(scp, "PLAIN") == {VERIFICATION: good, CT: no_syntax, MR: good}
        # Verification has no data set, and a peer that cannot verify the connection cannot be diagnosed.
        assert answers(scp, "NEITHER") == {VERIFICATION: good, CT: no_class, MR: no_class}
        assert answers(scp, "ALL") == {VERIFICATION: good, CT: good, MR: good}


def test_a_rule_takes_nothing_that_the_server_does_not() -> None:
    peer = PeerRule(ae_title="CT1", sop_classes={CT, MR}, transfer_syntaxes={EXPLICIT, IMPLICIT})
    scp = StorageSCP(
        Recorder(),
        port=0,
        allow=[peer],
        abstract_syntaxes=lambda uid, _kind: uid in {CT, VERIFICATION},
        transfer_syntaxes=[IMPLICIT],
    )
    with scp.in_thread():
        assert answers(scp, "CT1") == {
            VERIFICATION: ContextResult.ACCEPTED,
            CT: ContextResult.TRANSFER_SYNTAXES_NOT_SUPPORTED,
            MR: ContextResult.ABSTRACT_SYNTAX_NOT_SUPPORTED,
        }


def test_a_misprinted_uid_is_the_class_that_is_meant() -> None:
    misprint = "1.2.840.10008.5.1.1.4.1.1.3.1"
    meant = sop_classes.misprint_of(misprint)
    assert meant is not None
    allow = [PeerRule(sop_classes={meant.uid})]
    with StorageSCP(Recorder(), port=0, allow=allow).in_thread() as scp, ScriptedSCU("127.0.0.1", scp.port) as peer:
        reply = peer.associate(request=request(context(1, misprint)))
        assert reply.presentation_contexts[0].result is ContextResult.ACCEPTED


@dataclass
class Contexts:
    server: ssl.SSLContext
    ct: ssl.SSLContext
    mr: ssl.SSLContext
    anonymous: ssl.SSLContext
    named: ssl.SSLContext
    """A client whose certificate has a common name and no alternative name."""


@pytest.fixture(scope="module")
def tls() -> Contexts:
    authority = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(server)
    authority.configure_trust(server)
    server.verify_mode = ssl.CERT_OPTIONAL

    def client(*names: str, common_name: str | None = None) -> ssl.SSLContext:
        made = ssl.create_default_context()
        authority.configure_trust(made)
        if names or common_name:
            shown = common_name or names[0].upper()
            authority.issue_cert(*names, common_name=shown).configure_cert(made)
        return made

    return Contexts(server, client("ct1.example"), client("mr1.example"), client(), client(common_name="Common Name"))


@pytest.fixture
def guarded(tls: Contexts) -> Iterator[StorageSCP]:
    peers = [
        PeerRule(ae_title="CT1", certificate_names=("ct1.example",)),
        PeerRule(ae_title="MR1", certificate_names=("MR1.EXAMPLE",)),
    ]
    with StorageSCP(Recorder(), port=0, allow=peers, tls=tls.server).in_thread() as scp:
        yield scp


class _Extension(x509.UnrecognizedExtension):
    """Subject Alternative Name with any bytes."""

    def __init__(self, value: bytes) -> None:
        super().__init__(ExtensionOID.SUBJECT_ALTERNATIVE_NAME, value)


DIRECTORY_NAME: Final = x509.SubjectAlternativeName(
    [x509.DirectoryName(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ct1.example")]))]
)


@pytest.mark.parametrize(
    "names",
    [
        DIRECTORY_NAME,
        x509.SubjectAlternativeName(
            [x509.RFC822Name("ct1@example"), x509.RegisteredID(x509.ObjectIdentifier("1.2.3"))]
        ),
        _Extension(bytes.fromhex("3005 8203 fffe80")),  # a DNS name of other bytes than text
        _Extension(bytes.fromhex("3005 8703 010203")),  # an address of three bytes
        _Extension(bytes.fromhex("3000")),
    ],
    ids=["dirName", "others", "bytes", "address", "none"],
)
def test_names_that_are_no_hosts_match_no_rule_and_raise_nothing(
    names: x509.ExtensionType, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The certificate itself is trusted, as a site does that has no authority."""
    certificate, fingerprint = _self_signed(tmp_path / "ct1.pem", names)
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    client.load_cert_chain(certificate)
    pacs = Files(tmp_path / "hospital").issue("pacs.example")
    server = tls_server_context(pacs.certificate, pacs.key, authorities=certificate)
    rules = [
        PeerRule(ae_title="CT1", certificate_names=("ct1.example",)),
        PeerRule(ae_title="CT2", certificate_names=(fingerprint,)),
    ]
    with StorageSCP(Recorder(), port=0, allow=rules, tls=server).in_thread() as scp:
        assert ask(scp, "CT1", tls=client) == WRONG_CALLING
        assert ask(scp, "CT2", tls=client) == b""
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == []


def _self_signed(path: Path, names: x509.ExtensionType) -> tuple[Path, str]:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ct1.example")])
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .not_valid_before(dt.datetime(2020, 1, 1, tzinfo=dt.UTC))
        .not_valid_after(dt.datetime(3000, 1, 1, tzinfo=dt.UTC))
        .serial_number(1)
        .public_key(key.public_key())
        .add_extension(names, critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.write_bytes(pem + made.public_bytes(Encoding.PEM))
    return path, f"sha256:{made.fingerprint(hashes.SHA256()).hex()}"


def test_the_common_name_is_used_only_by_a_rule_that_says_so(tls: Contexts) -> None:
    rules = [
        PeerRule(ae_title="CT1", certificate_names=("CT1.EXAMPLE",)),
        PeerRule(ae_title="MR1", certificate_names=("cn:MR1.EXAMPLE",)),
        PeerRule(ae_title="MR2", certificate_names=("Common Name",)),
    ]
    with StorageSCP(Recorder(), port=0, allow=rules, tls=tls.server).in_thread() as scp:
        assert ask(scp, "CT1", tls=tls.ct) == b""
        assert ask(scp, "MR1", tls=tls.mr) == b""
        assert ask(scp, "MR2", tls=tls.named) == NO_REASON


INVALID_TITLES: Final = (b"CT1\\MR1", b"CT\x1b[2J", b"CT1\r\n", b"\xc4RZTE", b"CT\x7f", b"\x80")


@pytest.mark.parametrize("title", INVALID_TITLES, ids=repr)
def test_an_ae_title_with_invalid_characters_matches_no_rule(title: bytes) -> None:
    text = title.decode("latin-1")
    rules = [PeerRule(rule="all"), PeerRule.parse("*@127.0.0.0/8"), PeerRule(rule="same", ae_title=text)]
    with StorageSCP(Recorder(), port=0, allow=rules[:2]).in_thread() as scp:
        assert _ask_as(scp, title) == WRONG_CALLING
        assert _ask_as(scp, b"CT1") == b""
    with StorageSCP(Recorder(), port=0, allow=rules[2:]).in_thread() as scp:
        assert _ask_as(scp, title) == WRONG_CALLING
    with StorageSCP(Recorder(), port=0, allow=rules, allow_any=True).in_thread() as scp:
        assert _ask_as(scp, title) == b""


def _ask_as(scp: StorageSCP, title: bytes) -> bytes:
    """Request an association with a calling AE title that may not be encoded."""
    with ScriptedSCU("127.0.0.1", scp.port) as peer:
        plain = encode(request(calling="x" * 16))
        peer.send(plain.replace(b"x" * 16, title.ljust(16)))
        reply = peer.receive()
        if isinstance(reply, AssociateRJ):
            return encode(reply)
        assert isinstance(reply, AssociateAC)
        peer.release()
        return b""


def test_a_restriction_to_transfer_syntaxes_leaves_verification_alone() -> None:
    jpeg_2000 = "1.2.840.10008.1.2.4.90"
    rule = PeerRule(sop_classes={CT}, transfer_syntaxes={jpeg_2000})
    with (
        StorageSCP(Recorder(), port=0, allow=[rule], transfer_syntaxes={jpeg_2000}).in_thread() as scp,
        ScriptedSCU("127.0.0.1", scp.port) as peer,
    ):
        peer.associate(request=request(context(1, VERIFICATION, IMPLICIT), context(3, CT, IMPLICIT)))
        response = peer.echo()
        assert response.status == 0x0000
        peer.release()


def test_certificates_decide(guarded: StorageSCP, tls: Contexts) -> None:
    assert ask(guarded, "CT1", tls=tls.ct) == b""
    assert ask(guarded, "MR1", tls=tls.mr) == b""
    assert ask(guarded, "MR1", tls=tls.ct) == WRONG_CALLING
    assert ask(guarded, "OTHER", tls=tls.ct) == WRONG_CALLING
    assert ask(guarded, "CT1", tls=tls.anonymous) == NO_REASON


def test_a_peer_of_a_certificate_does_not_come_in_without_tls() -> None:
    with StorageSCP(Recorder(), port=0, allow=[PeerRule(ae_title="CT1", certificate_names=("a",))]).in_thread() as scp:
        assert ask(scp, "CT1") == NO_REASON


def test_a_rule_on_storage_classes_leaves_storage_commitment_alone() -> None:
    push_model = "1.2.840.10008.1.20.1"
    policy = AcceptorPolicy(
        ae_title="A",
        identity=ImplementationInfo("1", ""),
        maximum_length=0,
        abstract_syntaxes=lambda uid, _kind: uid != MR,
    )
    narrowed = PeerRule(sop_classes={CT, MR}).policy(policy).abstract_syntaxes
    taken = [uid for uid in (CT, MR, VERIFICATION, push_model, "1.2.3.4", STUDY_ROOT_FIND) if narrowed(uid, None)]
    # The result of a query depends on the server's own policy, which here accepts all classes but MR.
    assert taken == [CT, VERIFICATION, push_model, STUDY_ROOT_FIND]
