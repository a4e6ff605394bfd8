"""Create TLS contexts for the profiles of PS3.15 Annex B from files with certificates and keys."""

from __future__ import annotations

import enum
import ssl
from pathlib import Path
from typing import Final

from dicomport.logs import get_logger
from dicomport.net.tls.handshake import describe_tls_error

log = get_logger("net")


class TLSProfile(enum.StrEnum):
    """A TLS Secure Transport Connection Profile, by its name in options.

    Both require TLS 1.2 or 1.3 with forward secrecy and authenticated encryption, RSA keys of at least 2048 bits, and
    no SHA-1. TLS 1.3 always uses OpenSSL's default cipher suites, which fulfil this.
    """

    BCP195 = "bcp195"
    """The current BCP 195, RFC 8996 and RFC 9325 (PS3.15 B.12): in TLS 1.2 ECDHE with AES-GCM or ChaCha20."""
    BCP195_EXTENDED = "bcp195-extended"
    """The strongest suites of the Extended BCP 195 profile (PS3.15 B.11): in TLS 1.2 only ECDHE with AES-256-GCM."""


_CIPHERS: Final = {
    TLSProfile.BCP195: "ECDHE+AESGCM:ECDHE+CHACHA20:@SECLEVEL=2",
    TLSProfile.BCP195_EXTENDED: "ECDHE+AESGCM+AES256:@SECLEVEL=2",
}

_BEGIN: Final = b"-----BEGIN"
_SUFFIXES: Final = (".pem", ".crt", ".cer", ".der")
"""Suffixes of certificate files in a folder."""

_MAX_FILE_BYTES: Final = 1 << 24
"""Bytes read of a file: far more than all certificate authorities of a system need."""


def tls_client_context(
    *,
    certificate: Path | str | None = None,
    key: Path | str | None = None,
    passphrase: str | None = None,
    authorities: Path | str | None = None,
    profile: TLSProfile | str = TLSProfile.BCP195,
    check_name: bool = True,
) -> ssl.SSLContext:
    """Return the context for requesting associations.

    `certificate` is a PEM file with our certificate, which a server may request, followed by any intermediate
    authorities; `key` is its private key (default: in the same file), `passphrase` the passphrase of the key.
    `authorities` is a file with certificates, or a folder of such files, that servers' certificates must be issued by
    (default: the system's); a server's own certificate is valid too. `check_name=False` accepts a trusted certificate
    for any host: the certificates of many peers have no host name. Raises `ValueError` with the wrong file and the
    reason.
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
        raise ValueError("a key needs its certificate: specify the certificate too")
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
    """Return the context for accepting associations; for the files, see `tls_client_context`.

    Clients must send a certificate issued by `authorities`. `anonymous_clients` accepts clients without a certificate
    too; a certificate that is sent must still be valid. Raises `ValueError`.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _set_profile(context, profile)
    _show(context, Path(certificate), Path(key or certificate), passphrase)
    if authorities is not None:
        _trust(context, Path(authorities))
        context.verify_mode = ssl.CERT_OPTIONAL if anonymous_clients else ssl.CERT_REQUIRED
    elif not anonymous_clients:
        raise ValueError("specify the certificate authorities of clients, or accept clients without a certificate")
    return context


def _set_profile(context: ssl.SSLContext, profile: TLSProfile | str) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_CIPHERS[TLSProfile(profile)])
    # RFC 9325 3.5: with renegotiation in TLS 1.2, a client could keep the server busy.
    context.options |= ssl.OP_NO_RENEGOTIATION
    # A certificate can be trusted without its issuer: some sites exchange only the peers' certificates.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN


def _trust(context: ssl.SSLContext, authorities: Path) -> None:
    """Load trusted certificates from a file or from the files of a folder."""
    if authorities.is_dir():
        files = sorted(path for path in authorities.iterdir() if path.suffix.lower() in _SUFFIXES)
        if not files:
            raise ValueError(f"{authorities} has no certificate file ({', '.join(_SUFFIXES)})")
    else:
        files = [authorities]
    for path in files:
        data = _read(path)
        if not _load(context, data.decode("ascii", "backslashreplace") if _BEGIN in data else data):
            raise ValueError(f"{path} contains no certificate in PEM or DER")


def _show(context: ssl.SSLContext, certificate: Path, key: Path, passphrase: str | None) -> None:
    """Load our certificate and its key. Raises `ValueError` with the file that is wrong."""
    pem = _read(certificate).decode("ascii", "backslashreplace")
    if not _load(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), pem):
        raise ValueError(f"{certificate} contains no certificate in PEM")
    _read(key)
    secret = _Passphrase(key, passphrase)
    try:
        context.load_cert_chain(certificate, key, secret.use)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise ValueError(f"the key in {key} does not belong to the certificate in {certificate}") from None
        if error.reason:
            raise ValueError(f"{certificate} and {key}: {describe_tls_error(error)}") from None
        if secret.used:
            raise ValueError(f"wrong passphrase for the key in {key}") from None
        raise ValueError(f"{key} contains no private key in PEM") from None
    _check_dates(certificate, pem)


class _Passphrase:
    """The passphrase callback for OpenSSL, which would otherwise prompt at the terminal and wait."""

    def __init__(self, key: Path, passphrase: str | None) -> None:
        self.used = False
        self._key = key
        self._passphrase = passphrase

    def use(self) -> str:
        if self._passphrase is None:
            raise ValueError(f"the key in {self._key} is encrypted: specify its passphrase")
        self.used = True
        return self._passphrase


def _check_dates(path: Path, pem: str) -> None:
    """Warn if our certificate is not valid now. It is used nevertheless: the clock may be wrong."""
    # Imported here because a program without TLS does not need them.
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
            return file.read(_MAX_FILE_BYTES)
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from None


def _load(context: ssl.SSLContext, certificates: str | bytes) -> bool:
    """Load trusted certificates in PEM (text) or DER (bytes); return whether there were any."""
    try:
        context.load_verify_locations(cadata=certificates)
    except (ssl.SSLError, ValueError):
        return False
    return True
