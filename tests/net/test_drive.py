"""A stream that passes bytes to a function in the read callback."""

import asyncio
import socket
from typing import Any

import pytest
from tests.net.pairs import PATIENT, tcp_pair

from dicomport.net import socket_io, stream as stream_module
from dicomport.net.send_queue import _waiting
from dicomport.net.stream import Stream
from dicomport.net.timers import Timer


class _WokenError(Exception):
    pass


def test_a_function_may_interrupt_the_wait_that_it_serves() -> None:
    """The task that waits raises the interruption, and the event loop reports no error."""
    faults: list[dict[str, Any]] = []

    async def scenario() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context))
        with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as peer:
            stream = Stream(server.accept()[0])
            taken: list[bytes] = []

            def take(view: memoryview) -> None:
                taken.append(bytes(view))
                stream.interrupt(_WokenError())

            peer.sendall(b"bytes")
            try:
                await stream.drive(take, Timer("silence", 30.0), b"before ")
            except _WokenError:
                taken.append(b"woken")
            stream.close()
            assert taken == [b"before bytes", b"woken"]

    asyncio.run(scenario())
    assert faults == []


def test_a_read_without_a_response_is_acknowledged_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer with Nagle's algorithm sends no more before that. After a response, the system would wait for 40 ms."""
    acknowledged: list[socket.socket] = []

    def record(sock: socket.socket) -> None:
        acknowledged.append(sock)
        socket_io.acknowledge(sock)

    monkeypatch.setattr(stream_module, "acknowledge", record)

    async def scenario() -> None:
        with tcp_pair() as (ours, theirs):
            stream = Stream(ours)
            counts: list[int] = []
            waiting: list[int] = []

            def look() -> None:
                waiting.append(_waiting(theirs))
                theirs.sendall(b"the end")

            def take(view: memoryview) -> bytes | None:
                counts.append(len(acknowledged))
                if bytes(view) == b"request":
                    stream.send_now(b"response")
                    theirs.recv(8)
                    theirs.sendall(b"part")
                    return b""
                if bytes(view) == b"part":
                    asyncio.get_running_loop().call_soon(look)
                    return b""
                return None

            theirs.sendall(b"request")
            await stream.drive(take, PATIENT, b"")
            assert waiting == [0]
            # The response has acknowledged the request.
            assert counts == [0, 0, 1]
            stream.close()

    asyncio.run(scenario())
