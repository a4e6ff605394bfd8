"""What failures of associations mean in plain words, and what to do about them."""

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

__all__ = ["SPEAKS_TLS", "diagnose", "diagnose_outcome", "diagnose_status", "refused_classes"]

SPEAKS_TLS: Final = Failure("the peer speaks TLS on this port, and was spoken to without", "Connect with --tls.")

_ASK: Final = "The peer's log, or whoever looks after it, can say more."

_PORT: Final = "DICOM's port is 104 or 11112 as a rule: ask which one the peer listens on."

_NO_DICOM: Final = f"This is no DICOM port. {_PORT}"

_REJECTIONS: Final = {
    RejectReason.CALLED_AE_TITLE_NOT_RECOGNIZED: (
        "the peer is not called {called}",
        "Ask which AE title the peer has, letter by letter (capitals count), and call it by that: -aec.",
    ),
    RejectReason.CALLING_AE_TITLE_NOT_RECOGNIZED: (
        "the peer does not know {calling}, as which we called",
        "Have our AE title entered at the peer, mostly with this machine's address; or use one that it knows: -aet.",
    ),
    RejectReason.LOCAL_LIMIT_EXCEEDED: (
        "the peer has as many associations as it takes",
        "Try again later. If it goes on, look for senders that leave associations open, or have its limit raised.",
    ),
    RejectReason.TEMPORARY_CONGESTION: ("the peer is too busy", "Try again later."),
    RejectReason.APPLICATION_CONTEXT_NAME_NOT_SUPPORTED: (
        "the peer does not take DICOM's application context",
        "It is no DICOM peer of any use: is the address right?",
    ),
    RejectReason.PROTOCOL_VERSION_NOT_SUPPORTED: (
        "the peer does not take version 1 of the protocol, the only one that there is",
        "It is no DICOM peer of any use: is the address right?",
    ),
}
_NO_REASON: Final = (
    "the peer gives no reason",
    "Some peers do so to an address, an AE title or a user that they do not know. " + _ASK,
)


def diagnose(
    error: DicomportError | None,
    address: Address,
    request: AssociateRQ | None = None,
    foreign: bytes = b"",
) -> Failure | None:
    """Say why there is no association, or none any more; `foreign` is how something began that is no PDU."""
    match error:
        case None:
            return None
        case RejectedError() if request is not None:
            return _rejected(error.rejection, request)
        case AbortedError() if foreign:
            return _foreign(foreign)
    return Failure(str(error), _advice(error, address, asked=request is not None))


def _advice(error: DicomportError, address: Address, *, asked: bool) -> str:
    """Say what to do, of a peer that was `asked` for an association, or about one that is not or no more."""
    match error:
        case AbortedError() if not error.aborted.by_peer:
            advice = "The peer's software is at fault, or something between it and us."
        case ConnectionLostError() | ConnectError() if isinstance(error.__cause__, ssl.SSLError):
            advice = _tls_advice(error.__cause__)
        case ConnectionLostError() if asked:
            advice = _gone(address)
        case TimerExpiredError() if asked:
            advice = _silent(address)
        case ConnectError():
            advice = _unreached(error.__cause__)
        case _:
            advice = _ASK
    return advice


def diagnose_outcome(outcome: NegotiationResult) -> Failure | None:
    """Say what an association is good for that was accepted; None where it can be verified."""
    if any(context.abstract_syntax == VERIFICATION for context in outcome.accepted.values()):
        return None
    if outcome.accepted:
        why = next((c.reason for c in outcome.contexts if c.abstract_syntax == VERIFICATION), "it was not proposed")
        return Failure(
            f"there is no context for verification, so C-ECHO can't be sent: {why}",
            "Every acceptor has to take it (PS3.4 A.5), but instances can still be sent in the accepted contexts.",
        )
    results = {context.result for context in outcome.contexts}
    advice = "Have the SOP Classes that are to be sent configured at the peer."
    if ContextResult.TRANSFER_SYNTAXES_NOT_SUPPORTED in results:
        advice = (
            "Propose other transfer syntaxes: --context CLASS:SYNTAX,... Implicit VR Little Endian always has to do."
        )
    return Failure("the peer accepted the association, but none of the contexts", advice)


def refused_classes(outcome: NegotiationResult) -> tuple[str, ...]:
    """Say what to do about SOP Classes of which nothing can be sent over an association."""
    taken = {context.abstract_syntax for context in outcome.accepted.values()}
    refused = [context for context in outcome.contexts if context.abstract_syntax not in taken]
    known = {c.abstract_syntax for c in refused if c.result is ContextResult.TRANSFER_SYNTAXES_NOT_SUPPORTED}
    lines = {
        "propose other transfer syntaxes (--context CLASS:SYNTAX,...), as storescu --convert does": [
            c for c in refused if c.abstract_syntax in known
        ],
        "have it configured at the peer": [c for c in refused if c.abstract_syntax not in known],
    }
    return tuple(
        f"{', '.join(dict.fromkeys(describe(c.abstract_syntax) for c in contexts))}: {advice}"
        for advice, contexts in lines.items()
        if contexts
    )


def diagnose_status(status: Status) -> Failure | None:
    """Say what the answer to a C-ECHO means that is no success."""
    if status.accepted:
        return None
    return Failure(f"the peer answered C-ECHO with {status}", _ASK)


def _rejected(rejection: AssociateRJ, request: AssociateRQ) -> Failure:
    cause, advice = _REJECTIONS.get(rejection.reason, _NO_REASON)
    cause = cause.format(called=request.called_ae_title, calling=request.calling_ae_title)
    result = 2 if rejection.transient else 1
    # PS3.8 Table 9-21: what other tools show of a rejection, and manuals have tables of.
    numbers = f"{result}/{rejection.reason.source}/{rejection.reason.reason}"
    how = "for now" if rejection.transient else "permanently"
    return Failure(f"rejected {how} ({numbers}): {cause}", advice)


def _foreign(first: bytes) -> Failure:
    protocol = guess_protocol(first)
    if protocol == "TLS":
        return SPEAKS_TLS
    shown = first.partition(b"\r\n")[0].decode("ascii", "backslashreplace")
    return Failure(f"what answered is no DICOM peer, but speaks {protocol or 'something else'}: {shown}", _NO_DICOM)


def _gone(address: Address) -> str:
    """Say why a peer may close every connection: it is asked last with nothing but Verification proposed."""
    tls = "" if address.tls is None else "be without TLS on this port, "
    return (
        f"It may let in only addresses that it knows, {tls}have no room for one more association, or be no DICOM peer. "
        + _ASK
    )


def _silent(address: Address) -> str:
    advice = "Something takes connections there, but does not speak: is the peer hung, or is this another's port?"
    return advice if address.tls is not None else f"{advice} It may also wait for TLS: try --tls."


def _unreached(cause: BaseException | None) -> str:
    match cause:
        case NotTLSError(protocol="DICOM"):
            advice = "Connect without --tls, or have TLS switched on at the peer, mostly on another port (2762)."
        case NotTLSError():
            advice = _NO_DICOM
        case socket.gaierror() | UnicodeError():
            advice = "Give the address in figures if no name server knows the name."
        case ConnectionRefusedError():
            advice = _PORT
        case TimerExpiredError() if cause.timer.name == "tls":
            advice = "A peer without TLS may wait for more of what it takes for DICOM: try without --tls."
        case TimerExpiredError():
            advice = "A firewall that drops what it does not allow looks like this, and so does a machine that is off."
        case _:
            advice = "No way leads there from here: is the network up, and the address one of this network?"
    return advice


def _tls_advice(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return _VERIFICATIONS.get(error.verify_code, _ISSUER)
    return _TLS.get(tls_error_name(error), _ASK)


_ISSUER: Final = "If it is the peer's own certificate, trust it, or better the one who issued it: --tls-ca FILE."
_NAME: Final = "Call the peer by a name that the certificate is for, or take it for any: --tls-any-name."
_VERIFICATIONS: Final = {
    9: "Look at the clocks of both machines, then at the certificate.",
    10: "Have the peer's certificate renewed; look at the clock of this machine first.",
    62: _NAME,
    64: _NAME,
}
"""By OpenSSL's X509_V_ERR codes: not yet valid, expired, another host name, another IP address."""

_SHOW: Final = "Show one that the peer trusts: --tls-cert FILE and --tls-key FILE."
_TRUSTED_THERE: Final = "Have our certificate, or the one who issued it, entered at the peer as trusted."
_ANOTHER_PROFILE: Final = "Compare the versions of TLS and the cipher suites of both sides; ours follow --tls-profile."
_TLS: Final = {
    "UNEXPECTED_EOF_WHILE_READING": (
        "A peer without TLS on this port does so, and one that does not know this address: try without --tls. " + _ASK
    ),
    "CERTIFICATE_REQUIRED": _SHOW,
    "HANDSHAKE_FAILURE": f"{_SHOW} Or: {_ANOTHER_PROFILE[0].lower()}{_ANOTHER_PROFILE[1:]}",
    "UNKNOWN_CA": _TRUSTED_THERE,
    "BAD_CERTIFICATE": _TRUSTED_THERE,
    "CERTIFICATE_UNKNOWN": _TRUSTED_THERE,
    "UNSUPPORTED_CERTIFICATE": "Have ours issued for clients (extended key usage clientAuth).",
    "CERTIFICATE_EXPIRED": "Renew our certificate; look at the clocks of both machines first.",
    "CERTIFICATE_REVOKED": "Have a new certificate issued for us.",
    "PROTOCOL_VERSION": _ANOTHER_PROFILE,
    "UNSUPPORTED_PROTOCOL": _ANOTHER_PROFILE,
    "INSUFFICIENT_SECURITY": _ANOTHER_PROFILE,
    "TLSV1_UNRECOGNIZED_NAME": "Call the peer by the name that it has for itself.",
}
