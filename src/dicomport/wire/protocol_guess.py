"""Guess another protocol by its first bytes: its name explains a wrong port or missing TLS."""

from __future__ import annotations

from typing import Final

from dicomport.wire.pdus import PDU_HEADER, Abort, AssociateRJ, AssociateRQ

UNRECOGNIZED_BYTES: Final = 64
"""Bytes kept of an unknown protocol: enough to recognize it, and to show them to a user."""

_BEGINNINGS: Final[dict[str, tuple[bytes, ...]]] = {
    # Content type and major version of a TLS record (RFC 8446 5.1).
    "TLS": tuple(bytes((kind, 3)) for kind in (20, 21, 22, 23)),
    "HTTP": (b"HTTP/1.", b"GET ", b"HEAD ", b"POST ", b"PUT ", b"OPTIONS ", b"CONNECT "),
    "SSH": (b"SSH-2.0-", b"SSH-1."),
    "FTP or SMTP": (b"220 ", b"220-"),
    "DICOM": (bytes((AssociateRQ.KIND, 0)), *(PDU_HEADER.pack(pdu.KIND, 4) + b"\0" for pdu in (AssociateRJ, Abort))),
}


def guess_protocol(first: bytes, *, missing: int = 0) -> str:
    """Return the name of the protocol that begins with these bytes, "" if unknown.

    `missing` bytes before them are lost. Fewer bytes make the guess less certain.
    """
    for name, beginnings in _BEGINNINGS.items():
        for known in (beginning[missing:] for beginning in beginnings):
            if first and known and (first.startswith(known) or known.startswith(first)):
                return name
    return ""
