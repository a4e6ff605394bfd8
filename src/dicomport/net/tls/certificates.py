"""Read the fields of a certificate (RFC 5280 4.1) from its DER: Python's `ssl` returns those of trusted ones only.

They are shown to users who want to know why a certificate is not trusted; this module does not verify anything.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Self

_MAX_LENGTH: Final = 4
"""Maximum bytes of a length in the long form, enough for 4 GiB."""

_VERSION, _EXTENSIONS = 0xA0, 0xA3
_UTC_TIME: Final = 0x17
_OCTET_STRING: Final = 0x04
_ALTERNATIVE_NAMES: Final = bytes.fromhex("551d11")
_DNS_NAME, _IP_ADDRESS = 0x82, 0x87

_ATTRIBUTES: Final = {
    bytes.fromhex("550403"): "CN",
    bytes.fromhex("550406"): "C",
    bytes.fromhex("550407"): "L",
    bytes.fromhex("550408"): "ST",
    bytes.fromhex("55040a"): "O",
    bytes.fromhex("55040b"): "OU",
}

_ENCODINGS: Final = {0x14: "latin-1", 0x1C: "utf-32-be", 0x1E: "utf-16-be"}
"""Encodings of the string types that are neither ASCII nor UTF-8, by tag."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """The fields of a certificate; its issuer chose the texts, so they are untrusted."""

    subject: str
    issuer: str
    not_before: datetime
    not_after: datetime
    names: tuple[str, ...]
    """The host names and IP addresses of its owner (RFC 5280 4.2.1.6)."""
    fingerprint: str
    """SHA-256 of the DER, in hexadecimal digits."""

    @classmethod
    def decode(cls, der: bytes) -> Self:
        """Decode a certificate. Raises `ValueError` if it is malformed."""
        (_, whole), *_ = _values(der)
        (_, body), *_ = _values(whole)
        fields = [(tag, value) for tag, value in _values(body) if tag != _VERSION]
        _, _, (_, issuer), (_, validity), (_, subject), *_ = fields
        not_before, not_after = (_time(tag, value) for tag, value in _values(validity))
        return cls(
            subject=_name(subject),
            issuer=_name(issuer),
            not_before=not_before,
            not_after=not_after,
            names=tuple(name for tag, value in fields if tag == _EXTENSIONS for name in _alternative_names(value)),
            fingerprint=hashlib.sha256(der).hexdigest(),
        )


def _values(der: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the consecutive values in the DER, each with its tag."""
    while der:
        if len(der) < 2:
            raise ValueError("the certificate is truncated")
        tag, size, start = der[0], der[1], 2
        if size & 0x80:
            start += size & 0x7F
            if start - 2 > _MAX_LENGTH:
                raise ValueError(f"a length in the certificate has more than {_MAX_LENGTH} bytes")
            size = int.from_bytes(der[2:start])
        if start + size > len(der):
            raise ValueError("the certificate is truncated")
        yield tag, der[start : start + size]
        der = der[start + size :]


def _name(der: bytes) -> str:
    """Format a distinguished name (RFC 5280 4.1.2.4), common attributes by their short names."""
    parts = []
    for _, relative in _values(der):
        for _, attribute in _values(relative):
            (_, kind), (tag, value), *_ = _values(attribute)
            text = value.decode(_ENCODINGS.get(tag, "utf-8"), "backslashreplace")
            parts.append(f"{_ATTRIBUTES.get(kind, kind.hex())}={text}")
    return ", ".join(parts)


def _time(tag: int, value: bytes) -> datetime:
    text = value.decode("ascii")
    if tag == _UTC_TIME:
        # RFC 5280 4.1.2.5.1: years of two digits are 1950 to 2049.
        text = ("19" if text >= "50" else "20") + text
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)


def _alternative_names(der: bytes) -> Iterator[str]:
    for _, extensions in _values(der):
        for _, extension in _values(extensions):
            (_, kind), *_, (tag, content) = _values(extension)
            if kind == _ALTERNATIVE_NAMES and tag == _OCTET_STRING:
                for _, names in _values(content):
                    for form, value in _values(names):
                        if form == _DNS_NAME:
                            yield value.decode("ascii", "backslashreplace")
                        elif form == _IP_ADDRESS:
                            yield str(ipaddress.ip_address(value))
