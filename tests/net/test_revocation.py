"""Certificate revocation lists: revoked peers are rejected, and lists that would reject all are refused when loaded."""

import contextlib
import datetime as dt
import logging
import re
import ssl
import subprocess
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from hypothesis import given, strategies as st
from tests.certificates import Files, Identity, shake_hands

import dicomport
from dicomport import blocking
from dicomport.net import describe_tls_error
from dicomport.net.tls.expiry import ExpiringContext, Expiry
from dicomport.net.tls.revocation import RevocationList, read_lists

DAY: Final = dt.timedelta(days=1)


@pytest.fixture
def hospital(tmp_path: Path) -> Files:
    return Files(tmp_path / "hospital")


@pytest.fixture
def pacs(hospital: Files) -> Identity:
    return hospital.issue("pacs.example")


@pytest.fixture
def ct1(hospital: Files) -> Identity:
    return hospital.issue("ct1.example")


def server(hospital: Files, pacs: Identity, crls: Path | None) -> ssl.SSLContext:
    return dicomport.tls_server_context(pacs.certificate, pacs.key, authorities=hospital.authority, crls=crls)


def client(hospital: Files, shown: Identity, crls: Path | None = None) -> ssl.SSLContext:
    return dicomport.tls_client_context(
        certificate=shown.certificate, key=shown.key, authorities=hospital.authority, crls=crls
    )


@pytest.mark.parametrize("encoding", [Encoding.PEM, Encoding.DER])
def test_a_revoked_client_is_rejected(hospital: Files, pacs: Identity, ct1: Identity, encoding: Encoding) -> None:
    guarded = server(hospital, pacs, hospital.revoke(ct1, encoding=encoding))
    with pytest.raises(ssl.SSLCertVerificationError) as raised:
        shake_hands(client(hospital, ct1), guarded)
    assert describe_tls_error(raised.value) == "the certificate is not trusted: certificate revoked"
    shake_hands(client(hospital, hospital.issue("ct2.example")), guarded)


def test_a_revoked_server_is_rejected(hospital: Files, pacs: Identity, ct1: Identity) -> None:
    crls = hospital.revoke(pacs)
    with pytest.raises(ssl.SSLCertVerificationError, match="certificate revoked"):
        shake_hands(client(hospital, ct1, crls), server(hospital, pacs, None))


def test_each_authority_of_a_chain_has_a_list(hospital: Files, pacs: Identity, tmp_path: Path) -> None:
    """The peer sends the certificate of the intermediate authority, so only its own list is loaded here."""
    department = Files(tmp_path / "department", parent=hospital)
    below, revoked = department.issue("ct1.example"), department.issue("ct2.example")
    with pytest.raises(ssl.SSLCertVerificationError, match="unable to get certificate CRL"):
        shake_hands(client(hospital, below), server(hospital, pacs, hospital.revoke()))

    folder = tmp_path / "crls"
    folder.mkdir()
    hospital.revoke().rename(folder / "hospital.crl")
    department.revoke(revoked, encoding=Encoding.DER).rename(folder / "department.der")
    (folder / "README").write_text("not a list by its name")
    both = server(hospital, pacs, folder)
    shake_hands(client(hospital, below), both)
    with pytest.raises(ssl.SSLCertVerificationError, match="certificate revoked"):
        shake_hands(client(hospital, revoked), both)


def test_a_file_may_have_several_lists_of_which_the_newest_counts(
    hospital: Files, pacs: Identity, ct1: Identity, tmp_path: Path
) -> None:
    several = tmp_path / "all.crl"
    several.write_bytes(
        b"".join(
            hospital.revoke(*revoked, since=since, left=left).read_bytes()
            for revoked, since, left in (
                ([], 5 * DAY, 5 * DAY),
                ([ct1], 2 * DAY, DAY),
                ([], 30 * DAY, -20 * DAY),
                ([], -DAY, 5 * DAY),
            )
        )
    )
    with pytest.raises(ssl.SSLCertVerificationError, match="certificate revoked"):
        shake_hands(client(hospital, ct1), server(hospital, pacs, several))


def test_a_certificate_in_the_file_of_a_list_is_not_trusted(hospital: Files, pacs: Identity, tmp_path: Path) -> None:
    stranger = Files(tmp_path / "stranger")
    crls = hospital.revoke()
    crls.write_bytes(crls.read_bytes() + stranger.authority.read_bytes() + stranger.revoke().read_bytes())
    with pytest.raises(ssl.SSLCertVerificationError, match=r"self-signed|unable to get"):
        shake_hands(client(hospital, stranger.issue("ct1.example")), server(hospital, pacs, crls))


def test_lists_made_by_openssl_are_read(hospital: Files, pacs: Identity, ct1: Identity, tmp_path: Path) -> None:
    der = tmp_path / "openssl.der"
    convert: list[str | Path] = ["openssl", "crl", "-in", hospital.revoke(ct1), "-outform", "DER", "-out", der]
    subprocess.run(convert, check=True, capture_output=True)
    with pytest.raises(ssl.SSLCertVerificationError, match="certificate revoked"):
        shake_hands(client(hospital, ct1), server(hospital, pacs, der))


CA_SECTION: Final = """
[ca]
default_ca = hospital
[hospital]
database = database
default_md = sha256
default_crl_days = 10
"""


def test_a_list_of_the_first_version_is_read(hospital: Files, pacs: Identity, ct1: Identity, tmp_path: Path) -> None:
    """It has no version number (RFC 5280 5.1.2.1); OpenSSL makes such lists unless they have extensions."""
    serial = f"{x509.load_pem_x509_certificate(ct1.certificate.read_bytes()).serial_number:X}"
    line = ("R", "300101000000Z", "240101000000Z", serial.zfill(len(serial) + len(serial) % 2), "unknown", "/CN=ct1")
    (tmp_path / "database").write_text("\t".join(line) + "\n")
    (tmp_path / "ca.cnf").write_text(CA_SECTION)
    make = ("openssl", "ca", "-gencrl", "-config", "ca.cnf", "-out", "first.crl")
    files = ("-cert", hospital.authority, "-keyfile", hospital.write_authority_key())
    subprocess.run([*make, *files], check=True, capture_output=True, cwd=tmp_path)
    shown = subprocess.run(
        ["openssl", "crl", "-in", tmp_path / "first.crl", "-noout", "-text"], check=True, capture_output=True, text=True
    )
    assert "Version 1 (0x0)" in shown.stdout
    guarded = server(hospital, pacs, tmp_path / "first.crl")
    with pytest.raises(ssl.SSLCertVerificationError, match="certificate revoked"):
        shake_hands(client(hospital, ct1), guarded)
    shake_hands(client(hospital, hospital.issue("ct2.example")), guarded)


# Lists that would reject all peers are refused when they are loaded.


def test_a_list_that_would_reject_all_is_refused(
    hospital: Files, pacs: Identity, ct1: Identity, tmp_path: Path
) -> None:
    missing, empty, text = tmp_path / "missing.crl", tmp_path / "empty", tmp_path / "text.crl"
    empty.mkdir()
    text.write_text("-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n")
    stranger = Files(tmp_path / "stranger")
    for crls, problem in (
        (hospital.revoke(name="old.crl", left=-DAY), "old.crl of .*O=hospital.* has expired on "),
        (hospital.revoke(name="new.crl", since=-DAY, left=2 * DAY), "new.crl of .*O=hospital.* is not valid before "),
        (stranger.revoke(), "list of the authority .*O=hospital.* is missing; add it to --tls-crl"),
        (missing, f"cannot read {missing}: No such file"),
        (empty, f"{empty} has no certificate revocation list file"),
        (text, f"{text} contains no certificate revocation list in PEM or DER"),
        (hospital.authority, "contains no certificate revocation list"),
    ):
        with pytest.raises(ValueError, match=problem):
            server(hospital, pacs, crls)
        with pytest.raises(ValueError, match=problem):
            client(hospital, ct1, crls)


def test_lists_need_authorities(hospital: Files, pacs: Identity, ct1: Identity, tmp_path: Path) -> None:
    """OpenSSL finds no list for a certificate that is trusted itself, nor for a chain that ends below its root."""
    department = Files(tmp_path / "department", parent=hospital)
    crls = tmp_path / "all.crl"
    crls.write_bytes(hospital.revoke().read_bytes() + department.revoke().read_bytes())
    mixed = tmp_path / "mixed.pem"
    mixed.write_bytes(hospital.authority.read_bytes() + ct1.certificate.read_bytes())
    for trusted, problem in (
        (None, "need the authorities that issue them"),
        (mixed, "a trusted certificate of a peer has no list"),
        (department.authority, "trust .*O=hospital.* too: it is the issuer of .*O=department"),
    ):
        with pytest.raises(ValueError, match=problem):
            dicomport.tls_client_context(authorities=trusted, crls=crls)
    both = tmp_path / "both.pem"
    both.write_bytes(hospital.authority.read_bytes() + department.authority.read_bytes())
    guarded = dicomport.tls_server_context(pacs.certificate, pacs.key, authorities=both, crls=crls)
    shake_hands(client(hospital, department.issue("ct2.example")), guarded)


# Warnings before a list or a certificate expires.


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    found = [re.sub(r" file=.*/", " ", record.getMessage()) for record in caplog.records]
    caplog.clear()
    return [re.sub(r" not_after=.*", "", text) for text in found]


def test_a_list_that_expires_soon_is_warned_of_when_loaded(
    hospital: Files, pacs: Identity, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "dicomport"):
        server(hospital, pacs, hospital.revoke(since=6 * DAY, left=DAY))
        assert warnings(caplog) == ["crl_expires authority.crl"]
        server(hospital, pacs, hospital.revoke(since=4 * DAY, left=3 * DAY))
        assert warnings(caplog) == []


def test_a_list_that_expires_while_it_is_in_use_is_warned_of_each_day(caplog: pytest.LogCaptureFixture) -> None:
    week = Expiry(file="/etc/authority.crl", is_list=True, issued=0.0, expires=7 * 86400.0, text="the 7th day")
    warned = []
    with caplog.at_level(logging.WARNING, "dicomport"):
        for hours in range(0, 24 * 10, 3):
            week.warn(hours * 3600.0, 1000.0 + hours * 3600.0)
            warned += [hours] * len(warnings(caplog))
    assert warned == [126, 150, 174, 198, 222]


def test_each_handshake_may_warn(hospital: Files, ct1: Identity, caplog: pytest.LogCaptureFixture) -> None:
    local = hospital.issue("127.0.0.1")
    context = server(hospital, local, hospital.revoke(since=6 * DAY, left=DAY))
    assert isinstance(context, ExpiringContext)
    for known in context.expiries:
        known.warned = None
    caplog.clear()
    with (
        caplog.at_level(logging.WARNING, "dicomport"),
        dicomport.StorageSCP(dicomport.FolderStorage("."), port=0, tls=context).in_thread() as scp,
    ):
        for _ in range(2):
            with blocking.associate("127.0.0.1", scp.port, contexts=["1.2.840.10008.1.1"], tls=client(hospital, ct1)):
                pass
    assert warnings(caplog) == ["crl_expires authority.crl"]


def test_our_certificate_is_warned_of_before_it_expires(
    hospital: Files, pacs: Identity, caplog: pytest.LogCaptureFixture
) -> None:
    soon = hospital.issue("soon.example", not_after=dt.datetime.now(dt.UTC) + 10 * DAY)
    with caplog.at_level(logging.WARNING, "dicomport"):
        server(hospital, soon, None)
        assert warnings(caplog) == ["certificate_expires soon.example.pem"]
        later = hospital.issue("later.example", not_after=dt.datetime.now(dt.UTC) + 31 * DAY)
        server(hospital, later, None)
        assert warnings(caplog) == []
        server(hospital, pacs, None)
        assert warnings(caplog) == []


# Reloading.


def test_a_new_list_applies_to_new_connections_only(hospital: Files, ct1: Identity, tmp_path: Path) -> None:
    local = hospital.issue("127.0.0.1")

    def associate() -> AbstractContextManager[blocking.BlockingAssociation]:
        return blocking.associate("127.0.0.1", scp.port, contexts=["1.2.840.10008.1.1"], tls=client(hospital, ct1))

    def renew(context: ssl.SSLContext) -> None:
        scp.reload(allow=None, allow_any=False, user_identity=None, tls=context)

    storage = dicomport.FolderStorage(tmp_path)
    with dicomport.StorageSCP(storage, port=0, tls=server(hospital, local, hospital.revoke())).in_thread() as scp:
        with associate() as open_association:
            renew(server(hospital, local, hospital.revoke(ct1)))
            assert open_association.c_echo().accepted
            with pytest.raises(dicomport.AssociationError), associate():
                pass
        # Nothing of the old list is left in the new context.
        renew(server(hospital, local, hospital.revoke()))
        with associate() as association:
            assert association.c_echo().accepted


# Decoding.


_LIST: Final = (
    Path(__file__).parent / "unused.crl",
    x509.CertificateRevocationListBuilder()
    .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Hospital CA")]))
    .last_update(dt.datetime(2024, 1, 1, tzinfo=dt.UTC))
    .next_update(dt.datetime(2060, 1, 1, tzinfo=dt.UTC))
    .sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    .public_bytes(Encoding.DER),
)


def test_times_are_read_in_both_their_forms() -> None:
    """RFC 5280 4.1.2.5: from 2050 on, the year has four digits."""
    [decoded] = read_lists([_LIST])
    assert decoded.issuer == "CN=Hospital CA"
    assert decoded.this_update == dt.datetime(2024, 1, 1, tzinfo=dt.UTC)
    assert decoded.next_update == dt.datetime(2060, 1, 1, tzinfo=dt.UTC)


@given(st.integers(0, len(_LIST[1]) - 1), st.binary(min_size=1, max_size=3))
def test_a_broken_list_is_a_value_error_with_its_file(place: int, changed: bytes) -> None:
    der = bytearray(_LIST[1])
    der[place : place + len(changed)] = changed
    with contextlib.suppress(ValueError):
        read_lists([(Path("broken.crl"), bytes(der))])
    pem = b"-----BEGIN X509 CRL-----\n" + bytes(der) + b"-----END X509 CRL-----\n"
    with pytest.raises(ValueError, match=r"broken\.crl"):
        read_lists([(Path("broken.crl"), pem)])


def test_a_list_is_decoded_whole_or_not_at_all(hospital: Files, ct1: Identity) -> None:
    der = hospital.revoke(ct1, encoding=Encoding.DER).read_bytes()
    decoded = RevocationList.decode(Path("a.crl"), der)
    assert "O=hospital" in decoded.issuer
    assert decoded.next_update is not None
    assert decoded.next_update - decoded.this_update == 20 * DAY
    for size in range(len(der) - 1):
        with pytest.raises((ValueError, IndexError)):
            RevocationList.decode(Path("a.crl"), der[:size])
