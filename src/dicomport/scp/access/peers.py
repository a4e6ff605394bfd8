"""Who may connect, and what is taken of whom: rules, and one pure function that holds a request against them."""

from __future__ import annotations

import dataclasses
import hashlib
import ipaddress
import shlex
import ssl
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self, TypeAlias

from dicomport.core import AcceptorPolicy, Negotiation
from dicomport.scp.sinks import Storage
from dicomport.standard import check_ae_title, sop_classes
from dicomport.wire import AssociateRJ, AssociateRQ, RejectReason, SOPClassCommonExtendedNegotiation

__all__ = ["Network", "PeerRule", "Rejection", "certificate_names", "match_rule", "network", "shown_certificate"]

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

_ANY: Final = "*"


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerRule:
    """A rule: whom it lets in, and what is taken of them. What is left out is no condition, and no restriction."""

    rule: str = ""
    """How the log names the rule."""
    ae_title: str | None = None
    """The calling AE title. It is the peer's own word, and no proof of anything."""
    networks: tuple[Network, ...] = ()
    """Where the peer has to connect from: one of them."""
    certificate_names: tuple[str, ...] = ()
    """What the peer's TLS certificate has to name, in its subject alternative names or its common name: one of them. Or
    the certificate itself, "sha256:" and the digest of its DER in hexadecimal digits, with colons or without. A
    certificate that was not verified names nobody."""
    sop_classes: Collection[str] | None = None
    """UIDs of the storage classes that are taken, of all that the server takes. What is none, such as Verification, is
    not restricted."""
    transfer_syntaxes: Collection[str] | None = None
    """UIDs of those that are taken, of all that the server takes."""
    associations: int | None = None
    """Most of them at the same time, of all who fall under the rule; the server's `Limits` count beside it."""
    instance_bytes: int | None = None
    """Longest data set, bytes; None is what the server's `Limits` say."""
    storage: Storage | None = None
    """Where the peer's instances go; None is where those of all go."""
    user_identity_required: bool = True
    """Where the server checks user identities: whether the peer has to give one. One that it gives is checked."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read AE[@ADDRESS/NET]: "CT1", "CT1@192.0.2.7", "CT1@2001:db8::/32", or with any AE title, "*@192.0.2.0/24".

        Raises `ValueError`.
        """
        title, at, where = text.rpartition("@")
        if not at:
            title, where = where, ""
        return cls(
            rule=text,
            ae_title=None if title.strip() == _ANY else check_ae_title(title),
            networks=(network(where),) if at else (),
        )

    def allows_address(self, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
        """Whether the peer may connect from there."""
        return not self.networks or any(address in network for network in self.networks)

    def allows_certificate(self, names: Collection[str]) -> bool:
        """Whether a certificate with these names will do."""
        wanted = set(map(_comparable, self.certificate_names))
        return not wanted or not wanted.isdisjoint(map(_comparable, names))

    def allows_title(self, calling_ae_title: str) -> bool:
        """Whether it is the peer's AE title."""
        return self.ae_title is None or self.ae_title == calling_ae_title

    def policy(self, of_all: AcceptorPolicy) -> AcceptorPolicy:
        """Narrow the policy for all peers down to what is taken of this one."""
        taken, syntaxes = self.transfer_syntaxes, of_all.transfer_syntaxes
        if taken is not None and syntaxes is not None:
            taken = frozenset(taken).intersection(syntaxes)

        def takes(uid: str, kind: SOPClassCommonExtendedNegotiation | None) -> bool:
            return self._takes(uid) and of_all.abstract_syntaxes(uid, kind)

        return dataclasses.replace(
            of_all, abstract_syntaxes=takes, transfer_syntaxes=syntaxes if taken is None else taken
        )

    def _takes(self, uid: str) -> bool:
        if self.sop_classes is None or uid in self.sop_classes or sop_classes.known_as_other(uid) is not None:
            return True
        meant = sop_classes.misprint_of(uid)
        return meant is not None and meant.uid in self.sop_classes


@dataclass(frozen=True, slots=True)
class Rejection:
    """A request that is refused as a whole: what the peer is told, and what the log says."""

    reason: RejectReason
    why: str

    @property
    def negotiation(self) -> Negotiation:
        """The answer to the request."""
        return Negotiation(AssociateRJ(self.reason), None, self.why)


def match_rule(
    peers: Sequence[PeerRule], request: AssociateRQ, address: str, certificate_names: Collection[str] = ()
) -> PeerRule | Rejection:
    """Give the first rule that lets the requestor in, or the refusal (PS3.8 9.3.4).

    What the requestor can't just claim is looked at first. So from a wrong address, and with a wrong certificate, it
    learns nothing of the AE titles that would do. `address` is without a port.
    """
    title = request.calling_ae_title
    here = ipaddress.ip_address(address)
    near = [peer for peer in peers if peer.allows_address(here)]
    known = [peer for peer in near if peer.allows_certificate(certificate_names)]
    for peer in known:
        if peer.allows_title(title):
            return peer
    meant = ", ".join(peer.rule for peer in peers if peer.ae_title == title)
    hint = f" (rule {meant} is for it, but not from there or not with this certificate)" if meant else ""
    if peers and not near:
        why = f"no rule allows the address {address}, whence calling AE title {title!r}{hint}"
        return Rejection(RejectReason.USER_NO_REASON, f"{why}: {_advice(title, address)}")
    if peers and not known:
        shown = ", ".join(certificate_names) or "nobody"
        why = f"no rule for {address} allows a certificate that names {shown}, with calling AE title {title!r}{hint}"
        return Rejection(RejectReason.USER_NO_REASON, f"{why}: {_advice(title, address)}")
    why = f"calling AE title {title!r} from {address} matches no rule{hint}"
    return Rejection(RejectReason.CALLING_AE_TITLE_NOT_RECOGNIZED, f"{why}: {_advice(title, address)}")


def _advice(title: str, address: str) -> str:
    """Say how to let the peer in, in words that can be given to a shell: the title is whatever the peer likes."""
    try:
        check_ae_title(title)
    except ValueError:
        return "it is no AE title that could be allowed, only any with --allow-any"
    if title == _ANY:
        return "it can't be told from any other, only any be allowed with --allow-any"
    return f"allow it with --allow {shlex.quote(f'{title}@{address}')}"


def network(text: str) -> Network:
    """Read an address or a network, "192.0.2.7" or "2001:db8::/32". Raises `ValueError`."""
    try:
        return ipaddress.ip_network(text)
    except ValueError:
        pass
    try:
        wider = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise ValueError(
            f"{text!r} is no address and no network, such as 192.0.2.7, 192.0.2.0/24 or 2001:db8::/32"
        ) from None
    raise ValueError(f"{text!r} has bits beyond its network: {wider} is one")


def shown_certificate(tls: ssl.SSLSocket | None) -> tuple[Mapping[str, Any] | None, str]:
    """Give the certificate that a peer has shown and that was verified, and its fingerprint."""
    certificate = None if tls is None else tls.getpeercert()
    if tls is None or not certificate:
        return None, ""
    return certificate, _FINGERPRINT + hashlib.sha256(tls.getpeercert(binary_form=True) or b"").hexdigest()


def certificate_names(certificate: Mapping[str, Any] | None, fingerprint: str = "") -> tuple[str, ...]:
    """List whom a verified certificate names, and its fingerprint (RFC 5280 4.2.1.6, 4.1.2.6).

    The certificate is as `ssl.SSLSocket.getpeercert` gives it, the fingerprint as in `AssociationInfo`.
    """
    if certificate is None:
        return ()
    alternative: Iterable[tuple[str, str]] = certificate.get("subjectAltName", ())
    subject: Iterable[tuple[tuple[str, str], ...]] = certificate.get("subject", ())
    common = (value for part in subject for key, value in part if key == "commonName")
    names = dict.fromkeys((*(value for _, value in alternative), *common))
    # What an authority writes into a name must not pass for the fingerprint of another's certificate.
    genuine = (name for name in names if not _comparable(name).startswith(_FINGERPRINT))
    return (*genuine, *([fingerprint] if fingerprint else ()))


_FINGERPRINT: Final = "sha256:"


def _comparable(name: str) -> str:
    name = name.casefold()
    kind, prefix, digits = name.partition(_FINGERPRINT)
    return name if kind or not prefix else prefix + digits.replace(":", "")
