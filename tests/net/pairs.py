"""Connected sockets on loopback, and timers for tests."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Final

from dicomport.net import Stream, Timer
from dicomport.net.buffers import Buffers

PATIENT: Final = Timer("patient", 30.0)
"""Timer of expected events: a test without the event fails instead of hanging."""
SHORT: Final = Timer("short", 0.05)
"""Timer of events that do not happen."""


@contextlib.contextmanager
def tcp_pair(*, send_buffer: int = 0, receive_buffer: int = 0) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Connect two sockets; the first one has the small send buffer, the second one the small receive buffer."""
    with contextlib.ExitStack() as stack:
        listening = stack.enter_context(socket.socket())
        if receive_buffer:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        listening.bind(("127.0.0.1", 0))
        listening.listen(1)
        ours = stack.enter_context(socket.socket())
        if send_buffer:
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
        ours.connect(listening.getsockname())
        theirs = stack.enter_context(listening.accept()[0])
        theirs.settimeout(PATIENT.seconds)
        yield ours, theirs


@contextlib.asynccontextmanager
async def stream_pair(*, send_buffer: int = 0, receive_buffer: int = 0) -> AsyncIterator[tuple[Stream, socket.socket]]:
    """Connect a stream to a blocking socket."""
    with tcp_pair(send_buffer=send_buffer, receive_buffer=receive_buffer) as (ours, theirs):
        stream = Stream(ours)
        try:
            yield stream, theirs
        finally:
            stream.close()


async def read(sock: socket.socket, size: int, piece: int = 1 << 16) -> bytes:
    """Read so many bytes from a blocking socket, a piece at a time, in a thread."""

    def read_on() -> bytes:
        data = bytearray()
        while len(data) < size:
            got = sock.recv(min(piece, size - len(data)))
            if not got:
                break
            data += got
        return bytes(data)

    return await asyncio.to_thread(read_on)


class _Lent(Buffers):
    """Lends the one buffer that a test wants to have filled."""

    def __init__(self, buffer: memoryview) -> None:
        super().__init__()
        self._buffer = buffer

    def borrow(self) -> memoryview:
        return self._buffer


async def receive_into(stream: Stream, buffer: memoryview, timer: Timer) -> int:
    """Receive the next bytes into a buffer; return their number, 0 at the end of the stream."""
    stream._buffers = _Lent(buffer)
    return len(await stream.receive(timer))


async def until(condition: Callable[[], bool]) -> None:
    """Run the event loop until the condition is true."""
    loop = asyncio.get_running_loop()
    while not condition():
        turned = loop.create_future()
        loop.call_soon(turned.set_result, None)
        await turned
