"""Reading fields one after another, and writing them with their ranges checked."""

from __future__ import annotations

import struct
from collections import Counter
from typing import Self, TypeAlias

from dicomport.wire.deviations import Deviation
from dicomport.wire.errors import EncodeError, LimitExceededError, ProtocolError
from dicomport.wire.limits import DEFAULT_PROTOCOL_LIMITS, ProtocolLimits

__all__ = ["Buffer", "Cursor", "pack_ae_title", "pack_bytes16", "pack_text16", "pack_u8", "pack_u16", "pack_u32"]

Buffer: TypeAlias = bytes | bytearray | memoryview
"""Bytes to send or bytes received."""

_U16 = struct.Struct(">H")
_ITEM_HEADER = struct.Struct(">BxH")
_U32 = struct.Struct(">L")


class Cursor:
    """A position in bytes that were received whole.

    Every read names its field, so that the error says what was missing and where; `end()` must close each structure, so
    that no byte stays unread. Cursors of nested structures share the limits and the count of tolerated deviations.
    """

    __slots__ = ("_at", "_data", "_what", "limits", "notes")

    def __init__(
        self,
        data: bytes,
        what: str,
        *,
        limits: ProtocolLimits = DEFAULT_PROTOCOL_LIMITS,
        notes: Counter[Deviation] | None = None,
    ) -> None:
        self._data = data
        self._at = 0
        self._what = what
        self.limits = limits
        self.notes: Counter[Deviation] = Counter() if notes is None else notes

    @property
    def remaining(self) -> int:
        """How many bytes are left."""
        return len(self._data) - self._at

    def note(self, deviation: Deviation) -> None:
        """Count a departure from the standard that is put up with."""
        self.notes[deviation] += 1

    def fail(self, problem: str) -> ProtocolError:
        """Build the error for a value that this structure must not have."""
        return ProtocolError(f"{self._what}: {problem} (offset {self._at})")

    def limit(self, name: str, number: int) -> None:
        """Check that this structure has no more of something than the limit of that name allows."""
        most: int = getattr(self.limits, name)
        if number > most:
            what = name.replace("_", " ")
            raise LimitExceededError(f"{self._what}: {number} {what}, {most} at most (offset {self._at})", name)

    def take(self, size: int, field: str) -> bytes:
        """Read `size` bytes."""
        start = self._at
        stop = start + size
        if stop > len(self._data):
            raise self.fail(f"{field} needs {size} bytes, {self.remaining} are left")
        self._at = stop
        return self._data[start:stop]

    def u8(self, field: str) -> int:
        """Read an unsigned byte."""
        return self.take(1, field)[0]

    def u16(self, field: str) -> int:
        """Read an unsigned 16-bit big-endian number."""
        return int(_U16.unpack(self.take(2, field))[0])

    def u32(self, field: str) -> int:
        """Read an unsigned 32-bit big-endian number."""
        return int(_U32.unpack(self.take(4, field))[0])

    def rest(self) -> bytes:
        """Read all that is left."""
        rest = self._data[self._at :]
        self._at = len(self._data)
        return rest

    def bytes16(self, field: str) -> bytes:
        """Read a 16-bit length and as many bytes."""
        return self.take(self.u16(f"{field} length"), field)

    def uid(self, raw: bytes) -> str:
        """Read a UID leniently: padding that has no place in a PDU (PS3.8 Annex F) is taken off and counted."""
        text = raw.decode("latin-1")
        bare = text.strip("\0 ")
        if len(bare) != len(text):
            self.note(Deviation.UID_PADDING)
        return bare

    def ae_title(self, field: str) -> str:
        """Read a 16-byte AE title; leading and trailing spaces are not significant (PS3.8 9.3.2)."""
        text, nul, _ = self.take(16, field).decode("latin-1").partition("\0")
        if nul:
            self.note(Deviation.AE_TITLE_WITH_NUL)
        return text.strip(" ")

    def sub(self, size: int, what: str) -> Self:
        """Read `size` bytes as a structure of their own."""
        return type(self)(self.take(size, what), what, limits=self.limits, notes=self.notes)

    def item(self) -> tuple[int, Self]:
        """Read the header that items and sub-items share (type, reserved, length) and open the body."""
        kind, size = _ITEM_HEADER.unpack(self.take(_ITEM_HEADER.size, "item header"))
        return kind, self.sub(size, f"{self._what}, item {kind:02X}H")

    def end(self) -> None:
        """Check that everything was read."""
        if self.remaining:
            raise self.fail(f"{self.remaining} bytes are left over")


def pack_u8(value: int, field: str) -> bytes:
    """Write an unsigned byte."""
    return _ranged(value, 0xFF, field).to_bytes(1, "big")


def pack_u16(value: int, field: str) -> bytes:
    """Write an unsigned 16-bit big-endian number."""
    return _ranged(value, 0xFFFF, field).to_bytes(2, "big")


def pack_u32(value: int, field: str) -> bytes:
    """Write an unsigned 32-bit big-endian number."""
    return _ranged(value, 0xFFFFFFFF, field).to_bytes(4, "big")


def pack_bytes16(data: bytes, field: str) -> bytes:
    """Write a 16-bit length and the bytes."""
    return pack_u16(len(data), f"{field} length") + data


def pack_text16(text: str, field: str) -> bytes:
    """Write a 16-bit length and the text."""
    return pack_bytes16(_encoded(text, field), field)


def pack_ae_title(title: str, field: str) -> bytes:
    """Write an AE title, padded with spaces to its 16 bytes."""
    raw = _encoded(title, field)
    if len(raw) > 16:
        raise EncodeError(f"{field} {title!r} is longer than 16 characters")
    return raw.ljust(16, b" ")


def _ranged(value: int, top: int, field: str) -> int:
    if not 0 <= value <= top:
        raise EncodeError(f"{field} {value} is outside 0..{top}")
    return value


def _encoded(text: str, field: str) -> bytes:
    # Not ASCII: what a peer sent is given back to it as it was (PS3.8 9.3.3 on the reserved fields of the AC).
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        raise EncodeError(f"{field} {text!r} has characters that the field can't hold") from None
