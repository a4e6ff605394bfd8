"""TLS contexts after the profiles of PS3.15 Annex B, from certificates and keys in files."""

from __future__ import annotations

import enum
import ssl
from pathlib import Path
from typing import Final

from dicomport.logs import get_logger
from dicomport.net.tls.handshake import tls_words

__all__ = ["TLSProfile", "tls_client_context", "tls_server_context"]

log = get_logger("net")


class TLSProfile(enum.StrEnum):
    """A TLS Secure Transport Connection Profile, by the name that options have for it.

    Both are TLS 1.3 and 1.2 with forward secrecy and authenticated encryption, RSA keys of 2048 bits at least and no
    SHA-1. TLS 1.3 always has the suites that OpenSSL gives it, all of that kind.
    """

    BCP195 = "bcp195"
    """BCP 195 as it is now, RFC 8996 and RFC 9325 (PS3.15 B.12): in TLS 1.2 ECDHE with AES-GCM or ChaCha20."""
    BCP195_EXTENDED = "bcp195-extended"
    """What is strongest of the Extended BCP 195 profile (PS3.15 B.11): in TLS 1.2 ECDHE with AES-256-GCM alone."""


_CIPHERS: Final = {
    TLSProfile.BCP195: "ECDHE+AESGCM:ECDHE+CHACHA20:@SECLEVEL=2",
    TLSProfile.BCP195_EXTENDED: "ECDHE+AESGCM+AES256:@SECLEVEL=2",
}

_BEGIN: Final = b"-----BEGIN"
_SUFFIXES: Final = (".pem", ".crt", ".cer", ".der")
"""Of the files in a folder that hold certificates."""

_MAX_FILE: Final = 1 << 24
"""Bytes: far more than all the authorities of a system have."""


def tls_client_context(
    *,
    certificate: Path | str | None = None,
    key: Path | str | None = None,
    passphrase: str | None = None,
    authorities: Path | str | None = None,
    profile: TLSProfile | str = TLSProfile.BCP195,
    check_name: bool = True,
) -> ssl.SSLContext:
    """Make the context for associations that this side asks for.

    `certificate` is what we show to a server that asks for one: a PEM file, followed by those of the authorities
    between it and the root, if there are any; `key` its private key (default: in the same file), `passphrase` the
    key's. `authorities` is whom servers have to be certified by: a file with certificates, or a folder of such files;
    the system's by default. A server's own certificate will do. `check_name=False` takes a trusted certificate whatever
    host it is for: many a peer has one without any name. Raises `ValueError`, which says which file is wrong and why.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _set_profile(context, profile)
    context.check_hostname = check_name
    if authorities is None:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    else:
        _trust(context, Path(authorities))
    if certificate is not None:
        _show(context, Path(certificate), Path(key or certificate), passphrase)
    elif key is not None:
        raise ValueError("a key without a certificate is of no use: name the certificate too")
    return context


def tls_server_context(
    certificate: Path | str,
    key: Path | str | None = None,
    *,
    passphrase: str | None = None,
    authorities: Path | str | None = None,
    profile: TLSProfile | str = TLSProfile.BCP195,
    anonymous_clients: bool = False,
) -> ssl.SSLContext:
    """Make the context for associations that others ask for; the files are as in `tls_client_context`.

    Clients have to show a certificate too, which is certified by `authorities`. With `anonymous_clients` one without is
    let in as well; if it shows one, that has to be good. Raises `ValueError`.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _set_profile(context, profile)
    _show(context, Path(certificate), Path(key or certificate), passphrase)
    if authorities is not None:
        _trust(context, Path(authorities))
        context.verify_mode = ssl.CERT_OPTIONAL if anonymous_clients else ssl.CERT_REQUIRED
    elif not anonymous_clients:
        raise ValueError("name who certifies the clients, or let in those without a certificate")
    return context


def _set_profile(context: ssl.SSLContext, profile: TLSProfile | str) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_CIPHERS[TLSProfile(profile)])
    # RFC 9325 3.5: in TLS 1.2 a client could make the server work as often as it likes.
    context.options |= ssl.OP_NO_RENEGOTIATION
    # So that a certificate can be trusted by itself: peers that know one another exchange just these.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN


def _trust(context: ssl.SSLContext, authorities: Path) -> None:
    """Trust the certificates in a file, or in the files of a folder."""
    if authorities.is_dir():
        files = sorted(path for path in authorities.iterdir() if path.suffix.lower() in _SUFFIXES)
        if not files:
            raise ValueError(f"{authorities} has no file with certificates ({', '.join(_SUFFIXES)})")
    else:
        files = [authorities]
    for path in files:
        data = _read(path)
        if not _load(context, data.decode("ascii", "backslashreplace") if _BEGIN in data else data):
            raise ValueError(f"{path} holds no certificate, neither in PEM nor in DER")


def _show(context: ssl.SSLContext, certificate: Path, key: Path, passphrase: str | None) -> None:
    """Load our own certificate and its key; where that fails, say which of the two is wrong."""
    pem = _read(certificate).decode("ascii", "backslashreplace")
    if not _load(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), pem):
        raise ValueError(f"{certificate} holds no certificate in PEM")
    _read(key)
    secret = _Passphrase(key, passphrase)
    try:
        context.load_cert_chain(certificate, key, secret.give)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise ValueError(f"the key in {key} is not that of the certificate in {certificate}") from None
        if error.reason:
            raise ValueError(f"{certificate} and {key}: {tls_words(error)}") from None
        if secret.given:
            raise ValueError(f"the pass phrase does not open the key in {key}") from None
        raise ValueError(f"{key} holds no private key in PEM") from None
    _look_at_dates(certificate, pem)


class _Passphrase:
    """What OpenSSL is given that wants the pass phrase of a key: else it would ask at the terminal, and wait."""

    def __init__(self, key: Path, passphrase: str | None) -> None:
        self.given = False
        self._key = key
        self._passphrase = passphrase

    def give(self) -> str:
        if self._passphrase is None:
            raise ValueError(f"the key in {self._key} has a pass phrase, and none is given")
        self.given = True
        return self._passphrase


def _look_at_dates(path: Path, pem: str) -> None:
    """Warn of a certificate of ours that no peer will take. It is used all the same: the clock may be what is wrong."""
    # A program without TLS needs none of it.
    from datetime import UTC, datetime

    from dicomport.net.tls.certificates import Certificate

    first = pem[pem.index(ssl.PEM_HEADER) : pem.index(ssl.PEM_FOOTER) + len(ssl.PEM_FOOTER)]
    certificate = Certificate.decode(ssl.PEM_cert_to_DER_cert(first))
    now = datetime.now(UTC)
    if now > certificate.not_after:
        log.warning("certificate_expired", file=str(path), not_after=certificate.not_after.isoformat())
    elif now < certificate.not_before:
        log.warning("certificate_not_yet_valid", file=str(path), not_before=certificate.not_before.isoformat())


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_MAX_FILE)
    except OSError as error:
        raise ValueError(f"{path} can't be read: {error.strerror}") from None


def _load(context: ssl.SSLContext, certificates: str | bytes) -> bool:
    """Trust certificates in PEM (text) or DER (bytes); give whether there were any."""
    try:
        context.load_verify_locations(cadata=certificates)
    except (ssl.SSLError, ValueError):
        return False
    return True
