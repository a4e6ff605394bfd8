"""Rules for peers, and the pure function that finds the rule for an association request."""

from __future__ import annotations

import dataclasses
import hashlib
import ipaddress
import shlex
import ssl
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final, Self, TypeAlias

from dicomport.core import AcceptorPolicy, Negotiation
from dicomport.scp.sinks import Storage
from dicomport.standard import check_ae_title, has_valid_characters, sop_classes
from dicomport.values import frozen
from dicomport.wire import AssociateRJ, AssociateRQ, RejectReason, SOPClassCommonExtendedNegotiation

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

_ANY: Final = "*"


@frozen(kw_only=True)
class PeerRule:
    """A rule for peers: conditions, and restrictions for the peers that fulfil them. Omitted ones do not apply."""

    rule: str = ""
    """Name of the rule in the log."""
    ae_title: str | None = None
    """Condition: the calling AE title. The peer chooses it, so it proves nothing."""
    networks: tuple[Network, ...] = ()
    """Condition: the peer's address is in one of these networks."""
    certificate_names: tuple[str, ...] = ()
    """Condition: the peer's verified TLS certificate has one of these: a host name or an address of its subject
    alternative names; its fingerprint, "sha256:" and the digest of its DER in hexadecimal digits, with or without
    colons; or its common name, "cn:" and the name. A common name is not meant to be checked (RFC 9525 1.2): name it
    only for certificates without alternative names."""
    sop_classes: Collection[str] | None = None
    """Restriction: UIDs of the accepted storage SOP Classes, of those that the server accepts. Other SOP Classes, such
    as Verification, are not restricted."""
    transfer_syntaxes: Collection[str] | None = None
    """Restriction: UIDs of the accepted transfer syntaxes for storage, of those that the server accepts."""
    associations: int | None = None
    """Restriction: maximum associations at the same time of all peers of the rule, beside the server's `Limits`."""
    instance_bytes: int | None = None
    """Restriction: maximum length of a data set, bytes (default: that of the server's `Limits`)."""
    storage: Storage | None = None
    """Storage of the peer's instances (default: the server's)."""
    invalid_ae_titles: bool = False
    """Whether the rule matches a calling AE title with a backslash, a control character, or a character outside the
    default repertoire (PS3.5 6.2, VR AE). All other rules reject it."""
    user_identity_required: bool = True
    """Condition: the peer sends a user identity, if the server checks them. One that is sent is always checked."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse AE[@ADDRESS/NET]: "CT1", "CT1@192.0.2.7", "CT1@2001:db8::/32", or for any AE title, "*@192.0.2.0/24".

        Raises `ValueError`.
        """
        title, at, address = text.rpartition("@")
        if not at:
            title, address = address, ""
        return cls(
            rule=text,
            ae_title=None if title.strip() == _ANY else check_ae_title(title),
            networks=(network(address),) if at else (),
        )

    def allows_address(self, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
        """Return whether the peer may connect from an address."""
        return not self.networks or any(address in network for network in self.networks)

    def allows_certificate(self, names: Collection[str]) -> bool:
        """Return whether the rule allows a certificate with these names."""
        allowed = set(map(_comparable, self.certificate_names))
        return not allowed or not allowed.isdisjoint(map(_comparable, names))

    def allows_title(self, calling_ae_title: str) -> bool:
        """Return whether the rule allows a calling AE title."""
        if not (self.invalid_ae_titles or has_valid_characters(calling_ae_title)):
            return False
        return self.ae_title is None or self.ae_title == calling_ae_title

    def policy(self, policy: AcceptorPolicy) -> AcceptorPolicy:
        """Return the server's policy with the restrictions of this rule."""
        syntaxes, all_syntaxes = self.transfer_syntaxes, policy.transfer_syntaxes
        if syntaxes is None:
            syntaxes = all_syntaxes
        elif all_syntaxes is not None:
            syntaxes = frozenset(syntaxes).intersection(all_syntaxes)

        def accepts(uid: str, common: SOPClassCommonExtendedNegotiation | None) -> bool:
            return self._accepts(uid) and policy.abstract_syntaxes(uid, common)

        return dataclasses.replace(policy, abstract_syntaxes=accepts, transfer_syntaxes=syntaxes)

    def _accepts(self, uid: str) -> bool:
        if self.sop_classes is None or uid in self.sop_classes or sop_classes.known_as_other(uid) is not None:
            return True
        meant = sop_classes.misprint_of(uid)
        return meant is not None and meant.uid in self.sop_classes


@frozen
class Rejection:
    """The rejection of an association request: the reason for the peer, and the text for the log."""

    reason: RejectReason
    text: str
    transient: bool = False
    """Whether the peer may succeed later with the same request."""

    @property
    def negotiation(self) -> Negotiation:
        """The response to the request."""
        return Negotiation(AssociateRJ(self.reason, self.transient), None, self.text)


def match_rule(
    rules: Sequence[PeerRule], request: AssociateRQ, address: str, certificate_names: Collection[str] = ()
) -> PeerRule | Rejection:
    """Return the first rule that allows the requestor, or the rejection (PS3.8 9.3.4).

    The address, without a port, and the certificate are checked before the AE title, which any requestor can claim: a
    requestor with a wrong address or certificate learns nothing about the allowed AE titles.
    """
    title = request.calling_ae_title
    parsed = ipaddress.ip_address(address)
    by_address = [rule for rule in rules if rule.allows_address(parsed)]
    by_certificate = [rule for rule in by_address if rule.allows_certificate(certificate_names)]
    for rule in by_certificate:
        if rule.allows_title(title):
            return rule
    same_title = ", ".join(rule.rule for rule in rules if rule.ae_title == title)
    hint = f" (rule {same_title} has this AE title, but another address or certificate)" if same_title else ""
    reason = RejectReason.USER_NO_REASON
    if rules and not by_address:
        text = f"no rule allows the address {address}, calling AE title {title!r}{hint}"
    elif rules and not by_certificate:
        names = ", ".join(certificate_names)
        shown = f"the certificate names {names}" if names else "a peer without a verified certificate"
        text = f"no rule for {address} allows {shown}, calling AE title {title!r}{hint}"
    else:
        reason = RejectReason.CALLING_AE_TITLE_NOT_RECOGNIZED
        text = f"calling AE title {title!r} from {address} matches no rule{hint}"
    return Rejection(reason, f"{text}: {_advice(title, address)}")


def _advice(title: str, address: str) -> str:
    """Describe how to allow the peer, quoted for a shell, because the peer chooses the title."""
    try:
        check_ae_title(title)
    except ValueError:
        return "this is not a valid AE title; only --allow-any accepts it"
    if title == _ANY:
        return 'in a rule, "*" means any AE title; only --allow-any accepts this peer'
    return f"allow it with --allow {shlex.quote(f'{title}@{address}')}"


def network(text: str) -> Network:
    """Parse an address or a network, "192.0.2.7" or "2001:db8::/32". Raises `ValueError`."""
    try:
        return ipaddress.ip_network(text)
    except ValueError:
        pass
    try:
        wider = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise ValueError(
            f"{text!r} is not an address or network, such as 192.0.2.7, 192.0.2.0/24 or 2001:db8::/32"
        ) from None
    raise ValueError(f"{text!r} has bits outside its network mask; the network is {wider}")


def verified_certificate(tls: ssl.SSLSocket | None) -> tuple[Mapping[str, Any] | None, str]:
    """Return the peer's certificate if it was verified, otherwise None, and its fingerprint."""
    # A server requests a certificate only to verify it.
    der = None if tls is None else tls.getpeercert(binary_form=True)
    if tls is None or der is None:
        return None, ""
    fingerprint = _FINGERPRINT + hashlib.sha256(der).hexdigest()
    try:
        return tls.getpeercert(), fingerprint
    except (ssl.SSLError, ValueError):
        # Its authority has signed a name that is not encoded as RFC 5280 4.2.1.6 defines. It still has a fingerprint.
        return {}, fingerprint


def certificate_names(certificate: Mapping[str, Any] | None, fingerprint: str = "") -> tuple[str, ...]:
    """Return what `PeerRule.certificate_names` may have of a verified certificate (RFC 5280 4.2.1.6, 4.1.2.6).

    `certificate` is as from `ssl.SSLSocket.getpeercert`, `fingerprint` as in `AssociationInfo`.
    """
    if certificate is None:
        return ()
    # Other forms are not hosts: their values may contain any text, and a directory name is a tuple.
    names = [value for form, value in certificate.get("subjectAltName", ()) if form in _HOST_FORMS]
    # A name in a certificate must not be mistaken for a common name, or for the fingerprint of another certificate.
    names = [name for name in names if not name.casefold().startswith((_FINGERPRINT, _COMMON_NAME))]
    subject: Iterable[tuple[tuple[str, str], ...]] = certificate.get("subject", ())
    common = [_COMMON_NAME + value for part in subject for key, value in part if key == "commonName"]
    return tuple(dict.fromkeys((*names, *common, *([fingerprint] if fingerprint else ()))))


_FINGERPRINT: Final = "sha256:"
_COMMON_NAME: Final = "cn:"
_HOST_FORMS: Final = ("DNS", "IP Address")
"""The forms of alternative names that identify a host, as `ssl` names them."""


def _comparable(name: str) -> str:
    name = name.casefold()
    if name.startswith(_FINGERPRINT):
        return _FINGERPRINT + name.removeprefix(_FINGERPRINT).replace(":", "")
    try:
        # `ssl` writes "2001:DB8:0:0:0:0:0:7".
        return str(ipaddress.ip_address(name))
    except ValueError:
        return name
