"""Bytes of PDUs and messages, typed by hand: the core is tested against the standard's layouts, not its own encoder."""

import struct
from collections.abc import Iterable
from typing import Final

VERIFICATION: Final = "1.2.840.10008.1.1"
CT: Final = "1.2.840.10008.5.1.4.1.1.2"
IMPLICIT: Final = "1.2.840.10008.1.2"
EXPLICIT: Final = "1.2.840.10008.1.2.1"
APPLICATION_CONTEXT: Final = "1.2.840.10008.3.1.1.1"

# Message control headers (PS3.8 E.2).
DATA, COMMAND, LAST_DATA, LAST_COMMAND = 0, 1, 2, 3

# PDUs of four bytes (PS3.8 9.3.4, 9.3.6, 9.3.7, 9.3.8).
REJECT: Final = bytes.fromhex("03 00 00000004 00 01 01 01")
RELEASE_RQ: Final = bytes.fromhex("05 00 00000004 00000000")
RELEASE_RP: Final = bytes.fromhex("06 00 00000004 00000000")
USER_ABORT: Final = bytes.fromhex("07 00 00000004 00 00 00 00")
UNRECOGNIZED: Final = bytes.fromhex("07 00 00000004 00 00 02 01")
UNEXPECTED: Final = bytes.fromhex("07 00 00000004 00 00 02 02")
INVALID: Final = bytes.fromhex("07 00 00000004 00 00 02 06")


def pdu(kind: int, body: bytes = b"", *, length: int | None = None) -> bytes:
    """Return an encoded PDU, optionally with a false length (PS3.8 9.3.1)."""
    return struct.pack(">BBL", kind, 0, len(body) if length is None else length) + body


def pdv(context_id: int, control: int, data: bytes = b"", *, length: int | None = None) -> bytes:
    """Return an encoded PDV item (PS3.8 9.3.5.1)."""
    return struct.pack(">LBB", len(data) + 2 if length is None else length, context_id, control) + data


def p_data(*values: bytes) -> bytes:
    """Return an encoded P-DATA-TF (PS3.8 9.3.5)."""
    return pdu(4, b"".join(values))


def item(kind: int, body: bytes | str) -> bytes:
    """Return an encoded item or sub-item (PS3.8 9.3.2)."""
    raw = body.encode("latin-1") if isinstance(body, str) else body
    return struct.pack(">BBH", kind, 0, len(raw)) + raw


def _associate(kind: int, version: int, contexts: bytes, maximum_length: int) -> bytes:
    return pdu(
        kind,
        struct.pack(">HH16s16s32s", version, 0, b"DICOMPORT       ", b"MODALITY        ", bytes(32))
        + item(0x10, APPLICATION_CONTEXT)
        + contexts
        + item(0x50, item(0x51, struct.pack(">L", maximum_length)) + item(0x52, "1.2.3.5")),
    )


def associate_rq(*, version: int = 1, maximum_length: int = 16384) -> bytes:
    """Return an A-ASSOCIATE-RQ that proposes Verification as 1 and CT as 3 (PS3.8 9.3.2)."""
    contexts = item(0x20, bytes((1, 0, 0, 0)) + item(0x30, VERIFICATION) + item(0x40, IMPLICIT)) + item(
        0x20, bytes((3, 0, 0, 0)) + item(0x30, CT) + item(0x40, EXPLICIT) + item(0x40, IMPLICIT)
    )
    return _associate(1, version, contexts, maximum_length)


def associate_ac(*, maximum_length: int = 16384) -> bytes:
    """Return an A-ASSOCIATE-AC that accepts Verification as 1 and CT as 3 (PS3.8 9.3.3)."""
    contexts = item(0x21, bytes((1, 0, 0, 0)) + item(0x40, IMPLICIT)) + item(
        0x21, bytes((3, 0, 0, 0)) + item(0x40, EXPLICIT)
    )
    return _associate(2, 1, contexts, maximum_length)


def command_set(elements: dict[int, bytes]) -> bytes:
    """Return an encoded command set with its group length (PS3.7 6.3.1)."""
    body = b"".join(struct.pack("<HHL", 0, number, len(value)) + value for number, value in elements.items())
    return struct.pack("<HHLL", 0, 0, 4, len(body)) + body


def number(value: int) -> bytes:
    """Write a value of VR US."""
    return struct.pack("<H", value)


def uid(text: str) -> bytes:
    """Write a value of VR UI."""
    return text.encode("ascii") + bytes(len(text) % 2)


def echo_elements(message_id: int = 7) -> dict[int, bytes]:
    """List the elements of a C-ECHO-RQ (PS3.7 9.3.5.1)."""
    return {
        0x0002: uid(VERIFICATION),
        0x0100: number(0x0030),
        0x0110: number(message_id),
        0x0800: number(0x0101),
    }


def store_elements(message_id: int = 7, *, data_set_type: int = 0) -> dict[int, bytes]:
    """List the elements of a C-STORE-RQ (PS3.7 9.3.1.1)."""
    return {
        0x0002: uid(CT),
        0x0100: number(0x0001),
        0x0110: number(message_id),
        0x0700: number(0),
        0x0800: number(data_set_type),
        0x1000: uid("1.2.3.4.5"),
    }


ECHO_SET: Final = command_set(echo_elements())
STORE_SET: Final = command_set(store_elements())
ECHO_PDU: Final = p_data(pdv(1, LAST_COMMAND, ECHO_SET))
STORE_PDU: Final = p_data(pdv(3, LAST_COMMAND, STORE_SET))


def one_by_one(data: bytes) -> Iterable[bytes]:
    """Cut bytes into pieces of one."""
    return (data[at : at + 1] for at in range(len(data)))
