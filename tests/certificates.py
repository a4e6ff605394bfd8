"""Certificates and keys in files, as people have them."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

__all__ = ["PASSPHRASE", "Files", "Identity"]

PASSPHRASE: Final = "correct horse"


@dataclass(frozen=True)
class Identity:
    """A certificate and its key."""

    certificate: Path
    key: Path


class Files:
    """One authority and its certificates, in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._made = trustme.CA(organization_name=folder.name)
        self.authority = folder / "authority.pem"
        folder.mkdir(exist_ok=True)
        self._made.cert_pem.write_to_path(self.authority)

    def issue(self, *names: str, common_name: str | None = None, not_after: dt.datetime | None = None) -> Identity:
        """Issue a certificate, and write it and its key."""
        made = self._made.issue_cert(*names, common_name=common_name, not_after=not_after)
        identity = Identity(self._folder / f"{names[0]}.pem", self._folder / f"{names[0]}.key")
        identity.certificate.write_bytes(b"".join(pem.bytes() for pem in made.cert_chain_pems))
        made.private_key_pem.write_to_path(identity.key)
        return identity


def encrypted(key: Path, *, traditional: bool = False) -> Path:
    """Write the same key with a pass phrase."""
    made = load_pem_private_key(key.read_bytes(), None)
    form = PrivateFormat.TraditionalOpenSSL if traditional else PrivateFormat.PKCS8
    path = key.with_suffix(".encrypted")
    path.write_bytes(made.private_bytes(Encoding.PEM, form, BestAvailableEncryption(PASSPHRASE.encode())))
    return path
