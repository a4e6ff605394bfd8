"""TLS contexts from files: their profiles, the trusted peers, and the errors for invalid files."""

import datetime as dt
import json
import logging
import os
import ssl
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from tests.certificates import PASSPHRASE, Files, Identity, encrypted, shake_hands

import dicomport
from dicomport.net import describe_tls_error

TLS12: Final = ssl.TLSVersion.TLSv1_2
TLS13: Final = ssl.TLSVersion.TLSv1_3


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return Files(tmp_path_factory.mktemp("hospital"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return Files(tmp_path_factory.mktemp("stranger"))


@pytest.fixture(scope="module")
def pacs(hospital: Files) -> Identity:
    return hospital.issue("pacs.example")


@pytest.fixture(scope="module")
def modality(hospital: Files) -> Identity:
    return hospital.issue("modality.example", common_name="CT1")


def names(certificate: object) -> object:
    assert isinstance(certificate, dict)
    return certificate["subjectAltName"]


# Negotiated versions and cipher suites.


@pytest.mark.parametrize("profile", dicomport.TLSProfile)
def test_both_sides_show_certificates_by_default(
    hospital: Files, pacs: Identity, modality: Identity, profile: str
) -> None:
    server = dicomport.tls_server_context(pacs.certificate, pacs.key, authorities=hospital.authority, profile=profile)
    client = dicomport.tls_client_context(
        certificate=modality.certificate, key=modality.key, authorities=hospital.authority, profile=profile
    )

    ours, theirs = shake_hands(client, server)

    assert ours.version() == "TLSv1.3"
    assert names(ours.getpeercert()) == (("DNS", "pacs.example"),)
    assert names(theirs.getpeercert()) == (("DNS", "modality.example"),)


@pytest.mark.parametrize(
    ("profile", "suites"),
    [
        (
            "rfc8996",
            {
                "ECDHE-ECDSA-AES256-GCM-SHA384",
                "ECDHE-RSA-AES256-GCM-SHA384",
                "ECDHE-ECDSA-AES128-GCM-SHA256",
                "ECDHE-RSA-AES128-GCM-SHA256",
                "ECDHE-ECDSA-CHACHA20-POLY1305",
                "ECDHE-RSA-CHACHA20-POLY1305",
            },
        ),
        (
            "rfc8996-modified",
            # The ten suites that PS3.15 B.13 requires; those with Camellia are optional.
            {
                "ECDHE-ECDSA-AES256-GCM-SHA384",
                "ECDHE-RSA-AES256-GCM-SHA384",
                "ECDHE-ECDSA-AES128-GCM-SHA256",
                "ECDHE-RSA-AES128-GCM-SHA256",
                "ECDHE-ECDSA-CHACHA20-POLY1305",
                "ECDHE-RSA-CHACHA20-POLY1305",
                "ECDHE-ECDSA-AES256-CCM",
                "ECDHE-ECDSA-AES128-CCM",
                "ECDHE-ECDSA-AES256-CCM8",
                "ECDHE-ECDSA-AES128-CCM8",
            },
        ),
    ],
)
def test_a_profile_has_just_these_suites_and_versions(
    hospital: Files, pacs: Identity, profile: str, suites: set[str]
) -> None:
    for context in (
        dicomport.tls_client_context(profile=profile),
        dicomport.tls_server_context(pacs.certificate, pacs.key, authorities=hospital.authority, profile=profile),
    ):
        assert {suite["name"] for suite in context.get_ciphers() if suite["protocol"] != "TLSv1.3"} == suites
        assert (context.minimum_version, context.maximum_version) == (TLS12, ssl.TLSVersion.MAXIMUM_SUPPORTED)
        assert context.options & ssl.OP_NO_RENEGOTIATION
        assert context.options & ssl.OP_NO_COMPRESSION


@pytest.mark.parametrize(
    ("profile", "suite", "does"),
    [
        ("rfc8996", "ECDHE+AES128", True),
        ("rfc8996", "ECDHE+AESCCM", False),
        ("rfc8996", "AES256-GCM-SHA384", False),
        ("rfc8996-modified", "ECDHE+AES256", True),
        ("rfc8996-modified", "ECDHE-ECDSA-AES256-CCM", True),
        ("rfc8996-modified", "ECDHE-ECDSA-AES128-CCM", True),
        ("rfc8996-modified", "ECDHE-ECDSA-AES256-CCM8:@SECLEVEL=0", True),
        ("rfc8996-modified", "ECDHE-ECDSA-AES128-CCM8:@SECLEVEL=0", True),
        ("rfc8996-modified", "DHE+AESGCM", False),
    ],
)
def test_a_peer_that_has_only_weaker_suites_gets_none(
    hospital: Files, pacs: Identity, profile: str, suite: str, *, does: bool
) -> None:
    server = dicomport.tls_server_context(pacs.certificate, pacs.key, profile=profile, anonymous_clients=True)
    client = ssl.create_default_context(cafile=hospital.authority)
    client.maximum_version = TLS12
    client.set_ciphers(suite)

    if does:
        ours, _ = shake_hands(client, server)
        assert ours.version() == "TLSv1.2"
    else:
        with pytest.raises(ssl.SSLError) as error:
            shake_hands(client, server)
        assert describe_tls_error(error.value) == "the two sides have no cipher suite in common"


def test_openssl_can_be_configured_for_all_suites_of_tls_1_3(tmp_path: Path) -> None:
    """PS3.15 B.13 requires two more of a server than OpenSSL's defaults; the lines are those of docs/tls.md."""
    page = (Path(__file__).parents[2] / "docs" / "tls.md").read_text()
    lines = [line.strip() for line in page.partition("    openssl_conf =")[2].splitlines()[:7]]
    configuration = tmp_path / "openssl.cnf"
    configuration.write_text("openssl_conf = " + "\n".join(lines))
    program = (
        "import dicomport, json\n"
        "suites = dicomport.tls_client_context(profile='rfc8996-modified').get_ciphers()\n"
        "print(json.dumps(sorted(suite['name'] for suite in suites if suite['protocol'] == 'TLSv1.3')))"
    )
    environment = {**os.environ, "OPENSSL_CONF": str(configuration)}
    run = [sys.executable, "-c", program]
    done = subprocess.run(run, env=environment, check=True, capture_output=True, text=True)
    assert json.loads(done.stdout) == [
        "TLS_AES_128_CCM_8_SHA256",
        "TLS_AES_128_CCM_SHA256",
        "TLS_AES_128_GCM_SHA256",
        "TLS_AES_256_GCM_SHA384",
        "TLS_CHACHA20_POLY1305_SHA256",
    ]


def test_an_unknown_profile_is_refused() -> None:
    with pytest.raises(ValueError, match="bcp196"):
        dicomport.tls_client_context(profile="bcp196")


# Trusted peers.


def test_a_client_without_a_certificate_is_refused_unless_it_is_allowed(hospital: Files, pacs: Identity) -> None:
    anonymous = dicomport.tls_client_context(authorities=hospital.authority)
    with pytest.raises(ssl.SSLError) as error:
        shake_hands(anonymous, dicomport.tls_server_context(pacs.certificate, pacs.key, authorities=hospital.authority))
    assert describe_tls_error(error.value) == "the peer sent no certificate"

    for authorities in (None, hospital.authority):
        server = dicomport.tls_server_context(
            pacs.certificate, pacs.key, authorities=authorities, anonymous_clients=True
        )
        _, theirs = shake_hands(anonymous, server)
        assert theirs.getpeercert() is None


def test_an_optional_certificate_must_be_valid(
    hospital: Files, stranger: Files, pacs: Identity, modality: Identity
) -> None:
    server = dicomport.tls_server_context(
        pacs.certificate, pacs.key, authorities=hospital.authority, anonymous_clients=True
    )
    known = dicomport.tls_client_context(
        certificate=modality.certificate, key=modality.key, authorities=hospital.authority
    )
    _, theirs = shake_hands(known, server)
    assert names(theirs.getpeercert()) == (("DNS", "modality.example"),)

    other = stranger.issue("other.example")
    unknown = dicomport.tls_client_context(certificate=other.certificate, key=other.key, authorities=hospital.authority)
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(unknown, server)


def test_a_server_needs_authorities_for_its_clients(pacs: Identity) -> None:
    with pytest.raises(ValueError, match="certificate authorities of clients"):
        dicomport.tls_server_context(pacs.certificate, pacs.key)


def test_a_server_with_an_unknown_authority_is_rejected(hospital: Files, stranger: Files, pacs: Identity) -> None:
    server = dicomport.tls_server_context(pacs.certificate, pacs.key, authorities=hospital.authority)
    for client in (dicomport.tls_client_context(), dicomport.tls_client_context(authorities=stranger.authority)):
        with pytest.raises(ssl.SSLCertVerificationError):
            shake_hands(client, server)


def test_the_name_is_checked_unless_it_is_not_to_be(hospital: Files, pacs: Identity) -> None:
    server = dicomport.tls_server_context(pacs.certificate, pacs.key, anonymous_clients=True)
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        shake_hands(dicomport.tls_client_context(authorities=hospital.authority), server, host="other.example")
    lenient = dicomport.tls_client_context(authorities=hospital.authority, check_name=False)
    assert shake_hands(lenient, server, host="other.example")[0].version() == "TLSv1.3"


@pytest.mark.parametrize("common_name", [False, True])
def test_the_common_name_is_a_host_name_only_if_it_is_to_be(hospital: Files, *, common_name: bool) -> None:
    """RFC 9525: even a certificate without alternative names has no host name in its subject."""
    nameless = hospital.issue(common_name="old-pacs.example")
    server = dicomport.tls_server_context(nameless.certificate, nameless.key, anonymous_clients=True)
    client = dicomport.tls_client_context(authorities=hospital.authority, common_name=common_name)
    if common_name:
        shake_hands(client, server, host="old-pacs.example")
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        shake_hands(client, server, host="other.example" if common_name else "old-pacs.example")

    both = hospital.issue("pacs.example", common_name="old-pacs.example")
    server = dicomport.tls_server_context(both.certificate, both.key, anonymous_clients=True)
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        shake_hands(client, server, host="old-pacs.example")


def test_a_peer_s_own_certificate_can_be_trusted_by_itself(hospital: Files, pacs: Identity, modality: Identity) -> None:
    """For peers that exchanged certificates: another certificate of the same authority is not trusted."""
    server = dicomport.tls_server_context(pacs.certificate, pacs.key, authorities=modality.certificate)
    client = dicomport.tls_client_context(
        certificate=modality.certificate, key=modality.key, authorities=pacs.certificate
    )
    shake_hands(client, server)

    other = hospital.issue("other.example")
    colleague = dicomport.tls_client_context(certificate=other.certificate, key=other.key, authorities=pacs.certificate)
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(colleague, server)


@pytest.mark.parametrize("suffix", [".pem", ".CRT", ".cer", ".der"])
def test_authorities_may_be_a_folder_of_files(
    hospital: Files, stranger: Files, pacs: Identity, tmp_path: Path, suffix: str
) -> None:
    pem = hospital.authority.read_text()
    (tmp_path / "1.pem").write_bytes(stranger.authority.read_bytes())
    data = ssl.PEM_cert_to_DER_cert(pem) if suffix == ".der" else pem.encode()
    (tmp_path / f"2{suffix}").write_bytes(data)
    (tmp_path / "README").write_text("what is no certificate by its name is not read")
    server = dicomport.tls_server_context(pacs.certificate, pacs.key, anonymous_clients=True)

    ours, _ = shake_hands(dicomport.tls_client_context(authorities=tmp_path), server)

    assert ours.version() == "TLSv1.3"


def test_a_file_may_hold_several_authorities_with_text_around_them(
    hospital: Files, stranger: Files, pacs: Identity, tmp_path: Path
) -> None:
    bundle = tmp_path / "bundle.pem"
    bundle.write_bytes("Hôpital\n".encode() + stranger.authority.read_bytes() + hospital.authority.read_bytes())
    server = dicomport.tls_server_context(pacs.certificate, pacs.key, anonymous_clients=True)

    assert shake_hands(dicomport.tls_client_context(authorities=bundle), server)


# Files that are wrong.


@pytest.mark.parametrize("traditional", [False, True])
def test_an_encrypted_key_needs_its_passphrase_and_never_prompts(
    hospital: Files, pacs: Identity, *, traditional: bool
) -> None:
    key = encrypted(pacs.key, traditional=traditional)

    dicomport.tls_server_context(pacs.certificate, key, passphrase=PASSPHRASE, authorities=hospital.authority)

    with pytest.raises(ValueError, match=f"^the key in {key} is encrypted: specify its passphrase$"):
        dicomport.tls_server_context(pacs.certificate, key, authorities=hospital.authority)
    with pytest.raises(ValueError, match=f"^wrong passphrase for the key in {key}$"):
        dicomport.tls_server_context(pacs.certificate, key, passphrase="wrong", authorities=hospital.authority)


def test_certificate_and_key_may_be_in_one_file(hospital: Files, pacs: Identity, tmp_path: Path) -> None:
    both = tmp_path / "both.pem"
    both.write_bytes(pacs.key.read_bytes() + pacs.certificate.read_bytes())

    server = dicomport.tls_server_context(both, authorities=hospital.authority)
    client = dicomport.tls_client_context(certificate=both, authorities=hospital.authority)

    _, theirs = shake_hands(client, server)
    assert names(theirs.getpeercert()) == (("DNS", "pacs.example"),)


def test_the_file_that_is_wrong_is_named_with_the_reason(
    hospital: Files, pacs: Identity, modality: Identity, tmp_path: Path
) -> None:
    missing, text, empty = tmp_path / "missing.pem", tmp_path / "text.pem", tmp_path / "empty"
    text.write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    empty.mkdir()
    ca = hospital.authority

    for certificate, key, authorities, reason in (
        (missing, pacs.key, ca, f"cannot read {missing}: No such file or directory"),
        (pacs.certificate, missing, ca, f"cannot read {missing}: No such file or directory"),
        (pacs.certificate, pacs.key, missing, f"cannot read {missing}: No such file or directory"),
        (empty, pacs.key, ca, f"cannot read {empty}: Is a directory"),
        (text, pacs.key, ca, f"{text} contains no certificate in PEM"),
        (pacs.key, pacs.key, ca, f"{pacs.key} contains no certificate in PEM"),
        (pacs.certificate, text, ca, f"{text} contains no private key in PEM"),
        (pacs.certificate, pacs.certificate, ca, f"{pacs.certificate} contains no private key in PEM"),
        (pacs.certificate, None, ca, f"{pacs.certificate} contains no private key in PEM"),
        (
            pacs.certificate,
            modality.key,
            ca,
            f"the key in {modality.key} does not belong to the certificate in {pacs.certificate}",
        ),
        (pacs.certificate, pacs.key, text, f"{text} contains no certificate in PEM or DER"),
        (pacs.certificate, pacs.key, empty, f"{empty} has no certificate file (.pem, .crt, .cer, .der)"),
    ):
        with pytest.raises(ValueError) as error:  # noqa: PT011  # the whole text is looked at
            dicomport.tls_server_context(certificate, key, authorities=authorities)
        assert str(error.value) == reason


def test_a_key_without_a_certificate_is_refused(pacs: Identity) -> None:
    with pytest.raises(ValueError, match="specify the certificate too"):
        dicomport.tls_client_context(key=pacs.key)


def test_a_key_that_is_too_short_is_refused(tmp_path: Path) -> None:
    """RFC 9325 4.5: 2048 bits of RSA at least."""
    key = rsa.generate_private_key(65537, 1024)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "old")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .not_valid_before(dt.datetime(2020, 1, 1, tzinfo=dt.UTC))
        .not_valid_after(dt.datetime(3000, 1, 1, tzinfo=dt.UTC))
        .serial_number(1)
        .public_key(key.public_key())
        .sign(key, hashes.SHA256())
    )
    both = tmp_path / "old.pem"
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    both.write_bytes(pem + certificate.public_bytes(Encoding.PEM))

    with pytest.raises(ValueError, match="the key of the certificate is too short"):
        dicomport.tls_client_context(certificate=both)


def test_a_certificate_of_ours_that_has_expired_is_warned_of(hospital: Files, caplog: pytest.LogCaptureFixture) -> None:
    old = hospital.issue("old.example", not_after=dt.datetime(2020, 1, 1, tzinfo=dt.UTC))
    with caplog.at_level(logging.WARNING, "dicomport"):
        dicomport.tls_client_context(certificate=old.certificate, key=old.key)

    [record] = caplog.records
    assert record.getMessage() == f"certificate_expired file={old.certificate} not_after=2020-01-01T00:00:00+00:00"


def test_a_certificate_of_ours_that_is_not_valid_yet_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It is used nevertheless: our clock may be wrong."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "new")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .not_valid_before(dt.datetime(2999, 1, 1, tzinfo=dt.UTC))
        .not_valid_after(dt.datetime(3000, 1, 1, tzinfo=dt.UTC))
        .serial_number(1)
        .public_key(key.public_key())
        .sign(key, hashes.SHA256())
    )
    both = tmp_path / "new.pem"
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    both.write_bytes(pem + certificate.public_bytes(Encoding.PEM))
    with caplog.at_level(logging.WARNING, "dicomport"):
        dicomport.tls_client_context(certificate=both)

    [record] = caplog.records
    assert record.getMessage() == f"certificate_not_yet_valid file={both} not_before=2999-01-01T00:00:00+00:00"


def test_a_system_without_files_in_memory_uses_those_on_the_disk(
    hospital: Files, pacs: Identity, modality: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "memfd_create")
    server = dicomport.tls_server_context(pacs.certificate, pacs.key, authorities=hospital.authority)
    client = dicomport.tls_client_context(
        certificate=modality.certificate, key=modality.key, authorities=hospital.authority
    )
    shake_hands(client, server)
