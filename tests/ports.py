"""Ports of this machine."""

import socket


def unused_port() -> int:
    """Return the number of a port on which nothing listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port
