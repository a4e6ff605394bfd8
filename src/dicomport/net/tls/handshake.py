"""TLS handshakes that tell what is wrong: what a peer speaks that does not speak TLS, and alerts in words."""

from __future__ import annotations

import socket
import ssl
from typing import Final

from dicomport.errors import DicomportError
from dicomport.wire import FOREIGN_BYTES, guess_protocol

__all__ = ["Handshake", "NotTLSError", "tls_reason", "tls_words"]


_RECORD_HEADER_BYTES: Final = 5
"""What TLS has read of a record when it finds that it is none (RFC 8446 5.1)."""

_HTTP: Final = frozenset(("HTTP_REQUEST", "HTTPS_PROXY_REQUEST"))
"""What OpenSSL itself knows the beginning of."""


class NotTLSError(DicomportError, OSError):
    """The peer speaks something else than TLS: `protocol`, where it is known."""

    def __init__(self, protocol: str) -> None:
        without = {"": "something else", "DICOM": "DICOM without TLS"}
        super().__init__(f"it speaks {without.get(protocol, protocol)}")
        self.protocol = protocol


class Handshake:
    """One handshake on a TLS socket that has not shaken hands yet."""

    def __init__(self, tls: ssl.SSLSocket) -> None:
        self._tls = tls
        self._first = b""

    def attempt(self) -> None:
        """Go on as far as the socket allows. Raises what the socket raises, and `NotTLSError`."""
        self._first = self._first or self._look()
        try:
            self._tls.do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except ssl.SSLError as error:
            if self._first:
                protocol = guess_protocol(self._first)
            elif error.reason == "WRONG_VERSION_NUMBER":
                # The answer came while the question was being sent, and its beginning is gone.
                protocol = guess_protocol(self._look(), missing=_RECORD_HEADER_BYTES)
            elif error.reason in _HTTP:
                protocol = "HTTP"
            else:
                raise
            if protocol == "TLS":
                raise
            raise NotTLSError(protocol) from error

    def _look(self) -> bytes:
        """Look, past TLS, at what it will read next; where there is nothing yet and the socket does not block, b""."""
        try:
            return socket.socket.recv(self._tls, FOREIGN_BYTES, socket.MSG_PEEK)
        except (BlockingIOError, InterruptedError):
            return b""


def tls_reason(error: ssl.SSLError) -> str:
    """Give the name of what went wrong: OpenSSL's, or the alert's that the peer sent (RFC 8446 6.2)."""
    return (error.reason or "").rpartition("ALERT_")[2]


def tls_words(error: ssl.SSLError) -> str:
    """Say in words what ended a TLS connection or kept it from being had."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate is not trusted: {error.verify_message}"
    return _WORDS.get(tls_reason(error)) or error.reason or str(error)


_WORDS: Final = {
    # What is found on this side.
    "UNEXPECTED_EOF_WHILE_READING": "the peer closed the connection instead of answering",
    "NO_SHARED_CIPHER": "the two sides have no cipher suite in common",
    "NO_PROTOCOLS_AVAILABLE": "no version of TLS is allowed",
    "UNSUPPORTED_PROTOCOL": "the two sides have no version of TLS in common",
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "the peer showed no certificate",
    "EE_KEY_TOO_SMALL": "the key of the certificate is too short",
    "CA_MD_TOO_WEAK": "the certificate is signed with a digest that is not safe any more",
    # What the peer says.
    "CERTIFICATE_REQUIRED": "the peer demands a certificate, and was shown none",
    "UNKNOWN_CA": "the peer does not trust the issuer of our certificate",
    "BAD_CERTIFICATE": "the peer refuses our certificate",
    "CERTIFICATE_UNKNOWN": "the peer refuses our certificate",
    "UNSUPPORTED_CERTIFICATE": "the peer refuses our certificate for its kind",
    "CERTIFICATE_EXPIRED": "the peer says that our certificate has expired",
    "CERTIFICATE_REVOKED": "the peer says that our certificate was revoked",
    "ACCESS_DENIED": "the peer denies us access",
    "PROTOCOL_VERSION": "the two sides have no version of TLS in common",
    "INSUFFICIENT_SECURITY": "the peer demands stronger cipher suites",
    "HANDSHAKE_FAILURE": "the peer found no version or cipher suite in common, or demands a certificate",
    "TLSV1_UNRECOGNIZED_NAME": "the peer is not known by the name that it was called by",
    "INTERNAL_ERROR": "something went wrong inside the peer",
}
