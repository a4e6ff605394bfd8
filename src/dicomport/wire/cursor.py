"""Read consecutive fields, and encode fields with a check of their ranges."""

from __future__ import annotations

import struct
from collections import Counter
from typing import Self, TypeAlias

from dicomport.wire.deviations import Deviation
from dicomport.wire.errors import EncodeError, LimitExceededError, ProtocolError
from dicomport.wire.limits import DEFAULT_PROTOCOL_LIMITS, ProtocolLimits

Buffer: TypeAlias = bytes | bytearray | memoryview
"""Bytes to send or bytes received."""

_U16 = struct.Struct(">H")
_ITEM_HEADER = struct.Struct(">BxH")
_U32 = struct.Struct(">L")


class Cursor:
    """A position in a complete structure.

    Each read names its field, for the error message; `end` checks that no byte of a structure is left. Cursors of
    nested structures share the limits and the counts of tolerated deviations. All methods raise `ProtocolError`.
    """

    __slots__ = ("_at", "_data", "_name", "limits", "notes")

    def __init__(
        self,
        data: bytes,
        name: str,
        *,
        limits: ProtocolLimits = DEFAULT_PROTOCOL_LIMITS,
        notes: Counter[Deviation] | None = None,
    ) -> None:
        self._data = data
        self._at = 0
        self._name = name
        self.limits = limits
        self.notes: Counter[Deviation] = Counter() if notes is None else notes

    @property
    def remaining(self) -> int:
        """The number of bytes left."""
        return len(self._data) - self._at

    def note(self, deviation: Deviation) -> None:
        """Count a tolerated deviation."""
        self.notes[deviation] += 1

    def fail(self, problem: str) -> ProtocolError:
        """Return the error for an invalid value of this structure."""
        return ProtocolError(f"{self._name}: {problem} (offset {self._at})")

    def limit(self, name: str, number: int) -> None:
        """Check that a number does not exceed the limit of that name."""
        maximum: int = getattr(self.limits, name)
        if number > maximum:
            noun = name.replace("_", " ")
            raise LimitExceededError(
                f"{self._name}: {number} {noun}, the maximum is {maximum} (offset {self._at})", name
            )

    def read(self, size: int, field: str) -> bytes:
        """Read `size` bytes."""
        start = self._at
        stop = start + size
        if stop > len(self._data):
            raise self.fail(f"{field} needs {size} bytes, but only {self.remaining} are left")
        self._at = stop
        return self._data[start:stop]

    def u8(self, field: str) -> int:
        """Read an unsigned byte."""
        return self.read(1, field)[0]

    def u16(self, field: str) -> int:
        """Read an unsigned 16-bit big-endian number."""
        return int(_U16.unpack(self.read(2, field))[0])

    def u32(self, field: str) -> int:
        """Read an unsigned 32-bit big-endian number."""
        return int(_U32.unpack(self.read(4, field))[0])

    def rest(self) -> bytes:
        """Read all remaining bytes."""
        rest = self._data[self._at :]
        self._at = len(self._data)
        return rest

    def bytes16(self, field: str) -> bytes:
        """Read a 16-bit length and as many bytes."""
        return self.read(self.u16(f"{field} length"), field)

    def uid(self, raw: bytes) -> str:
        """Return a UID without padding; padding is counted, as a PDU must have none (PS3.8 Annex F)."""
        text = raw.decode("latin-1")
        bare = text.strip("\0 ")
        if len(bare) != len(text):
            self.note(Deviation.UID_PADDING)
        return bare

    def ae_title(self, field: str) -> str:
        """Read a 16-byte AE title; leading and trailing spaces are not significant (PS3.8 9.3.2)."""
        text, nul, _ = self.read(16, field).decode("latin-1").partition("\0")
        if nul:
            self.note(Deviation.AE_TITLE_WITH_NUL)
        return text.strip(" ")

    def sub(self, size: int, name: str) -> Self:
        """Read `size` bytes and return a cursor over them."""
        return type(self)(self.read(size, name), name, limits=self.limits, notes=self.notes)

    def item(self) -> tuple[int, Self]:
        """Read the header of an item or sub-item (type, reserved, length); return its type and its body's cursor."""
        kind, size = _ITEM_HEADER.unpack(self.read(_ITEM_HEADER.size, "item header"))
        return kind, self.sub(size, f"{self._name}, item {kind:02X}H")

    def end(self) -> None:
        """Check that everything was read."""
        if self.remaining:
            raise self.fail(f"{self.remaining} bytes are left over")


def pack_u8(value: int, field: str) -> bytes:
    """Encode an unsigned byte."""
    return _ranged(value, 0xFF, field).to_bytes(1, "big")


def pack_u16(value: int, field: str) -> bytes:
    """Encode an unsigned 16-bit big-endian number."""
    return _ranged(value, 0xFFFF, field).to_bytes(2, "big")


def pack_u32(value: int, field: str) -> bytes:
    """Encode an unsigned 32-bit big-endian number."""
    return _ranged(value, 0xFFFFFFFF, field).to_bytes(4, "big")


def pack_bytes16(data: bytes, field: str) -> bytes:
    """Encode a 16-bit length and the bytes."""
    return pack_u16(len(data), f"{field} length") + data


def pack_text16(text: str, field: str) -> bytes:
    """Encode a 16-bit length and the text."""
    return pack_bytes16(_encoded(text, field), field)


def pack_ae_title(title: str, field: str) -> bytes:
    """Encode an AE title, padded with spaces to its 16 bytes."""
    raw = _encoded(title, field)
    if len(raw) > 16:
        raise EncodeError(f"{field} {title!r} has {len(raw)} characters, the maximum is 16")
    return raw.ljust(16, b" ")


def _ranged(value: int, maximum: int, field: str) -> int:
    if not 0 <= value <= maximum:
        raise EncodeError(f"{field} {value} is not between 0 and {maximum}")
    return value


def _encoded(text: str, field: str) -> bytes:
    # Not ASCII, because an A-ASSOCIATE-AC repeats the peer's bytes in its reserved fields (PS3.8 9.3.3).
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        raise EncodeError(f"{field} {text!r} has invalid characters, expected Latin-1") from None
