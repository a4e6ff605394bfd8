"""C-STORE messages as bytes, valid, odd and hostile, for a comparison of both ways of an association."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Final

from dicomport.standard import VERIFICATION, sop_classes
from dicomport.testing import encode_message
from dicomport.wire import CEchoRQ, CStoreRQ, ReleaseRQ, encode_command

CT: Final = sop_classes.CTImageStorage.uid
MR: Final = sop_classes.MRImageStorage.uid
STORE: Final = 3
"""The context id of CT Image Storage."""
RELEASE: Final = ReleaseRQ().encode()


def store(number: int, size: int = 3000, maximum: int = 16384, **changes: Any) -> bytes:
    """Encode a C-STORE message."""
    command = CStoreRQ(
        message_id=number % 65536, affected_sop_class_uid=CT, affected_sop_instance_uid=f"1.2.3.{number}"
    )
    data = bytes(number & 0xFF for _ in range(size & ~1))
    return encode_message(STORE, dataclasses.replace(command, **changes), data, maximum_length=maximum)


def cut(stream: bytes, places: Sequence[int]) -> list[bytes]:
    """Cut a stream at places."""
    at = sorted({place % (len(stream) or 1) for place in places})
    return [stream[start:stop] for start, stop in zip([0, *at], [*at, len(stream)], strict=True) if start < stop]


_COMMAND: Final = CStoreRQ(message_id=7, affected_sop_class_uid=CT, affected_sop_instance_uid="1.2.3.77")


def _pdus(*parts: tuple[int, bytes]) -> bytes:
    """Encode PDVs with their control bytes, all in one P-DATA-TF."""
    body = b"".join((len(data) + 2).to_bytes(4, "big") + bytes((STORE, control)) + data for control, data in parts)
    return b"\x04\0" + len(body).to_bytes(4, "big") + body


UNCOMMON: Final = {
    "another command": encode_message(1, CEchoRQ(message_id=7, affected_sop_class_uid=VERIFICATION)),
    "release": RELEASE,
    "abort": b"\x07\0\0\0\0\x04\0\0\0\0",
    "unknown PDU": b"\x09\0\0\0\0\x04\0\0\0\0",
    "association request": b"\x01\0\0\0\0\x04\0\0\0\0",
    "command and data in one PDU": _pdus((3, encode_command(_COMMAND)), (2, bytes(2000))),
    "command in two fragments": _pdus((1, encode_command(_COMMAND)[:40]), (3, encode_command(_COMMAND)[40:]))
    + _pdus((2, bytes(2000))),
    "odd fragment": _pdus((3, encode_command(_COMMAND))) + _pdus((0, bytes(1501))) + _pdus((2, bytes(499))),
    "empty fragment": _pdus((3, encode_command(_COMMAND))) + _pdus((0, b"")) + _pdus((2, bytes(499))),
    "empty last fragment": _pdus((3, encode_command(_COMMAND))) + _pdus((0, bytes(2000))) + _pdus((2, b"")),
    "empty PDU": b"\x04\0\0\0\0\0",
    "short fragments": _pdus((3, encode_command(_COMMAND))) + _pdus((0, b"ab")) * 20 + _pdus((2, b"cd")),
    "reserved bits of the control byte": _pdus((7, encode_command(_COMMAND))) + _pdus((10, bytes(2000))),
    "command inside a data set": _pdus((3, encode_command(_COMMAND))) + _pdus((3, encode_command(_COMMAND))),
    "data set without a command": _pdus((2, bytes(2000))),
    "data set on another context": _pdus((3, encode_command(_COMMAND)))
    + _pdus((2, bytes(2000))).replace(b"\x03\x02", b"\x01\x02", 1),
    "context that was not accepted": _pdus((3, encode_command(_COMMAND))).replace(b"\x03\x03", b"\x09\x03", 1),
    "PDU longer than announced": encode_message(STORE, _COMMAND, bytes(300_000), maximum_length=300_000),
    "PDV longer than its PDU": _pdus((3, encode_command(_COMMAND))).replace(b"\0\0\0", b"\0\0\1", 1),
    "no data set": encode_message(STORE, dataclasses.replace(_COMMAND, has_data_set=False)),
    "another SOP Class": store(7, affected_sop_class_uid=MR),
    "move originator": store(7, move_originator_ae_title="MOVER", move_originator_message_id=3),
    "UID of letters": store(7, affected_sop_instance_uid="1.2.3.x"),
    "UID too long": store(7, affected_sop_instance_uid="1." * 32 + "1"),
    "UID padded by a space": _pdus((3, encode_command(_COMMAND).replace(b"1.2.3.77", b"1.2.3.7 "))) + _pdus((2, b"ab")),
    "UID padded by two NULs": _pdus((3, encode_command(_COMMAND).replace(b"1.2.3.77", b"1.2.3.\0\0")))
    + _pdus((2, b"ab")),
    "wrong group length": _pdus((3, b"\0\0\0\0\4\0\0\0\1\0\0\0" + encode_command(_COMMAND)[12:])) + _pdus((2, b"ab")),
    "long command": encode_message(STORE, dataclasses.replace(_COMMAND, affected_sop_instance_uid="1" * 3000), b"ab"),
    "data set too long": store(7, 9000),
}
