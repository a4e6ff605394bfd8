"""Read the fields of a certificate (RFC 5280 4.1) from its DER: Python's `ssl` returns those of trusted ones only.

They are shown to users who want to know why a certificate is not trusted; this module does not verify anything.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Iterator
from datetime import datetime
from typing import Final, Self

from dicomport.net.tls.der import name_text, time_value, values
from dicomport.values import frozen

_VERSION, _EXTENSIONS = 0xA0, 0xA3
_OCTET_STRING: Final = 0x04
_ALTERNATIVE_NAMES: Final = bytes.fromhex("551d11")
_DNS_NAME, _IP_ADDRESS = 0x82, 0x87


@frozen(kw_only=True)
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
        (_, whole), *_ = values(der)
        (_, body), *_ = values(whole)
        fields = [(tag, value) for tag, value in values(body) if tag != _VERSION]
        _, _, (_, issuer), (_, validity), (_, subject), *_ = fields
        not_before, not_after = (time_value(tag, value) for tag, value in values(validity))
        return cls(
            subject=name_text(subject),
            issuer=name_text(issuer),
            not_before=not_before,
            not_after=not_after,
            names=tuple(name for tag, value in fields if tag == _EXTENSIONS for name in _alternative_names(value)),
            fingerprint=hashlib.sha256(der).hexdigest(),
        )


def _alternative_names(der: bytes) -> Iterator[str]:
    for _, extensions in values(der):
        for _, extension in values(extensions):
            (_, kind), *_, (tag, content) = values(extension)
            if kind == _ALTERNATIVE_NAMES and tag == _OCTET_STRING:
                for _, names in values(content):
                    for form, value in values(names):
                        if form == _DNS_NAME:
                            yield value.decode("ascii", "backslashreplace")
                        elif form == _IP_ADDRESS:
                            yield str(ipaddress.ip_address(value))
