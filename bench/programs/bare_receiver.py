"""Copy from a socket into files: python -m bench.programs.bare_receiver PORT FOLDER.

The sender sends each file as its length and its bytes, and a length of 0 at the end, which is answered with one byte.
"""

from __future__ import annotations

import itertools
import socket
import struct
import sys
from pathlib import Path
from typing import Final

_LENGTH: Final = struct.Struct(">Q")
_BUFFER_BYTES: Final = 1 << 18


def _receive(sock: socket.socket, folder: Path) -> None:
    buffer = memoryview(bytearray(_BUFFER_BYTES))
    for number in itertools.count():
        (left,) = _LENGTH.unpack(sock.recv(_LENGTH.size, socket.MSG_WAITALL))
        if not left:
            break
        with (folder / f"{number}.dcm").open("wb", buffering=0) as file:
            while left:
                count = sock.recv_into(buffer[:left])
                if not count:
                    raise SystemExit("the sender has disconnected")
                file.write(buffer[:count])
                left -= count
    sock.sendall(b"\0")


if __name__ == "__main__":
    with socket.create_server(("127.0.0.1", int(sys.argv[1]))) as listening:
        while True:
            accepted, _ = listening.accept()
            with accepted:
                _receive(accepted, Path(sys.argv[2]))
