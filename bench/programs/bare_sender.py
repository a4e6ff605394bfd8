"""Send the files of a folder to `bare_receiver`: python -m bench.programs.bare_sender PORT FOLDER."""

from __future__ import annotations

import socket
import struct
import sys
from pathlib import Path


def _send(port: int, folder: Path) -> None:
    with socket.create_connection(("127.0.0.1", port)) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for path in sorted(folder.iterdir()):
            data = path.read_bytes()
            sock.sendall(struct.pack(">Q", len(data)))
            sock.sendall(data)
        sock.sendall(bytes(8))
        if sock.recv(1) != b"\0":
            raise SystemExit("the receiver has disconnected")


if __name__ == "__main__":
    _send(int(sys.argv[1]), Path(sys.argv[2]))
