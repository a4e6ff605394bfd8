"""Certificates and keys in files, as people have them."""

from __future__ import annotations

import datetime as dt
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

__all__ = ["PASSPHRASE", "Files", "Identity", "shake_hands"]

PASSPHRASE: Final = "correct horse"


@dataclass(frozen=True)
class Identity:
    """A certificate and its key."""

    certificate: Path
    key: Path


class Files:
    """One authority and its certificates, in a folder."""

    def __init__(self, folder: Path, parent: Files | None = None) -> None:
        """Make an authority, an intermediate one below a parent."""
        self._folder = folder
        self._made: trustme.CA = trustme.CA(
            organization_name=folder.name, parent_cert=None if parent is None else parent._made, path_length=1
        )
        self.authority = folder / "authority.pem"
        folder.mkdir(exist_ok=True)
        self._made.cert_pem.write_to_path(self.authority)

    def issue(self, *names: str, common_name: str | None = None, not_after: dt.datetime | None = None) -> Identity:
        """Issue a certificate, and write it and its key."""
        stem = names[0] if names else common_name
        made = self._made.issue_cert(*names, common_name=common_name, not_after=not_after)
        identity = Identity(self._folder / f"{stem}.pem", self._folder / f"{stem}.key")
        identity.certificate.write_bytes(b"".join(pem.bytes() for pem in made.cert_chain_pems))
        made.private_key_pem.write_to_path(identity.key)
        return identity

    def write_authority_key(self) -> Path:
        """Write the key of the authority."""
        path = self._folder / "authority.key"
        self._made.private_key_pem.write_to_path(path)
        return path

    def revoke(
        self,
        *revoked: Identity,
        name: str = "authority.crl",
        since: dt.timedelta = dt.timedelta(days=10),
        left: dt.timedelta | None = dt.timedelta(days=10),
        encoding: Encoding = Encoding.PEM,
    ) -> Path:
        """Write a certificate revocation list that is valid from `since` ago until `left` from now."""
        certificate = x509.load_pem_x509_certificate(self._made.cert_pem.bytes())
        key = load_pem_private_key(self._made.private_key_pem.bytes(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        now = dt.datetime.now(dt.UTC)
        builder = x509.CertificateRevocationListBuilder().issuer_name(certificate.subject).last_update(now - since)
        builder = builder.next_update(now + (left or dt.timedelta(days=1)))
        for identity in revoked:
            serial = x509.load_pem_x509_certificate(identity.certificate.read_bytes()).serial_number
            one = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now - since)
            builder = builder.add_revoked_certificate(one.build())
        path = self._folder / name
        path.write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(encoding))
        return path


def shake_hands(
    client: ssl.SSLContext, server: ssl.SSLContext, *, host: str = "pacs.example"
) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """Do a handshake in memory; raise the error of either side."""
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = client.wrap_bio(to_client, to_server, server_hostname=host)
    theirs = server.wrap_bio(to_server, to_client, server_side=True)
    left = [ours, theirs]
    for _ in range(10):
        for side in tuple(left):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
            left.remove(side)
        if not left:
            return ours, theirs
    raise AssertionError(left)


def encrypted(key: Path, *, traditional: bool = False) -> Path:
    """Write the same key with a pass phrase."""
    made = load_pem_private_key(key.read_bytes(), None)
    form = PrivateFormat.TraditionalOpenSSL if traditional else PrivateFormat.PKCS8
    path = key.with_suffix(".encrypted")
    path.write_bytes(made.private_bytes(Encoding.PEM, form, BestAvailableEncryption(PASSPHRASE.encode())))
    return path
