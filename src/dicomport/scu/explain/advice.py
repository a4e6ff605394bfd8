"""Causes of failed associations, and advice for each."""

from __future__ import annotations

import socket
import ssl
from typing import Final

from dicomport.core import NegotiationResult
from dicomport.errors import DicomportError
from dicomport.net import (
    AbortedError,
    Address,
    ConnectError,
    ConnectionLostError,
    NotTLSError,
    RejectedError,
    TimerExpiredError,
    tls_error_name,
)
from dicomport.scu.explain.steps import Failure
from dicomport.standard import VERIFICATION, Status, describe
from dicomport.wire import AssociateRJ, AssociateRQ, ContextResult, RejectReason, guess_protocol

SPEAKS_TLS: Final = Failure(
    "the peer expects TLS on this port, but the connection was made without", "Connect with --tls."
)

_SEE_LOG: Final = "See the peer's log, or ask its administrator."

_PORT: Final = "DICOM usually uses port 104 or 11112: ask for the peer's port."

_NO_DICOM: Final = f"This is not a DICOM port. {_PORT}"

_REJECTIONS: Final = {
    RejectReason.CALLED_AE_TITLE_NOT_RECOGNIZED: (
        "the peer's AE title is not {called}",
        "Ask for the peer's AE title in its exact spelling (it is case-sensitive), and set it with -aec.",
    ),
    RejectReason.CALLING_AE_TITLE_NOT_RECOGNIZED: (
        "the peer does not know the calling AE title {calling}",
        "Register this AE title at the peer, usually with this machine's address, or set a registered one with -aet.",
    ),
    RejectReason.LOCAL_LIMIT_EXCEEDED: (
        "the peer has reached its limit of associations",
        "Try again later. If it persists, look for senders that leave associations open, or raise the peer's limit.",
    ),
    RejectReason.TEMPORARY_CONGESTION: ("the peer is too busy", "Try again later."),
    RejectReason.APPLICATION_CONTEXT_NAME_NOT_SUPPORTED: (
        "the peer does not support the DICOM application context",
        "It is not a usable DICOM peer: check the address.",
    ),
    RejectReason.PROTOCOL_VERSION_NOT_SUPPORTED: (
        "the peer does not support version 1 of the protocol, the only version",
        "It is not a usable DICOM peer: check the address.",
    ),
}
_NO_REASON: Final = (
    "the peer states no reason",
    "Some peers reject an unknown address, AE title or user in this way; set user and password with --user and "
    "--password-file. " + _SEE_LOG,
)


def diagnose(
    error: DicomportError | None,
    address: Address,
    request: AssociateRQ | None = None,
    unrecognized: bytes = b"",
) -> Failure | None:
    """Return the cause of an error, and advice; `unrecognized` is the start of received bytes that are not a PDU."""
    match error:
        case None:
            return None
        case RejectedError() if request is not None:
            return _rejected(error.rejection, request)
        case AbortedError() if unrecognized:
            return _not_dicom(unrecognized)
    return Failure(str(error), _advice(error, address, requested=request is not None))


def _advice(error: DicomportError, address: Address, *, requested: bool) -> str:
    """Return advice for an error: after an association request if `requested`, otherwise before or later."""
    match error:
        case AbortedError() if not error.aborted.by_peer:
            advice = "The peer's software is at fault, or a device between it and this machine."
        case ConnectionLostError() | ConnectError() if isinstance(error.__cause__, ssl.SSLError):
            advice = _tls_advice(error.__cause__)
        case ConnectError() if address.tls is not None and isinstance(error.__cause__, ConnectionResetError):
            advice = _CLOSED
        case ConnectionLostError() if requested:
            advice = _connection_closed(address)
        case TimerExpiredError() if requested:
            advice = _no_response(address)
        case ConnectError():
            advice = _not_connected(error.__cause__)
        case _:
            advice = _SEE_LOG
    return advice


def diagnose_outcome(outcome: NegotiationResult) -> Failure | None:
    """Return the reason why an accepted association cannot be verified by C-ECHO; None if it can."""
    if any(context.abstract_syntax == VERIFICATION for context in outcome.accepted.values()):
        return None
    if outcome.accepted:
        why = next((c.reason for c in outcome.contexts if c.abstract_syntax == VERIFICATION), "it was not proposed")
        return Failure(
            f"no context for verification was accepted, so C-ECHO cannot be sent: {why}",
            "Every acceptor must support it (PS3.4 A.5), but instances can still be sent in the accepted contexts.",
        )
    results = {context.result for context in outcome.contexts}
    advice = "Configure the SOP Classes to be sent at the peer."
    if ContextResult.TRANSFER_SYNTAXES_NOT_SUPPORTED in results:
        advice = "Propose other transfer syntaxes: --context CLASS:SYNTAX,... Every peer must support Implicit VR."
    return Failure("the peer accepted the association, but none of the contexts", advice)


def refused_classes(outcome: NegotiationResult) -> tuple[str, ...]:
    """Return advice for each SOP Class without an accepted context."""
    accepted = {context.abstract_syntax for context in outcome.accepted.values()}
    rejected = [context for context in outcome.contexts if context.abstract_syntax not in accepted]
    known = {c.abstract_syntax for c in rejected if c.result is ContextResult.TRANSFER_SYNTAXES_NOT_SUPPORTED}
    lines = {
        "propose other transfer syntaxes (--context CLASS:SYNTAX,...), as storescu --convert does": [
            c for c in rejected if c.abstract_syntax in known
        ],
        "configure it at the peer": [c for c in rejected if c.abstract_syntax not in known],
    }
    return tuple(
        f"{', '.join(dict.fromkeys(describe(c.abstract_syntax) for c in contexts))}: {advice}"
        for advice, contexts in lines.items()
        if contexts
    )


def diagnose_status(status: Status) -> Failure | None:
    """Return the meaning of a failure status of C-ECHO; None for a success or a warning."""
    if status.accepted:
        return None
    return Failure(f"the peer answered C-ECHO with {status}", _SEE_LOG)


def _rejected(rejection: AssociateRJ, request: AssociateRQ) -> Failure:
    cause, advice = _REJECTIONS.get(rejection.reason, _NO_REASON)
    cause = cause.format(called=request.called_ae_title, calling=request.calling_ae_title)
    result = 2 if rejection.transient else 1
    # PS3.8 Table 9-21: other tools show these numbers, and manuals list them.
    numbers = f"{result}/{rejection.reason.source}/{rejection.reason.reason}"
    how = "temporarily" if rejection.transient else "permanently"
    return Failure(f"rejected {how} ({numbers}): {cause}", advice)


def _not_dicom(first: bytes) -> Failure:
    protocol = guess_protocol(first)
    if protocol == "TLS":
        return SPEAKS_TLS
    shown = first.partition(b"\r\n")[0].decode("ascii", "backslashreplace")
    return Failure(f"the peer does not use DICOM, but {protocol or 'an unknown protocol'}: {shown}", _NO_DICOM)


def _connection_closed(address: Address) -> str:
    """Return advice for a peer that closes every connection, even when only Verification is proposed."""
    tls = "" if address.tls is None else "it does not use TLS on this port; "
    return (
        f"Possible causes: the peer accepts only registered addresses; {tls}its limit of associations is reached; the "
        "port is not a DICOM port. " + _SEE_LOG
    )


def _no_response(address: Address) -> str:
    advice = (
        "It accepts connections, but does not respond: the peer may hang, or the port may belong to another service."
    )
    return advice if address.tls is not None else f"{advice} It may also expect TLS: try --tls."


def _not_connected(cause: BaseException | None) -> str:
    match cause:
        case NotTLSError(protocol="DICOM"):
            advice = "Connect without --tls, or enable TLS at the peer, usually on another port (2762)."
        case NotTLSError():
            advice = _NO_DICOM
        case socket.gaierror() | UnicodeError():
            advice = "Use the IP address if no name server knows the name."
        case ConnectionRefusedError():
            advice = _PORT
        case TimerExpiredError() if cause.timer.name == "tls":
            advice = "A peer without TLS may wait for the rest of a DICOM message: try without --tls."
        case TimerExpiredError():
            advice = "A firewall may drop the connection, or the machine may be off."
        case _:
            advice = "There is no route to it: check the network and the address."
    return advice


def _tls_advice(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return _VERIFICATIONS.get(error.verify_code, _ISSUER)
    return _TLS.get(tls_error_name(error), _SEE_LOG)


_ISSUER: Final = "If the peer's certificate is genuine, trust it, or better its issuer: --tls-ca FILE."
_NAME: Final = (
    "Use a host name that the certificate is for, accept its common name with --tls-common-name if it has no other "
    "names, or accept it for any name: --tls-any-name."
)
_NEWER_CRL: Final = "Install the newest certificate revocation list of each authority in the chain: --tls-crl FILE."
_VERIFICATIONS: Final = {
    3: _NEWER_CRL,
    8: _NEWER_CRL,
    9: "Check the clocks of both machines, then the certificate.",
    10: "Check the clock of this machine, then ask for a renewed certificate of the peer.",
    11: "Check the clock of this machine.",
    12: _NEWER_CRL,
    23: "Its authority has revoked the certificate: ask for a new certificate of the peer.",
    62: _NAME,
    64: _NAME,
}
"""Keys are OpenSSL's X509_V_ERR codes: no list, wrong signature of a list, not yet valid, expired, list not yet valid,
list expired, revoked, another host name, another IP address."""

_SHOW: Final = "Use a certificate that the peer trusts: --tls-cert FILE and --tls-key FILE."
_TRUSTED_THERE: Final = "Register this certificate, or its issuer, as trusted at the peer."
_ANOTHER_PROFILE: Final = (
    "Compare the TLS versions and cipher suites of both sides; --tls-profile sets those of this side."
)
_CLOSED: Final = "The peer may not use TLS on this port, or not accept this address: try without --tls. " + _SEE_LOG
"""Advice for a peer that closes or resets the connection in the handshake."""

_TLS: Final = {
    "UNEXPECTED_EOF_WHILE_READING": _CLOSED,
    "CERTIFICATE_REQUIRED": _SHOW,
    "HANDSHAKE_FAILURE": f"{_SHOW} Or: {_ANOTHER_PROFILE[0].lower()}{_ANOTHER_PROFILE[1:]}",
    "UNKNOWN_CA": _TRUSTED_THERE,
    "BAD_CERTIFICATE": _TRUSTED_THERE,
    "CERTIFICATE_UNKNOWN": _TRUSTED_THERE,
    "UNSUPPORTED_CERTIFICATE": "Use a certificate issued for clients (extended key usage clientAuth).",
    "CERTIFICATE_EXPIRED": "Check the clocks of both machines, then renew this certificate.",
    "CERTIFICATE_REVOKED": "Use a new certificate.",
    "PROTOCOL_VERSION": _ANOTHER_PROFILE,
    "UNSUPPORTED_PROTOCOL": _ANOTHER_PROFILE,
    "INSUFFICIENT_SECURITY": _ANOTHER_PROFILE,
    "TLSV1_UNRECOGNIZED_NAME": "Use the host name that the peer expects.",
}
