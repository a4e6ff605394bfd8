"""A link between two TCP ends, with a delay, a throttle and faults."""

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

_PIECE: Final = 1 << 18
_MAX_IN_TRANSIT: Final = 64 << 20
"""Maximum bytes in transit in one direction; then the source waits: 1.2 GB/s at a delay of 50 ms."""
_MAX_LATE: Final = 0.005
"""Seconds that this thread may be late."""
_BACKLOG: Final = 128
_NO_LINGER: Final = struct.pack("ii", 1, 0)
_QUICK_ACK: Final[int | None] = getattr(socket, "TCP_QUICKACK", None)


class _Direction:
    """The bytes in transit from one socket to another."""

    def __init__(self, source: socket.socket, target: socket.socket, opened: float, faults: Iterable[Fault]) -> None:
        self.source = source
        self.target = target
        self.faults = deque(sorted(faults, key=lambda fault: fault.reach))
        """The faults that have not occurred yet."""
        self.carried = 0
        """Bytes received from the source so far."""
        self.free = opened
        """The time of the next read: after the connection, and as late as the throttle requires."""
        self.pieces: deque[tuple[float, memoryview]] = deque()
        """The bytes in transit, each piece with its time of arrival; an empty piece is the end of the connection."""
        self.size = 0
        """The number of bytes in transit."""
        self.source_ended = False
        """Whether the source is not read any more."""
        self.broken: float | None = None
        """The time at which the target receives the source's reset: an RST does not queue."""
        self.blocked = False
        """Whether the target's send queue is full."""
        self.back = self
        """The other direction of the connection."""

    @property
    def ended(self) -> bool:
        """Whether everything has arrived, with the end of the connection."""
        return self.source_ended and not self.pieces and self.broken is None

    def room(self) -> int:
        """Return the maximum size of the next piece: each fault occurs between two pieces."""
        return min(_PIECE, self.faults[0].reach - self.carried) if self.faults else _PIECE

    def count(self, size: int) -> list[FaultKind]:
        """Count received bytes, and return the faults that occur now."""
        self.carried += size
        kinds: list[FaultKind] = []
        while self.faults and self.faults[0].reach == self.carried:
            kinds.append(self.faults.popleft().kind)
        return kinds

    def wants(self, now: float) -> int:
        """Return the selector events to await on the source, which is also the other direction's target."""
        reads = not self.source_ended and self.size < _MAX_IN_TRANSIT and self.free <= now
        return reads * selectors.EVENT_READ | self.back.blocked * selectors.EVENT_WRITE

    def times(self, now: float) -> list[float]:
        """Return the times at which to act without an event."""
        times = [self.pieces[0][0]] if self.pieces and not self.blocked else []
        if self.broken is not None:
            times.append(self.broken)
        if not self.source_ended and now < self.free < math.inf:
            times.append(self.free)
        return times

    def close(self, *, broken: bool) -> None:
        """Close the source, with FIN or, if broken, with RST."""
        with contextlib.suppress(OSError):
            if broken:
                self.source.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        self.source.close()


class Link:
    """Forwards connections to `port`, each byte with a delay of `delay` seconds.

        with Link(scp.port, delay=0.025) as link:      # a round trip takes 50 ms
            code_under_test("127.0.0.1", link.port)

    The delay does not limit the throughput: 64 MiB may be in transit in each direction. Connecting needs a round trip
    too, which the caller does not see: its first byte arrives three delays after it has connected. The end of a
    connection (FIN or RST) has the same delay.

    `faults` occur at the specified byte:

        with Link(scp.port, faults=[Fault(FaultKind.RESET, after=100_000, connection=1)]) as link:
            code_under_test("127.0.0.1", link.port)    # its second attempt succeeds

    The link runs in a thread until the end of the `with` block, which resets open connections.
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
        """Listen on a free port of loopback. `delay` is in seconds per direction; None means no throttle."""
        self._to = (host, port)
        self._delay = delay
        self._rate = bytes_per_second
        self._piece = _PIECE if bytes_per_second is None else max(1, int(bytes_per_second / 100))
        self._faults = faults
        self.connections = 0
        """The number of connections so far."""
        self._connections: set[_Direction] = set()
        """The open connections, by the direction from the caller."""
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
                self._forward(selector)
            finally:
                for there in self._connections:
                    there.close(broken=True)
                    there.back.close(broken=True)

    def _forward(self, selector: selectors.BaseSelector) -> None:
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
                    self._receive(key.data)
                if events & selectors.EVENT_WRITE:
                    key.data.back.blocked = False

    def _serve(self, selector: selectors.BaseSelector, there: _Direction, now: float) -> None:
        """Deliver the bytes due on a connection; then await its next events, or close it if it has ended."""
        both = there, there.back
        for direction in both:
            self._deliver(direction, now)
        broken = any(direction.broken is not None and direction.broken <= now for direction in both)
        if not broken and not all(direction.ended for direction in both):
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
            return  # The caller has already disconnected.
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
            for kind in direction.count(0):
                self._apply(direction, kind, now)

    def _faults_of(self, direction: Direction) -> list[Fault]:
        numbers = (None, self.connections)
        return [fault for fault in self._faults if fault.direction is direction and fault.connection in numbers]

    def _receive(self, direction: _Direction) -> None:
        """Receive the next piece from the source."""
        now = time.monotonic()
        try:
            data = direction.source.recv(min(direction.room(), self._piece))
        except BlockingIOError:
            return
        except OSError:
            self._break(direction, now)
            return
        if _QUICK_ACK is not None and data:
            # A sender with Nagle's algorithm waits for this acknowledgement, which must not add to the delay.
            with contextlib.suppress(OSError):
                direction.source.setsockopt(socket.IPPROTO_TCP, _QUICK_ACK, 1)
        kinds = direction.count(len(data))
        if FaultKind.CORRUPT in kinds:
            data = data[:-1] + bytes((data[-1] ^ 0xFF,))
        if self._rate is not None:
            # A late wake-up of this thread must not reduce the rate.
            now = direction.free = max(direction.free, now - _MAX_LATE) + len(data) / self._rate
        direction.pieces.append((now + self._delay, memoryview(data)))
        direction.size += len(data)
        direction.source_ended = not data
        for kind in kinds:
            self._apply(direction, kind, now)

    def _apply(self, direction: _Direction, kind: FaultKind, now: float) -> None:
        if kind is FaultKind.STALL:
            direction.free = math.inf
        elif kind is FaultKind.CLOSE:
            for side in (direction, direction.back):
                side.pieces.append((now + self._delay, memoryview(b"")))
                side.source_ended = True
        elif kind is FaultKind.RESET:
            for side in (direction, direction.back):
                self._break(side, now)

    def _break(self, direction: _Direction, now: float) -> None:
        direction.source_ended = True
        direction.broken = now + self._delay

    def _deliver(self, direction: _Direction, now: float) -> None:
        """Send the pieces due to the target."""
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
                # The target has disconnected; its source receives the reset after the delay.
                direction.pieces.clear()
                direction.source_ended = True
                self._break(direction.back, now)
                return
            direction.size -= sent
            if sent < len(piece):
                direction.pieces.appendleft((due, piece[sent:]))
                direction.blocked = True


def _watch(selector: selectors.BaseSelector, direction: _Direction, now: float) -> None:
    """Register the selector events of a direction's source."""
    wanted = direction.wants(now)
    key = selector.get_map().get(direction.source)
    if key is None:
        if wanted:
            selector.register(direction.source, wanted, direction)
    elif not wanted:
        selector.unregister(direction.source)
    elif key.events != wanted:
        selector.modify(direction.source, wanted, direction)
