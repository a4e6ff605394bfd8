"""Certificates as read from their DER, with the library that made them as oracle (RFC 5280 4.1)."""

import datetime as dt
import hashlib
import ipaddress
import ssl
from collections.abc import Sequence
from typing import Final

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.name import _ASN1Type
from cryptography.x509.oid import NameOID
from hypothesis import given, strategies as st

from dicomport.net.tls.certificates import Certificate

KEY: Final = ec.generate_private_key(ec.SECP256R1())


def der(
    subject: x509.Name,
    *,
    begin: dt.datetime = dt.datetime(2024, 1, 1, tzinfo=dt.UTC),
    end: dt.datetime = dt.datetime(2026, 1, 1, tzinfo=dt.UTC),
    names: Sequence[x509.GeneralName] = (),
) -> bytes:
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Hospital CA")]))
        .not_valid_before(begin)
        .not_valid_after(end)
        .serial_number(1)
        .public_key(KEY.public_key())
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(KEY, hashes.SHA256()).public_bytes(Encoding.DER)


def common_name(text: str, kind: _ASN1Type = _ASN1Type.UTF8String) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text, kind)])


def test_a_certificate_has_its_subject_and_names() -> None:
    leaf = trustme.CA(organization_name="Höspital").issue_cert("pacs.example", "192.0.2.7", "2001:db8::7")
    data = ssl.PEM_cert_to_DER_cert(leaf.cert_chain_pems[0].bytes().decode())
    oracle = x509.load_der_x509_certificate(data)

    certificate = Certificate.decode(data)

    assert certificate.names == ("pacs.example", "192.0.2.7", "2001:db8::7")
    assert "O=Höspital" in certificate.issuer
    assert certificate.not_before == oracle.not_valid_before_utc
    assert certificate.not_after == oracle.not_valid_after_utc
    assert certificate.fingerprint == hashlib.sha256(data).hexdigest()
    [unit] = oracle.subject.get_attributes_for_oid(NameOID.ORGANIZATIONAL_UNIT_NAME)
    assert f"OU={unit.value!s}" in certificate.subject


def test_a_name_is_written_in_the_order_that_it_has() -> None:
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.COUNTRY_NAME, "FR"),
            x509.NameAttribute(NameOID.STATE_OR_PROVINCE_NAME, "Bretagne"),
            x509.NameAttribute(NameOID.LOCALITY_NAME, "Brest"),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Hôpital"),
            x509.NameAttribute(NameOID.SERIAL_NUMBER, "77"),
            x509.NameAttribute(NameOID.COMMON_NAME, "PACS"),
        ]
    )

    assert Certificate.decode(der(subject)).subject == "C=FR, ST=Bretagne, L=Brest, O=Hôpital, 550405=77, CN=PACS"


@pytest.mark.parametrize("kind", [_ASN1Type.UTF8String, _ASN1Type.BMPString, _ASN1Type.UniversalString])
def test_text_is_read_in_the_encoding_that_it_has(kind: _ASN1Type) -> None:
    assert Certificate.decode(der(common_name("Röntgen", kind))).subject == "CN=Röntgen"


@pytest.mark.parametrize("year", [1950, 1999, 2000, 2049, 2050, 9999])
def test_times_are_read_in_both_their_forms(year: int) -> None:
    """RFC 5280 4.1.2.5: two digits of the year until 2049, four after that."""
    end = dt.datetime(year, 12, 31, 23, 59, 59, tzinfo=dt.UTC)
    begin = dt.datetime(1950, 1, 1, tzinfo=dt.UTC)

    certificate = Certificate.decode(der(common_name("PACS"), begin=begin, end=end))

    assert (certificate.not_before, certificate.not_after) == (begin, end)


def test_a_certificate_without_names_has_an_empty_tuple() -> None:
    assert Certificate.decode(der(common_name("PACS"))).names == ()


def test_only_host_names_and_addresses_are_names() -> None:
    names = (
        x509.RFC822Name("pacs@hospital.example"),
        x509.DNSName("pacs.example"),
        x509.UniformResourceIdentifier("dicom://pacs.example"),
        x509.IPAddress(ipaddress.ip_address("192.0.2.7")),
    )
    assert Certificate.decode(der(common_name("PACS"), names=names)).names == ("pacs.example", "192.0.2.7")


@given(st.data())
def test_an_invalid_certificate_is_a_value_error(data: st.DataObject) -> None:
    """Cut off anywhere, and with any bytes of it changed."""
    whole = bytearray(DER)
    for at in data.draw(st.lists(st.integers(0, len(whole) - 1), max_size=5)):
        whole[at] = data.draw(st.integers(0, 255))
    part = bytes(whole[: data.draw(st.integers(0, len(whole)))])

    try:
        Certificate.decode(part)
    except ValueError:
        return


@given(st.binary(max_size=100))
def test_bytes_at_random_are_no_certificate(data: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # any of them
        Certificate.decode(data)


DER: Final = der(common_name("PACS"))
