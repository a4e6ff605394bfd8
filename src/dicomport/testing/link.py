"""A link between two TCP ends: it takes its time, and things go wrong on it where the test says."""

from __future__ import annotations

import contextlib
import math
import selectors
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Final, Self

from dicomport.testing.faults import Direction, Fault, FaultKind

__all__ = ["Link"]

_PIECE: Final = 1 << 18
_UNDER_WAY: Final = 64 << 20
"""Bytes under way in one direction before its source has to wait: 1.2 GB/s at a delay of 50 ms."""
_LATE: Final = 0.005
"""Seconds that this thread may be late at most."""
_BACKLOG: Final = 128
_NO_LINGER: Final = struct.pack("ii", 1, 0)
_QUICK_ACK: Final[int | None] = getattr(socket, "TCP_QUICKACK", None)


class _Direction:
    """What is under way from one socket to another."""

    def __init__(self, source: socket.socket, target: socket.socket, opened: float, faults: Iterable[Fault]) -> None:
        self.source = source
        self.target = target
        self.faults = deque(sorted(faults, key=lambda fault: fault.reach))
        """Those still to strike."""
        self.carried = 0
        """Bytes taken from the source so far."""
        self.free = opened
        """When the link takes the next byte: not before the connection is there, nor faster than it is throttled."""
        self.pieces: deque[tuple[float, memoryview]] = deque()
        """What is under way, and when it is due; a piece of no bytes is the end of the connection in good order."""
        self.size = 0
        """Bytes under way."""
        self.ended = False
        """Nothing more is taken from the source."""
        self.broken: float | None = None
        """When the target learns that its source has broken the connection: a RST does not queue."""
        self.blocked = False
        """The target takes nothing at present."""
        self.back = self
        """The other direction of the connection."""

    @property
    def over(self) -> bool:
        """Whether all has arrived, the end in good order included."""
        return self.ended and not self.pieces and self.broken is None

    def room(self) -> int:
        """Give the number of bytes to take from the source at most: each fault strikes between two pieces."""
        return min(_PIECE, self.faults[0].reach - self.carried) if self.faults else _PIECE

    def took(self, size: int) -> list[FaultKind]:
        """Count bytes that were taken, and give what strikes now."""
        self.carried += size
        harms: list[FaultKind] = []
        while self.faults and self.faults[0].reach == self.carried:
            harms.append(self.faults.popleft().harm)
        return harms

    def wants(self, now: float) -> int:
        """Give the events that are of interest on the source, which is the other direction's target."""
        reads = not self.ended and self.size < _UNDER_WAY and self.free <= now
        return reads * selectors.EVENT_READ | self.back.blocked * selectors.EVENT_WRITE

    def times(self, now: float) -> list[float]:
        """Give the moments at which something is to be done without an event."""
        times = [self.pieces[0][0]] if self.pieces and not self.blocked else []
        if self.broken is not None:
            times.append(self.broken)
        if not self.ended and now < self.free < math.inf:
            times.append(self.free)
        return times

    def close(self, *, broken: bool) -> None:
        """Close the source, in good order (FIN) or not (RST)."""
        with contextlib.suppress(OSError):
            if broken:
                self.source.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        self.source.close()


class Link:
    """Carries connections to `port`, and each byte of them `delay` seconds late.

        with Link(scp.port, delay=0.025) as link:      # a round trip takes 50 ms
            code_under_test("127.0.0.1", link.port)

    The delay does not bound the throughput: 64 MiB may be under way in each direction. Connecting takes its round trip
    as well, though the caller does not see it: its first byte arrives three delays after it has connected. The end of
    a connection, in good order (FIN) or not (RST), arrives as late as all else.

    `faults` strike at the byte that they name:

        with Link(scp.port, faults=[Fault(Harm.RESET, after=100_000, connection=1)]) as link:
            code_under_test("127.0.0.1", link.port)    # its second try comes through

    It runs in a thread until the end of the `with` block, which breaks what is still connected.
    """

    def __init__(
        self,
        port: int,
        *,
        host: str = "127.0.0.1",
        delay: float = 0.0,
        bytes_per_second: float | None = None,
        faults: Sequence[Fault] = (),
    ) -> None:
        """Listen on a free port of loopback. `delay` is in seconds, for each way; None is without a throttle."""
        self._to = (host, port)
        self._delay = delay
        self._rate = bytes_per_second
        self._piece = _PIECE if bytes_per_second is None else max(1, int(bytes_per_second / 100))
        self._faults = faults
        self.connections = 0
        """How many there have been so far."""
        self._connections: set[_Direction] = set()
        """By the direction from the caller."""
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=_BACKLOG)
        self._listening.setblocking(False)
        self.port = int(self._listening.getsockname()[1])
        self._wake, self._woken = socket.socketpair()
        self._thread = threading.Thread(target=self._run, name="link", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._wake.close()
        self._thread.join()

    def _run(self) -> None:
        with self._listening, self._woken, selectors.DefaultSelector() as selector:
            selector.register(self._woken, selectors.EVENT_READ)
            selector.register(self._listening, selectors.EVENT_READ)
            try:
                self._carry_on(selector)
            finally:
                for there in self._connections:
                    there.close(broken=True)
                    there.back.close(broken=True)

    def _carry_on(self, selector: selectors.BaseSelector) -> None:
        while True:
            now = time.monotonic()
            for there in list(self._connections):
                self._serve(selector, there, now)
            times = [moment for there in self._connections for moment in (*there.times(now), *there.back.times(now))]
            for key, events in selector.select(max(0.0, min(times) - now) if times else None):
                if key.fileobj is self._woken:
                    return
                if key.fileobj is self._listening:
                    self._open()
                if events & selectors.EVENT_READ and key.data:
                    self._take(key.data)
                if events & selectors.EVENT_WRITE:
                    key.data.back.blocked = False

    def _serve(self, selector: selectors.BaseSelector, there: _Direction, now: float) -> None:
        """Deliver what is due on a connection, and see what to wait for next, or that it is over."""
        both = there, there.back
        for direction in both:
            self._deliver(direction, now)
        broken = any(direction.broken is not None and direction.broken <= now for direction in both)
        if not broken and not all(direction.over for direction in both):
            for direction in both:
                _watch(selector, direction, now)
            return
        self._connections.discard(there)
        for direction in both:
            with contextlib.suppress(KeyError):
                selector.unregister(direction.source)
            direction.close(broken=broken)

    def _open(self) -> None:
        try:
            near, _ = self._listening.accept()
        except OSError:
            return  # Who is gone already is nobody.
        far = socket.socket()
        for sock in (near, far):
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        far.connect_ex(self._to)
        now = time.monotonic()
        self.connections += 1
        there = _Direction(near, far, now + 2 * self._delay, self._faults_of(Direction.THERE))
        back = _Direction(far, near, now, self._faults_of(Direction.BACK))
        there.back, back.back = back, there
        there.blocked = True  # Until the far end is connected.
        self._connections.add(there)
        for direction in (there, back):
            for harm in direction.took(0):
                self._strike(direction, harm, now)

    def _faults_of(self, way: Direction) -> list[Fault]:
        return [fault for fault in self._faults if fault.way is way and fault.connection in (None, self.connections)]

    def _take(self, direction: _Direction) -> None:
        """Take from the source what there is."""
        now = time.monotonic()
        try:
            data = direction.source.recv(min(direction.room(), self._piece))
        except BlockingIOError:
            return
        except OSError:
            self._break(direction, now)
            return
        if _QUICK_ACK is not None and data:
            # The link adds no delay but its own: a sender with Nagle's algorithm waits for this acknowledgement.
            with contextlib.suppress(OSError):
                direction.source.setsockopt(socket.IPPROTO_TCP, _QUICK_ACK, 1)
        harms = direction.took(len(data))
        if FaultKind.CORRUPT in harms:
            data = data[:-1] + bytes((data[-1] ^ 0xFF,))
        if self._rate is not None:
            # That the thread woke a little late is not the throttle's doing.
            now = direction.free = max(direction.free, now - _LATE) + len(data) / self._rate
        direction.pieces.append((now + self._delay, memoryview(data)))
        direction.size += len(data)
        direction.ended = not data
        for harm in harms:
            self._strike(direction, harm, now)

    def _strike(self, direction: _Direction, harm: FaultKind, now: float) -> None:
        if harm is FaultKind.STALL:
            direction.free = math.inf
        elif harm is FaultKind.CLOSE:
            for way in (direction, direction.back):
                way.pieces.append((now + self._delay, memoryview(b"")))
                way.ended = True
        elif harm is FaultKind.RESET:
            for way in (direction, direction.back):
                self._break(way, now)

    def _break(self, direction: _Direction, now: float) -> None:
        direction.ended = True
        direction.broken = now + self._delay

    def _deliver(self, direction: _Direction, now: float) -> None:
        """Give the target what is due."""
        while direction.pieces and direction.pieces[0][0] <= now and not direction.blocked:
            due, piece = direction.pieces.popleft()
            try:
                if piece:
                    sent = direction.target.send(piece)
                else:
                    direction.target.shutdown(socket.SHUT_WR)
                    sent = 0
            except BlockingIOError:
                sent = 0
            except OSError:
                # The target is gone, and its source is told so in its time.
                direction.pieces.clear()
                direction.ended = True
                self._break(direction.back, now)
                return
            direction.size -= sent
            if sent < len(piece):
                direction.pieces.appendleft((due, piece[sent:]))
                direction.blocked = True


def _watch(selector: selectors.BaseSelector, direction: _Direction, now: float) -> None:
    """Listen for what is of interest on a direction's source, and for nothing else."""
    wanted = direction.wants(now)
    key = selector.get_map().get(direction.source)
    if key is None:
        if wanted:
            selector.register(direction.source, wanted, direction)
    elif not wanted:
        selector.unregister(direction.source)
    elif key.events != wanted:
        selector.modify(direction.source, wanted, direction)
