"""Read DER (X.690) as far as certificates and revocation lists need it (RFC 5280)."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

_MAX_LENGTH: Final = 4
"""Maximum bytes of a length in the long form, enough for 4 GiB."""

_UTC_TIME: Final = 0x17

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


def values(der: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the consecutive values in the DER, each with its tag. Raises `ValueError`."""
    start = 0
    while start < len(der):
        if len(der) < start + 2:
            raise ValueError("the DER is truncated")
        tag, size = der[start], der[start + 1]
        start += 2
        if size & 0x80:
            digits = size & 0x7F
            if digits > _MAX_LENGTH:
                raise ValueError(f"a length in the DER has more than {_MAX_LENGTH} bytes")
            size = int.from_bytes(der[start : start + digits])
            start += digits
        if start + size > len(der):
            raise ValueError("the DER is truncated")
        yield tag, der[start : start + size]
        start += size


def name_text(der: bytes) -> str:
    """Format a distinguished name (RFC 5280 4.1.2.4), common attributes by their short names."""
    parts = []
    for _, relative in values(der):
        for _, attribute in values(relative):
            (_, kind), (tag, value), *_ = values(attribute)
            text = value.decode(_ENCODINGS.get(tag, "utf-8"), "backslashreplace")
            parts.append(f"{_ATTRIBUTES.get(kind, kind.hex())}={text}")
    return ", ".join(parts)


def time_value(tag: int, value: bytes) -> datetime:
    """Return the time of a value of either type (RFC 5280 4.1.2.5)."""
    text = value.decode("ascii")
    if tag == _UTC_TIME:
        # RFC 5280 4.1.2.5.1: years of two digits are 1950 to 2049.
        text = ("19" if text >= "50" else "20") + text
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)
