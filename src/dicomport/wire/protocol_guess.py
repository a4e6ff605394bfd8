"""Other protocols, told by how they begin: who gets a port wrong, or TLS, is helped most by its name."""

from __future__ import annotations

from typing import Final

from dicomport.wire.pdus import PDU_HEADER, Abort, AssociateRJ, AssociateRQ

__all__ = ["FOREIGN_BYTES", "guess_protocol"]

FOREIGN_BYTES: Final = 64
"""As many bytes as are ever needed to tell a protocol, or to show a person."""

_BEGINNINGS: Final[dict[str, tuple[bytes, ...]]] = {
    # Content type and major version of a record (RFC 8446 5.1).
    "TLS": tuple(bytes((kind, 3)) for kind in (20, 21, 22, 23)),
    "HTTP": (b"HTTP/1.", b"GET ", b"HEAD ", b"POST ", b"PUT ", b"OPTIONS ", b"CONNECT "),
    "SSH": (b"SSH-2.0-", b"SSH-1."),
    "FTP or SMTP": (b"220 ", b"220-"),
    "DICOM": (bytes((AssociateRQ.KIND, 0)), *(PDU_HEADER.pack(pdu.KIND, 4) + b"\0" for pdu in (AssociateRJ, Abort))),
}


def guess_protocol(first: bytes, *, missing: int = 0) -> str:
    """Name the protocol that bytes begin, "" where it is none of those that are known here.

    `missing` bytes before them are not known any more. A few bytes are enough to be told by, but the fewer there are,
    the less they prove.
    """
    for name, beginnings in _BEGINNINGS.items():
        for known in (beginning[missing:] for beginning in beginnings):
            if first and known and (first.startswith(known) or known.startswith(first)):
                return name
    return ""
