"""The link: everything arrives, in order, late, and not all at once."""

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Iterator
from typing import Final

import pytest

from dicomport.testing import Link, Peer, ScriptedSCP, ScriptedSCU

PATTERN: Final = b"".join(struct.pack("<L", number) for number in range(1 << 18))
PATIENCE: Final = 30.0


@contextlib.contextmanager
def linked(delay: float = 0.0, bytes_per_second: float | None = None) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Connect two sockets by a link: the caller's and the listener's."""
    with (
        socket.create_server(("127.0.0.1", 0)) as listening,
        Link(listening.getsockname()[1], delay=delay, bytes_per_second=bytes_per_second) as link,
        socket.create_connection(("127.0.0.1", link.port), timeout=PATIENCE) as near,
        listening.accept()[0] as far,
    ):
        far.settimeout(PATIENCE)
        yield near, far


def read_all(sock: socket.socket) -> bytes:
    data = bytearray()
    while piece := sock.recv(1 << 20):
        data += piece
    return bytes(data)


def send(sock: socket.socket, data: bytes) -> None:
    sock.sendall(data)
    sock.shutdown(socket.SHUT_WR)


def reset(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


@pytest.mark.parametrize("delay", [0.0, 0.01])
@pytest.mark.parametrize("rate", [None, 50e6])
def test_all_bytes_arrive_both_ways_and_the_end_after_them(delay: float, rate: float | None) -> None:
    with linked(delay, rate) as (near, far):
        threading.Thread(target=lambda: send(far, read_all(far)[::-1]), daemon=True).start()
        threading.Thread(target=send, args=(near, PATTERN), daemon=True).start()
        assert read_all(near) == PATTERN[::-1]


def test_each_way_takes_the_delay_and_no_byte_is_early() -> None:
    delay = 0.05
    with linked(delay) as (near, far):
        for number in range(3):
            sent = time.monotonic()
            near.sendall(b"ping")
            assert far.recv(10) == b"ping"
            # The first byte has waited for the connection's own round trip too.
            assert time.monotonic() - sent >= delay * (1 if number else 3)
            sent = time.monotonic()
            far.sendall(b"pong")
            assert near.recv(10) == b"pong"
            assert time.monotonic() - sent >= delay


def test_the_delay_is_no_stop_and_wait() -> None:
    """Far more is under way than has arrived: the sender is through before the first byte comes out."""
    with linked(delay=0.5) as (near, far):
        far.setblocking(False)
        for _ in range(8):
            near.sendall(PATTERN)
        with pytest.raises(BlockingIOError):
            far.recv(1)


def test_a_throttle_lets_no_more_through() -> None:
    with linked(bytes_per_second=1e6) as (near, far):
        began = time.monotonic()
        near.sendall(bytes(200_000))
        near.shutdown(socket.SHUT_WR)
        assert len(read_all(far)) == 200_000
        assert time.monotonic() - began >= 0.15


def test_a_broken_connection_breaks_at_the_other_end() -> None:
    for caller_breaks in (True, False):
        with linked(delay=0.01) as (near, far):
            near.sendall(b"before")
            assert far.recv(10) == b"before"
            breaks, learns = (near, far) if caller_breaks else (far, near)
            reset(breaks)
            with pytest.raises(ConnectionResetError):
                learns.recv(1)


def test_who_does_not_read_learns_of_a_broken_connection_all_the_same() -> None:
    with linked() as (near, far):
        near.settimeout(0.05)
        with contextlib.suppress(TimeoutError):
            while True:
                near.sendall(PATTERN)
        reset(near)
        with pytest.raises(ConnectionResetError):
            read_all(far)


def test_nobody_listening_is_a_broken_connection() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    with (
        Link(port) as link,
        socket.create_connection(("127.0.0.1", link.port), timeout=PATIENCE) as near,
        pytest.raises(ConnectionResetError),
    ):
        near.recv(1)


def test_several_connections_at_once() -> None:
    def script(peer: Peer) -> None:
        peer.accept()
        peer.serve()

    with ScriptedSCP(script) as scp, Link(scp.port, delay=0.005) as link, contextlib.ExitStack() as stack:
        peers = [stack.enter_context(ScriptedSCU("127.0.0.1", link.port)) for _ in range(10)]
        for peer in peers:
            peer.associate()
        for peer in peers:
            peer.send(*(peer.encode_store(f"1.2.{number}", PATTERN[:100_000]) for number in range(5)))
        for peer in peers:
            for _ in range(5):
                peer.receive()
            peer.release()
    assert len(scp.stores) == 50
    assert {store.data for store in scp.stores} == {PATTERN[:100_000]}
