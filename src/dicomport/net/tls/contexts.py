"""Create TLS contexts for the profiles of PS3.15 Annex B from files with certificates and keys."""

from __future__ import annotations

import enum
import ssl
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from dicomport.logs import get_logger
from dicomport.net.tls.expiry import ExpiringContext, Expiry, warn_of_expiry
from dicomport.net.tls.files import TLSFile, TLSFiles
from dicomport.net.tls.handshake import describe_tls_error

log = get_logger("net")


class TLSProfile(enum.StrEnum):
    """A TLS Secure Transport Connection Profile of PS3.15, by its name in options.

    Both require TLS 1.2 or 1.3 with forward secrecy and authenticated encryption, RSA keys of at least 2048 bits, and
    no SHA-1. The suites of TLS 1.3 are OpenSSL's defaults: AES-GCM and ChaCha20-Poly1305.
    """

    RFC8996 = "rfc8996"
    """BCP 195 RFC 8996, 9325 (PS3.15 B.12): in TLS 1.2 ECDHE with AES-GCM or ChaCha20-Poly1305."""
    RFC8996_MODIFIED = "rfc8996-modified"
    """Modified BCP 195 RFC 8996, 9325 (PS3.15 B.13): in TLS 1.2 also ECDHE-ECDSA with AES-CCM and AES-CCM-8."""


_CIPHERS: Final = {
    TLSProfile.RFC8996: "ECDHE+AESGCM:ECDHE+CHACHA20:@SECLEVEL=2",
    TLSProfile.RFC8996_MODIFIED: "ECDHE+AESGCM:ECDHE+CHACHA20:ECDHE+aECDSA+AESCCM:ECDHE+aECDSA+AESCCM8:@SECLEVEL=2",
}

_BEGIN: Final = b"-----BEGIN"


def tls_client_context(
    *,
    certificate: Path | str | None = None,
    key: Path | str | None = None,
    passphrase: str | None = None,
    authorities: Path | str | None = None,
    crls: Path | str | None = None,
    profile: TLSProfile | str = TLSProfile.RFC8996,
    check_name: bool = True,
    common_name: bool = False,
) -> ssl.SSLContext:
    """Return the context for requesting associations.

    `certificate` is a PEM file with our certificate, which a server may request, followed by any intermediate
    authorities; `key` is its private key (default: in the same file), `passphrase` the passphrase of the key.
    `authorities` is a file with certificates, or a folder of such files, that servers' certificates must be issued by
    (default: the system's); a server's own certificate is valid too. `crls` is a file with certificate revocation
    lists, or a folder of such files, PEM or DER: one of each authority in a chain. A server's host name or address must
    be among the subject alternative names of its certificate (RFC 9525). `common_name` accepts a host name as its
    common name too, if it has no alternative name. `check_name=False` accepts a trusted certificate for any host: the
    certificates of many peers have no host name. Raises `ValueError` with the wrong file and the reason.
    """
    files = TLSFiles.read(certificate=certificate, key=key, passphrase=passphrase, authorities=authorities, crls=crls)
    return client_context(files, profile=profile, check_name=check_name, common_name=common_name)


def client_context(
    files: TLSFiles, *, profile: TLSProfile | str, check_name: bool, common_name: bool
) -> ssl.SSLContext:
    """Return the context of `tls_client_context` from files that were read. Raises `ValueError`."""
    context = ExpiringContext(ssl.PROTOCOL_TLS_CLIENT)
    _set_profile(context, profile)
    context.check_hostname = check_name
    context.hostname_checks_common_name = common_name
    if files.authorities is None:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    _trust(context, files.authorities or ())
    _show(context, files)
    _reject_revoked(context, files.crls)
    return context


def tls_server_context(
    certificate: Path | str,
    key: Path | str | None = None,
    *,
    passphrase: str | None = None,
    authorities: Path | str | None = None,
    crls: Path | str | None = None,
    profile: TLSProfile | str = TLSProfile.RFC8996,
    anonymous_clients: bool = False,
) -> ssl.SSLContext:
    """Return the context for accepting associations; for the files, see `tls_client_context`.

    Clients must send a certificate issued by `authorities`. `anonymous_clients` accepts clients without a certificate
    too; a certificate that is sent must still be valid. Raises `ValueError`.
    """
    files = TLSFiles.read(certificate=certificate, key=key, passphrase=passphrase, authorities=authorities, crls=crls)
    return server_context(files, profile=profile, anonymous_clients=anonymous_clients)


def server_context(files: TLSFiles, *, profile: TLSProfile | str, anonymous_clients: bool) -> ssl.SSLContext:
    """Return the context of `tls_server_context` from files that were read. Raises `ValueError`."""
    context = ExpiringContext(ssl.PROTOCOL_TLS_SERVER)
    _set_profile(context, profile)
    _show(context, files)
    if files.authorities is not None:
        _trust(context, files.authorities)
        context.verify_mode = ssl.CERT_OPTIONAL if anonymous_clients else ssl.CERT_REQUIRED
    elif not anonymous_clients:
        raise ValueError("specify the certificate authorities of clients, or accept clients without a certificate")
    _reject_revoked(context, files.crls)
    return context


def _set_profile(context: ssl.SSLContext, profile: TLSProfile | str) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_CIPHERS[TLSProfile(profile)])
    # RFC 9325 3.5: with renegotiation in TLS 1.2, a client could keep the server busy.
    context.options |= ssl.OP_NO_RENEGOTIATION
    # A certificate can be trusted without its issuer: some sites exchange only the peers' certificates.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN


def _trust(context: ssl.SSLContext, authorities: Iterable[TLSFile]) -> None:
    """Load trusted certificates."""
    for file in authorities:
        data = file.data
        if not _load(context, data.decode("ascii", "backslashreplace") if _BEGIN in data else data):
            raise ValueError(f"{file.path} contains no certificate in PEM or DER")


def _reject_revoked(context: ExpiringContext, crls: Iterable[TLSFile] | None) -> None:
    """Load certificate revocation lists."""
    if crls is None:
        return
    # Imported here because few programs need it.
    from dicomport.net.tls.revocation import read_lists, use_lists

    lists = read_lists((file.path, file.data) for file in crls)
    context.expiries += tuple(use_lists(context, lists))
    warn_of_expiry(context)


def _show(context: ExpiringContext, files: TLSFiles) -> None:
    """Load our certificate and its key, if there is one. Raises `ValueError` with the file that is wrong."""
    certificate, key = files.certificate, files.key
    if certificate is None or key is None:
        return
    pem = certificate.data.decode("ascii", "backslashreplace")
    if not _load(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), pem):
        raise ValueError(f"{certificate.path} contains no certificate in PEM")
    secret = _Passphrase(key.path, files.passphrase)
    try:
        with certificate.readable() as certificate_path, key.readable() as key_path:
            context.load_cert_chain(certificate_path, key_path, secret.use)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise ValueError(
                f"the key in {key.path} does not belong to the certificate in {certificate.path}"
            ) from None
        if error.reason:
            raise ValueError(f"{certificate.path} and {key.path}: {describe_tls_error(error)}") from None
        if secret.used:
            raise ValueError(f"wrong passphrase for the key in {key.path}") from None
        raise ValueError(f"{key.path} contains no private key in PEM") from None
    _check_dates(context, certificate.path, pem)


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


def _check_dates(context: ExpiringContext, path: Path, pem: str) -> None:
    """Warn if our certificate is not valid now, or expires soon. It is used nevertheless: the clock may be wrong."""
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
    else:
        own = Expiry(
            file=str(path),
            is_list=False,
            issued=certificate.not_before.timestamp(),
            expires=certificate.not_after.timestamp(),
            text=certificate.not_after.isoformat(),
        )
        context.expiries += (own,)
        warn_of_expiry(context)


def _load(context: ssl.SSLContext, certificates: str | bytes) -> bool:
    """Load trusted certificates in PEM (text) or DER (bytes); return whether there were any."""
    try:
        context.load_verify_locations(cadata=certificates)
    except (ssl.SSLError, ValueError):
        return False
    return True
