"""The link: everything arrives, in order, late, and not all at once."""

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Final

import pytest

from dicomport.testing import Direction, Fault, FaultKind, GoneError, Link, Peer, ScriptedSCP, ScriptedSCU, healthy

PATTERN: Final = b"".join(struct.pack("<L", number) for number in range(1 << 18))
TIMEOUT: Final = 30.0


@contextlib.contextmanager
def linked(
    delay: float = 0.0, bytes_per_second: float | None = None, faults: Sequence[Fault] = ()
) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Connect two sockets by a link: the caller's and the listener's."""
    with (
        socket.create_server(("127.0.0.1", 0)) as listening,
        Link(listening.getsockname()[1], delay=delay, bytes_per_second=bytes_per_second, faults=faults) as link,
        socket.create_connection(("127.0.0.1", link.port), timeout=TIMEOUT) as near,
        listening.accept()[0] as far,
    ):
        far.settimeout(TIMEOUT)
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


def test_each_direction_has_the_delay() -> None:
    delay = 0.05
    began = time.monotonic()
    with linked(delay) as (near, far):
        near.sendall(b"first")
        assert far.recv(10) == b"first"
        # It has waited for the connection's own round trip too.
        assert time.monotonic() - began >= 3 * delay
        for sends, receives in ((near, far), (far, near)):
            sent = time.monotonic()
            sends.sendall(b"next")
            assert receives.recv(10) == b"next"
            assert time.monotonic() - sent >= delay


def test_the_delay_is_no_stop_and_wait() -> None:
    """The link holds many bytes in transit: the sender has finished before the first byte arrives."""
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


def test_a_reset_reaches_a_peer_that_does_not_read() -> None:
    with linked() as (near, far):
        near.settimeout(0.05)
        with contextlib.suppress(TimeoutError):
            while True:
                near.sendall(PATTERN)
        reset(near)
        with pytest.raises(ConnectionResetError):
            read_all(far)


def test_a_port_without_a_listener_is_a_reset() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]

    def call() -> None:
        with Link(port) as link, socket.create_connection(("127.0.0.1", link.port), timeout=TIMEOUT) as near:
            near.recv(1)

    with pytest.raises(ConnectionResetError):
        call()


def test_several_connections_at_once() -> None:
    with ScriptedSCP(healthy) as scp, Link(scp.port, delay=0.005) as link, contextlib.ExitStack() as stack:
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


@pytest.mark.parametrize("direction", Direction)
def test_one_byte_is_corrupted_and_no_other(direction: Direction) -> None:
    faults = [
        Fault(FaultKind.CORRUPT, after=70_001, direction=direction),
        Fault(FaultKind.CORRUPT, after=70_003, direction=direction),
    ]
    with linked(faults=faults) as (near, far):
        sends, receives = (near, far) if direction is Direction.THERE else (far, near)
        threading.Thread(target=send, args=(sends, PATTERN), daemon=True).start()
        data = read_all(receives)
        send(receives, PATTERN[:100_000])
        assert read_all(sends) == PATTERN[:100_000]
    assert len(data) == len(PATTERN)
    assert [at for at in range(len(data)) if data[at] != PATTERN[at]] == [70_001, 70_003]
    assert data[70_001] == PATTERN[70_001] ^ 0xFF


@pytest.mark.parametrize("direction", Direction)
@pytest.mark.parametrize("after", [1, 5, 100_000])
@pytest.mark.parametrize("delay", [0.0, 0.01])
def test_a_reset_strikes_both_ends_after_so_many_bytes(direction: Direction, after: int, delay: float) -> None:
    with linked(delay, faults=[Fault(FaultKind.RESET, after, direction)]) as (near, far):
        sends, receives = (near, far) if direction is Direction.THERE else (far, near)
        learned = []
        try:
            sends.sendall(PATTERN[: after + 1])
        except ConnectionError:
            learned.append(sends)
        data = bytearray()
        for sock in (receives, sends):
            try:
                while piece := sock.recv(1 << 16):
                    data += piece
            except ConnectionError:
                learned.append(sock)
    assert data == PATTERN[:after]
    assert sorted(map(id, learned)) == sorted(map(id, (near, far)))


@pytest.mark.parametrize("direction", Direction)
@pytest.mark.parametrize("after", [0, 100_000])
def test_a_close_strikes_both_ends_after_so_many_bytes(direction: Direction, after: int) -> None:
    with linked(faults=[Fault(FaultKind.CLOSE, after, direction)]) as (near, far):
        sends, receives = (near, far) if direction is Direction.THERE else (far, near)
        sends.sendall(PATTERN[:after])
        assert read_all(receives) == PATTERN[:after]
        assert read_all(sends) == b""


def test_a_stall_stops_one_way_and_lets_the_other_go_on() -> None:
    with linked(faults=[Fault(FaultKind.STALL, after=4)]) as (near, far):
        near.sendall(b"one, two")
        near.shutdown(socket.SHUT_WR)
        assert far.recv(10) == b"one,"
        far.sendall(b"still there?")
        assert near.recv(20) == b"still there?"
        far.settimeout(0.05)
        with pytest.raises(TimeoutError):
            far.recv(10)


def test_a_fault_of_one_connection_leaves_the_others_alone() -> None:
    def script(peer: Peer) -> None:
        with contextlib.suppress(GoneError):
            healthy(peer)

    faults = [
        Fault(FaultKind.CLOSE, after=0, connection=1),
        Fault(FaultKind.CLOSE, after=0, direction=Direction.BACK, connection=3),
    ]
    stored: list[int] = []
    with ScriptedSCP(script) as scp, Link(scp.port, faults=faults) as link:
        for number in (1, 2, 3):
            with ScriptedSCU("127.0.0.1", link.port) as peer, contextlib.suppress(GoneError):
                peer.associate()
                stored.append(number)
                peer.store("1.2.3", b"")
    assert stored == [2]
    assert link.connections == 3


def test_a_fault_before_the_first_byte_is_invalid() -> None:
    with pytest.raises(ValueError, match="after is -1"):
        Fault(FaultKind.RESET, after=-1)


def test_a_reset_breaks_a_connection_whose_way_back_is_stalled() -> None:
    """The link does not read from the stalled side any more: it notices the reset when it forwards bytes there."""
    stall = Fault(FaultKind.STALL, after=0, direction=Direction.BACK)
    with linked(faults=[stall]) as (near, far):
        near.sendall(b"before")
        assert far.recv(10) == b"before"
        reset(far)
        near.sendall(b"after")
        with pytest.raises(ConnectionError):
            near.recv(1)


def test_the_end_after_a_close_has_the_delay_of_the_bytes_before_it() -> None:
    delay = 0.05
    fault = Fault(FaultKind.CLOSE, after=4, direction=Direction.BACK)
    with linked(delay, faults=[fault]) as (near, far):
        near.sendall(b"question")
        assert far.recv(10) == b"question"
        sent = time.monotonic()
        far.sendall(b"last, and more")
        assert read_all(near) == b"last"
        assert time.monotonic() - sent >= delay
        assert read_all(far) == b""
