"""Read PDUs and complete messages from a blocking socket."""

from __future__ import annotations

import socket
import time
from collections import deque
from typing import Final, TypeAlias

from dicomport.testing.messages import AnyCommand, Message
from dicomport.wire import PDU_HEADER, PDV_HEADER, PDataTF, Pdu, PresentationDataValue, decode, decode_command

Heard: TypeAlias = Message[AnyCommand] | Pdu
"""A complete message, or a PDU other than P-DATA-TF."""

_PIECE: Final = 1 << 16


class Incoming:
    """Reads PDUs and messages. Each method raises `TimeoutError` and, for invalid data, `ProtocolError`."""

    def __init__(self, sock: socket.socket, *, keep_data: bool) -> None:
        self.unfinished = b""
        """The bytes of an incomplete PDU at the end of the connection."""
        self._socket = sock
        self._keep_data = keep_data
        self._values: deque[PresentationDataValue] = deque()
        """The received PDVs of the next message: a P-DATA-TF may contain PDVs of two messages."""

    def pdu(self, timeout: float) -> Pdu | None:
        """Return the next PDU, complete within so many seconds, or None at the end of the connection (FIN or RST)."""
        deadline = time.monotonic() + timeout
        header = self._read(PDU_HEADER.size, deadline)
        body = self._read(PDU_HEADER.unpack(header)[1], deadline) if len(header) == PDU_HEADER.size else b""
        if len(header) < PDU_HEADER.size or len(body) < PDU_HEADER.unpack(header)[1]:
            self.unfinished += header + body
            return None
        return decode(header + body)

    def next(self, timeout: float) -> Heard | None:
        """Return the next message or PDU other than P-DATA-TF, each PDU within so many seconds."""
        command = bytearray()
        decoded: AnyCommand | None = None
        data: list[bytes] = []
        fragments: list[int] = []
        longest = 0
        while True:
            while not self._values:
                pdu = self.pdu(timeout)
                if not isinstance(pdu, PDataTF):
                    return pdu
                self._values.extend(pdu.values)
                longest = max(longest, sum(len(value.data) + PDV_HEADER.size for value in pdu.values))
            value = self._values.popleft()
            if value.is_command:
                command += value.data
                decoded = decode_command(bytes(command)) if value.is_last else None
            else:
                data.append(value.data if self._keep_data else b"")
                fragments.append(len(value.data))
            if decoded is not None and value.is_last and (not value.is_command or not decoded.has_data_set):
                return Message(value.context_id, decoded, b"".join(data), tuple(fragments), longest)

    def drain(self, timeout: float) -> int:
        """Read to the end of the connection and return the number of bytes."""
        count = sum(len(value.data) for value in self._values)
        while piece := self._read(_PIECE, time.monotonic() + timeout):
            count += len(piece)
        return count

    def _read(self, size: int, deadline: float) -> bytes:
        """Return so many bytes, fewer only at the end of the connection."""
        data = bytearray()
        while len(data) < size:
            # A timeout of 0 would make the socket non-blocking.
            self._socket.settimeout(max(deadline - time.monotonic(), 0.001))
            try:
                piece = self._socket.recv(min(size - len(data), _PIECE))
            except ConnectionError:
                break
            if not piece:
                break
            data += piece
        return bytes(data)
