"""Split received bytes into frames: control PDUs complete, P-DATA-TF streamed (PS3.8 9.3.1 and 9.3.5).

Theory of operation
-------------------
The caller owns the receive buffer and lends it with `feed` until `next_frame` returns None. Bytes of fragments are
never copied: each `Fragment` holds a view of the lent buffer, however the bytes were split in transit. Only control
PDUs and incomplete headers are copied, into `_partial`, because they may span several buffers. A header is checked
before its body is awaited, and nothing is allocated from a declared length: `_partial` grows with the bytes received,
up to `associate_pdu_bytes`. So the memory of a framer is bounded for any peer.
"""

from __future__ import annotations

import struct
from collections import Counter
from typing import NamedTuple, TypeAlias

from dicomport.values import frozen
from dicomport.wire import (
    COMMAND,
    LAST,
    P_DATA_HEADERS,
    PDU_HEADER,
    PDV_HEADER,
    UNRECOGNIZED_BYTES,
    Abort,
    AbortReason,
    AssociateAC,
    AssociateRJ,
    AssociateRQ,
    Deviation,
    LimitExceededError,
    PDataTF,
    ProtocolError,
    ProtocolLimits,
    ReleaseRP,
    ReleaseRQ,
    guess_protocol,
)

_FIXED_LENGTH = 4
_FIXED = frozenset((AssociateRJ.KIND, ReleaseRQ.KIND, ReleaseRP.KIND, Abort.KIND))
_ASSOCIATE = frozenset((AssociateRQ.KIND, AssociateAC.KIND))


@frozen
class ControlPdu:
    """A complete PDU other than P-DATA-TF, copied, with its header; of an unexpected PDU, only its first bytes."""

    kind: int
    data: bytes


@frozen
class PDataHeader:
    """The header of a P-DATA-TF; its fragments follow."""


class Fragment(NamedTuple):
    """The received part of one PDV's fragment; `data` is a view of the receive buffer."""

    context_id: int
    is_command: bool
    is_last: bool
    """Whether this is the last fragment of its command set or data set (message control header, PS3.8 E.2)."""
    ended: bool
    """Whether this part completes the fragment."""
    data: memoryview


Frame: TypeAlias = ControlPdu | PDataHeader | Fragment


class Framer:
    """Splits a byte stream into frames.

    Lend a buffer with `feed`, then call `next_frame` until it returns None; only then reuse the buffer. After a
    `ProtocolError` there are no more frames, because the start of the next PDU is unknown.
    """

    def __init__(self, limits: ProtocolLimits, notes: Counter[Deviation]) -> None:
        self._local_maximum = limits.p_data_pdu_bytes
        """Maximum bytes of a P-DATA-TF's body without a deviation."""
        self.unexpected: frozenset[int] = frozenset()
        """Types of A-ASSOCIATE PDU not allowed now: the framer returns such a PDU's header and skips its body."""
        self.unrecognized = b""
        """The first bytes of an unknown PDU type: probably another protocol."""
        self._limits = limits
        self._notes = notes
        self._data = memoryview(b"")
        self._at = self._end = 0
        """Position in the lent buffer, and its length."""
        self._partial = bytearray()
        """An incomplete header or control PDU."""
        self._broken = False
        self._skipping = 0
        """Bytes left of a skipped PDU."""
        self._pdu_left = 0
        """Bytes left of the current P-DATA-TF after the current fragment."""
        self._fragment_left = 0
        """Bytes left of the current fragment."""
        self._fragment = (0, False, False)
        """The current fragment: presentation context id, whether it is of a command, whether it is the last."""
        self._idle = 0
        """P-DATA-TFs and fragments in a row without a byte of data."""

    def feed(self, data: memoryview) -> None:
        """Lend a buffer. The previous buffer must have been read to its end."""
        self._data = data
        self._at = 0
        self._end = len(data)

    def enter(self) -> tuple[memoryview, int] | None:
        """Leave the next PDUs to the caller, which reads them itself until it calls `leave`.

        Return the lent bytes that are not read yet, and the maximum length in bytes of a P-DATA-TF's body without a
        deviation. None inside of a PDU.
        """
        if self._partial or self._fragment_left or self._pdu_left or self._skipping or self._broken:
            return None
        return self._data[self._at : self._end], self._local_maximum

    def leave(self, rest: memoryview, fragment_left: int, fragment: tuple[int, bool, bool]) -> None:
        """Read the following bytes; the first `fragment_left` of them belong to a fragment, the last of its PDU.

        `fragment` is its presentation context id, whether it is of a command, and whether it is the last.
        """
        self.feed(rest)
        self._idle = self._pdu_left = 0
        self._fragment_left, self._fragment = fragment_left, fragment

    def set_local_maximum(self, maximum_length: int) -> None:
        """Set the maximum length in bytes that this side announced (PS3.8 D.1); 0 means no limit."""
        if maximum_length:
            self._local_maximum = min(maximum_length, self._limits.p_data_pdu_bytes)

    def next_frame(self, *, in_transfer: bool = False) -> Frame | None:
        """Return the next frame, or None if more bytes are needed. Raises `ProtocolError`.

        During data transfer (`in_transfer`) a P-DATA-TF is expected, and its header is not returned as a frame.
        """
        if self._broken or self._at == self._end:
            return None
        if self._fragment_left:
            return self._continue_fragment()
        if self._skipping:
            self._skip()
        try:
            while True:
                if self._pdu_left:
                    return self._start_fragment()
                if in_transfer and self._read_both_headers():
                    return self._continue_fragment()
                frame = self._start_pdu()
                if frame is not _P_DATA_HEADER or not in_transfer:
                    return frame
        except ProtocolError:
            self._broken = True
            raise

    def _start_pdu(self) -> Frame | None:
        # The type byte is checked alone: in another protocol, no length follows (PS3.8 9.3.1).
        if self._partial:
            kind = self._partial[0]
        elif self._at < self._end:
            kind = self._data[self._at]
        else:
            return None
        if kind == PDataTF.KIND:
            return self._start_p_data()
        if kind not in _KNOWN:
            self.unrecognized = bytes(self._partial + self._data[self._at : self._at + UNRECOGNIZED_BYTES])
            protocol = guess_protocol(bytes((kind,)))
            hint = f": does the peer use {protocol}?" if protocol else ""
            raise ProtocolError(f"unknown PDU type {kind:02X}H{hint}", AbortReason.UNRECOGNIZED_PDU)
        if not self._gather(PDU_HEADER.size):
            return None
        size = PDU_HEADER.unpack_from(self._partial)[1]
        if kind in _FIXED and size != _FIXED_LENGTH:
            raise ProtocolError(f"PDU type {kind:02X}H: length {size} bytes, expected {_FIXED_LENGTH}")
        maximum = self._limits.associate_pdu_bytes
        if size > maximum:
            raise LimitExceededError(
                f"PDU type {kind:02X}H: length {size} bytes, the maximum is {maximum}", "associate_pdu_bytes"
            )
        if kind in self.unexpected:
            self._skipping = PDU_HEADER.size + size - len(self._partial)
        elif not self._gather(PDU_HEADER.size + size):
            return None
        data = bytes(self._partial)
        self._partial.clear()
        return ControlPdu(kind, data)

    def _start_p_data(self) -> Frame | None:
        header = self._header(PDU_HEADER)
        if header is None:
            return None
        self._pdu_left = header[1]
        self._check_p_data(self._pdu_left)
        return _P_DATA_HEADER

    def _check_p_data(self, size: int) -> None:
        if size > self._limits.p_data_pdu_bytes:
            maximum = self._limits.p_data_pdu_bytes
            raise LimitExceededError(f"P-DATA-TF: length {size} bytes, the maximum is {maximum}", "p_data_pdu_bytes")
        if size > self._local_maximum:
            self._notes[Deviation.PDU_LONGER_THAN_ANNOUNCED] += 1
        if size == 0:
            self._notes[Deviation.EMPTY_P_DATA] += 1
            self._count_idle()

    def _read_both_headers(self) -> bool:
        """Read the headers of a P-DATA-TF and its PDV at once, if both are buffered and have common values."""
        at = self._at
        if self._partial or at + _BOTH_HEADERS >= self._end:
            return False
        kind, length, size, context_id, control = P_DATA_HEADERS.unpack_from(self._data, at)
        left = length - PDV_HEADER.size
        if kind != _P_DATA or length > self._local_maximum or not 2 < size <= left + 2 or size % 2:
            return False
        self._at = at + _BOTH_HEADERS
        self._idle = 0
        self._begin_fragment(left, size - 2, context_id, control)
        return True

    def _start_fragment(self) -> Frame | None:
        left = self._pdu_left - PDV_HEADER.size
        if left < 0:
            raise ProtocolError(f"P-DATA-TF: {self._pdu_left} bytes are too few for a PDV")
        header = self._header(PDV_HEADER)
        if header is None:
            return None
        size, context_id, control = header
        # The length of a PDV includes the two bytes of context id and control header (PS3.8 9.3.5.1).
        if not 2 <= size <= left + 2:
            raise ProtocolError(f"PDV length {size} with {left + 2} bytes left in its P-DATA-TF")
        self._begin_fragment(left, size - 2, context_id, control)
        if size % 2:
            self._notes[Deviation.ODD_FRAGMENT] += 1
        if size > 2:
            self._idle = 0
            return self._continue_fragment() if self._at < self._end else None
        self._notes[Deviation.EMPTY_FRAGMENT] += 1
        self._count_idle()
        return Fragment(*self._fragment, True, memoryview(b""))

    def _begin_fragment(self, pdu_left: int, size: int, context_id: int, control: int) -> None:
        self._pdu_left = pdu_left - size
        self._fragment_left = size
        self._fragment = context_id, bool(control & COMMAND), bool(control & LAST)

    def _continue_fragment(self) -> Fragment:
        at, left = self._at, self._fragment_left
        data = self._data[at : at + left]
        size = len(data)
        self._at = at + size
        self._fragment_left = left = left - size
        context_id, is_command, is_last = self._fragment
        return Fragment(context_id, is_command, is_last, not left, data)

    def _count_idle(self) -> None:
        self._idle += 1
        if self._idle > self._limits.idle_fragments:
            raise LimitExceededError(f"{self._idle} fragments in a row without data", "idle_fragments")

    def _skip(self) -> None:
        self._skipping -= len(self._read(self._skipping))

    def _header(self, layout: struct.Struct) -> tuple[int, ...] | None:
        """Return a header, or None if it is incomplete."""
        at = self._at
        end = at + layout.size
        if end <= self._end and not self._partial:
            self._at = end
            return layout.unpack_from(self._data, at)
        if not self._gather(layout.size):
            return None
        header = layout.unpack_from(self._partial)
        self._partial.clear()
        return header

    def _gather(self, size: int) -> bool:
        """Extend the partial frame to `size` bytes; return whether the lent buffer had enough."""
        missing = size - len(self._partial)
        if missing > 0:
            self._partial += self._read(missing)
        return len(self._partial) >= size

    def _read(self, maximum: int) -> memoryview:
        """Return up to `maximum` bytes of the lent buffer."""
        data = self._data[self._at : self._at + maximum]
        self._at += len(data)
        return data


_P_DATA_HEADER = PDataHeader()
_P_DATA = PDataTF.KIND
_BOTH_HEADERS = P_DATA_HEADERS.size
_KNOWN = _FIXED | _ASSOCIATE | {PDataTF.KIND}
