"""Receive by C-STORE, check nothing, and answer success: python -m bench.programs.bare_scp PORT FOLDER.

The minimum work of a receiver in Python for each instance, for one correct sender: its processor time is the floor for
any other.
"""

from __future__ import annotations

import os
import re
import socket
import struct
import sys
from typing import Final

from dicomport.testing import acceptance
from dicomport.wire import COMMAND, LAST, P_DATA_HEADERS, AssociateRQ, PDataTF, ReleaseRP, ReleaseRQ, decode

_BUFFER_BYTES: Final = 1 << 18
_PDU_HEADER: Final = struct.Struct(">BxL")
_REQUEST: Final = re.compile(
    rb"\x00\x00\x02\x00.\x00{3}(?P<sop_class>[0-9.]+).*\x00\x00\x10\x01\x02\x00{3}(?P<message_id>..).*"
    rb"\x00{3}\x10.\x00{3}(?P<sop_instance>[0-9.]+)",
    re.DOTALL,
)
"""(0000,0002), (0000,0110) and (0000,1000) of a C-STORE-RQ."""
_US: Final = struct.Struct("<HHL2s")
_RESPONSE_OF: Final = _US.pack(0, 0x0100, 2, b"\1\x80")
_NO_DATA_SET_AND_SUCCESS: Final = _US.pack(0, 0x0800, 2, b"\1\1") + _US.pack(0, 0x0900, 2, b"\0\0")


def _associate(sock: socket.socket) -> None:
    header = sock.recv(_PDU_HEADER.size, socket.MSG_WAITALL)
    request = decode(header + sock.recv(_PDU_HEADER.unpack(header)[1], socket.MSG_WAITALL))
    if not isinstance(request, AssociateRQ):
        raise SystemExit("no association was requested")
    sock.sendall(acceptance(request, maximum_length=1 << 17).encode())


def _uid_element(number: int, uid: bytes) -> bytes:
    padded = uid + b"\0" * (len(uid) % 2)
    return struct.pack("<HHL", 0, number, len(padded)) + padded


def _answer(context_id: int, request: re.Match[bytes]) -> bytes:
    sop_class = _uid_element(0x0002, request["sop_class"])
    message_id = _US.pack(0, 0x0120, 2, request["message_id"])
    sop_instance = _uid_element(0x1000, request["sop_instance"])
    elements = b"".join((sop_class, _RESPONSE_OF, message_id, _NO_DATA_SET_AND_SUCCESS, sop_instance))
    command = struct.pack("<HHLL", 0, 0, 4, len(elements)) + elements
    return P_DATA_HEADERS.pack(PDataTF.KIND, len(command) + 6, len(command) + 2, context_id, COMMAND | LAST) + command


class _Instances:
    """Stores one instance after another."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._path = ""
        self._file = -1
        self._request: re.Match[bytes] | None = None
        self.command = bytearray()

    def write(self, data: memoryview) -> None:
        os.write(self._file, data)

    def begin(self) -> None:
        self._request = _REQUEST.search(self.command)
        if self._request is None:
            raise SystemExit("not a C-STORE-RQ")
        self._path = f"{self._folder}/{self._request['sop_instance'].decode()}"
        self._file = os.open(f"{self._path}.part", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o640)
        os.write(self._file, bytes(300))  # As long as the File Meta Information would be.

    def end(self, context_id: int) -> bytes:
        os.close(self._file)
        os.rename(f"{self._path}.part", f"{self._path}.dcm")  # noqa: PTH104  # a Path is no part of the floor
        self.command = bytearray()
        return _answer(context_id, self._request) if self._request else b""


def _receive(sock: socket.socket, folder: str) -> None:
    _associate(sock)
    instances = _Instances(folder)
    buffer = memoryview(bytearray(_BUFFER_BYTES))
    kept = left = context_id = control = 0
    while count := sock.recv_into(buffer[kept:]):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        at, end = 0, kept + count
        while at < end:
            if not left:
                if buffer[at] == ReleaseRQ.KIND:
                    sock.sendall(ReleaseRP().encode())
                    return
                if end - at < P_DATA_HEADERS.size:
                    break
                _, _, size, context_id, control = P_DATA_HEADERS.unpack_from(buffer, at)
                at, left = at + P_DATA_HEADERS.size, size - 2
            data = buffer[at : min(at + left, end)]
            at, left = at + len(data), left - len(data)
            if control & COMMAND:
                instances.command += data
                if not left and control & LAST:
                    instances.begin()
            else:
                instances.write(data)
                if not left and control & LAST:
                    sock.send(instances.end(context_id))
        kept = end - at
        buffer[:kept] = bytes(buffer[at:end])


if __name__ == "__main__":
    with socket.create_server(("127.0.0.1", int(sys.argv[1]))) as listening:
        while True:
            accepted, _ = listening.accept()
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with accepted:
                _receive(accepted, sys.argv[2])
