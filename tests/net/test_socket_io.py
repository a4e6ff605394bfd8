"""`net.socket_io` is the one module that receives from and sends to sockets."""

import ast
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

import dicomport
from dicomport.net.socket_io import send_list_now

SOURCE: Final = Path(dicomport.__file__).parent
CALLS: Final = frozenset(
    ("recv", "recv_into", "recvfrom", "recvfrom_into", "recvmsg", "recvmsg_into", "sendall", "sendmsg", "sendto")
) | frozenset(("sendfile", "sock_recv", "sock_recv_into", "sock_recvfrom", "sock_sendall", "sock_sendfile"))


def system_calls(path: Path) -> Iterator[str]:
    """Yield the names of the socket calls in a module; `send` counts in modules that import `socket`."""
    tree = ast.parse(path.read_bytes())
    imports = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names = CALLS | {"send"} if "socket" in imports else CALLS
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in names:
            yield node.attr


def test_only_socket_io_calls_the_system() -> None:
    """The scripted peers of `testing` use blocking sockets directly: they imitate peers, not this package."""
    paths = [path for path in SOURCE.rglob("*.py") if SOURCE / "testing" not in path.parents]
    calls = {str(path.relative_to(SOURCE)): set(system_calls(path)) for path in paths}

    assert {path: names for path, names in calls.items() if names} == {
        "net/socket_io.py": {"recv_into", "send", "sendmsg"},
        # The handshake peeks at the first bytes, past TLS; `net.tls` does not import `net`.
        "net/tls/handshake.py": {"recv"},
        # Pairs of sockets between a parent and its workers, not transport connections.
        "cli/receiver/handover.py": {"recv", "send"},
    }


@pytest.mark.parametrize("sizes", [(10, 3_000_000), (3_000_000, 10, 20), (1_000_000,) * 5])
def test_a_full_socket_leaves_the_rest(sizes: tuple[int, ...]) -> None:
    buffers = [bytes((number,)) * size for number, size in enumerate(sizes)]
    here, there = socket.socketpair()
    with here, there:
        here.setblocking(False)
        rest = send_list_now(here, buffers)
        here.shutdown(socket.SHUT_WR)
        received = bytearray()
        while part := there.recv(1 << 20):
            received += part
        assert rest
        assert bytes(received) + b"".join(rest) == b"".join(buffers)
        assert send_list_now(here, buffers) == buffers, "a closed one accepts nothing"


def test_a_socket_with_room_accepts_all() -> None:
    here, there = socket.socketpair()
    with here, there:
        assert not send_list_now(here, [b"ab", memoryview(b"cdef"), b"g"])
        assert there.recv(99) == b"abcdefg"
