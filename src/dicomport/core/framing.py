"""Bytes as they arrive to frames: control PDUs whole, P-DATA-TF streamed (PS3.8 9.3.1 and 9.3.5).

The law of this file: a header is judged before its body is waited for, nothing is allocated from a declared length,
and a data set's bytes are handed on as views of the buffer that they arrived in.
"""

from __future__ import annotations

import struct
from collections import Counter
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from dicomport.wire import (
    COMMAND,
    FOREIGN_BYTES,
    LAST,
    P_DATA_HEADERS,
    PDU_HEADER,
    PDV_HEADER,
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

__all__ = ["ControlPdu", "Fragment", "Frame", "Framer", "PDataHeader"]

_FIXED_LENGTH = 4
_FIXED = frozenset((AssociateRJ.KIND, ReleaseRQ.KIND, ReleaseRP.KIND, Abort.KIND))
_ASSOCIATE = frozenset((AssociateRQ.KIND, AssociateAC.KIND))


@dataclass(frozen=True, slots=True)
class ControlPdu:
    """A whole PDU other than P-DATA-TF, as bytes of its own, header included; of an unexpected one, how it begins."""

    kind: int
    data: bytes


@dataclass(frozen=True, slots=True)
class PDataHeader:
    """The header of a P-DATA-TF; its fragments follow."""


class Fragment(NamedTuple):
    """As much of one PDV's fragment as has arrived; `data` is a view of the receive buffer."""

    context_id: int
    is_command: bool
    is_last: bool
    """The last fragment of its command set or data set, as the message control header says (PS3.8 E.2)."""
    ended: bool
    """No more of this fragment comes."""
    data: memoryview


Frame: TypeAlias = ControlPdu | PDataHeader | Fragment


class Framer:
    """Cuts a byte stream into frames.

    `feed` lends it a buffer, which it reads through `next_frame` until that gives None; only then may the buffer be
    used again. After it has raised a `ProtocolError` there are no more frames: where the next PDU begins is not known
    any more.
    """

    def __init__(self, limits: ProtocolLimits, notes: Counter[Deviation]) -> None:
        self._longest = limits.p_data_pdu_bytes
        """Of a P-DATA-TF's body, bytes: more is at least noted."""
        self.unexpected: frozenset[int] = frozenset()
        """Kinds of A-ASSOCIATE PDU that have no place now: of one, the header is given, and the body passed over."""
        self.foreign = b""
        """How something began that is no PDU, once that has come."""
        self._limits = limits
        self._notes = notes
        self._data = memoryview(b"")
        self._at = self._end = 0
        """How much of what was lent has been read, and how much there is."""
        self._partial = bytearray()
        """A header or a control PDU of which only the beginning has come."""
        self._broken = False
        self._unwanted = 0
        """Bytes of a PDU that is passed over that are still to come."""
        self._pdu_left = 0
        """Bytes of the current P-DATA-TF that are still to come after the current fragment."""
        self._fragment_left = 0
        """Bytes of the current fragment that are still to come."""
        self._fragment = (0, False, False)
        """Presentation context id, whether it is of a command, and whether it is the last one: the current fragment."""
        self._idle = 0
        """P-DATA-TFs and fragments in a row without a byte of data."""

    def feed(self, data: memoryview) -> None:
        """Lend a buffer. All that was lent before must have been read."""
        self._data = data
        self._at = 0
        self._end = len(data)

    def set_local_maximum(self, maximum_length: int) -> None:
        """Take note of the maximum length that this side announced (PS3.8 D.1); 0 is no limit."""
        if maximum_length:
            self._longest = min(maximum_length, self._limits.p_data_pdu_bytes)

    def next_frame(self, *, in_transfer: bool = False) -> Frame | None:
        """Read one frame, or None where more bytes are needed. Raises `ProtocolError`.

        While data is transferred (`in_transfer`), a P-DATA-TF is in its place, and its header is no frame of its own.
        """
        if self._broken or self._at == self._end:
            return None
        if self._fragment_left:
            return self._continue_fragment()
        if self._unwanted:
            self._pass_over()
        try:
            while True:
                if self._pdu_left:
                    return self._start_fragment()
                if in_transfer and self._starts_as_usual():
                    return self._continue_fragment()
                frame = self._start_pdu()
                if frame is not _P_DATA_HEADER or not in_transfer:
                    return frame
        except ProtocolError:
            self._broken = True
            raise

    def _start_pdu(self) -> Frame | None:
        # The type is judged by its byte alone: what speaks another protocol says no length (PS3.8 9.3.1).
        if self._partial:
            kind = self._partial[0]
        elif self._at < self._end:
            kind = self._data[self._at]
        else:
            return None
        if kind == PDataTF.KIND:
            return self._start_p_data()
        if kind not in _KNOWN:
            self.foreign = bytes(self._partial + self._data[self._at : self._at + FOREIGN_BYTES])
            protocol = guess_protocol(bytes((kind,)))
            hint = f": is {protocol} spoken here?" if protocol else ""
            raise ProtocolError(f"PDU type {kind:02X}H is unknown{hint}", AbortReason.UNRECOGNIZED_PDU)
        if not self._gather(PDU_HEADER.size):
            return None
        size = PDU_HEADER.unpack_from(self._partial)[1]
        if kind in _FIXED and size != _FIXED_LENGTH:
            raise ProtocolError(f"PDU type {kind:02X}H: a length of {size} bytes, it has {_FIXED_LENGTH}")
        if size > self._limits.associate_pdu_bytes:
            most = self._limits.associate_pdu_bytes
            raise LimitExceededError(
                f"PDU type {kind:02X}H: a length of {size} bytes, {most} at most", "associate_pdu_bytes"
            )
        if kind in self.unexpected:
            self._unwanted = PDU_HEADER.size + size - len(self._partial)
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
        self._judge_p_data(self._pdu_left)
        return _P_DATA_HEADER

    def _judge_p_data(self, size: int) -> None:
        if size > self._limits.p_data_pdu_bytes:
            most = self._limits.p_data_pdu_bytes
            raise LimitExceededError(f"P-DATA-TF of {size} bytes, {most} at most", "p_data_pdu_bytes")
        if size > self._longest:
            self._notes[Deviation.PDU_LONGER_THAN_ANNOUNCED] += 1
        if size == 0:
            self._notes[Deviation.EMPTY_P_DATA] += 1
            self._count_idle()

    def _starts_as_usual(self) -> bool:
        """Read the headers of a P-DATA-TF and of its PDV at once, if both have come with nothing unusual in them."""
        at = self._at
        if self._partial or at + _BOTH_HEADERS >= self._end:
            return False
        kind, length, size, context_id, control = P_DATA_HEADERS.unpack_from(self._data, at)
        left = length - PDV_HEADER.size
        if kind != _P_DATA or length > self._longest or not 2 < size <= left + 2 or size % 2:
            return False
        self._at = at + _BOTH_HEADERS
        self._idle = 0
        self._begin_fragment(left, size - 2, context_id, control)
        return True

    def _start_fragment(self) -> Frame | None:
        left = self._pdu_left - PDV_HEADER.size
        if left < 0:
            raise ProtocolError(f"P-DATA-TF: {self._pdu_left} bytes are no PDV")
        header = self._header(PDV_HEADER)
        if header is None:
            return None
        size, context_id, control = header
        # The PDV's own length counts the two bytes of context id and control header (PS3.8 9.3.5.1).
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

    def _pass_over(self) -> None:
        self._unwanted -= len(self._read(self._unwanted))

    def _header(self, layout: struct.Struct) -> tuple[int, ...] | None:
        """Read a header, once all of it is there."""
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
        """Bring the partial frame to `size` bytes, as far as what was lent allows."""
        missing = size - len(self._partial)
        if missing > 0:
            self._partial += self._read(missing)
        return len(self._partial) >= size

    def _read(self, most: int) -> memoryview:
        """Take up to so many bytes of what was lent."""
        data = self._data[self._at : self._at + most]
        self._at += len(data)
        return data


_P_DATA_HEADER = PDataHeader()
_P_DATA = PDataTF.KIND
_BOTH_HEADERS = P_DATA_HEADERS.size
_KNOWN = _FIXED | _ASSOCIATE | {PDataTF.KIND}
