"""TLS handshakes with readable errors: the protocol of a peer that does not use TLS, and the meaning of alerts."""

from __future__ import annotations

import socket
import ssl
from typing import Final

from dicomport.errors import DicomportError
from dicomport.wire import UNRECOGNIZED_BYTES, guess_protocol

_RECORD_HEADER_BYTES: Final = 5
"""Bytes that OpenSSL has read when it finds that they are not a TLS record (RFC 8446 5.1)."""

_HTTP: Final = frozenset(("HTTP_REQUEST", "HTTPS_PROXY_REQUEST"))
"""OpenSSL's reasons for a peer that uses HTTP."""


class NotTLSError(DicomportError, OSError):
    """The peer does not use TLS; `protocol` is the protocol it uses, "" if unknown."""

    def __init__(self, protocol: str) -> None:
        names = {"": "another protocol", "DICOM": "DICOM without TLS"}
        super().__init__(f"the peer uses {names.get(protocol, protocol)}")
        self.protocol = protocol


class Handshake:
    """The handshake of a new TLS socket."""

    def __init__(self, tls: ssl.SSLSocket) -> None:
        self._tls = tls
        self._first = b""

    def attempt(self) -> None:
        """Continue the handshake as far as the socket allows. Raises the socket's `OSError`, and `NotTLSError`."""
        self._first = self._first or self._peek()
        try:
            self._tls.do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except ssl.SSLZeroReturnError as error:
            # Python 3.11.2 raises this if the peer closes in the middle of the handshake.
            raise _closed() from error
        except ssl.SSLError as error:
            if self._first:
                protocol = guess_protocol(self._first)
            elif error.reason == "WRONG_VERSION_NUMBER":
                # The answer arrived while our first message was being sent; OpenSSL has consumed its beginning.
                protocol = guess_protocol(self._peek(), missing=_RECORD_HEADER_BYTES)
            elif error.reason in _HTTP:
                protocol = "HTTP"
            else:
                raise
            if protocol == "TLS":
                raise
            raise NotTLSError(protocol) from error

    def _peek(self) -> bytes:
        """Return the next encrypted bytes without removing them; b"" if a non-blocking socket has none."""
        try:
            return socket.socket.recv(self._tls, UNRECOGNIZED_BYTES, socket.MSG_PEEK)
        except (BlockingIOError, InterruptedError):
            return b""


def _closed() -> ssl.SSLEOFError:
    error = ssl.SSLEOFError(ssl.SSL_ERROR_EOF, "the connection was closed in the handshake")
    error.reason = "UNEXPECTED_EOF_WHILE_READING"
    return error


def tls_error_name(error: ssl.SSLError) -> str:
    """Return OpenSSL's name of the error, or the name of the alert that the peer sent (RFC 8446 6.2)."""
    return (error.reason or "").rpartition("ALERT_")[2]


def describe_tls_error(error: ssl.SSLError) -> str:
    """Return the reason that a TLS connection failed or ended."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate is not trusted: {error.verify_message}"
    return _MEANINGS.get(tls_error_name(error)) or error.reason or str(error)


_MEANINGS: Final = {
    # Errors detected on this side.
    "UNEXPECTED_EOF_WHILE_READING": "the peer closed the connection instead of answering",
    "NO_SHARED_CIPHER": "the two sides have no cipher suite in common",
    "NO_PROTOCOLS_AVAILABLE": "no TLS version is allowed",
    "UNSUPPORTED_PROTOCOL": "the two sides have no TLS version in common",
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "the peer sent no certificate",
    "EE_KEY_TOO_SMALL": "the key of the certificate is too short",
    "CA_MD_TOO_WEAK": "the digest in the certificate's signature is too weak",
    # Alerts of the peer.
    "CERTIFICATE_REQUIRED": "the peer requires a certificate, and we sent none",
    "UNKNOWN_CA": "the peer does not trust the issuer of our certificate",
    "BAD_CERTIFICATE": "the peer rejects our certificate",
    "CERTIFICATE_UNKNOWN": "the peer rejects our certificate",
    "UNSUPPORTED_CERTIFICATE": "the peer does not support the type of our certificate",
    "CERTIFICATE_EXPIRED": "the peer reports that our certificate has expired",
    "CERTIFICATE_REVOKED": "the peer reports that our certificate was revoked",
    "ACCESS_DENIED": "the peer denies access",
    "PROTOCOL_VERSION": "the two sides have no TLS version in common",
    "INSUFFICIENT_SECURITY": "the peer requires stronger cipher suites",
    "HANDSHAKE_FAILURE": "the peer found no TLS version or cipher suite in common, or requires a certificate",
    "TLSV1_UNRECOGNIZED_NAME": "the peer does not know the host name that we connected to",
    "INTERNAL_ERROR": "the peer reports an internal error",
}
